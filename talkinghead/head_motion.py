"""Where head and torso are when an avatar is not shown in its footage: as filmed, still, idle, or as a file says.

Motion is six numbers a frame, relative to the person's rest: a rotation vector (radians) and a shift (head units), both
in the camera's axes (OpenCV). The torso of a new head motion follows it as it did in the footage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation
from scipy.special import ndtri

from render.head_model import BonePose
from talkinghead.source_tracks import SourceTracks

HeadMotion = Callable[[np.ndarray], np.ndarray]
"""Frames of the output [n] -> motion [n, 6]; any frames in any order, -TORSO_REACH_S and later."""

SMOOTHING_S = 0.08
"""Width (standard deviation) of the filter that takes the tracker's noise off before speeds are measured."""
TORSO_SMOOTHING_S = 0.2
"""Width of the filter between head and torso: shoulders are heavy."""
TORSO_REACH_S = 3 * TORSO_SMOOTHING_S
RIDGE = 1e-2
"""Weight of the penalty on the torso's regression, relative to the variance of the head's motion."""
WAVES = 32
SMALLEST_ROOM = 1e-9
"""Radians and head units: less is no motion."""
FREE_SHARE = 0.5
"""Motion is left as it is up to this share of the way from rest to the clip's extremes, and compressed beyond."""


@dataclass(frozen=True)
class Bone:
    """One bone in F frames of footage, relative to its rest."""

    rest_rotation: np.ndarray  # [3, 3]
    rest_translation: np.ndarray  # [3]
    motion: np.ndarray  # [F, 6]

    @classmethod
    def of(cls, rotations: np.ndarray, translations: np.ndarray) -> Bone:
        """Rest is the mean rotation and the median place. rotations: [F, 3, 3]; translations: [F, 3]."""
        turns = Rotation.from_matrix(rotations)
        rest, place = turns.mean(), np.median(translations, axis=0)
        motion = np.concatenate([(turns * rest.inv()).as_rotvec(), translations - place], axis=1)
        return cls(rest.as_matrix(), place, motion)

    def at(self, motion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rotation [3, 3] and translation [3] for a motion [6]."""
        return Rotation.from_rotvec(motion[:3]).as_matrix() @ self.rest_rotation, self.rest_translation + motion[3:]


class BodyMotion:
    """How a person holds and moves head and torso, learned from footage.

    Args:
        tracks: the footage.
        frames: [F] indices of the frames to learn from.
        fps: their rate.
    """

    def __init__(self, tracks: SourceTracks, frames: np.ndarray, fps: float) -> None:
        self._tracks, self._frames, self._fps = tracks, frames, fps
        self.head = Bone.of(tracks.head_rotations[frames], tracks.head_translations[frames])
        self.torso = Bone.of(tracks.torso_rotations[frames], tracks.torso_translations[frames])
        reach = round(TORSO_REACH_S * fps)
        self._offsets = np.arange(-reach, reach + 1)
        weights = np.exp(-0.5 * np.square(self._offsets / (TORSO_SMOOTHING_S * fps)))
        self._weights = weights / weights.sum()
        self._torso_law = fit_linear_law(self._low_passed(self.head.motion), self.torso.motion)
        self._torso_range = motion_range(self.torso.motion)

    def still_frame(self) -> int:
        """The source frame whose head and torso are nearest to rest."""
        away = np.concatenate([self.head.motion, self.torso.motion], axis=1)
        spread = away.std(axis=0)
        away = away[:, spread > 0] / spread[spread > 0]
        return int(self._frames[np.square(away).sum(axis=1).argmin()])

    def pose(self, head_motion: HeadMotion, frame: int) -> BonePose:
        """Head as `head_motion` says, torso as the person's follows the head."""
        window = head_motion(frame + self._offsets)
        torso = within(self._weights @ window @ self._torso_law, self._torso_range)
        return _bone_pose(*self.head.at(window[len(window) // 2]), *self.torso.at(torso))

    def _low_passed(self, motion: np.ndarray) -> np.ndarray:
        return gaussian_filter1d(motion, TORSO_SMOOTHING_S * self._fps, axis=0, mode="nearest")


class IdleMotion:
    """Small head motion without end that has the spread, the speed and the range of the person's own.

    A stationary Gaussian process by the spectral method (Shinozuka and Deodatis 1991, Applied Mechanics Reviews 44(4)):
    along each principal axis of the clip's motion a sum of waves, whose frequencies follow a half-normal distribution
    scaled so that the process has the clip's speed. It is smooth, every frame is computed from its number alone, and
    the waves never meet again in the same phase.

    Args:
        motion: [F, 6] of the clip.
        fps: frames per second of clip and output.
    """

    def __init__(self, motion: np.ndarray, fps: float, seed: int) -> None:
        rng = np.random.default_rng((seed, _IDLE_STREAM))
        smooth = gaussian_filter1d(motion, SMOOTHING_S * fps, axis=0, mode="nearest")
        centred = smooth - smooth.mean(axis=0)
        self._axes = np.linalg.svd(centred, full_matrices=False)[2]  # [m, 6]
        along = centred @ self._axes.T
        spread = along.std(axis=0)
        steps = np.abs(np.diff(along, axis=0, append=along[-1:])).mean(axis=0)
        # The mean size of a normal variable is sqrt(2 / pi) of its standard deviation.
        rate = np.divide(np.sqrt(np.pi / 2) * steps, spread, out=np.zeros_like(spread), where=spread > 0)
        quantiles = (np.arange(WAVES) + rng.uniform(0.05, 0.95, (len(spread), WAVES))) / WAVES
        self._frequencies = rate[:, None] * ndtri((1 + quantiles) / 2)  # [m, W]
        self._phases = rng.uniform(0, 2 * np.pi, self._frequencies.shape)
        self._amplitudes = spread * np.sqrt(2 / WAVES)
        self._middle = smooth.mean(axis=0)
        self._range = motion_range(motion)

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Motion [n, 6] of frames [n]."""
        waves = np.cos(frames[:, None, None] * self._frequencies + self._phases).sum(axis=2)
        return within(self._middle + waves * self._amplitudes @ self._axes, self._range)


_IDLE_STREAM = 1
"""Keeps the random numbers of this module apart from others of the same seed."""


def source_pose(tracks: SourceTracks, frame: int) -> BonePose:
    """Head and torso as they were filmed."""
    return _bone_pose(
        tracks.head_rotations[frame],
        tracks.head_translations[frame],
        tracks.torso_rotations[frame],
        tracks.torso_translations[frame],
    )


def _bone_pose(*parts: np.ndarray) -> BonePose:
    return BonePose(*(torch.from_numpy(part).to(torch.float32) for part in parts))


def fit_linear_law(causes: np.ndarray, effects: np.ndarray) -> np.ndarray:
    """The matrix [m, n] that takes causes [F, m] to effects [F, n]: ridge regression (Hoerl and Kennard 1970).

    Causes are compared in units of their own spread, so that radians and head units weigh alike.
    """
    scale = np.sqrt(np.square(causes).mean(axis=0))
    scale[scale == 0] = 1.0
    units = causes / scale
    normal = units.T @ units + RIDGE * len(causes) * np.eye(len(scale))
    return np.linalg.solve(normal, units.T @ effects) / scale[:, None]


def motion_range(motion: np.ndarray) -> np.ndarray:
    """[2, 6]: how far from rest a motion [F, 6] goes down and up; rest itself is within."""
    return np.stack([np.minimum(motion.min(axis=0), 0), np.maximum(motion.max(axis=0), 0)])


def within(motion: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """A motion [..., 6] kept inside `motion_range` without a kink: compressed near the limits, as it is around rest."""
    limit = np.where(motion < 0, -limits[0], limits[1])
    free = FREE_SHARE * limit
    room = limit - free
    beyond = np.maximum(np.abs(motion) - free, 0)
    compressed = room * np.tanh(np.divide(beyond, room, out=np.zeros_like(beyond), where=room > SMALLEST_ROOM))
    return np.sign(motion) * (np.minimum(np.abs(motion), free) + compressed)
