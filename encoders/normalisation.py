"""Running normalisation: recording level and equaliser are taken out of a spectrogram as it comes, with no look-ahead.

Cepstral mean normalisation as it runs live: the level and the mean log-mel spectrum of the speech so far, forgotten
over MEMORY_S seconds *of speech*, are taken out. In pauses both are held, so that room noise is not taken for speech.
How the stream is cut into blocks changes nothing.

A file starts from the statistics of its own first MEMORY_S seconds, a live stream from those of the training
speech, which its own sound replaces within seconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from encoders.spectrogram import HOP_SIZE, MEL_BANDS, SAMPLE_RATE

MEMORY_S = 20.0
"""Seconds of speech that the running statistics stand for..."""
FIRST_MEMORY_S = 1.0
"""...and at least."""
FLOOR = 1e-5
"""Of the reference level (-50 dB): below it recordings hold noise only."""
QUIETEST_LEVEL = 1e-4
"""Mel power of a recording at about -63 dB of full scale: what is quieter throughout is silence."""
LOG_MEL_SCALE = 2.5
"""About the standard deviation of log-mel speech."""
AUDIBLE_DB = -35.0
"""Level, relative to that of speech, at which a frame is as likely speech as silence..."""
AUDIBLE_WIDTH_DB = 5.0
"""...and the width of the transition."""
_FRAMES_PER_SECOND = SAMPLE_RATE / HOP_SIZE
_NEPERS_PER_DECIBEL = math.log(10.0) / 10.0
_LEVEL_PASSES = 3
_LEAST_SHARE = 1e-6  # of a silent frame, so that silence alone has statistics too


@dataclass(frozen=True)
class SpeechStatistics:
    """Level and spectrum of the speech heard so far, of one stream or of several in step (leading axes)."""

    level: np.ndarray  # [...] mean mel power of audible frames
    mean: np.ndarray  # [..., MEL_BANDS] their mean log-mel spectrum
    weight: np.ndarray  # [...] spectrogram frames that the statistics stand for

    @classmethod
    def of(cls, power: np.ndarray) -> SpeechStatistics:
        """The statistics of mel power frames [n, ..., MEL_BANDS], n > 0."""
        levels = power.mean(axis=-1, dtype=np.float64)
        level = np.maximum(levels.mean(axis=0), QUIETEST_LEVEL)
        for _ in range(_LEVEL_PASSES):  # which frames are audible depends on the level, and the other way round
            audible = _speech_share(np.log(levels / level + FLOOR)) + _LEAST_SHARE
            level = np.maximum((audible * levels).sum(axis=0) / audible.sum(axis=0), QUIETEST_LEVEL)
        share = (audible / audible.sum(axis=0))[..., None]
        mean = (share * np.log(power + FLOOR * level[..., None])).sum(axis=0)
        return cls(level, mean, _clipped(audible.sum(axis=0)))

    def hear(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray, SpeechStatistics]:
        """Take in a mel power frame [..., MEL_BANDS].

        Returns:
            Its log-mel spectrum [..., MEL_BANDS], above the floor and without the mean so far; its natural log level
            [...] relative to that of speech so far; the statistics that hold this frame too.
        """
        log_mel = np.log(frame + FLOOR * self.level[..., None])
        power = frame.mean(axis=-1)
        log_level = np.log(power / self.level + FLOOR)
        audible = _speech_share(log_level)
        weight = _clipped(self.weight + audible)
        rate = audible / weight
        level = np.maximum(self.level + rate * (power - self.level), QUIETEST_LEVEL)
        deviation = log_mel - self.mean
        # What was heard before counts less once the sound gets louder: it was background.
        weight = _clipped(weight * np.minimum(1.0, self.level / level))
        heard = SpeechStatistics(level, self.mean + rate[..., None] * deviation, weight)
        return deviation / LOG_MEL_SCALE, log_level, heard


def _clipped(weight: np.ndarray) -> np.ndarray:
    return np.minimum(np.maximum(weight, FIRST_MEMORY_S * _FRAMES_PER_SECOND), MEMORY_S * _FRAMES_PER_SECOND)


def audibility(log_level: np.ndarray) -> np.ndarray:
    """Probability in [0, 1] that a frame of this level, relative to that of speech, is loud enough to be speech."""
    return 1.0 / (1.0 + np.exp((AUDIBLE_DB - log_level / _NEPERS_PER_DECIBEL) / AUDIBLE_WIDTH_DB))


def _speech_share(log_level: np.ndarray) -> np.ndarray:
    """How much a frame of this level counts in the statistics, in [0, 1]: only what is rather speech than silence."""
    return np.maximum(0.0, 2.0 * audibility(log_level) - 1.0)


def normalised(blocks: Iterable[np.ndarray], start: SpeechStatistics | None = None) -> Iterator[np.ndarray]:
    """Normalise a stream of mel power.

    Args:
        blocks: arrays [n, MEL_BANDS] of consecutive frames, any lengths.
        start: where the statistics start; None: from those of the first MEMORY_S seconds, which are waited for.

    Yields:
        float32 [n, MEL_BANDS + 1]: normalised log-mel, then the log level relative to that of speech.
    """
    statistics = start
    first_rows = round(MEMORY_S * _FRAMES_PER_SECOND)
    for power in blocks if start else _first_joined(iter(blocks), first_rows):
        if statistics is None:
            statistics = SpeechStatistics.of(power[:first_rows])
        rows = np.empty((len(power), MEL_BANDS + 1), np.float32)
        for row, frame in zip(rows, power, strict=True):
            row[:MEL_BANDS], row[MEL_BANDS], statistics = statistics.hear(frame)
        yield rows


def _first_joined(blocks: Iterator[np.ndarray], rows: int) -> Iterator[np.ndarray]:
    """The same stream; the first block holds at least so many rows, or the whole stream."""
    waiting: list[np.ndarray] = []
    while sum(map(len, waiting)) < rows and (block := next(blocks, None)) is not None:
        waiting.append(block)
    if any(map(len, waiting)):
        yield np.concatenate(waiting)
    yield from blocks
