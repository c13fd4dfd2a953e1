"""What tracking knows of a clip, and its file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import cv2
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from tools.errors import DamagedMediaError, OutputError
from tools.expression import ExpressionBasis, ExpressionTrack
from tools.face_topology import IBUG_68, MEDIAPIPE_478, FaceTopology
from tools.head_pose import HeadPoseTrack, HeadShape

TRACKING_VERSION = 2
"""Raised when tracking changes its results, so that a cached track is not taken for a new one."""
TOPOLOGIES = {topology.name: topology for topology in (MEDIAPIPE_478, IBUG_68)}


def resampled(picture: np.ndarray, side: int) -> np.ndarray:
    """A square picture [R, R] or [R, R, C] at another size; itself if it has that size."""
    if len(picture) == side:
        return picture
    shrinks = side < len(picture)
    return cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


@dataclass(frozen=True)
class CropBox:
    """A square of the displayed source frame, inside it, and the resolution it is worked on in."""

    left: int
    top: int
    side: int  # source px
    resolution: int  # px of the crop

    def cut(self, frame: np.ndarray) -> np.ndarray:
        """The crop [R, R, C] of a frame [H, W, C]; no resampling when side and resolution agree."""
        part = frame[self.top : self.top + self.side, self.left : self.left + self.side]
        return np.ascontiguousarray(resampled(part, self.resolution))


@dataclass(frozen=True)
class TorsoPoseTrack:
    """Poses of the torso, in the head's units and frame: x_camera = rotation @ x_head_frame + translation."""

    rotations: np.ndarray  # [F, 3, 3] float32
    translations: np.ndarray  # [F, 3] float32


@dataclass(frozen=True)
class TrackedClip:
    """Everything that fitting needs to know of a clip besides its pictures. F frames, K landmarks, crop pixels."""

    crop: CropBox
    topology: FaceTopology
    fitted_frames: int  # shape, bases and statistics come from frames [0, fitted_frames)
    landmarks: np.ndarray  # [F, K, 3] float32; NaN where no face was found
    shape: HeadShape
    head: HeadPoseTrack
    torso: TorsoPoseTrack
    basis: ExpressionBasis
    expression: ExpressionTrack
    reference_frame: int  # whose torso pose is the identity
    background: np.ndarray  # [R, R, 3] uint8
    findings: tuple[str, ...]  # what the preflight found, in plain words

    def __len__(self) -> int:
        return len(self.landmarks)

    @property
    def found(self) -> np.ndarray:
        """[F] bool: frames with a face."""
        return np.isfinite(self.landmarks[:, 0, 0])


_PARTS = {
    "shape": HeadShape,
    "head": HeadPoseTrack,
    "torso": TorsoPoseTrack,
    "basis": ExpressionBasis,
    "expression": ExpressionTrack,
}
_ARRAYS = ("landmarks", "background")


def save_tracked_clip(clip: TrackedClip, path: Path, key: str) -> None:
    """Writes a track as safetensors, under a temporary name first.

    Args:
        key: identifies the clip and the settings it was tracked with; `load_tracked_clip` compares it.

    Raises:
        OutputError: the disk is full or the folder may not be written.
    """
    arrays = {name: getattr(clip, name) for name in _ARRAYS}
    scalars: dict[str, dict[str, float]] = {}
    for name, kind in _PARTS.items():
        for item in fields(kind):
            value = getattr(getattr(clip, name), item.name)
            if isinstance(value, np.ndarray):
                arrays[f"{name}.{item.name}"] = value
            else:
                scalars.setdefault(name, {})[item.name] = value
    facts = {
        "crop": asdict(clip.crop),
        "topology": clip.topology.name,
        "fitted_frames": clip.fitted_frames,
        "reference_frame": clip.reference_frame,
        "findings": clip.findings,
        "scalars": scalars,
    }
    metadata = {"key": f"{TRACKING_VERSION}:{key}", "facts": json.dumps(facts)}
    temporary = path.with_name(f".{path.name}.part")
    try:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, temporary, metadata)
        temporary.replace(path)
    except (SafetensorError, OSError) as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"cannot write {path}: {error}") from error


def load_tracked_clip(path: Path, key: str) -> TrackedClip | None:
    """The track saved at `path`; None when there is none or it belongs to another clip or other settings.

    Raises:
        DamagedMediaError: the file is there and cannot be read.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("key") != f"{TRACKING_VERSION}:{key}":
                return None
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except SafetensorError as error:
        raise DamagedMediaError(f"the cached track {path} is damaged ({error}): delete it and run again") from error
    facts = json.loads(metadata["facts"])
    parts = {
        name: kind(
            **{
                item.name: arrays.get(f"{name}.{item.name}", facts["scalars"].get(name, {}).get(item.name))
                for item in fields(kind)
            }
        )
        for name, kind in _PARTS.items()
    }
    return TrackedClip(
        crop=CropBox(**facts["crop"]),
        topology=TOPOLOGIES[facts["topology"]],
        fitted_frames=facts["fitted_frames"],
        reference_frame=facts["reference_frame"],
        findings=tuple(facts["findings"]),
        **{name: arrays[name] for name in _ARRAYS},
        **parts,
    )
