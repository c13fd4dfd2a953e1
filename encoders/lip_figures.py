"""How well lips follow from sound: the figures by which encoder, prior and personal fit are judged on clips of people.

Everything is measured on mouth opening and width. `predicted` must come from a prior that was learned without the
person, and from frames other than those it is compared on; `blocked_predictions` sees to the latter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from encoders.features import SpeechFeatureTrack
from encoders.measured_lips import MeasuredLips, without_trend

LARGEST_LAG = 6
"""Frames by which a zero-shot prediction may be early or late: it is judged at its best lag."""
CLOSURE_PROBABILITY = 0.5
"""A peak of the closure probability above this is a predicted closure."""
GAP_S = 0.25
"""Frames closer than this to a block are not fitted when the block is predicted: their inputs overlap."""


@dataclass(frozen=True)
class Agreement:
    """Pearson's correlation of predicted and measured lips."""

    opening: float
    width: float
    lag_opening: int  # frames by which the measured opening is late, at the best correlation
    lag_width: int


def agreement(predicted: np.ndarray, lips: MeasuredLips, largest_lag: int = LARGEST_LAG) -> Agreement:
    """Of predicted opening and width [T, 2] with measured ones, both without posture, each at its best lag."""
    heard, seen = without_trend(predicted, lips.fps), lips.motion()
    best = [_best_lag(heard[:, series], seen[:, series], largest_lag) for series in (0, 1)]
    return Agreement(best[0][0], best[1][0], best[0][1], best[1][1])


def _best_lag(heard: np.ndarray, seen: np.ndarray, largest_lag: int) -> tuple[float, int]:
    """Highest correlation, and by how many frames `seen` is late there."""
    count = len(seen)
    scores = {
        lag: float(
            np.corrcoef(heard[max(0, -lag) : count - max(0, lag)], seen[max(0, lag) : count - max(0, -lag)])[0, 1]
        )
        for lag in range(-largest_lag, largest_lag + 1)
    }
    lag = max(scores, key=scores.__getitem__)
    return scores[lag], lag


@dataclass(frozen=True)
class ClosureCoincidence:
    """How many closures that are heard are also seen."""

    predicted: int
    coinciding: int  # of them, with a local minimum of the opening within a frame
    chance: float  # share of all frames with such a minimum


def closure_coincidence(speech: SpeechFeatureTrack, opening: np.ndarray) -> ClosureCoincidence:
    """Peaks of the /p b m/ probability against local minima (over +-2 frames) of the opening [T], finite."""
    closure = speech.articulation[:, 2]
    frames = np.arange(1, len(closure) - 1)
    is_peak = (closure[1:-1] >= closure[:-2]) & (closure[1:-1] >= closure[2:]) & (closure[1:-1] > CLOSURE_PROBABILITY)
    smallest = np.lib.stride_tricks.sliding_window_view(opening, 5).min(axis=1)
    is_minimum = np.pad(opening[2:-2] == smallest, 2)
    near_minimum = np.convolve(is_minimum, np.ones(3), "same") > 0
    peaks = frames[is_peak]
    return ClosureCoincidence(len(peaks), int(near_minimum[peaks].sum()), float(near_minimum.mean()))


def blocked_predictions(
    targets: np.ndarray, fps: float, fit_and_predict: Callable[[np.ndarray], np.ndarray], folds: int = 5
) -> np.ndarray:
    """Every block of time of targets [T, K] predicted from the others, [T, K].

    Args:
        fit_and_predict: fits on targets [T, K], where NaN rows are not to be used, and predicts all T rows.
    """
    gap = round(GAP_S * fps)
    predicted = np.empty_like(targets)
    for block in np.array_split(np.arange(len(targets)), folds):
        others = targets.copy()
        others[max(0, block[0] - gap) : block[-1] + gap + 1] = np.nan
        predicted[block] = fit_and_predict(others)[block]
    return predicted


@dataclass(frozen=True)
class PersonalFigures:
    """A personal fit on frames that it did not see, posture included: as the lips are rendered."""

    opening: float  # Pearson's r
    width: float
    error: float  # root mean square error of the opening over its standard deviation
    amplitude: float  # spread of the predicted opening over that of the real one


def personal_figures(predicted: np.ndarray, opening: np.ndarray, width: np.ndarray) -> PersonalFigures:
    """Of predicted opening and width [T, 2], in the measured ones' units, which are finite."""
    return PersonalFigures(
        opening=float(np.corrcoef(predicted[:, 0], opening)[0, 1]),
        width=float(np.corrcoef(predicted[:, 1], width)[0, 1]),
        error=float(np.sqrt(np.mean((predicted[:, 0] - opening) ** 2)) / opening.std()),
        amplitude=float(predicted[:, 0].std() / opening.std()),
    )
