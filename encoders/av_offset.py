"""Audio-video offset of a clip: what the articulatory head hears against how the lips are seen to move.

SyncNet (Chung and Zisserman 2016) finds the offset at which learned audio and video embeddings agree best. Here both
sides have names instead: lip aperture and width predicted from the sound, lip opening and width measured in the
picture; the offset is the shift of highest correlation, found without fitting anything to the person.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter1d

from encoders.errors import SpeechInputError
from encoders.features import SpeechFeatureTrack

SEARCH_S = 0.4
"""Largest offset that is looked for, seconds."""
TREND_S = 2.0
"""Slower changes than this are posture, not speech."""
MINIMUM_S = 3.0
"""Seconds with a face that an estimate needs."""
PEAK_S = 0.1
"""Correlations this near the best belong to the same peak."""
HEAD_DELAY_S = 0.02
"""The articulatory head is this late: the synthesisers it was trained on report their phones late by 20 to 45 ms."""
RELIABLE_CORRELATION = 0.35
RELIABLE_MARGIN = 0.1


@dataclass(frozen=True)
class AudioVideoOffset:
    """How much later the lips move than the sound."""

    frames: float  # positive: the picture is late, the sound early
    correlation: float  # at the best offset, mean of opening and width
    margin: float  # correlation above the next best peak

    @property
    def is_reliable(self) -> bool:
        """Whether the peak is high and distinct enough to correct the clip by it."""
        return self.correlation >= RELIABLE_CORRELATION and self.margin >= RELIABLE_MARGIN


def estimate_offset(speech: SpeechFeatureTrack, opening: np.ndarray, width: np.ndarray) -> AudioVideoOffset:
    """Offset between a clip's sound and its lips, to a fraction of a frame.

    Args:
        speech: features of the clip's own sound, T frames.
        opening, width: [T] measured inner-lip distance and distance between the mouth corners, any units. Frames
            without a face are NaN.

    Raises:
        SpeechInputError: lengths differ, or a face is seen for less than MINIMUM_S.
    """
    if not len(speech) == len(opening) == len(width):
        raise SpeechInputError(
            "expected speech features, opening and width of one length, "
            f"got {len(speech)}, {len(opening)} and {len(width)}"
        )
    fps = float(speech.fps)
    seen = np.isfinite(opening) & np.isfinite(width)
    if seen.sum() < MINIMUM_S * fps:
        raise SpeechInputError(
            f"expected {MINIMUM_S:g} s with a face to measure the audio-video offset, got {seen.sum() / fps:.1f} s"
        )
    heard = [_without_trend(column, fps) for column in speech.articulation[:, :2].T]
    lips = [_without_trend(_filled(column, seen), fps) for column in (opening, width)]
    largest = round(SEARCH_S * fps)
    lags = np.arange(-largest, largest + 1)
    scores = np.array([np.mean([_correlation_at(h, m, lag) for h, m in zip(heard, lips, strict=True)]) for lag in lags])
    best = int(np.argmax(scores))
    elsewhere = np.abs(lags - lags[best]) > PEAK_S * fps
    return AudioVideoOffset(
        frames=float(lags[best]) + _parabola_peak(scores, best) + HEAD_DELAY_S * fps,
        correlation=float(scores[best]),
        margin=float(scores[best] - scores[elsewhere].max()),
    )


def _filled(series: np.ndarray, seen: np.ndarray) -> np.ndarray:
    frames = np.arange(len(series))
    return np.interp(frames, frames[seen], series[seen])


def _without_trend(series: np.ndarray, fps: float) -> np.ndarray:
    return series - uniform_filter1d(series.astype(np.float64), round(TREND_S * fps) | 1, mode="nearest")


def _correlation_at(heard: np.ndarray, seen: np.ndarray, lag: int) -> float:
    """Pearson's correlation when `seen` is taken to be `lag` frames late; 0 where either is constant."""
    a = heard[max(0, -lag) : len(heard) - max(0, lag)]
    b = seen[max(0, lag) : len(seen) - max(0, -lag)]
    if a.std() == 0 or b.std() == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def _parabola_peak(scores: np.ndarray, best: int) -> float:
    """Sub-frame position of the peak, from the parabola through it and its neighbours, in [-0.5, 0.5]."""
    if best in (0, len(scores) - 1):
        return 0.0
    before, peak, after = scores[best - 1 : best + 2]
    curvature = before - 2 * peak + after
    return 0.0 if curvature == 0 else float(0.5 * (before - after) / curvature)
