"""What is exactly known about the demo clip, and where the clip lies. Light to import."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

ASSETS = Path(__file__).resolve().parent.parent / "assets"
CLIP_NAME = "demo_clip.mp4"
SPEECH_NAME = "demo_speech.wav"
ARRAYS_NAME = "demo_clip_truth.safetensors"
FACTS_NAME = "demo_clip_truth.json"


@dataclass(frozen=True)
class TimedPhone:
    """A phone of Flite's English set and the time it takes, seconds from the start of the recording."""

    phone: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class ClipFacts:
    """The truths that are not arrays."""

    text: str
    seed: int
    width: int
    """px."""
    height: int
    """px."""
    fps: Fraction
    focal: float
    """Focal length, px."""
    principal_point: tuple[float, float]
    """px."""
    phones: tuple[TimedPhone, ...]
    provenance: str


@dataclass(frozen=True)
class DemoClipTruth:
    """Ground truth of the T frames of the demo clip.

    The camera has OpenCV's axes (x right, y down, z forward). Canonical space is the head's own frame; its unit is one
    pixel of the portrait at the head's reference distance. The inter-ocular distance is the one between the outer
    corners of the eyes (landmarks 33 and 263) in canonical space.
    """

    facts: ClipFacts
    world_to_camera: np.ndarray
    """float32 [T, 4, 4]: the head's pose."""
    canonical_vertices: np.ndarray
    """float32 [478, 3]: MediaPipe's face points, mouth closed, eyes open."""
    landmarks_px: np.ndarray
    """float32 [T, 478, 2]: where these points are in each frame, mouth and lids moved."""
    mouth_opening: np.ndarray
    """float32 [T]: distance of the inner lips (landmarks 13 and 14) without the pose, in inter-ocular distances."""
    mouth_opening_px: np.ndarray
    """float32 [T]: the same in the picture, px."""
    mouth_width: np.ndarray
    """float32 [T]: distance of the corners (landmarks 78 and 308) without the pose, in inter-ocular distances."""
    blink: np.ndarray
    """float32 [T]: 0 eyes open, 1 closed."""

    def save(self, folder: Path) -> None:
        """Write the arrays as safetensors and the facts as JSON into `folder`."""
        arrays = {name: value for name, value in vars(self).items() if name != "facts"}
        save_file(arrays, folder / ARRAYS_NAME)
        facts = {**asdict(self.facts), "fps": str(self.facts.fps)}
        (folder / FACTS_NAME).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def load_truth(folder: Path = ASSETS) -> DemoClipTruth:
    """Read the ground truth that `DemoClipTruth.save` wrote."""
    facts = json.loads((folder / FACTS_NAME).read_text(encoding="utf-8"))
    facts["fps"] = Fraction(facts["fps"])
    facts["principal_point"] = tuple(facts["principal_point"])
    facts["phones"] = tuple(TimedPhone(**phone) for phone in facts["phones"])
    return DemoClipTruth(ClipFacts(**facts), **load_file(folder / ARRAYS_NAME))
