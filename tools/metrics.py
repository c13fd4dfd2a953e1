"""Measures of landmarks. Numpy in, float out; every definition is cited where it is implemented.

Landmark tracks are [T, K, 2] or [T, K, 3] in pixels (x right, y down; depth, where present, in the same scale). A frame
without a face is a row of NaN: it is left out, in both tracks. A measure of which no frame is left is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from tools.face_topology import FaceTopology
from tools.head_pose import align_rigidly

BOX_MARGIN = 0.1  # of the longer side of what a box is put around


def face_hull_mask(landmarks: np.ndarray, height: int, width: int, erosion_px: int = 1) -> np.ndarray:
    """Inside of the face: the convex hull of the landmarks [K, 2+] px, slightly eroded (3 x 3, `erosion_px` times).

    Returns:
        bool [height, width].
    """
    mask = np.zeros((height, width), np.uint8)
    hull = cv2.convexHull(landmarks[:, :2].astype(np.int32))
    cv2.fillConvexPoly(mask, hull, 1)
    return cv2.erode(mask, np.ones((3, 3), np.uint8), iterations=erosion_px) > 0


def bounding_box(points: np.ndarray, height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of a picture around points [K, 2+] px, with a margin of a tenth of the box's longer side.

    At least a pixel of the picture is inside.
    """
    low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    margin = BOX_MARGIN * (high - low).max()
    left, top = np.clip(np.floor(low - margin), 0, (width - 1, height - 1)).astype(int)
    right, bottom = np.clip(np.ceil(high + margin), (left + 1, top + 1), (width, height)).astype(int)
    return slice(top, bottom), slice(left, right)


def landmark_distance(predicted: np.ndarray, truth: np.ndarray, indices: Sequence[int]) -> float:
    """Landmark distance LMD in px: mean Euclidean distance over frames and the landmarks `indices` (Chen et al. 2018,
    "Lip Movements Generation at a Glance"). Papers take the 20 mouth points of the 68-point mark-up."""
    a, b = _both_seen(predicted, truth)
    return mean_or_nan(np.linalg.norm(a[:, indices, :2] - b[:, indices, :2], axis=-1))


def centred_landmark_distance(predicted: np.ndarray, truth: np.ndarray, indices: Sequence[int]) -> float:
    """`landmark_distance` after subtracting the mean of these landmarks in every frame, px: shape without position."""
    a, b = (track[:, indices, :2] for track in _both_seen(predicted, truth))
    difference = (a - a.mean(axis=1, keepdims=True)) - (b - b.mean(axis=1, keepdims=True))
    return mean_or_nan(np.linalg.norm(difference, axis=-1))


def mean_or_nan(values: np.ndarray) -> float:
    """The mean of an array; NaN if it is empty."""
    return float(values.mean()) if values.size else math.nan


def _both_seen(predicted: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The frames in which both tracks have a face."""
    if predicted.shape[:2] != truth.shape[:2]:
        raise ValueError(f"expected tracks of one length, got {list(predicted.shape)} and {list(truth.shape)}")
    seen = np.isfinite(predicted).all(axis=(1, 2)) & np.isfinite(truth).all(axis=(1, 2))
    return predicted[seen], truth[seen]


def mean_shape(landmarks: np.ndarray) -> np.ndarray:
    """The mean [K, 3] of landmarks [T, K, 3] over the frames with a face; NaN when there is none."""
    faces = landmarks[np.isfinite(landmarks).all(axis=(1, 2))]
    return faces.mean(axis=0) if len(faces) else np.full_like(landmarks[0], np.nan)


def mouth_opening(landmarks: np.ndarray, shape: np.ndarray, topology: FaceTopology) -> np.ndarray:
    """Distance of the middles of the inner lips, so that nodding does not leak in: see `_lip_distance`."""
    return _lip_distance(landmarks, shape, topology, (topology.upper_inner_lip, topology.lower_inner_lip))


def mouth_width(landmarks: np.ndarray, shape: np.ndarray, topology: FaceTopology) -> np.ndarray:
    """Distance of the mouth's outer corners: small where lips are rounded. See `_lip_distance`."""
    ring = topology.outer_lips
    return _lip_distance(landmarks, shape, topology, (ring[0], ring[len(ring) // 2]))


def _lip_distance(
    landmarks: np.ndarray, shape: np.ndarray, topology: FaceTopology, ends: tuple[int, int]
) -> np.ndarray:
    """Distance of two landmarks after the rigid head pose is removed, in inter-ocular units.

    Each frame is aligned to the head shape by a similarity transform of the topology's stable points (Umeyama 1991).
    The distance is taken in space, where it does not depend on the head's rotation; in the picture a nod would shorten
    it. Inter-ocular is the distance of the outer eye corners.

    Args:
        landmarks: [T, K, 3] px.
        shape: [K, 3] landmarks of the same head, any unit and axes; one shape for all tracks that are compared.

    Returns:
        [T]; NaN where the frame has no face, and everywhere if the shape is not known.
    """
    points = in_head_frame(landmarks, shape, topology)
    return np.linalg.norm(points[:, ends[0]] - points[:, ends[1]], axis=1)


def in_head_frame(landmarks: np.ndarray, shape: np.ndarray, topology: FaceTopology) -> np.ndarray:
    """Landmarks without the head's pose: [T, K, 3] in the axes of `shape`, in inter-ocular units.

    Arguments and missing values as in `_lip_distance`.
    """
    aligned = np.full(landmarks.shape, np.nan)
    if not np.isfinite(shape).all():
        return aligned
    rigidity = np.zeros(len(shape))
    rigidity[list(topology.stable)] = 1.0
    eye_distance = np.linalg.norm(shape[topology.left_outer_eye_corner] - shape[topology.right_outer_eye_corner])
    for index in np.flatnonzero(np.isfinite(landmarks).all(axis=(1, 2))):
        points = landmarks[index].astype(np.float64)
        rotation, scale, translation = align_rigidly(points, shape, rigidity)
        aligned[index] = (scale * points @ rotation.T + translation) / eye_distance
    return aligned


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation of two series [T] where both are finite; 0 when either is constant."""
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both].astype(np.float64), b[both].astype(np.float64)
    if len(a) < 2:
        return math.nan
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def best_lag(series: np.ndarray, reference: np.ndarray, max_lag: int) -> float:
    """Whole frames by which `series` [T] comes later than `reference` [T]: the shift of highest Pearson correlation.

    Raises:
        ValueError: fewer than two frames overlap at the largest shift.
    """
    count = len(reference)
    if len(series) != count or count < max_lag + 2:
        raise ValueError(f"expected two series of one length above {max_lag + 1}, got {len(series)} and {count}")
    lags = range(-max_lag, max_lag + 1)
    scores = [
        pearson(series[max(0, lag) : count + min(0, lag)], reference[max(0, -lag) : count - max(0, lag)])
        for lag in lags
    ]
    return float(lags[int(np.nanargmax(scores))]) if np.isfinite(scores).any() else math.nan


def amplitude_ratio(series: np.ndarray, reference: np.ndarray) -> float:
    """Standard deviation of `series` [T] over that of `reference` [T], where both are finite; NaN if the reference is
    constant."""
    both = np.isfinite(series) & np.isfinite(reference)
    spread = float(np.std(reference[both])) if both.any() else 0.0
    return float(np.std(series[both])) / spread if spread else math.nan


def head_jitter(landmarks: np.ndarray, indices: Sequence[int]) -> float:
    """Mean length in px of x[t+1] - 2 x[t] + x[t-1], over frames and the landmarks `indices` that follow the skull.

    Zero for any head that moves at constant speed; only runs of three frames with a face count.
    """
    track = landmarks[:, indices, :2].astype(np.float64)
    second = np.linalg.norm(track[2:] - 2 * track[1:-1] + track[:-2], axis=-1)
    return mean_or_nan(second[np.isfinite(second)])
