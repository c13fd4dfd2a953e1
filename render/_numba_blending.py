"""Front-to-back compositing of one tile of the image.

The pixels of a tile lie in planes of scratch memory, whose rows are LANES longer than the tile: a run of LANES pixels
may start anywhere in the tile, at a splat's own first column, and needs no mask at its end.

The transmittance plane holds -T for a finished pixel, so that `T > 0` is "still open" and no second plane is needed.
Pixels outside of the image are finished from the start.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from render._constants import ALPHA_MAX, ALPHA_MIN, TRANSMITTANCE_MIN
from render._numba_binning import PREFETCH_AHEAD, TileLists
from render._numba_math import EXPONENT_STEPS, Vector3, exp2_scaled
from render._numba_projection import (
    BLUE,
    BOTTOM,
    FALLOFF_X,
    GREEN,
    LEFT,
    LOG2_OPACITY,
    MEAN_X,
    MEAN_Y,
    RED,
    RIGHT,
    ROOT_FALLOFF_Y,
    ROW,
    SHEAR,
    TILE_HEIGHT,
    TILE_WIDTH,
    TOP,
)
from render._numba_simd import (
    LANES,
    compiled,
    float32x16,
    inlined,
    kernel,
    lane_numbers,
    largest,
    load,
    mask16,
    maximum,
    minimum,
    multiply_add,
    prefetch,
    select,
    splat,
    store,
    store_first,
)

STRIDE = TILE_WIDTH + LANES
"""Floats from one row of a scratch plane to the next."""

PLANE = TILE_HEIGHT * STRIDE + 208
"""Floats from one scratch plane to the next. The padding keeps one pixel of two planes from addresses that are equal
modulo 4096, which processors mistake for one another."""

TIGHTEN_EVERY = 32
"""Splats between two looks at which rows of the tile still have an open pixel."""

_LOG2_ALPHA_MIN = np.float32(math.log2(ALPHA_MIN) / EXPONENT_STEPS)
_ALPHA_MAX, _TRANSMITTANCE_MIN = np.float32(ALPHA_MAX), np.float32(TRANSMITTANCE_MIN)
_ZERO, _HALF, _ONE = (np.float32(value) for value in (0.0, 0.5, 1.0))


class ImageArrays(NamedTuple):
    """The rendered image, as flat planes, and how far every tile was composited."""

    rgb: np.ndarray  # [3 * height * width]
    alpha: np.ndarray  # [height * width]
    composited: np.ndarray  # int32 [tiles], splats looked at until every pixel was finished
    width: int
    height: int


@inlined
def tile_box(tile: int, image: ImageArrays) -> tuple[int, int, int, int]:
    """Left column, top row, width and height of a tile, px."""
    columns = (image.width + TILE_WIDTH - 1) // TILE_WIDTH
    left, top = tile % columns * TILE_WIDTH, tile // columns * TILE_HEIGHT
    return left, top, min(TILE_WIDTH, image.width - left), min(TILE_HEIGHT, image.height - top)


@compiled
def open_rows(transmittance: np.ndarray, first: int, last: int) -> tuple[int, int]:
    """The range first to last without the rows at its ends that have no open pixel; empty when none has one."""
    while first <= last and not _row_is_open(transmittance, first):
        first += 1
    while first <= last and not _row_is_open(transmittance, last):
        last -= 1
    return first, last


@inlined
def _row_is_open(transmittance: np.ndarray, row: int) -> bool:
    highest = load(transmittance, row * STRIDE)
    for column in range(LANES, TILE_WIDTH, LANES):
        highest = maximum(highest, load(transmittance, row * STRIDE + column))
    return largest(highest) > _ZERO


@inlined
def splat_box(
    rows: np.ndarray, row: int, left: int, top: int, first_row: int, last_row: int
) -> tuple[int, int, int, int]:
    """First and last column, first and last row that a splat may touch, within the tile and its open rows."""
    return (
        max(int(rows[row + LEFT]) - left, 0),
        min(int(rows[row + RIGHT]) - left, TILE_WIDTH - 1),
        max(int(rows[row + TOP]) - top, first_row),
        min(int(rows[row + BOTTOM]) - top, last_row),
    )


@inlined
def splat_colors(rows: np.ndarray, row: int) -> Vector3:
    return splat(rows[row + RED]), splat(rows[row + GREEN]), splat(rows[row + BLUE])


@inlined
def column_terms(rows: np.ndarray, row: int, column: int, first_row: int) -> tuple[float32x16, float32x16, float32x16]:
    """What the exponent takes from the pixel columns: dx, the term in dx alone, and t at `first_row`.

    `column` and `first_row` are those of the image.
    """
    dx = lane_numbers() + (np.float32(column) + _HALF - rows[row + MEAN_X])
    across = multiply_add(rows[row + FALLOFF_X] * dx, dx, splat(rows[row + LOG2_OPACITY]))
    u = (np.float32(first_row) + _HALF - rows[row + MEAN_Y]) - rows[row + SHEAR] * dx
    return dx, across, rows[row + ROOT_FALLOFF_Y] * u


@inlined
def composite(
    exponent: float32x16, transmittance: float32x16
) -> tuple[float32x16, float32x16, mask16, float32x16, float32x16]:
    """One splat over LANES pixels: alpha unclamped and clamped, where it is blended, its weight, new transmittance."""
    reached = (exponent >= _LOG2_ALPHA_MIN) & (transmittance > _ZERO)
    unclamped = exp2_scaled(exponent)
    alpha = minimum(unclamped, splat(_ALPHA_MAX))
    remaining = multiply_add(-alpha, transmittance, transmittance)
    blended = reached & (remaining > _TRANSMITTANCE_MIN)
    weight = select(blended, alpha * transmittance, splat(_ZERO))
    return unclamped, alpha, blended, weight, select(blended, remaining, select(reached, -transmittance, transmittance))


@kernel
def blend(rows: np.ndarray, lists: TileLists, image: ImageArrays, worker: int, workers: int) -> None:
    """Renders every `workers`-th tile into `image`, from the `worker`-th busiest on."""
    planes = np.empty((4, PLANE), np.float32)
    for place in range(worker, lists.busiest_first.size, workers):
        tile = lists.busiest_first[place]
        if lists.offsets[tile] == lists.offsets[tile + 1]:
            image.composited[tile] = 0
            _write_empty_tile(tile, image)
        else:
            _blend_tile(tile, rows, lists, planes, image)
            _write_tile(tile, planes, image)


@compiled
def _blend_tile(tile: int, rows: np.ndarray, lists: TileLists, planes: np.ndarray, image: ImageArrays) -> None:
    transmittance, red, green, blue = planes[0], planes[1], planes[2], planes[3]
    left, top, width, height = tile_box(tile, image)
    transmittance[:] = -_ONE
    planes[1:] = _ZERO
    for row in range(height):
        transmittance[row * STRIDE : row * STRIDE + width] = _ONE

    start, end = lists.offsets[tile], lists.offsets[tile + 1]
    first_row, last_row = 0, height - 1
    for place in range(start, end):
        if (place - start) % TIGHTEN_EVERY == TIGHTEN_EVERY - 1:
            first_row, last_row = open_rows(transmittance, first_row, last_row)
            if first_row > last_row:
                end = place
                break
        prefetch(rows, lists.members[place + PREFETCH_AHEAD] * ROW)
        row = lists.members[place] * ROW
        splat_red, splat_green, splat_blue = splat_colors(rows, row)
        root_falloff_y = splat(rows[row + ROOT_FALLOFF_Y])
        first_column, last_column, first_y, last_y = splat_box(rows, row, left, top, first_row, last_row)
        for column in range(first_column, last_column + 1, LANES):
            _, across, t = column_terms(rows, row, left + column, top + first_y)
            for y in range(first_y, last_y + 1):
                pixel = y * STRIDE + column
                exponent = multiply_add(-t, t, across)
                t = t + root_falloff_y
                open_before = load(transmittance, pixel)
                _, _, _, weight, open_after = composite(exponent, open_before)
                store(red, pixel, multiply_add(weight, splat_red, load(red, pixel)))
                store(green, pixel, multiply_add(weight, splat_green, load(green, pixel)))
                store(blue, pixel, multiply_add(weight, splat_blue, load(blue, pixel)))
                store(transmittance, pixel, open_after)
    image.composited[tile] = end - start


@compiled
def _write_tile(tile: int, planes: np.ndarray, image: ImageArrays) -> None:
    left, top, width, height = tile_box(tile, image)
    size = image.width * image.height
    for row in range(height):
        source = row * STRIDE
        target = (top + row) * image.width + left
        for x in range(0, width, LANES):
            transmittance = load(planes[0], source + x)
            alpha = _ONE - maximum(transmittance, -transmittance)
            store_first(image.alpha, target + x, alpha, width - x)
            for channel in range(3):
                color = load(planes[1 + channel], source + x)
                store_first(image.rgb, channel * size + target + x, color, width - x)


@compiled
def _write_empty_tile(tile: int, image: ImageArrays) -> None:
    left, top, width, height = tile_box(tile, image)
    size = image.width * image.height
    for row in range(top, top + height):
        target = row * image.width + left
        image.alpha[target : target + width] = _ZERO
        for channel in range(3):
            image.rgb[channel * size + target : channel * size + target + width] = _ZERO
