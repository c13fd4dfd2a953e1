"""Head poses from a table: one row a frame, in terms that can be written by hand."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from talkinghead.errors import PoseFileError
from talkinghead.timeline import PingPong

COLUMNS = ("yaw", "pitch", "roll", "x", "y", "z")
LARGEST_ANGLE, LARGEST_SHIFT = 60.0, 2.0
"""Degrees, and head units: beyond them a head is seen from where no footage showed it, or leaves the picture."""
AXES = np.array([1.0, -1.0, -1.0])
"""The table's axes (right, up, towards the camera) in the camera's (right, down, away)."""


def read_poses(path: Path) -> np.ndarray:
    """Motion [n, 6] as `talkinghead.head_motion` has it.

    The file is CSV with the heading yaw,pitch,roll,x,y,z. Angles are in degrees and relative to rest: the head turns to
    the right of the picture by yaw, up by pitch, and leans to the right of the picture by roll (applied in the order
    roll, pitch, yaw). x is to the right of the picture, y up, z towards the camera, in head units (a head is about two
    high).

    Raises:
        PoseFileError: the file cannot be read or a row is not like that; the message names the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, strict=True)
            heading = [name.strip() for name in next(lines, [])]
            if tuple(heading) != COLUMNS:
                got = ",".join(heading)
                raise PoseFileError(f"{path}, line 1: expected the heading {','.join(COLUMNS)}, got {got!r}")
            rows = [_row(path, lines.line_num, cells) for cells in lines if cells]
    except OSError as error:
        raise PoseFileError(
            f"cannot read the poses in {path} ({error.strerror}): --pose takes source, still, idle or a CSV file"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise PoseFileError(f"{path} is no CSV file ({error}): save it as comma-separated text in UTF-8") from error
    if not rows:
        raise PoseFileError(f"{path} holds no poses: write one row of {','.join(COLUMNS)} for each frame")
    table = np.array(rows)
    return np.concatenate([_rotation_vectors(table[:, :3]), table[:, 3:] * AXES], axis=1)


def _row(path: Path, line: int, cells: list[str]) -> list[float]:
    if len(cells) != len(COLUMNS):
        raise PoseFileError(f"{path}, line {line}: expected {len(COLUMNS)} numbers, got {len(cells)}")
    return [_number(path, line, name, cell) for name, cell in zip(COLUMNS, cells, strict=True)]


def _number(path: Path, line: int, name: str, cell: str) -> float:
    largest = LARGEST_ANGLE if name in COLUMNS[:3] else LARGEST_SHIFT
    unit = "degrees" if name in COLUMNS[:3] else "head units"
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not abs(value) <= largest:
        expected = f"{-largest:g} to {largest:g} {unit}"
        raise PoseFileError(f"{path}, line {line}: {name} takes {expected}, got {cell.strip()!r}")
    return value


def _rotation_vectors(angles: np.ndarray) -> np.ndarray:
    """[n, 3] from yaw, pitch and roll [n, 3]. In the camera's axes a head that looks up turns about -x, one that looks
    to the right of the picture about -y, and one that leans to the right about +z."""
    yaw, pitch, roll = angles.T
    return Rotation.from_euler("YXZ", np.stack([-yaw, -pitch, roll], axis=1), degrees=True).as_rotvec()


@dataclass(frozen=True)
class FileMotion:
    """The poses of a table, played once if they last long enough and to and fro if they do not.

    Attributes:
        motion: [n, 6].
        frames: length of the output.
    """

    motion: np.ndarray
    frames: int
    fps: Fraction

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Motion [k, 6] of frames [k]; before the first and after the last it rests."""
        inside = np.clip(frames, 0, self.frames - 1)
        if self.frames <= len(self.motion):
            return self.motion[inside]
        timeline = PingPong(len(self.motion), self.fps)
        position = np.array([float(timeline.position(int(frame))) for frame in inside])
        first = np.minimum(position.astype(int), max(0, len(self.motion) - 2))
        share = (position - first)[:, None]
        return (1 - share) * self.motion[first] + share * self.motion[np.minimum(first + 1, len(self.motion) - 1)]
