"""Measures of pictures and lips. Numpy in, float out; every definition is cited where it is implemented.

Landmark tracks are [T, K, 2] or [T, K, 3] in pixels (x right, y down; depth, where present, in the same scale). A frame
without a face is a row of NaN: it is left out, in both tracks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from tools.face_topology import FaceTopology
from tools.head_pose import align_rigidly

SSIM_SIGMA = 1.5  # px; with SSIM_RADIUS the 11 x 11 window of Wang et al. 2004, section III-C
SSIM_RADIUS = 5
SSIM_K1, SSIM_K2 = 0.01, 0.03


def psnr(picture: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio in dB: 10 log10(peak^2 / mean squared error); infinite for identical pictures.

    Args:
        picture, truth: [H, W, C] or [H, W], uint8 (peak 255) or float in [0, 1] (peak 1).
        mask: [H, W] bool or weights: only these pixels count.

    Raises:
        ValueError: shapes or types differ, or the mask is empty.
    """
    _check_pair(picture, truth)
    squared = np.square(picture.astype(np.float64) - truth.astype(np.float64))
    if squared.ndim == 3:
        squared = squared.mean(axis=2)
    if mask is None:
        error = squared.mean()
    elif mask.shape != squared.shape or not mask.any():
        raise ValueError(f"expected a mask of shape {list(squared.shape)} with a pixel set, got {list(mask.shape)}")
    else:
        error = np.average(squared, weights=mask)
    return math.inf if error == 0 else 10 * math.log10(_peak(truth) ** 2 / error)


def ssim(picture: np.ndarray, truth: np.ndarray) -> float:
    """Structural similarity (Wang et al. 2004, Eq. 13), the mean over pixels and channels; 1 is identical.

    Gaussian window of 11 x 11 px and standard deviation 1.5 px; pixels whose window leaves the picture do not count.

    Args:
        picture, truth: [H, W, C] or [H, W], at least 11 px each way, uint8 or float in [0, 1].

    Raises:
        ValueError: shapes or types differ, or the picture is smaller than the window.
    """
    _check_pair(picture, truth)
    if min(picture.shape[:2]) <= 2 * SSIM_RADIUS:
        raise ValueError(f"expected at least {2 * SSIM_RADIUS + 1} px each way, got {list(picture.shape[:2])}")
    x = np.atleast_3d(picture.astype(np.float64))
    y = np.atleast_3d(truth.astype(np.float64))

    def local_mean(values: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(values, (2 * SSIM_RADIUS + 1, 2 * SSIM_RADIUS + 1), SSIM_SIGMA)

    mean_x, mean_y = local_mean(x), local_mean(y)
    variance_x = local_mean(x * x) - mean_x**2
    variance_y = local_mean(y * y) - mean_y**2
    covariance = local_mean(x * y) - mean_x * mean_y
    c1, c2 = (SSIM_K1 * _peak(truth)) ** 2, (SSIM_K2 * _peak(truth)) ** 2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity /= (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    return float(similarity[SSIM_RADIUS:-SSIM_RADIUS, SSIM_RADIUS:-SSIM_RADIUS].mean())


def _check_pair(picture: np.ndarray, truth: np.ndarray) -> None:
    if picture.shape != truth.shape or picture.dtype != truth.dtype:
        raise ValueError(
            f"expected two pictures of one shape and type, got {list(picture.shape)} of {picture.dtype} "
            f"and {list(truth.shape)} of {truth.dtype}"
        )


def _peak(picture: np.ndarray) -> float:
    return 255.0 if picture.dtype == np.uint8 else 1.0


def face_hull_mask(landmarks: np.ndarray, height: int, width: int, erosion_px: int = 1) -> np.ndarray:
    """Inside of the face: the convex hull of the landmarks [K, 2+] px, slightly eroded (3 x 3, `erosion_px` times).

    Returns:
        bool [height, width].
    """
    mask = np.zeros((height, width), np.uint8)
    hull = cv2.convexHull(landmarks[:, :2].astype(np.int32))
    cv2.fillConvexPoly(mask, hull, 1)
    return cv2.erode(mask, np.ones((3, 3), np.uint8), iterations=erosion_px) > 0


def landmark_distance(predicted: np.ndarray, truth: np.ndarray, indices: Sequence[int]) -> float:
    """Landmark distance LMD in px: mean Euclidean distance over frames and the landmarks `indices` (Chen et al.
    2018, "Lip Movements Generation at a Glance"; the indices are MediaPipe's 40 lip landmarks in all our figures)."""
    a, b = _both_seen(predicted, truth)
    return float(np.linalg.norm(a[:, indices, :2] - b[:, indices, :2], axis=-1).mean())


def centred_landmark_distance(predicted: np.ndarray, truth: np.ndarray, indices: Sequence[int]) -> float:
    """`landmark_distance` after subtracting the mean of these landmarks in every frame, px: shape without position."""
    a, b = (track[:, indices, :2] for track in _both_seen(predicted, truth))
    difference = (a - a.mean(axis=1, keepdims=True)) - (b - b.mean(axis=1, keepdims=True))
    return float(np.linalg.norm(difference, axis=-1).mean())


def _both_seen(predicted: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The frames in which both tracks have a face."""
    if predicted.shape[:2] != truth.shape[:2]:
        raise ValueError(f"expected tracks of one length, got {list(predicted.shape)} and {list(truth.shape)}")
    seen = np.isfinite(predicted).all(axis=(1, 2)) & np.isfinite(truth).all(axis=(1, 2))
    if not seen.any():
        raise ValueError("no frame has a face in both tracks")
    return predicted[seen], truth[seen]


def mouth_opening(landmarks: np.ndarray, shape: np.ndarray, topology: FaceTopology) -> np.ndarray:
    """Inner-lip distance after the rigid head pose is removed, in inter-ocular units, so that nodding does not leak in.

    Each frame is aligned to the head shape by a similarity transform of the topology's stable points (Umeyama 1991).
    The distance is taken in space, where it does not depend on the head's rotation; in the picture a nod would shorten
    it. Inter-ocular is the distance of the outer eye corners.

    Args:
        landmarks: [T, K, 3] px.
        shape: [K, 3] landmarks of the same head, any unit and axes; one shape for all tracks that are compared.

    Returns:
        [T]; NaN where the frame has no face.
    """
    rigidity = np.zeros(len(shape))
    rigidity[list(topology.stable)] = 1.0
    eye_distance = np.linalg.norm(shape[topology.left_outer_eye_corner] - shape[topology.right_outer_eye_corner])
    opening = np.full(len(landmarks), np.nan)
    for index in np.flatnonzero(np.isfinite(landmarks).all(axis=(1, 2))):
        points = landmarks[index].astype(np.float64)
        _, scale, _ = align_rigidly(points, shape, rigidity)
        gap = points[topology.upper_inner_lip] - points[topology.lower_inner_lip]
        opening[index] = scale * np.linalg.norm(gap) / eye_distance
    return opening


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation of two series [T] where both are finite; 0 when either is constant."""
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both].astype(np.float64), b[both].astype(np.float64)
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def best_lag(series: np.ndarray, reference: np.ndarray, max_lag: int) -> int:
    """Frames by which `series` [T] comes later than `reference` [T]: the shift of highest Pearson correlation.

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
    return lags[int(np.argmax(scores))]


def amplitude_ratio(series: np.ndarray, reference: np.ndarray) -> float:
    """Standard deviation of `series` [T] over that of `reference` [T], where both are finite.

    Raises:
        ValueError: the reference is constant.
    """
    both = np.isfinite(series) & np.isfinite(reference)
    spread = float(np.std(reference[both])) if both.any() else 0.0
    if spread == 0:
        raise ValueError("the amplitude of a constant series cannot be compared with")
    return float(np.std(series[both])) / spread


def head_jitter(landmarks: np.ndarray, indices: Sequence[int]) -> float:
    """Mean length in px of x[t+1] - 2 x[t] + x[t-1], over frames and the landmarks `indices` that follow the skull.

    Zero for any head that moves at constant speed; only runs of three frames with a face count.
    """
    track = landmarks[:, indices, :2].astype(np.float64)
    second = np.linalg.norm(track[2:] - 2 * track[1:-1] + track[:-2], axis=-1)
    if not np.isfinite(second).any():
        raise ValueError(f"expected three frames in a row with a face, got {len(landmarks)} frames without")
    return float(np.nanmean(second))


@dataclass(frozen=True)
class ClosureScores:
    """How well closures of one mouth coincide with those of another."""

    precision: float  # share of predicted closures with a true one within the tolerance; 0 if none is predicted
    recall: float  # share of true closures with a predicted one within the tolerance; 0 if there is none
    chance: float  # share of all frames with a true closure within the tolerance: precision of random closures


def closure_scores(predicted: np.ndarray, truth: np.ndarray, threshold: float, tolerance: int = 1) -> ClosureScores:
    """Precision and recall of lip closures, in frames.

    A closure is a frame at which the opening [T] is the smallest within two frames and below `threshold` (the unit of
    the openings). Definition of this project: no paper scores closures.
    """
    found, true = _closures(predicted, threshold), _closures(truth, threshold)
    near_found, near_true = _widened(found, tolerance), _widened(true, tolerance)
    return ClosureScores(
        precision=float(near_true[found].mean()) if found.any() else 0.0,
        recall=float(near_found[true].mean()) if true.any() else 0.0,
        chance=float(near_true.mean()),
    )


def _closures(opening: np.ndarray, threshold: float) -> np.ndarray:
    padded = np.pad(opening, 2, constant_values=np.inf)
    smallest = np.lib.stride_tricks.sliding_window_view(padded, 5).min(axis=1)
    return (opening == smallest) & (opening < threshold)


def _widened(events: np.ndarray, tolerance: int) -> np.ndarray:
    """True within `tolerance` frames of a true entry."""
    return np.convolve(events, np.ones(2 * tolerance + 1), "same") > 0
