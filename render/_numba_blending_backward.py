"""Gradient of the compositing of one tile.

The tile is composited once more, front to back, with the arithmetic of `_numba_blending`. What lies behind a splat is
needed for its alpha gradient and follows without storing anything per splat: S starts as the whole pixel's
color . gradient minus its transmittance's part, and every splat passed takes its own share off (Kerbl et al. 2023,
appendix C, read from the other end).
"""

from __future__ import annotations

import numpy as np

from render._constants import ALPHA_MAX
from render._numba_binning import PREFETCH_AHEAD, TileLists
from render._numba_blending import (
    PLANE,
    STRIDE,
    TIGHTEN_EVERY,
    ImageArrays,
    column_terms,
    composite,
    open_rows,
    splat_box,
    splat_colors,
    tile_box,
)
from render._numba_columns import sums
from render._numba_projection import ROOT_FALLOFF_Y, ROW, TILE_WIDTH
from render._numba_projection_backward import SPLAT_GRADIENT
from render._numba_simd import (
    LANES,
    compiled,
    inlined,
    kernel,
    lane_numbers,
    load,
    load_first,
    multiply_add,
    prefetch,
    reciprocal,
    select,
    splat,
    store,
)

_ALPHA_MAX = np.float32(ALPHA_MAX)
_ZERO, _ONE = np.float32(0.0), np.float32(1.0)


@kernel
def blend_backward(
    rows: np.ndarray,
    lists: TileLists,
    image: ImageArrays,
    rgb_gradient: np.ndarray,
    alpha_gradient: np.ndarray,
    table: np.ndarray,
    worker: int,
    workers: int,
) -> None:
    """Fills `table` [padded N * SPLAT_GRADIENT] with this worker's share of the splat gradients.

    `rgb_gradient` and `alpha_gradient` are flat planes like those of `image`; the tiles are those of `blend`.
    """
    table[:] = _ZERO
    planes = np.zeros((5, PLANE), np.float32)
    planes[0] = -_ONE
    for place in range(worker, lists.busiest_first.size, workers):
        tile = lists.busiest_first[place]
        if image.composited[tile] > 0:
            _read_tile(tile, planes, image, rgb_gradient, alpha_gradient)
            _replay_tile(tile, rows, lists, planes, image, table)


@compiled
def _read_tile(
    tile: int, planes: np.ndarray, image: ImageArrays, rgb_gradient: np.ndarray, alpha_gradient: np.ndarray
) -> None:
    """Planes of a tile before its first splat: transmittance, S, and the gradients of red, green, blue.

    What lies to the right of the tile stays finished and zero.
    """
    left, top, width, height = tile_box(tile, image)
    size = image.width * image.height
    for row in range(height):
        target = row * STRIDE
        source = (top + row) * image.width + left
        for x in range(0, TILE_WIDTH, LANES):
            inside = width - x
            transmittance = _ONE - load_first(image.alpha, source + x, inside)
            behind = -(load_first(alpha_gradient, source + x, inside) * transmittance)
            for channel in range(3):
                pixel = channel * size + source + x
                gradient = load_first(rgb_gradient, pixel, inside)
                store(planes[2 + channel], target + x, gradient)
                behind = multiply_add(load_first(image.rgb, pixel, inside), gradient, behind)
            store(planes[1], target + x, behind)
            is_inside = lane_numbers() < np.float32(inside)
            store(planes[0], target + x, select(is_inside, splat(_ONE), splat(-_ONE)))


@compiled
def _replay_tile(
    tile: int, rows: np.ndarray, lists: TileLists, planes: np.ndarray, image: ImageArrays, table: np.ndarray
) -> None:
    transmittance = planes[0]
    left, top, _, height = tile_box(tile, image)
    start = lists.offsets[tile]
    first_row, last_row = 0, height - 1
    for place in range(start, start + image.composited[tile]):
        if (place - start) % TIGHTEN_EVERY == TIGHTEN_EVERY - 1:
            first_row, last_row = open_rows(transmittance, first_row, last_row)
        ahead, number = lists.members[place + PREFETCH_AHEAD], lists.members[place]
        prefetch(rows, ahead * ROW)
        prefetch(table, ahead * SPLAT_GRADIENT)
        _replay_splat(rows, number * ROW, (left, top, first_row, last_row), planes, table, number * SPLAT_GRADIENT)


@inlined
def _replay_splat(
    rows: np.ndarray, row: int, box: tuple[int, int, int, int], planes: np.ndarray, table: np.ndarray, target: int
) -> None:
    """Composites one splat and adds its gradients to the table at `target`."""
    transmittance, behind = planes[0], planes[1]
    red_gradient, green_gradient, blue_gradient = planes[2], planes[3], planes[4]
    left, top, first_row, last_row = box
    colors = splat_colors(rows, row)
    root_falloff_y = splat(rows[row + ROOT_FALLOFF_Y])
    first_column, last_column, first_y, last_y = splat_box(rows, row, left, top, first_row, last_row)
    zero = splat(_ZERO)
    red, green, blue = zero, zero, zero
    q_sum, q_x, q_t, q_xx, q_xt, q_tt = zero, zero, zero, zero, zero, zero
    for column in range(first_column, last_column + 1, LANES):
        dx, across, t = column_terms(rows, row, left + column, top + first_y)
        column_q, column_qt = zero, zero
        for y in range(first_y, last_y + 1):
            pixel = y * STRIDE + column
            exponent = multiply_add(-t, t, across)
            open_before = load(transmittance, pixel)
            unclamped, alpha, blended, weight, open_after = composite(exponent, open_before)
            store(transmittance, pixel, open_after)
            gradients = load(red_gradient, pixel), load(green_gradient, pixel), load(blue_gradient, pixel)
            red = multiply_add(weight, gradients[0], red)
            green = multiply_add(weight, gradients[1], green)
            blue = multiply_add(weight, gradients[2], blue)

            value = multiply_add(
                colors[0], gradients[0], multiply_add(colors[1], gradients[1], colors[2] * gradients[2])
            )
            still_behind = multiply_add(-weight, value, load(behind, pixel))
            store(behind, pixel, still_behind)
            gradient = multiply_add(open_before, value, -(still_behind * reciprocal(_ONE - alpha)))
            q = select(blended & (unclamped <= _ALPHA_MAX), -(unclamped * gradient), zero)
            column_q = column_q + q
            qt = q * t
            column_qt = column_qt + qt
            q_tt = multiply_add(qt, t, q_tt)
            t = t + root_falloff_y
        q_sum = q_sum + column_q
        q_t = q_t + column_qt
        moment = column_q * dx
        q_x = q_x + moment
        q_xx = multiply_add(moment, dx, q_xx)
        q_xt = multiply_add(column_qt, dx, q_xt)
    total = load(table, target) + sums((q_sum, q_x, q_t, q_xx, q_xt, q_tt, red, green, blue))
    store(table, target, total)
