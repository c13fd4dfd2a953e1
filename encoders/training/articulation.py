"""From phone labels to articulatory trajectories: dominance functions in the manner of Cohen and Massaro (1993).

Every phone draws the lips to its target (`phones.ARTICULATORY_TARGETS`); what is heard at one moment is the mean of the
targets around it, weighted by each phone's dominance and a Gaussian in time.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d, uniform_filter1d

from encoders.phones import APERTURE_BLENDING_S, ARTICULATORY_TARGETS, PHONES, VISEMES, WIDTH_BLENDING_S
from encoders.spectrogram import HOP_SIZE, SAMPLE_RATE

_RATE = SAMPLE_RATE / HOP_SIZE
_CLOSURE_FRAMES = 3
_TARGETS = np.array(
    [
        (target.aperture, target.aperture_dominance, target.width, target.width_dominance)
        for target in (ARTICULATORY_TARGETS[phone] for phone in PHONES)
    ],
    np.float32,
)
_IS_BILABIAL = np.array([phone in VISEMES["bilabial"] for phone in PHONES], np.float32)


def articulatory_trajectory(phones: np.ndarray) -> np.ndarray:
    """Aperture, width and closure for phone labels.

    Args:
        phones: indices into PHONES [T], one per spectrogram frame.

    Returns:
        float32 [T, 3] in the order of `phones.ARTICULATORS`; closure is a probability.
    """
    aperture, aperture_dominance, width, width_dominance = _TARGETS[phones].T
    closure = uniform_filter1d(_IS_BILABIAL[phones], _CLOSURE_FRAMES, mode="nearest")
    return np.stack(
        [
            _blended(aperture, aperture_dominance, APERTURE_BLENDING_S),
            _blended(width, width_dominance, WIDTH_BLENDING_S),
            closure,
        ],
        axis=1,
    )


def _blended(target: np.ndarray, dominance: np.ndarray, deviation_s: float) -> np.ndarray:
    def smooth(series: np.ndarray) -> np.ndarray:
        return gaussian_filter1d(series, deviation_s * _RATE, mode="nearest")

    return smooth(target * dominance) / smooth(dominance)
