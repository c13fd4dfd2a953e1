"""Torso pose per frame: features of the clothes followed from a reference frame, explained by one similarity transform.

A plain coat has few features and no peak in a phase correlation; the Lucas-Kanade tracker works on the edges there
are, and RANSAC leaves out hands and hair.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d, median_filter

from tools.head_pose import HeadPoseTrack
from tools.joints import interpolated, segments
from tools.tracked_clip import TorsoPoseTrack

FEATURES = 300
MINIMUM_INLIERS = 12
ROUND_TRIP_PX = 1.0
"""A feature counts when it is found back to this accuracy from the frame to the reference."""
INLIER_PX = 1.5
SMOOTHING_FRAMES = 1.0
TORSO_DEPTH = 0.25
"""Head units that chest and shoulders lie behind the middle of the head."""
_WINDOW = {"winSize": (21, 21), "maxLevel": 3}


class TorsoTracker:
    """Follows the torso through a clip; frames are given in order, memory is a few frames."""

    def __init__(self, reference: np.ndarray, region: np.ndarray) -> None:
        """
        Args:
            reference: uint8 RGB crop [R, R, 3].
            region: [R, R] bool, the torso in it.
        """
        self._reference = cv2.cvtColor(reference, cv2.COLOR_RGB2GRAY)
        points = cv2.goodFeaturesToTrack(self._reference, FEATURES, 0.005, 5, mask=region.astype(np.uint8))
        self._points = np.zeros((0, 1, 2), np.float32) if points is None else points
        self._last = self._points.copy()

    def restart(self) -> None:
        """The next frame does not follow the last one: features are looked for where the reference has them."""
        self._last = self._points.copy()

    def follow(self, frame: np.ndarray) -> np.ndarray | None:
        """Similarity transform [2, 3] from reference pixels to a frame's; None when too few features are seen."""
        if len(self._points) < MINIMUM_INLIERS:
            return None
        gray = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        guess = self._last.copy()
        there, seen, _ = cv2.calcOpticalFlowPyrLK(
            self._reference, gray, self._points, guess, flags=cv2.OPTFLOW_USE_INITIAL_FLOW, **_WINDOW
        )
        back, seen_back, _ = cv2.calcOpticalFlowPyrLK(
            gray, self._reference, there, self._points.copy(), flags=cv2.OPTFLOW_USE_INITIAL_FLOW, **_WINDOW
        )
        error = np.linalg.norm(back - self._points, axis=-1)[:, 0]
        good = (seen[:, 0] == 1) & (seen_back[:, 0] == 1) & (error < ROUND_TRIP_PX)
        if good.sum() < MINIMUM_INLIERS:
            return None
        transform, inliers = cv2.estimateAffinePartial2D(
            self._points[good], there[good], method=cv2.RANSAC, ransacReprojThreshold=INLIER_PX
        )
        if transform is None or inliers.sum() < MINIMUM_INLIERS:
            return None
        self._last = cv2.transform(self._points, transform).astype(np.float32)
        return transform


def torso_poses(
    transforms: list[np.ndarray | None], head: HeadPoseTrack, reference_frame: int, joints: Sequence[int] = ()
) -> TorsoPoseTrack:
    """Torso poses from similarity transforms of the picture, one per frame; frames without one are interpolated.

    They are smoothed over time, but not across joints, the frames before which the clip was cut.

    In the reference frame the torso has the head's pose. A transform becomes a turn about the line of sight, a shift,
    and, for its scale, a change of depth.
    """
    rotation0, translation0 = head.rotations[reference_frame], head.translations[reference_frame]
    depth = float(translation0[2]) + TORSO_DEPTH
    motion = _similarity_parameters(transforms, joints)
    motion = np.concatenate([_smooth(motion[part]) for part in segments(len(motion), joints)])
    centre = np.full(2, head.resolution / 2)
    rotations = np.empty((len(motion), 3, 3), np.float32)
    translations = np.empty((len(motion), 3), np.float32)
    for index, (cosine, sine, x, y) in enumerate(motion):
        scale = float(np.hypot(cosine, sine))
        turn = np.array([[cosine, -sine], [sine, cosine]]) / scale
        shift_px = scale * turn @ centre + (x, y) - centre
        turn3 = np.eye(3)
        turn3[:2, :2] = turn
        shift = np.array([*(shift_px * depth / (scale * head.focal_px)), depth * (1 / scale - 1)])
        rotations[index] = turn3 @ rotation0
        translations[index] = turn3 @ translation0 + shift
    return TorsoPoseTrack(rotations, translations)


def _similarity_parameters(transforms: list[np.ndarray | None], joints: Sequence[int]) -> np.ndarray:
    """[F, 4]: scaled cosine and sine, shift x and y."""
    known = [index for index, transform in enumerate(transforms) if transform is not None]
    if not known:
        return np.tile([1.0, 0.0, 0.0, 0.0], (len(transforms), 1))
    rows = np.array([[t[0, 0], t[1, 0], t[0, 2], t[1, 2]] for t in transforms if t is not None])
    return interpolated(rows, np.array(known), len(transforms), joints)


def _smooth(parameters: np.ndarray) -> np.ndarray:
    steady = median_filter(parameters, size=(5, 1), mode="nearest")
    return gaussian_filter1d(steady, SMOOTHING_FRAMES, axis=0, mode="nearest")
