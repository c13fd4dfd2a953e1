"""Our own measure of lip sync, which needs no weights but those that ship. It is not LSE, and no figure of any paper.

What the default encoder hears of the mouth, how far open and how wide, is compared with what is seen, as `av_offset`
does. The articulatory targets are taken as they are: the lip prior, by which avatars are driven too, would flatter
those, and tells real lips from others less well. Avatars still move more as they are heard than people do, so that a
talking avatar may be nearer than its original: the measure tells lips in sync from lips that are not, not good ones
from better ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from encoders.av_offset import SEARCH_S, scores_at_lags
from encoders.features import SpeechFeatureTrack
from encoders.measured_lips import TREND_S, lip_motion, without_trend


@dataclass(frozen=True)
class OwnSync:
    """How well lips follow the sound."""

    distance: float  # 1 - correlation at the best offset: 0 moved as heard, 1 nothing in common
    offset_s: float  # seconds by which the lips are late


UNKNOWN = OwnSync(math.nan, math.nan)


def own_sync(speech: SpeechFeatureTrack, opening: np.ndarray, width: np.ndarray) -> OwnSync:
    """Compares sound and lips at offsets of whole frames up to SEARCH_S.

    Args:
        speech: features of the sound that is heard, T frames.
        opening, width: [T] of the mouth, any units; NaN where no face is seen.

    Returns:
        `UNKNOWN` where the clip is shorter than TREND_S, which leaves too little to compare, or shows a face for less
        than half of it.
    """
    fps = float(speech.fps)
    seen = np.isfinite(opening) & np.isfinite(width)
    if len(seen) < TREND_S * fps or seen.mean() < 0.5:
        return UNKNOWN
    heard = without_trend(speech.articulation[:, :2], fps)
    lags, scores = scores_at_lags(heard, lip_motion(opening, width, fps), round(SEARCH_S * fps))
    best = int(scores.argmax())
    return OwnSync(float(1 - scores[best]), float(lags[best]) / fps)
