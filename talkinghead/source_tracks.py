"""What an avatar knows of every frame of its footage, and its file."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch

from talkinghead.errors import DamagedAvatarError
from talkinghead.tensor_files import read_tensors, write_tensors

LARGEST_NUMBER = 1e6
"""Of pixels, head units and codes; calculations with more could fail."""


@dataclass(frozen=True)
class SourceTracks:
    """The F frames of source.mp4, one row each. float32, but `found`.

    x_camera = rotation @ x + translation, OpenCV axes, head units; see `render.head_model.BonePose`.
    """

    head_rotations: np.ndarray  # [F, 3, 3]
    head_translations: np.ndarray  # [F, 3]
    torso_rotations: np.ndarray  # [F, 3, 3]
    torso_translations: np.ndarray  # [F, 3]
    lower: np.ndarray  # [F, Kl] expression code of the lower face
    upper: np.ndarray  # [F, Ku] expression code of the upper face
    landmarks: np.ndarray  # [F, K, 2] crop px; NaN where there is no face
    found: np.ndarray  # [F] bool: frames with a face

    def __len__(self) -> int:
        return len(self.found)


def write_tracks(tracks: SourceTracks, path: Path) -> None:
    """Raises as `write_tensors`."""
    write_tensors(path, {item.name: torch.from_numpy(getattr(tracks, item.name)) for item in fields(SourceTracks)})


def read_tracks(path: Path, frames: int, landmarks: int, lower: int, upper: int) -> SourceTracks:
    """
    Args:
        frames, landmarks, lower, upper: the sizes expected.

    Raises:
        DamagedAvatarError: not such a file, of other sizes, or with numbers that no footage has.
    """
    if upper < 0:
        raise DamagedAvatarError(path, f"cannot belong to a predictor of {lower} lip codes")
    shapes = {
        "head_rotations": (3, 3),
        "head_translations": (3,),
        "torso_rotations": (3, 3),
        "torso_translations": (3,),
        "lower": (lower,),
        "upper": (upper,),
        "landmarks": (landmarks, 2),
    }
    expected = {name: torch.empty((frames, *shape), device="meta") for name, shape in shapes.items()}
    expected["found"] = torch.empty(frames, dtype=torch.bool, device="meta")
    tracks = {name: tensor.numpy() for name, tensor in read_tensors(path, expected).items()}
    for name in shapes:
        wild = ~(np.abs(tracks[name]) <= LARGEST_NUMBER)
        if name == "landmarks":
            wild &= ~np.isnan(tracks[name])
        if wild.any():
            raise DamagedAvatarError(path, f"holds numbers under {name} that are none, or out of all bounds")
    if not np.isfinite(tracks["landmarks"]).all(axis=(1, 2)).any():
        raise DamagedAvatarError(path, "holds no frame with a face")
    return SourceTracks(**tracks)
