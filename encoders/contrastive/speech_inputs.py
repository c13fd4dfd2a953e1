"""The sound as rows for the speech paths, and windows of rows around video frames.

    stft     SE4Lip's (Sec. 5.1): n_fft 512, window 512, hop 128 at 16 kHz, 257 bins from 0 to 8 kHz, evenly spaced
    mel      of its ablation (Table 6): the same in 80 mel bands
    local    TalkLip's mel spectrogram (Sec. 4.1): hop 12.5 ms, window 50 ms, 80 bands; 16 rows are 0.2 s (Table 3)
    global   TalkLip's 26 filter banks (Sec. 6.2), for which it states no times: hop 10 ms, window 25 ms, as in the
             AV-HuBERT that its encoder is taken from (Shi et al. 2022)

Neither paper states amplitude scale or normalisation. Ours: the logarithm of power over the mean power of the bin in
the 20 s around, floored, so that recording level and equaliser fall out.

TalkLip's transformer reads whole utterances. Ours reads GLOBAL_S around a frame, so that a film takes no more memory
than a sentence; that is "whole" for sentences of half of it, about as long as those it was published on (LRS2: 29 h in
45,839 utterances, 2.3 s each).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
import torch

from encoders.contrastive.lip_clips import WINDOW_S
from encoders.spectrogram import MEL_BANDS, SAMPLE_RATE, SE4LIP_STFT, Stft, mel_filter_bank, mel_power_blocks
from encoders.streaming import with_window_means

Spectrogram = Literal["stft", "mel", "local", "global"]

GLOBAL_S = 4.04
"""An odd number of stacks of four rows, the frame in the middle of the middle one."""
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


@dataclass(frozen=True)
class SpectrogramKind:
    """What a speech path reads."""

    stft: Stft
    bands: int | None  # mel bands; None: the bins themselves
    window_s: float  # that it reads at once

    @property
    def size(self) -> int:
        """Columns of a row."""
        return self.stft.size // 2 + 1 if self.bands is None else self.bands

    @property
    def timing(self) -> RowTiming:
        """Rows in time; row k is centred on sample k * hop."""
        rate = SAMPLE_RATE / self.stft.hop
        return RowTiming(rate, 0.0, round(self.window_s * rate))

    @property
    def filters(self) -> torch.Tensor:
        """float32 [bins, size] from power to rows."""
        bins = self.stft.size // 2 + 1
        return torch.eye(bins) if self.bands is None else mel_filter_bank(self.bands, fft_size=self.stft.size)


SPECTROGRAMS: Mapping[Spectrogram, SpectrogramKind] = {
    "stft": SpectrogramKind(SE4LIP_STFT, None, WINDOW_S),
    "mel": SpectrogramKind(SE4LIP_STFT, MEL_BANDS, WINDOW_S),
    "local": SpectrogramKind(Stft(window=800, hop=200, size=800), 80, WINDOW_S),
    "global": SpectrogramKind(Stft(window=400, hop=160, size=512), 26, GLOBAL_S),
}


def spectrogram_rows(blocks: Iterable[np.ndarray], spectrogram: Spectrogram) -> Iterator[np.ndarray]:
    """Normalised log spectrogram of a stream of samples, in constant memory; cutting the stream changes nothing.

    Args:
        blocks: mono float arrays [n] of consecutive 16 kHz samples.

    Yields:
        float32 [m, size], see `SpectrogramKind`.

    Raises:
        SpeechInputError: a block is not a one-dimensional float array of finite values.
    """
    kind = SPECTROGRAMS[spectrogram]
    power = mel_power_blocks(blocks, kind.filters, kind.stft)
    for rows, means in with_window_means(power, round(NORMALISATION_S * kind.timing.rate)):
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
