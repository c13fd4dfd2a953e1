"""Mel spectrogram of 16 kHz speech: the STFT of SE4Lip (Huang et al. 2025: 512/128) reduced to 80 mel bands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from encoders.errors import SpeechInputError

SAMPLE_RATE = 16_000
"""Samples per second that every function of this package expects."""
FFT_SIZE = 512
HOP_SIZE = 128
MEL_BANDS = 80
LOWEST_HZ = 50.0
HIGHEST_HZ = 7600.0


@dataclass(frozen=True)
class Stft:
    """How a spectrum is taken. Lengths in samples."""

    window: int = FFT_SIZE  # of von Hann
    hop: int = HOP_SIZE
    size: int = FFT_SIZE  # of the transform, `window` or more


SE4LIP_STFT = Stft()


def _mel(hertz: np.ndarray | float) -> np.ndarray | float:
    """Hertz to mel (O'Shaughnessy 1987)."""
    return 2595.0 * np.log10(1.0 + np.asarray(hertz) / 700.0)


def mel_filter_bank(bands: int = MEL_BANDS, warp: float = 1.0, fft_size: int = FFT_SIZE) -> torch.Tensor:
    """Triangular filters spaced evenly in mel, each summing to one, so that a band is a weighted mean of STFT power.

    `warp` multiplies the frequency of every band edge, as a shorter vocal tract does; edges stay below Nyquist.

    Returns:
        [fft_size // 2 + 1, bands] float32.
    """
    frequencies = np.linspace(0.0, SAMPLE_RATE / 2, fft_size // 2 + 1)
    edges = 700.0 * (10.0 ** (np.linspace(_mel(LOWEST_HZ), _mel(HIGHEST_HZ), bands + 2) / 2595.0) - 1.0)
    edges = np.minimum(edges * warp, SAMPLE_RATE / 2 + 1e-3 * np.arange(bands + 2))
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    rising = (frequencies[:, None] - lower) / (centre - lower)
    falling = (upper - frequencies[:, None]) / (upper - centre)
    filters = np.maximum(0.0, np.minimum(rising, falling))
    # The lowest bands are narrower than one STFT bin and may contain none: give them the nearest.
    empty = np.flatnonzero(filters.sum(axis=0) == 0.0)
    nearest = np.minimum(np.round(centre[empty] / (SAMPLE_RATE / fft_size)).astype(int), fft_size // 2)
    filters[nearest, empty] = 1.0
    return torch.from_numpy((filters / filters.sum(axis=0)).astype(np.float32))


def mel_power_blocks(
    blocks: Iterable[np.ndarray], filters: torch.Tensor, stft: Stft = SE4LIP_STFT
) -> Iterator[np.ndarray]:
    """Mel power of a stream of samples, identical for every way of cutting the stream into blocks.

    STFT frame k is centred on sample k * hop; what lies before the first and after the last sample is silence.

    Args:
        blocks: float arrays [n] of consecutive 16 kHz samples, any lengths.
        filters: [stft.size // 2 + 1, bands] from `mel_filter_bank`.

    Yields:
        float32 [m, bands]; over the whole stream of N samples N // hop + 1 rows.

    Raises:
        SpeechInputError: a block is not a one-dimensional float array of finite values.
    """
    margin = np.zeros(stft.size // 2, np.float32)
    pending = margin
    position = 0
    for block in blocks:
        pending = np.concatenate([pending, checked_samples(block, position)])
        position += len(block)
        frames = (len(pending) - stft.size) // stft.hop + 1
        if frames > 0:
            yield _mel_power(pending, filters, stft)
            pending = pending[frames * stft.hop :]
    yield _mel_power(np.concatenate([pending, margin]), filters, stft)


def checked_samples(block: np.ndarray, position: int = 0) -> np.ndarray:
    """The block as float32 [n], or an error naming the first bad sample (`position` is the block's first index).

    Raises:
        SpeechInputError: the block is not a one-dimensional float array of finite values.
    """
    if block.ndim != 1 or not np.issubdtype(block.dtype, np.floating):
        raise SpeechInputError(
            f"expected mono float samples of shape [n], got shape {list(block.shape)} of {block.dtype}; "
            "mix down to one channel and scale to [-1, 1]"
        )
    samples = block.astype(np.float32, copy=False)
    finite = np.isfinite(samples)
    if not finite.all():
        first = position + int(np.argmin(finite))
        raise SpeechInputError(
            f"sample {first} ({first / SAMPLE_RATE:.2f} s) is not a finite number; re-encode the audio file"
        )
    return samples


def _mel_power(samples: np.ndarray, filters: torch.Tensor, stft: Stft) -> np.ndarray:
    window = torch.hann_window(stft.window, dtype=torch.float32)
    spectrum = torch.stft(
        torch.from_numpy(samples), stft.size, stft.hop, stft.window, window, center=False, return_complex=True
    )
    return (spectrum.abs().square().T @ filters).numpy()
