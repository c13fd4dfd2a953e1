"""Action units read off landmarks, and how far those of two videos are apart.

The units are those of the Facial Action Coding System (Ekman and Friesen 1978; the 2002 manual's numbers). An
intensity here is a length on the face, in hundredths of the distance of the outer eye corners (about a millimetre of an
adult), with the head's pose removed: not OpenFace's regressed 0 to 5, and not to be compared with it. A neutral face is
not needed: only differences of intensities are used.

What skin alone shows, furrows, bulges and dimples, landmarks do not have: 6, 9, 14 and 23 of OpenFace's are left out.
"""

from __future__ import annotations

import numpy as np

from tools.face_topology import FaceTopology
from tools.metrics import in_head_frame, mean_or_nan

UPPER_UNITS = ("AU1", "AU2", "AU4", "AU5", "AU7", "AU45")
LOWER_UNITS = ("AU10", "AU12", "AU15", "AU17", "AU20", "AU25", "AU26")
PER_INTER_OCULAR = 100.0


def action_units(landmarks: np.ndarray, shape: np.ndarray, topology: FaceTopology) -> np.ndarray:
    """Intensities of `UPPER_UNITS` and `LOWER_UNITS`, larger where a unit acts more.

    On the axes of the face (x along the outer eye corners, y from there to the chin, z across both; origin between the
    eye corners), both sides averaged:

    - AU1, AU2 inner and outer brow raiser: height of the brow's inner and outer third above the eye corners.
    - AU4 brow lowerer: how near the brows' inner thirds are to each other; that they sink is in AU1 and AU2.
    - AU5 upper lid raiser, AU7 lid tightener: height of the upper and of the lower lid above the corners of the eye.
    - AU45 blink: how near the lids are to each other.
    - AU10 upper lip raiser: height of the middle of the upper lip's red border.
    - AU12 lip corner puller: how far the mouth's corners are up and out, along the diagonal.
    - AU15 lip corner depressor: how far the corners are below the middle of the upper lip's inner edge.
    - AU17 chin raiser: how far the middle of the lower lip's red border is above the chin.
    - AU20 lip stretcher: distance of the mouth's corners.
    - AU25 lips part: distance of the middles of the inner lips.
    - AU26 jaw drop: how far the chin is below the eye corners.

    Args:
        landmarks: [T, K, 3] px.
        shape: [K, 3] mean landmarks of the same head, any unit and axes; one for all tracks that are compared.

    Returns:
        [T, 13]; NaN where the frame has no face, and everywhere if the shape is not known.
    """
    if not np.isfinite(shape).all():
        return np.full((len(landmarks), len(UPPER_UNITS) + len(LOWER_UNITS)), np.nan)
    axes, origin = _face_axes(shape, topology)
    eyes = np.linalg.norm(shape[topology.left_outer_eye_corner] - shape[topology.right_outer_eye_corner])
    mean_face = (shape - origin) @ axes.T
    points = (in_head_frame(landmarks, shape, topology) - origin / eyes) @ axes.T
    units = np.column_stack([*_upper(points, mean_face, topology), *_lower(points, mean_face, topology)])
    return PER_INTER_OCULAR * units


def action_unit_error(predicted: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Errors of the upper and of the lower face: squared differences of intensities [T, 13], averaged over the frames
    in which both have a face and summed over the units, as AUE-U and AUE-L are of OpenFace's intensities
    (TalkingGaussian, arXiv 2404.15264, Sec. 4.1, and its published auerror.py; AUE: ER-NeRF, arXiv 2307.09323)."""
    squared = np.square(predicted - truth)
    squared = squared[np.isfinite(squared).all(axis=1)]
    upper, lower = squared[:, : len(UPPER_UNITS)], squared[:, len(UPPER_UNITS) :]
    return mean_or_nan(upper.sum(axis=1)), mean_or_nan(lower.sum(axis=1))


def _face_axes(shape: np.ndarray, topology: FaceTopology) -> tuple[np.ndarray, np.ndarray]:
    """Rows x (to the subject's left), y (down) and z of the face in the shape's axes, and the origin [3] there."""
    left, right = shape[topology.left_outer_eye_corner], shape[topology.right_outer_eye_corner]
    origin = (left + right) / 2
    x = (left - right) / np.linalg.norm(left - right)
    down = shape[topology.chin] - origin
    y = down - (down @ x) * x
    y /= np.linalg.norm(y)
    return np.stack([x, y, np.cross(x, y)]), origin


def _upper(points: np.ndarray, mean_face: np.ndarray, topology: FaceTopology) -> list[np.ndarray]:
    """Which landmarks are inner or outer, upper or lower is told by the mean face [K, 3], for all frames alike."""
    inner, outer, upper_lids, lower_lids = [], [], [], []
    for brow in (topology.left_brow, topology.right_brow):
        from_middle = sorted(brow, key=lambda index: abs(mean_face[index, 0]))
        third = len(brow) // 3
        inner.append(points[:, from_middle[:third]].mean(axis=1))
        outer.append(points[:, from_middle[-third:]].mean(axis=1))
    for eye in (topology.left_eye, topology.right_eye):
        across = sorted(eye, key=lambda index: mean_face[index, 0])
        corners = points[:, [across[0], across[-1]], 1].mean(axis=1)
        downwards = sorted(across[1:-1], key=lambda index: mean_face[index, 1])
        half = len(downwards) // 2
        upper_lids.append(corners - points[:, downwards[:half], 1].mean(axis=1))
        lower_lids.append(corners - points[:, downwards[half:], 1].mean(axis=1))
    upper_lid, lower_lid = (np.mean(lids, axis=0) for lids in (upper_lids, lower_lids))
    return [
        -np.mean(inner, axis=0)[:, 1],
        -np.mean(outer, axis=0)[:, 1],
        -np.linalg.norm(inner[0] - inner[1], axis=1),
        upper_lid,
        lower_lid,
        lower_lid - upper_lid,
    ]


def _lower(points: np.ndarray, mean_face: np.ndarray, topology: FaceTopology) -> list[np.ndarray]:
    ring = topology.outer_lips
    middles = sorted((ring[len(ring) // 4], ring[3 * len(ring) // 4]), key=lambda index: mean_face[index, 1])
    upper_border, lower_border = (points[:, index, 1] for index in middles)
    corners = points[:, [ring[0], ring[len(ring) // 2]]]
    out, down = np.abs(corners[..., 0]).mean(axis=1), corners[..., 1].mean(axis=1)
    inner_upper, inner_lower = points[:, topology.upper_inner_lip], points[:, topology.lower_inner_lip]
    chin = points[:, topology.chin, 1]
    return [
        -upper_border,
        (out - down) / np.sqrt(2),
        down - inner_upper[:, 1],
        chin - lower_border,
        np.linalg.norm(corners[:, 0] - corners[:, 1], axis=1),
        np.linalg.norm(inner_upper - inner_lower, axis=1),
        chin,
    ]
