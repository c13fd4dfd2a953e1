"""What every synthesiser hands back: a sentence as sound, and the engine's own phone symbols with their times."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

import numpy as np
from scipy.signal import resample_poly

SAMPLE_RATE = 16_000
"""Samples per second of every utterance, whatever the engine's own rate."""


@dataclass(frozen=True)
class Segment:
    """One phone as the engine names and times it."""

    symbol: str
    """The engine's symbol ("" is silence)."""
    end_s: float
    """Where it ends [s from the utterance's beginning]; it begins where the one before it ends."""


@dataclass(frozen=True)
class Utterance:
    """One synthesised sentence."""

    samples: np.ndarray
    """float32 [n] in [-1, 1] at `SAMPLE_RATE`."""
    segments: tuple[Segment, ...]
    """In time order, from 0 s to the end of the sound."""
    language: str
    """Key of `sentences.LANGUAGES`, except for espeak-ng: the engine's own language code."""


def at_sample_rate(pcm: np.ndarray, rate: int) -> np.ndarray:
    """16-bit samples [n] at any rate as float32 in [-1, 1] at `SAMPLE_RATE`."""
    samples = pcm.astype(np.float32) / 32768.0
    if rate == SAMPLE_RATE:
        return samples
    divisor = gcd(SAMPLE_RATE, rate)
    return resample_poly(samples, SAMPLE_RATE // divisor, rate // divisor).astype(np.float32)
