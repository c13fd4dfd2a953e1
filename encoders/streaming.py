"""Row streams: statistics and chunks of sequences too long to hold, whatever blocks they come in."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

_SILENCE_SAMPLES = 16_000
"""Samples that `padded` adds at a time."""


def with_window_means(blocks: Iterable[np.ndarray], window: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every row with the mean of the `window` rows around it.

    The window is centred, except near the ends of the stream, where it is moved inwards so that it keeps its length; a
    stream shorter than the window has one mean. At most `window` rows and one block are held.

    Args:
        blocks: arrays [n, D] of consecutive rows, any lengths.
        window: rows per mean.

    Yields:
        Pairs (rows [m, D], means [m, D]) that continue one another and cover the stream.
    """
    half = window // 2
    held: np.ndarray | None = None
    pending = 0  # index in `held` of the first row that was not yielded
    for block in blocks:
        held = block if held is None else np.concatenate([held, block])
        ready = len(held) - window + half + 1  # rows before this one have their whole window in `held`
        if len(held) >= window and ready > pending:
            starts = np.maximum(np.arange(pending, ready) - half, 0)
            yield held[pending:ready], _means(held, starts, window)
            drop = len(held) - window  # the last windows of the stream reach back this far
            held, pending = held[drop:], ready - drop
    if held is not None and pending < len(held):
        window = min(window, len(held))
        starts = np.clip(np.arange(pending, len(held)) - half, 0, len(held) - window)
        yield held[pending:], _means(held, starts, window)


def _means(rows: np.ndarray, starts: np.ndarray, window: int) -> np.ndarray:
    """Means of rows[start : start + window], in float64 so that cutting leaves no trace."""
    sums = np.zeros((len(rows) + 1, rows.shape[1]))
    np.cumsum(rows, axis=0, dtype=np.float64, out=sums[1:])
    return ((sums[starts + window] - sums[starts]) / window).astype(rows.dtype)


@dataclass(frozen=True)
class ContextChunk:
    """A chunk of consecutive rows with context on both sides: the core is rows[begin:end]."""

    rows: np.ndarray  # [n, D]
    begin: int
    end: int


def context_chunks(blocks: Iterable[np.ndarray], chunk: int, past: int, future: int) -> Iterator[ContextChunk]:
    """Cut a stream of rows into chunks of `chunk` rows, each with up to `past` rows before and `future` rows after it.

    The cores continue one another and cover the stream; `past + chunk + future` rows and one block are held.
    """
    held: np.ndarray | None = None
    begin = 0
    for block in blocks:
        held = block if held is None else np.concatenate([held, block])
        while len(held) >= begin + chunk + future:
            yield ContextChunk(held[: begin + chunk + future], begin, begin + chunk)
            drop = max(0, begin + chunk - past)
            held, begin = held[drop:], begin + chunk - drop
    while held is not None and begin < len(held):
        end = min(begin + chunk, len(held))
        yield ContextChunk(held[: end + future], begin, end)
        begin = end


def padded(blocks: Iterable[np.ndarray], minimum: int) -> Iterator[np.ndarray]:
    """The blocks of samples [n], then silence until there are `minimum` samples."""
    total = 0
    for block in blocks:
        total += len(block)
        yield block
    while total < minimum:
        silence = np.zeros(min(_SILENCE_SAMPLES, minimum - total), np.float32)
        total += len(silence)
        yield silence


def at_frame_times(
    blocks: Iterable[np.ndarray], rate: float, first_s: float, fps: Fraction, frame_count: int | None
) -> Iterator[np.ndarray]:
    """Rows at a constant rate, linearly interpolated to the centres of video frames: (t + 0.5) / fps seconds.

    Before the first row and, when frames are counted, after the last one, these are held.

    Args:
        blocks: arrays [n, D] of consecutive rows, any lengths.
        rate: rows per second.
        first_s: time of the first row, seconds.
        fps: video frames per second.
        frame_count: video frames wanted; None: those up to the last row.

    Yields:
        Arrays [m, D], `frame_count` rows in all.
    """
    held: np.ndarray | None = None
    offset = done = 0  # index of held[0] in the stream; frames yielded
    for block in blocks:
        if done == frame_count:
            return
        held = block if held is None else np.concatenate([held, block])
        last_s = first_s + (offset + len(held) - 1) / rate
        ready = math.floor(last_s * float(fps) + 0.5)
        if frame_count is not None:
            ready = min(frame_count, ready)
        if ready > done:
            yield _interpolate(held, _positions(done, ready, rate, first_s, fps) - offset)
            following = math.floor(_positions(ready, ready + 1, rate, first_s, fps)[0]) - offset
            drop = min(max(following, 0), len(held) - 1)
            held, offset, done = held[drop:], offset + drop, ready
    if held is not None and frame_count is not None and done < frame_count:
        yield _interpolate(held, _positions(done, frame_count, rate, first_s, fps) - offset)


def _positions(begin: int, end: int, rate: float, first_s: float, fps: Fraction) -> np.ndarray:
    """Positions, in rows of the stream, of the centres of video frames begin to end - 1."""
    return (np.arange(begin, end) + 0.5) * (rate / float(fps)) - first_s * rate


def _interpolate(rows: np.ndarray, positions: np.ndarray) -> np.ndarray:
    positions = np.clip(positions, 0, len(rows) - 1)
    lower = np.minimum(positions.astype(int), max(0, len(rows) - 2))
    upper = np.minimum(lower + 1, len(rows) - 1)
    weight = (positions - lower)[:, None].astype(np.float32)
    return rows[lower] * (1 - weight) + rows[upper] * weight
