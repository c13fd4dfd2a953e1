"""Measures of lips that close: when they do, and how far they stay open on average. Openings are those of
`tools.metrics.mouth_opening`, [T]; NaN where a frame has no face: it is left out. A measure of which no frame is left
is NaN. No paper scores closures; the definitions are this project's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tools.metrics import mean_or_nan

OPENING_PERCENTILES = (5, 95)
CLOSURE_GAP = 0.01
"""Inter-ocular, 1 mm of an adult: up to here no teeth and no dark line between the lips are seen."""
CLOSURE_SHARE = 0.25
"""Of the range of a mouth that hardly opens."""


def opening_range(real: np.ndarray) -> tuple[float, float]:
    """A person's closed and wide-open mouth: the 5th and 95th percentile of the opening [T]; single detections that
    failed lie outside."""
    seen = real[np.isfinite(real)]
    return tuple(np.percentile(seen, OPENING_PERCENTILES).tolist()) if len(seen) else (math.nan, math.nan)


def mean_opening(opening: np.ndarray, real: np.ndarray) -> float:
    """How far lips are apart on average: 0 as the real ones when closed, 1 as they are wide open (`opening_range`). NaN
    if the real lips do not move."""
    closed, widest = opening_range(real)
    return (mean_or_nan(opening[np.isfinite(opening)]) - closed) / (widest - closed) if widest > closed else math.nan


@dataclass(frozen=True)
class ClosureScores:
    """How well closures of one mouth coincide with those of another."""

    predicted: int  # closures
    precision: float  # share of predicted closures at which the true lips are closed; NaN if none is predicted
    recall: float  # share of true closures at which the predicted lips are closed; NaN if there is none
    chance: float  # share of all frames with closed true lips near: precision of closures at random


def closure_threshold(real: np.ndarray) -> float:
    """Mouth opening, in inter-ocular units, under which a person's lips touch.

    Landmarks of touching lips lie a little apart, by how much depends on the lips: the real closed mouth
    (`opening_range`) plus `CLOSURE_GAP`, but no more than a quarter of the range of a mouth that hardly opens.
    """
    closed, widest = opening_range(real)
    return closed + min(CLOSURE_GAP, CLOSURE_SHARE * (widest - closed))


def closure_scores(predicted: np.ndarray, truth: np.ndarray, threshold: float, tolerance: int = 1) -> ClosureScores:
    """Precision and recall of lip closures, in frames.

    Lips are closed where their opening [T] is below `threshold` (the unit of the openings); a closure is a frame at
    which it is also the smallest within two frames. It is met when the other lips are closed within `tolerance`
    frames. Lips that never open meet every closure, so recall is read beside precision and chance.
    """
    seen = np.isfinite(predicted) & np.isfinite(truth)
    a, b = np.where(seen, predicted, np.inf), np.where(seen, truth, np.inf)
    near_a, near_b = _widened(a < threshold, tolerance), _widened(b < threshold, tolerance)
    found = _closures(a, threshold)
    return ClosureScores(
        predicted=int(found.sum()),
        precision=mean_or_nan(near_b[found]),
        recall=mean_or_nan(near_a[_closures(b, threshold)]),
        chance=mean_or_nan(near_b[seen]),
    )


def _closures(opening: np.ndarray, threshold: float) -> np.ndarray:
    padded = np.pad(opening, 2, constant_values=np.inf)
    smallest = np.lib.stride_tricks.sliding_window_view(padded, 5).min(axis=1)
    return (opening == smallest) & (opening < threshold)


def _widened(events: np.ndarray, tolerance: int) -> np.ndarray:
    """True within `tolerance` frames of a true entry."""
    return np.convolve(events, np.ones(2 * tolerance + 1), "same") > 0
