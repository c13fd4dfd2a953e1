"""LSE-C and LSE-D: how near sounds and pictures are in SyncNet's space, over offsets between them.

Prajwal et al. 2020 (Wav2Lip), Sec. 4.2, define them by the published evaluation of SyncNet: every picture window is
compared with the sound windows up to 15 frames around it, and distances are averaged over the clip for each offset.
LSE-D ("distance") is the lowest of these 31 averages; LSE-C ("confidence") is how far it lies below their median.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

LARGEST_OFFSET = 15
"""Frames at 25 per second."""
_EPSILON = 1e-6  # torch's pairwise_distance adds it to every difference


@dataclass(frozen=True)
class SyncScores:
    """How well lips and sound belong together."""

    distance: float  # LSE-D
    confidence: float  # LSE-C
    offset: float  # whole frames of 40 ms by which the picture is late; negative: the sound is


UNKNOWN = SyncScores(math.nan, math.nan, math.nan)


def sync_scores(pictures: np.ndarray, sounds: np.ndarray) -> SyncScores:
    """The scores of a clip.

    Beyond the ends sounds are zero, as published: every offset averages over all pictures.

    Args:
        pictures, sounds: [T, D] embeddings of windows that begin at the same frames.

    Raises:
        ValueError: there are none, or shapes differ.
    """
    if not len(pictures) or pictures.shape != sounds.shape:
        raise ValueError(f"expected windows of both, as many, got {pictures.shape} and {sounds.shape}")
    padded = np.pad(sounds, ((LARGEST_OFFSET, LARGEST_OFFSET), (0, 0)))
    means = np.array(
        [
            np.linalg.norm(pictures - padded[begin : begin + len(pictures)] + _EPSILON, axis=1).mean()
            for begin in range(2 * LARGEST_OFFSET + 1)
        ]
    )
    best = int(means.argmin())
    return SyncScores(float(means[best]), float(np.median(means) - means[best]), float(LARGEST_OFFSET - best))
