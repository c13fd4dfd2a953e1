"""Recordings put into a film's sound at their places, on any grid of samples, read from front to back."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np

from tools.audio import SAMPLE_RATE, Waveform, decoded_blocks
from tools.media import first_sound_track

FADE_S = Fraction(1, 100)
"""Length of the linear fades, all of which lie inside the range of an insert."""
BLOCK_SAMPLES = 1 << 15
FULL_SCALE = float(2**31)


class Insert(Protocol):
    """A time range in which a recording is heard, from its beginning, and nothing else; silence when it has ended."""

    @property
    def start(self) -> Fraction:
        """Seconds on the film's time axis: 0 is its first picture."""
        ...

    @property
    def end(self) -> Fraction:
        """Seconds; what the recording holds beyond that is not heard."""
        ...

    @property
    def audio(self) -> Path:
        """Any file with sound; its first track counts."""
        ...


@dataclass(frozen=True)
class Grid:
    """Samples in time: sample n sounds at origin + n / rate seconds on the film's time axis."""

    rate: int
    origin: Fraction

    def at_or_after(self, time: Fraction) -> int:
        """The first sample that is not before `time`."""
        return math.ceil((time - self.origin) * self.rate)


@dataclass(frozen=True)
class Piece:
    """Samples begin ... end - 1 of a grid, all within the range of one insert."""

    begin: int
    end: int
    sound: np.ndarray
    """float64 [n, channels of the recording: 1 or 2] in [-1, 1]: faded in, and out where it is cut."""
    covers: np.ndarray
    """float64 [n, 1], 0 to 1: how much of what was there before is gone."""


class InsertedSound:
    """The inserts' sound on a grid. Only the recording that is being read is open, and a block of it is held.

    Args:
        inserts: in order; none overlap.
        mono: mix every recording to one channel.

    Raises:
        ValueError: inserts overlap, end before they start or are not in order.
    """

    def __init__(self, inserts: Sequence[Insert], grid: Grid, mono: bool = False) -> None:
        edges = [edge for insert in inserts for edge in (insert.start, insert.end)]
        if edges != sorted(edges):
            raise ValueError("expected inserts in order of time that do not overlap")
        self._inserts, self._grid, self._mono = inserts, grid, mono
        self._spans = [_Span(grid.at_or_after(insert.start), grid.at_or_after(insert.end)) for insert in inserts]
        self._unions = _unions(self._spans)
        self._recording: tuple[int, _Recording] | None = None

    @property
    def stop(self) -> int:
        """The sample after the last insert."""
        return max((span.stop for span in self._spans), default=0)

    def pieces(self, begin: int, end: int) -> Iterator[Piece]:
        """What sounds from sample `begin` to `end` - 1; later calls go on from there.

        Raises:
            MissingFileError, UnreadableFileError, NoAudioError, DamagedMediaError: about a recording.
        """
        fade = max(1, round(FADE_S * self._grid.rate))
        for index in range(bisect.bisect_right(self._spans, begin, key=lambda span: span.stop), len(self._spans)):
            span = self._spans[index]
            left, right = max(span.first, begin), min(span.stop, end)
            if span.first >= end:
                break
            if left == right:  # an insert of less than a sample
                continue
            sound = self._opened(index, left).read(right - left)
            yield Piece(left, right, sound * span.ramp(left, right, fade), self._unions[index].ramp(left, right, fade))

    def close(self) -> None:
        """Ends the reading of the recording that is open."""
        if self._recording is not None:
            self._recording[1].close()
            self._recording = None

    def _opened(self, index: int, position: int) -> _Recording:
        if self._recording is None or self._recording[0] != index:
            self.close()
            skip = position - self._spans[index].first
            self._recording = (index, _Recording(self._inserts[index].audio, self._grid.rate, skip, self._mono))
        return self._recording[1]


@dataclass(frozen=True)
class _Span:
    """Samples first ... stop - 1."""

    first: int
    stop: int

    def ramp(self, begin: int, end: int, fade: int) -> np.ndarray:
        """For samples begin ... end - 1, [n, 1]: 0 just outside the span, 1 where it is `fade` samples to its edges."""
        places = np.arange(begin, end)
        inside = np.minimum(places - self.first + 1, self.stop - places)
        return np.minimum(1.0, inside / (fade + 1))[:, None]


class _Recording:
    """Samples of a recording, and silence after it; `skip` samples of its beginning are left out."""

    def __init__(self, path: Path, rate: int, skip: int, mono: bool) -> None:
        self._channels = 1 if mono else min(2, first_sound_track(path).channels)
        self._blocks = decoded_blocks(path, rate, self._channels, BLOCK_SAMPLES, -Fraction(skip, rate))
        self._held = np.zeros((0, self._channels))

    def read(self, count: int) -> np.ndarray:
        """The next ones, float64 [count, channels] in [-1, 1]."""
        while len(self._held) < count:
            block = next(self._blocks, None)
            more = np.zeros((count - len(self._held), self._channels)) if block is None else block / FULL_SCALE
            self._held = np.concatenate([self._held, more])
        given, self._held = self._held[:count], self._held[count:]
        return given

    def close(self) -> None:
        self._blocks.close()


def _unions(spans: Sequence[_Span]) -> list[_Span]:
    """For every span the one that it makes with those that it touches: what was there before fades only at its ends."""
    unions: list[_Span] = []
    touching: list[_Span] = []
    for span, following in zip(spans, [*spans[1:], None], strict=False):
        touching.append(span)
        if following is None or following.first != span.stop:
            unions += [_Span(touching[0].first, span.stop)] * len(touching)
            touching.clear()
    return unions


def speech_blocks(inserts: Sequence[Insert], start: Fraction, stop: Fraction, block_s: float) -> Iterator[Waveform]:
    """The new speech alone, as speech encoders take it: 16 kHz mono, silence between.

    From `start` to `stop`, seconds on the film's time axis, in blocks of `block_s` seconds (the last may be shorter);
    one is held at a time.

    Raises: as `InsertedSound` and `InsertedSound.pieces`, while iterating.
    """
    speech = InsertedSound(inserts, Grid(SAMPLE_RATE, start), mono=True)
    count, block = round((stop - start) * SAMPLE_RATE), max(1, round(block_s * SAMPLE_RATE))
    try:
        for begin in range(0, count, block):
            samples = np.zeros(min(block, count - begin), np.float32)
            for piece in speech.pieces(begin, begin + len(samples)):
                samples[piece.begin - begin : piece.end - begin] = piece.sound[:, 0]
            yield Waveform(samples, SAMPLE_RATE)
    finally:
        speech.close()
