"""Log-mel spectrum and MFCC: the features that need no network, always available.

Both are mean-normalised over MEAN_S seconds around each frame (cepstral mean normalisation, Atal 1974), which takes
out recording level and equaliser. Nothing depends on how the samples are cut into blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from scipy.fft import dct

from encoders.embedding import samples_for_frames
from encoders.spectrogram import HOP_SIZE, MEL_BANDS, SAMPLE_RATE, mel_filter_bank, mel_power_blocks
from encoders.streaming import at_frame_times, with_window_means

MEAN_S = 20.0
FLOOR = 1e-6
"""Mel power added before the logarithm: a sound of about -83 dB of full scale, below what recordings resolve."""
COEFFICIENTS = 13
_RATE = SAMPLE_RATE / HOP_SIZE


@dataclass(frozen=True)
class LogMel:
    """Natural logarithm of the 80-band mel power of `spectrogram` (STFT 512/128, 50 to 7600 Hz)."""

    name: str = "logmel"
    size: int = MEL_BANDS

    def embedding_blocks(self, blocks: Iterable[np.ndarray], fps: Fraction, frame_count: int) -> Iterator[np.ndarray]:
        """See `SpeechEmbedding`."""
        return at_frame_times(_log_mel_rows(blocks, fps, frame_count), _RATE, 0.0, fps, frame_count)


@dataclass(frozen=True)
class Mfcc:
    """The first 13 mel-frequency cepstral coefficients (Davis and Mermelstein 1980), c0 included.

    They are the orthonormal DCT-II of `LogMel`: no pre-emphasis, no liftering, no deltas.
    """

    name: str = "mfcc"
    size: int = COEFFICIENTS

    def embedding_blocks(self, blocks: Iterable[np.ndarray], fps: Fraction, frame_count: int) -> Iterator[np.ndarray]:
        """See `SpeechEmbedding`."""
        rows = (
            dct(block, type=2, norm="ortho", axis=1)[:, :COEFFICIENTS]
            for block in _log_mel_rows(blocks, fps, frame_count)
        )
        return at_frame_times(rows, _RATE, 0.0, fps, frame_count)


def _log_mel_rows(blocks: Iterable[np.ndarray], fps: Fraction, frame_count: int) -> Iterator[np.ndarray]:
    """float32 [n, MEL_BANDS] at 125 Hz, mean-normalised."""
    power = mel_power_blocks(samples_for_frames(blocks, fps, frame_count), mel_filter_bank())
    logarithms = (np.log(block + np.float32(FLOOR)) for block in power)
    window = round(MEAN_S * _RATE)
    return (rows - means for rows, means in with_window_means(logarithms, window))
