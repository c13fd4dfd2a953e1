"""Recalibration of the articulatory targets on real lips: how `phones.ARTICULATORY_TARGETS` came about.

Given dominances, the blended trajectory is linear in the targets: a matrix of blended phone probabilities times the
table. The measured opening and width of talking people are regressed on that matrix, with one scale for the hand table
and one correction per phone; corrections are shrunk, and shared in part by the phones of a viseme. Inner lips are
measured; a table made from phonetics has the jaw in mind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.ndimage import gaussian_filter1d

from encoders.errors import LipMotionFitError
from encoders.features import SpeechFeatureTrack
from encoders.measured_lips import MeasuredLips, without_trend
from encoders.phones import APERTURE_BLENDING_S, PHONES, VISEMES, WIDTH_BLENDING_S, ArticulatoryTarget

APERTURE_RIDGE, WIDTH_RIDGE = 1.0, 10.0
"""Penalty on squared corrections, in frames. The hand table is nearer the truth for width."""
SHARED = 0.4
"""Share of a correction's variance that the phones of a viseme have in common."""
CLOSED = ("p", "b", "m")
"""Their aperture stays 0."""


def calibrated_targets(
    people: Sequence[MeasuredLips], table: Mapping[str, ArticulatoryTarget] | None = None
) -> dict[str, ArticulatoryTarget]:
    """The table with apertures and widths corrected by what these people's lips do; dominances stay.

    Args:
        people: clips of different people, their sound in step with the picture.
        table: what to start from, HAND_TARGETS when None.

    Raises:
        LipMotionFitError: no clip is given.
    """
    table = HAND_TARGETS if table is None else table
    if not people:
        raise LipMotionFitError("expected at least one clip to recalibrate the articulatory targets, got none")
    columns = _columns(table)
    free = np.array([phone not in CLOSED for phone in PHONES])
    aperture = _corrected(people, 0, columns[:2], APERTURE_BLENDING_S, APERTURE_RIDGE, free)
    width = _corrected(people, 1, columns[2:], WIDTH_BLENDING_S, WIDTH_RIDGE, np.ones(len(PHONES), bool))
    return {
        phone: ArticulatoryTarget(float(a), old.aperture_dominance, float(w), old.width_dominance)
        for (phone, old), a, w in zip(table.items(), np.clip(aperture, 0, 1), np.clip(width, -1, 1), strict=True)
    }


def _corrected(
    people: Sequence[MeasuredLips],
    series: int,
    table: np.ndarray,
    blending_s: float,
    ridge: float,
    free: np.ndarray,
) -> np.ndarray:
    """Corrected targets [P] of one articulator.

    Args:
        series: 0 for the opening, 1 for the width.
        table: [2, P] targets and dominances.
        free: [P] bool, phones whose target may change.
    """
    targets, dominances = table
    root = np.linalg.cholesky(_correction_covariance(free))
    mean_length = np.mean([lips.seen.sum() for lips in people])
    heard, moved = [], []
    for lips in people:
        weight = (mean_length / lips.seen.sum()) ** 0.25
        blended = without_trend(_blended(lips.speech, dominances, blending_s), lips.fps)[lips.seen]
        motion = lips.motion()[lips.seen, series]
        heard.append(weight * np.column_stack([blended @ targets, blended @ root]))
        moved.append(weight * motion / (motion.std() + 1e-9))
    x, y = np.concatenate(heard), np.concatenate(moved)
    penalty = ridge * np.eye(x.shape[1])
    penalty[0, 0] = 0.0
    scale, *corrections = np.linalg.solve(x.T @ x + penalty, x.T @ y)
    return targets + root @ np.array(corrections) / scale


def _correction_covariance(free: np.ndarray) -> np.ndarray:
    """[P, P] of the corrections, before data: unit variance, SHARED of it common to a viseme; 0 where not free."""
    viseme = np.array([next(name for name, phones in VISEMES.items() if phone in phones) for phone in PHONES])
    covariance = SHARED * (viseme[:, None] == viseme) + (1.0 - SHARED) * np.eye(len(PHONES))
    return np.where(free[:, None] & free, covariance, 0.0) + 1e-9 * np.eye(len(PHONES))


def _columns(table: Mapping[str, ArticulatoryTarget]) -> np.ndarray:
    """[4, P] apertures, their dominances, widths, theirs."""
    return np.array([[t.aperture, t.aperture_dominance, t.width, t.width_dominance] for t in table.values()]).T


def blended_targets(speech: SpeechFeatureTrack, table: Mapping[str, ArticulatoryTarget]) -> np.ndarray:
    """Aperture and width [T, 2] of a table, blended by the phones that are heard."""
    columns = _columns(table)
    return np.stack(
        [
            _blended(speech, columns[1], APERTURE_BLENDING_S) @ columns[0],
            _blended(speech, columns[3], WIDTH_BLENDING_S) @ columns[2],
        ],
        axis=1,
    )


def _blended(speech: SpeechFeatureTrack, dominances: np.ndarray, blending_s: float) -> np.ndarray:
    """[T, P] weights, summing to 1, with which the phones' targets are blended in every frame."""
    weights = speech.phones.astype(np.float64) * dominances
    blurred = gaussian_filter1d(weights, blending_s * float(speech.fps), axis=0, mode="nearest")
    return blurred / blurred.sum(axis=1, keepdims=True)


HAND_TARGETS: dict[str, ArticulatoryTarget] = {
    "sil": ArticulatoryTarget(0.35, 0.63, 0.00, 0.40),
    "p": ArticulatoryTarget(0.00, 1.73, 0.00, 0.20),
    "b": ArticulatoryTarget(0.00, 1.73, 0.00, 0.20),
    "m": ArticulatoryTarget(0.00, 1.73, 0.00, 0.20),
    "f": ArticulatoryTarget(0.10, 1.41, 0.10, 0.50),
    "v": ArticulatoryTarget(0.10, 1.41, 0.10, 0.50),
    "th": ArticulatoryTarget(0.30, 1.00, 0.10, 0.40),
    "t": ArticulatoryTarget(0.28, 0.71, 0.10, 0.20),
    "d": ArticulatoryTarget(0.28, 0.71, 0.10, 0.20),
    "n": ArticulatoryTarget(0.30, 0.63, 0.10, 0.20),
    "l": ArticulatoryTarget(0.36, 0.71, 0.10, 0.20),
    "r": ArticulatoryTarget(0.28, 0.77, -0.40, 0.70),
    "s": ArticulatoryTarget(0.20, 1.00, 0.25, 0.50),
    "z": ArticulatoryTarget(0.20, 1.00, 0.25, 0.50),
    "sh": ArticulatoryTarget(0.28, 1.00, -0.60, 1.20),
    "k": ArticulatoryTarget(0.35, 0.55, 0.00, 0.10),
    "g": ArticulatoryTarget(0.35, 0.55, 0.00, 0.10),
    "ng": ArticulatoryTarget(0.35, 0.55, 0.00, 0.10),
    "x": ArticulatoryTarget(0.40, 0.55, 0.00, 0.10),
    "h": ArticulatoryTarget(0.40, 0.45, 0.00, 0.10),
    "j": ArticulatoryTarget(0.25, 0.77, 0.50, 0.70),
    "w": ArticulatoryTarget(0.10, 1.34, -1.00, 2.00),
    "i": ArticulatoryTarget(0.30, 1.00, 0.90, 1.00),
    "I": ArticulatoryTarget(0.38, 1.00, 0.45, 0.80),
    "e": ArticulatoryTarget(0.42, 1.00, 0.60, 1.00),
    "E": ArticulatoryTarget(0.58, 1.00, 0.40, 1.00),
    "ae": ArticulatoryTarget(0.78, 1.00, 0.40, 1.00),
    "a": ArticulatoryTarget(0.92, 1.05, 0.15, 1.00),
    "A": ArticulatoryTarget(0.88, 1.05, -0.10, 1.00),
    "O": ArticulatoryTarget(0.65, 1.00, -0.50, 1.00),
    "o": ArticulatoryTarget(0.45, 1.00, -0.80, 1.20),
    "U": ArticulatoryTarget(0.33, 1.00, -0.60, 1.00),
    "u": ArticulatoryTarget(0.20, 1.05, -1.00, 1.40),
    "y": ArticulatoryTarget(0.20, 1.05, -0.90, 1.40),
    "oe": ArticulatoryTarget(0.40, 1.00, -0.70, 1.20),
    "V": ArticulatoryTarget(0.62, 1.00, 0.05, 0.80),
    "@": ArticulatoryTarget(0.40, 0.77, 0.00, 0.50),
    "3": ArticulatoryTarget(0.40, 0.89, -0.30, 0.80),
}
"""Phone -> target by hand, from phonetic descriptions (tongue height for aperture, rounding for width)."""
