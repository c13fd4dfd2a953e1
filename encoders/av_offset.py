"""Audio-video offset of a clip: how lips should move by the sound against how they are seen to move.

SyncNet (Chung and Zisserman 2016) finds the offset at which learned audio and video embeddings agree best. Here both
sides have names instead: opening and width of the mouth, predicted from the sound by the generic lip prior (or by the
articulatory head alone, while there is no prior), and measured in the picture. The offset is the shift of highest
correlation, found without fitting anything to the person.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from encoders.features import SpeechFeatureTrack
from encoders.lip_prior import LipPrior
from encoders.measured_lips import MeasuredLips, without_trend

SEARCH_S = 0.4
"""Largest offset that is looked for, seconds."""
PEAK_S = 0.1
"""Correlations this near the best belong to the same peak."""
LIP_LEAD_S = 0.02
"""Lips move this much before what they do is heard: the median of six clips, which is held to be in step."""
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

    @property
    def correction(self) -> float:
        """Frames by which the sound must be delayed: the offset where it is reliable and above a frame, else 0."""
        return self.frames if self.is_reliable and abs(self.frames) > 1 else 0.0


def estimate_offset(
    speech: SpeechFeatureTrack, opening: np.ndarray, width: np.ndarray, prior: LipPrior | None = None
) -> AudioVideoOffset:
    """Offset between a clip's sound and its lips, to a fraction of a frame.

    Args:
        speech: features of the clip's own sound, T frames.
        opening, width: [T] measured inner-lip distance and distance between the mouth corners, any units. Frames
            without a face are NaN.
        prior: how lips move to speech. Without one the articulatory targets are compared, which agree less.

    Raises:
        SpeechInputError: lengths differ, or a face is seen for less than measured_lips.MINIMUM_S.
    """
    lips = MeasuredLips(speech, opening, width)
    seen = lips.motion()
    heard = without_trend(speech.articulation[:, :2] if prior is None else prior.predict(speech), lips.fps)
    lags, scores = scores_at_lags(heard, seen, round(SEARCH_S * lips.fps))
    best = int(np.argmax(scores))
    elsewhere = np.abs(lags - lags[best]) > PEAK_S * lips.fps
    return AudioVideoOffset(
        frames=float(lags[best]) + _parabola_peak(scores, best) + LIP_LEAD_S * lips.fps,
        correlation=float(scores[best]),
        margin=float(scores[best] - scores[elsewhere].max()),
    )


def scores_at_lags(heard: np.ndarray, seen: np.ndarray, largest: int) -> tuple[np.ndarray, np.ndarray]:
    """How well two motions [T, 2] agree at every offset.

    Returns:
        Lags [2 * largest + 1] in frames, positive where `seen` is late, and the correlation at each: the mean of the
        columns'.
    """
    lags = np.arange(-largest, largest + 1)
    both = list(zip(heard.T, seen.T, strict=True))
    return lags, np.array([np.mean([_correlation_at(*pair, lag) for pair in both]) for lag in lags])


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
