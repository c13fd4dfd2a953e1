"""Row streams: statistics and chunks of sequences too long to hold, whatever blocks they come in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np


def with_window_means(
    blocks: Iterable[np.ndarray], window: int, weigh: Callable[[np.ndarray], np.ndarray]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Every row with the weighted mean of the `window` rows around it.

    The window is centred, except near the ends of the stream, where it is moved inwards so that it keeps its length; a
    stream shorter than the window has one mean. At most `window` rows and one block are held.

    Args:
        blocks: arrays [n, D] of consecutive rows, any lengths.
        window: rows per mean.
        weigh: rows [n, D] -> positive weights [n].

    Yields:
        Triples (rows [m, D], means [m, D], weight sums [m, 1]) that continue one another and cover the stream.
    """
    half = window // 2
    held: np.ndarray | None = None
    pending = 0  # index in `held` of the first row that was not yielded
    for block in blocks:
        held = block if held is None else np.concatenate([held, block])
        ready = len(held) - window + half + 1  # rows before this one have their whole window in `held`
        if len(held) >= window and ready > pending:
            starts = np.maximum(np.arange(pending, ready) - half, 0)
            yield held[pending:ready], *_means(held, weigh(held), starts, window)
            drop = len(held) - window  # the last windows of the stream reach back this far
            held, pending = held[drop:], ready - drop
    if held is not None and pending < len(held):
        window = min(window, len(held))
        starts = np.clip(np.arange(pending, len(held)) - half, 0, len(held) - window)
        yield held[pending:], *_means(held, weigh(held), starts, window)


def _means(rows: np.ndarray, weights: np.ndarray, starts: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Weighted means and weight sums of rows[start : start + window], in float64 so that cutting leaves no trace."""
    weighted = np.concatenate([rows * weights[:, None], weights[:, None]], axis=1)
    sums = np.zeros((len(rows) + 1, weighted.shape[1]))
    np.cumsum(weighted, axis=0, dtype=np.float64, out=sums[1:])
    totals = sums[starts + window] - sums[starts]
    return (totals[:, :-1] / totals[:, -1:]).astype(rows.dtype), totals[:, -1:].astype(rows.dtype)


@dataclass(frozen=True)
class ContextChunk:
    """A chunk of consecutive rows with context on both sides: the core is rows[begin:end]."""

    rows: np.ndarray  # [n, D]
    begin: int
    end: int


def context_chunks(blocks: Iterable[np.ndarray], chunk: int, context: int) -> Iterator[ContextChunk]:
    """Cut a stream of rows into chunks of `chunk` rows, each with up to `context` rows of its neighbours on both sides.

    The cores continue one another and cover the stream; `chunk + 2 * context` rows and one block are held.
    """
    held: np.ndarray | None = None
    begin = 0
    for block in blocks:
        held = block if held is None else np.concatenate([held, block])
        while len(held) >= begin + chunk + context:
            yield ContextChunk(held[: begin + chunk + context], begin, begin + chunk)
            drop = max(0, begin + chunk - context)
            held, begin = held[drop:], begin + chunk - drop
    while held is not None and begin < len(held):
        end = min(begin + chunk, len(held))
        yield ContextChunk(held[: end + context], begin, end)
        begin = end
