"""Joints: frames before which a clip was cut. What is known of one side of a joint says nothing of the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np


def segments(frames: int, joints: Sequence[int]) -> Iterator[slice]:
    """The parts of a clip between its joints, none of which is 0 or `frames`."""
    yield from (slice(start, stop) for start, stop in pairwise((0, *joints, frames)))


def interpolated(values: np.ndarray, frames: np.ndarray, count: int, joints: Sequence[int] = ()) -> np.ndarray:
    """Rows [count, D] for all frames of a clip from those known for some, [N, D] for frame numbers [N] in order.

    A frame between two known ones gets what lies between them, any other what the nearest one has, of those on its side
    of the joints. Where none is known between two joints, the joints do not count.

    Raises:
        ValueError: nothing is known.
    """
    if not len(frames):
        raise ValueError("expected at least one frame, got none")
    filled = np.empty((count, values.shape[1]), values.dtype)
    for part in segments(count, joints):
        inside = (frames >= part.start) & (frames < part.stop)
        inside = inside if inside.any() else np.ones_like(inside)
        wanted = np.arange(part.start, part.stop)
        filled[part] = np.stack([np.interp(wanted, frames[inside], column) for column in values[inside].T], 1)
    return filled
