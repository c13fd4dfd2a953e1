"""Which source frame is shown behind each driven frame, and reading source frames in that order.

The footage is played forwards and backwards in turn, for as long as the audio lasts. It slows down before it turns and
speeds up after it (constant deceleration through zero, in about half a second), so that the head never jerks, and no
two consecutive frames are more than one source frame apart, so that it never jumps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from tools.video import VideoInfo, read_frames

TURN_S = Fraction(1, 2)
"""Duration of a turn, seconds, to the nearest multiple of four frames."""
CHUNK_FRAMES = 32
"""Most source frames held at a time when reading backwards..."""
CHUNK_BYTES = 256 << 20
"""...and most bytes, which large pictures reach first."""


@dataclass(frozen=True)
class PingPong:
    """The source frame of every driven frame, to and fro over source frames [0, source_frames), in exact arithmetic.

    Raises:
        ValueError: there is no source frame.
    """

    source_frames: int
    fps: Fraction

    def __post_init__(self) -> None:
        if self.source_frames < 1:
            raise ValueError(f"expected at least one source frame, got {self.source_frames}")

    def __getitem__(self, frame: int) -> int:
        """The source frame shown in driven frame `frame`, counted from 0; any number of them, in constant time."""
        # Rounding half up moves no two neighbours apart: floor(x + 1) is floor(x) + 1. Rounding half to even would.
        return math.floor(self.position(frame) + Fraction(1, 2))

    def position(self, frame: int) -> Fraction:
        """The point of the footage before it is rounded, in source frames; no two neighbours are more than 1 apart."""
        last = self.source_frames - 1
        # From full speed to rest in 2q frames is q frames of footage; the other half of a turn is its mirror image.
        q = min(round(TURN_S * self.fps / 4), last // 2)
        at_full_speed = last - 2 * q
        if frame < q or last == 0:  # the first frame is shown at full speed: there is no turn before it
            return Fraction(min(frame, last))
        turns, phase = divmod(frame - q, at_full_speed + 4 * q)
        turning = max(0, phase - at_full_speed)
        position = Fraction(q + phase) - (Fraction(turning**2, 4 * q) if turning else 0)
        return last - position if turns % 2 else position


def frames_in_order(info: VideoInfo, order: Iterable[int]) -> Iterator[np.ndarray]:
    """Yields source frames, uint8 [H, W, 3], in any order that goes on by single steps, in constant memory.

    Forwards they are decoded one by one; backwards a chunk at a time, since video decodes forwards only. A frame that
    is asked for twice in a row is one array: do not write into it.

    Raises:
        DamagedMediaError: see `tools.video.read_frames`.
        ValueError: the clip has no such frame.
    """
    chunk = max(1, min(CHUNK_FRAMES, CHUNK_BYTES // (info.width * info.height * 3)))
    held: list[np.ndarray] = []  # frames first, first + 1, ...
    first = upcoming = 0
    stream = read_frames(info)
    for index in order:
        if not 0 <= index < info.frame_count:
            raise ValueError(f"frame {index} asked for, but {info.path} has {info.frame_count}")
        if index >= first + len(held):
            if index != upcoming:
                stream = read_frames(info, index)
            held, first, upcoming = [next(stream)], index, index + 1
        elif index < first:
            held.clear()
            first = max(0, index - chunk + 1)
            held.extend(read_frames(info, first, index - first + 1))
        yield held[index - first]
