"""What a clip's picture shows of the lips, beside its sound: the data that priors, tables and offsets are learned on.

Opening and width are compared after posture is taken out: a smile or a lean lasts seconds and cannot be heard, speech
moves the lips several times a second.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter1d

from encoders.errors import SpeechInputError
from encoders.features import SpeechFeatureTrack

TREND_S = 2.0
"""Slower changes than this are posture, not speech."""
MINIMUM_S = 3.0
"""Seconds with a face that a clip must hold."""


@dataclass(frozen=True)
class MeasuredLips:
    """A person talking. Opening and width in any unit, NaN where no face is seen."""

    speech: SpeechFeatureTrack  # T frames of the clip's own sound
    opening: np.ndarray  # [T] distance of the inner lips
    width: np.ndarray  # [T] distance of the mouth corners

    def __post_init__(self) -> None:
        """
        Raises:
            SpeechInputError: lengths differ, or a face is seen for less than MINIMUM_S.
        """
        if not len(self.speech) == len(self.opening) == len(self.width):
            raise SpeechInputError(
                "expected speech features, opening and width of one length, "
                f"got {len(self.speech)}, {len(self.opening)} and {len(self.width)}"
            )
        if (seconds := self.seen.sum() / self.fps) < MINIMUM_S:
            raise SpeechInputError(
                f"expected {MINIMUM_S:g} s with a face to compare sound and lips, got {seconds:.1f} s"
            )

    @property
    def fps(self) -> float:
        """Video frames per second."""
        return float(self.speech.fps)

    @property
    def seen(self) -> np.ndarray:
        """[T] bool: frames with a face."""
        return np.isfinite(self.opening) & np.isfinite(self.width)

    def motion(self) -> np.ndarray:
        """Opening and width [T, 2] without posture; gaps between faces are bridged."""
        return lip_motion(self.opening, self.width, self.fps)

    def in_step(self, frames: float) -> MeasuredLips:
        """The same with the lips brought forward by so many frames, for a picture that is late by as many."""
        times = np.arange(len(self.speech))
        moved = [
            np.interp(times + frames, times, series, left=np.nan, right=np.nan) for series in (self.opening, self.width)
        ]
        return MeasuredLips(self.speech, *moved)


def lip_motion(opening: np.ndarray, width: np.ndarray, fps: float) -> np.ndarray:
    """Opening and width [T, 2] without posture; gaps (NaN) between faces are bridged, of which one at least is seen."""
    lips = np.stack([opening, width], axis=1)
    frames, seen = np.arange(len(lips)), np.isfinite(lips).all(axis=1)
    bridged = [np.interp(frames, frames[seen], series[seen]) for series in lips.T]
    return without_trend(np.stack(bridged, axis=1), fps)


def without_trend(series: np.ndarray, fps: float) -> np.ndarray:
    """Series [T, D] minus their moving means over TREND_S."""
    return series - uniform_filter1d(series.astype(np.float64), round(TREND_S * fps) | 1, axis=0, mode="nearest")
