"""An avatar whose footage is known: a head that turns, lids that blink, eyes that wander and a brow."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from scipy.ndimage import gaussian_filter1d
from tiny_avatar import DISTANCE, FOCAL_PX, LOWER_CODES, SIDE, TinyClip, face_points, in_picture, tiny_avatar, turned

from talkinghead.avatar import Avatar
from talkinghead.gaze import EYE_WIDTHS_PER_RADIUS
from talkinghead.source_tracks import SourceTracks
from tools.face_topology import MEDIAPIPE_478

FPS = 25
BLINK_SHAPE = np.array([0.7, 0.2, 0.05, 0.1, 0.4, 0.7, 0.9])
"""How open the lids are in the frames of a blink."""
TOPOLOGY = MEDIAPIPE_478
EYE_WIDTH, EYE_HEIGHT = 0.2, 0.025  # head units; half the height
TORSO_LAW = np.diag([0.3, 0.2, 0.1, 0.6, 0.5, 0.4])


@dataclass(frozen=True)
class ActingPerson:
    """The avatar, and the truth about it. F frames."""

    avatar: Avatar
    starts: tuple[int, ...]  # first frames of the blinks
    lids: np.ndarray  # [F] 1 is open
    gaze: np.ndarray  # [F, 2] eyes in the head, degrees: yaw to the right of the picture, pitch up
    mixing: np.ndarray  # [4, 4] (1 - lids, gaze / 2, brow) @ mixing is the code

    def hidden(self, codes: np.ndarray) -> np.ndarray:
        """What codes [..., 4] say: how closed the lids are, yaw and pitch of the eyes in degrees, the brow."""
        return codes @ np.linalg.inv(self.mixing) * (1, 2, 2, 1)


def acting_person(
    frames: int = 500, starts: tuple[int, ...] = (60, 150, 290, 400), turn_degrees: float = 20.0, seed: int = 0
) -> ActingPerson:
    """A person seen for `frames` frames at 25 a second, who blinks at `starts`."""
    rng = np.random.default_rng(seed)
    lids = np.ones(frames)
    for start in starts:
        lids[start : start + len(BLINK_SHAPE)] = BLINK_SHAPE
    gaze = wandering(rng, frames, (4.0, 2.5))
    brow = wandering(rng, frames, (0.5,))
    mixing = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    yaw = wandering(rng, frames, (turn_degrees / 2,))[:, 0]
    rotations = np.stack([turned(-degrees) for degrees in yaw])
    places = np.array([0, 0, DISTANCE]) + wandering(rng, frames, (0.05, 0.03, 0.02))
    points = np.stack([face(*state) for state in zip(lids, gaze, strict=True)])
    landmarks = [in_picture(*view, FOCAL_PX, SIDE) for view in zip(points, rotations, places, strict=True)]
    hidden = np.concatenate([1 - lids[:, None], gaze / 2, brow], axis=1)
    tracks = SourceTracks(
        head_rotations=rotations.astype(np.float32),
        head_translations=places.astype(np.float32),
        torso_rotations=np.tile(np.eye(3, dtype=np.float32), (frames, 1, 1)),
        torso_translations=places.astype(np.float32),
        lower=np.zeros((frames, LOWER_CODES), np.float32),
        upper=(hidden @ mixing).astype(np.float32),
        landmarks=(np.stack(landmarks) + rng.normal(scale=0.02, size=(frames, TOPOLOGY.count, 2))).astype(np.float32),
        found=np.ones(frames, bool),
    )
    avatar = replace(tiny_avatar(TinyClip(frames=frames, fps=Fraction(FPS))), tracks=tracks)
    return ActingPerson(avatar, starts, lids, gaze, mixing)


def wandering(rng: np.random.Generator, frames: int, spreads: tuple[float, ...], width: float = 8.0) -> np.ndarray:
    """Smooth random walks around 0 with the given standard deviations, [F, n]."""
    noise = gaussian_filter1d(rng.normal(size=(frames, len(spreads))), width, axis=0, mode="wrap")
    return noise / noise.std(axis=0) * spreads


def face(lids: float, gaze: np.ndarray) -> np.ndarray:
    """Landmarks [K, 3] of a schematic head whose lids and irises move."""
    points = face_points(TOPOLOGY)
    iris = EYE_WIDTHS_PER_RADIUS * EYE_WIDTH * np.sin(np.radians(gaze)) * (1, -1)
    eyes = ((TOPOLOGY.left_eye, TOPOLOGY.left_iris, 1), (TOPOLOGY.right_eye, TOPOLOGY.right_iris, -1))
    for ring, irises, side in eyes:
        angles = 2 * np.pi * np.arange(len(ring)) / len(ring)
        centre = np.array([0.22 * side, -0.2])
        points[list(ring), 0] = centre[0] + side * EYE_WIDTH / 2 * np.cos(angles)
        points[list(ring), 1] = centre[1] + lids * EYE_HEIGHT * np.sin(angles)
        points[list(irises), :2] = centre + iris
    return points
