"""The sound as rows for the speech paths, and windows of rows around video frames.

SE4Lip's spectrogram is an STFT of n_fft 512, window 512, hop 128 at 16 kHz (Sec. 5.1): 257 bins from 0 to 8 kHz,
evenly spaced; its ablation (Table 6) has a mel spectrogram instead. Neither amplitude scale nor normalisation is
stated. Ours: the logarithm of power over the mean power of the bin in the 20 s around, floored, so that recording
level and equaliser fall out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
import torch

from encoders.contrastive.lip_clips import WINDOW_S
from encoders.spectrogram import FFT_SIZE, HOP_SIZE, MEL_BANDS, SAMPLE_RATE, mel_filter_bank, mel_power_blocks
from encoders.streaming import with_window_means

Spectrogram = Literal["stft", "mel"]

ROW_RATE = SAMPLE_RATE / HOP_SIZE
"""Spectrogram rows per second (125)."""
WINDOW_ROWS = round(WINDOW_S * ROW_RATE)
"""Spectrogram rows of a window: 25, five video frames at 25 frames per second."""
NORMALISATION_S = 20.0
FLOOR = 1e-3
"""Of a bin's mean power (-30 dB): what is quieter is not told from silence."""
QUIETEST = 1e-9
"""Mean power under which a bin is taken to be silent throughout."""
_CENTRE, _SCALE = -3.5, 2.5  # about mean and standard deviation of the logarithm: the networks see unit variance
BLOCK_FRAMES = 256


@dataclass(frozen=True)
class RowTiming:
    """Rows of a stream in time, and how many of them make a window."""

    rate: float  # rows per second
    first_s: float  # time of row 0, seconds
    window: int  # rows

    def first_rows(self, frames: np.ndarray, fps: Fraction) -> np.ndarray:
        """Index [n] of the first row in the windows around the middle of video frames [n]; may be negative."""
        middle = ((frames + 0.5) / float(fps) - self.first_s) * self.rate
        return np.ceil(middle - self.window / 2 - 1e-6).astype(int)


SPECTROGRAM_TIMING = RowTiming(ROW_RATE, 0.0, WINDOW_ROWS)


def spectrogram_size(spectrogram: Spectrogram) -> int:
    """Columns of a row."""
    return FFT_SIZE // 2 + 1 if spectrogram == "stft" else MEL_BANDS


def spectrogram_rows(blocks: Iterable[np.ndarray], spectrogram: Spectrogram) -> Iterator[np.ndarray]:
    """Normalised log spectrogram of a stream of samples, in constant memory; cutting the stream changes nothing.

    Args:
        blocks: mono float arrays [n] of consecutive 16 kHz samples.

    Yields:
        float32 [m, spectrogram_size(spectrogram)] at ROW_RATE; row k is centred on sample k * HOP_SIZE.

    Raises:
        SpeechInputError: a block is not a one-dimensional float array of finite values.
    """
    filters = torch.eye(FFT_SIZE // 2 + 1) if spectrogram == "stft" else mel_filter_bank()
    power = mel_power_blocks(blocks, filters)
    for rows, means in with_window_means(power, round(NORMALISATION_S * ROW_RATE)):
        relative = rows / np.maximum(means, QUIETEST)
        yield ((np.log(relative + FLOOR) - _CENTRE) / _SCALE).astype(np.float32)


def windows_at_frames(rows: np.ndarray, frames: np.ndarray, fps: Fraction, timing: RowTiming) -> np.ndarray:
    """Windows [n, timing.window, D] of rows [N, D] around video frames [n]; the outermost rows are repeated."""
    indices = timing.first_rows(frames, fps)[:, None] + np.arange(timing.window)
    return rows[np.clip(indices, 0, len(rows) - 1)]


def window_blocks(
    blocks: Iterable[np.ndarray], timing: RowTiming, fps: Fraction, frame_count: int
) -> Iterator[np.ndarray]:
    """`windows_at_frames` for every frame of a stream of rows, in constant memory.

    Yields:
        [n, timing.window, D], n <= BLOCK_FRAMES, `frame_count` windows in all.
    """
    held: np.ndarray | None = None
    offset = done = 0  # index of held[0] in the stream; frames yielded
    for block in blocks:
        held = block if held is None else np.concatenate([held, block])
        while (end := min(done + BLOCK_FRAMES, frame_count)) > done:
            frames = np.arange(done, end)
            first = timing.first_rows(frames, fps)
            if first[-1] + timing.window > offset + len(held):
                break
            yield held[np.maximum(first[:, None] + np.arange(timing.window), 0) - offset]
            drop = max(0, int(timing.first_rows(np.array([end]), fps)[0]) - offset)
            drop = min(drop, len(held) - 1)
            held, offset, done = held[drop:], offset + drop, end
    if held is not None:
        for begin in range(done, frame_count, BLOCK_FRAMES):
            frames = np.arange(begin, min(begin + BLOCK_FRAMES, frame_count))
            indices = timing.first_rows(frames, fps)[:, None] + np.arange(timing.window) - offset
            yield held[np.clip(indices, 0, len(held) - 1)]
