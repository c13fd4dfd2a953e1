"""Depth order and tile lists: each tile of the image gets the splats that touch it, front to back."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from render._numba_projection import TILE_HEIGHT, TILE_WIDTH, tile_rect
from render._numba_simd import kernel

PREFETCH_AHEAD = 3
"""Splats that the blending kernels look ahead; the member list is padded by as many entries."""

_RADIX_BITS = 11
_RADIX_PASSES = 3  # the sign bit of a visible depth is 0, so 31 bits of 33
_BUCKETS = 1 << _RADIX_BITS


class TileLists(NamedTuple):
    """Tile t, counted row by row, holds the splats `members[offsets[t] : offsets[t + 1]]`, front to back."""

    offsets: np.ndarray  # int32 [tiles + 1]
    members: np.ndarray  # int32 [pairs + PREFETCH_AHEAD]
    busiest_first: np.ndarray  # int64 [tiles], tile numbers


@kernel
def sort_by_depth(depths: np.ndarray) -> np.ndarray:
    """Numbers of the visible splats, nearest first, equal depths in their given order: int32 [visible].

    A radix sort of the bit patterns: those of positive floats are in the order of the floats.
    """
    bits = depths.view(np.int32)
    keys, other_keys = np.empty(bits.size, np.int32), np.empty(bits.size, np.int32)
    order, other_order = np.empty(bits.size, np.int32), np.empty(bits.size, np.int32)
    starts = np.zeros((_RADIX_PASSES, _BUCKETS), np.int32)
    visible = 0
    for splat in range(bits.size):
        key = bits[splat]
        if key > 0:
            keys[visible] = key
            order[visible] = splat
            visible += 1
            for radix_pass in range(_RADIX_PASSES):
                starts[radix_pass, (key >> (_RADIX_BITS * radix_pass)) & (_BUCKETS - 1)] += 1
    for radix_pass in range(_RADIX_PASSES):
        total = 0
        for bucket in range(_BUCKETS):
            count = starts[radix_pass, bucket]
            starts[radix_pass, bucket] = total
            total += count
        for place in range(visible):
            key = keys[place]
            bucket = (key >> (_RADIX_BITS * radix_pass)) & (_BUCKETS - 1)
            target = starts[radix_pass, bucket]
            starts[radix_pass, bucket] = target + 1
            other_keys[target] = key
            other_order[target] = order[place]
        keys, other_keys = other_keys, keys
        order, other_order = other_order, order
    return order[:visible]


def tile_grid(width: int, height: int) -> tuple[int, int]:
    """Rows and columns of tiles that cover an image."""
    return -(-height // TILE_HEIGHT), -(-width // TILE_WIDTH)


@kernel
def bin_into_tiles(order: np.ndarray, tile_rects: np.ndarray, counts: np.ndarray) -> TileLists:
    """A counting sort by tile, which keeps the depth order within each tile.

    `counts` [workers, tile rows, tile columns] add up to how many splats touch each tile; `project` has counted them.
    """
    _, rows, columns = counts.shape
    offsets = np.zeros(rows * columns + 1, np.int32)
    for tile in range(rows * columns):
        offsets[tile + 1] = offsets[tile] + counts[:, tile // columns, tile % columns].sum()

    members = np.empty(offsets[-1] + PREFETCH_AHEAD, np.int32)
    members[offsets[-1] :] = 0
    place = offsets.copy()
    for splat in order:
        first_column, last_column, first_row, last_row = tile_rect(tile_rects, splat)
        for row in range(first_row, last_row + 1):
            for column in range(first_column, last_column + 1):
                tile = row * columns + column
                members[place[tile]] = splat
                place[tile] += 1
    return TileLists(offsets, members, np.argsort(offsets[:-1] - offsets[1:]))
