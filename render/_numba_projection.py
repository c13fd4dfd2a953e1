"""Projection of 3D Gaussians to image splats and its gradient, sixteen Gaussians at a time.

The formulas are those of `_rasterize_torch.project`, which defines them; gradients are derived by hand from there.
Arrays are flat float32 unless noted. Row i of a [N, k] array starts at i * k.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from render._constants import ALPHA_MIN, EPS2D, FAR_PLANE, FOV_MARGIN, NEAR_PLANE
from render._numba_columns import load_columns, store_columns
from render._numba_math import (
    EXPONENT_STEPS,
    Matrix3,
    Quaternion,
    Vector3,
    add,
    apply,
    combine,
    cross,
    dot,
    log2,
    multiply,
    rotation,
    scale,
    scale_columns,
)
from render._numba_simd import (
    LANES,
    compiled,
    float32x16,
    inlined,
    is_finite,
    kernel,
    load,
    maximum,
    minimum,
    round_down,
    select,
    splat,
    square_root,
    store,
)

TILE_WIDTH = 64
TILE_HEIGHT = 32

ROW = 16
"""Floats in a row of the splat table, which is one cache line. See the columns below."""

MEAN_X, MEAN_Y, FALLOFF_X, SHEAR, ROOT_FALLOFF_Y, LOG2_OPACITY, RED, GREEN, BLUE, LEFT, RIGHT, TOP, BOTTOM = range(13)
"""Columns of the splat table. With (dx, dy) the way from the mean to a pixel centre, in px,

    log2(alpha) / EXPONENT_STEPS = LOG2_OPACITY + FALLOFF_X * dx^2 - t^2 with t = ROOT_FALLOFF_Y * (dy - SHEAR * dx),

which is the quadratic form of the inverse covariance with its square completed: for thin splats the usual form cancels.
From one pixel row to the next t grows by ROOT_FALLOFF_Y.
LEFT to BOTTOM are the first and last pixel column, first and last pixel row that the splat may touch, inclusive."""

CULLED = np.float32(-1.0)
"""The depth of a Gaussian that is not drawn."""

CONIC_SCALE = np.float32(0.5 * math.log2(math.e) / EXPONENT_STEPS)
"""-log2(alpha) / EXPONENT_STEPS at a pixel whose squared distance, in standard deviations, is 1, for opacity 1."""

_LOG2_ALPHA_MIN = np.float32(math.log2(ALPHA_MIN))
_EXTENT_SCALE = np.float32(2.0 * math.log(2.0))
# Bounds are widened by this against rounding; a pixel too many costs time and never changes the picture.
_BOUNDS_MARGIN = np.float32(1e-3)
_EPS2D, _ALPHA_MIN, _NEAR, _FAR = (np.float32(value) for value in (EPS2D, ALPHA_MIN, NEAR_PLANE, FAR_PLANE))
_TILES_PER_COLUMN, _TILES_PER_ROW = np.float32(1 / TILE_WIDTH), np.float32(1 / TILE_HEIGHT)  # powers of two: exact
_ZERO, _HALF, _ONE, _TWO = (np.float32(value) for value in (0.0, 0.5, 1.0, 2.0))
_SMALLEST_NORMAL = np.finfo(np.float32).tiny


class GaussianArrays(NamedTuple):
    """The inputs of the rasterizer, or the gradients with respect to them."""

    means: np.ndarray  # [N * 3]
    quats: np.ndarray  # [N * 4]
    scales: np.ndarray  # [N * 3]
    opacities: np.ndarray  # [N]
    colors: np.ndarray  # [N * 3]


class CameraArrays(NamedTuple):
    """A camera: the view matrix, and what the projection derives from the intrinsics, in px and in slopes x / z."""

    world_to_camera: np.ndarray  # [16]
    fx: np.float32
    fy: np.float32
    cx: np.float32
    cy: np.float32
    width: int
    height: int
    slope_limits: tuple[np.float32, np.float32, np.float32, np.float32]  # left, right, top, bottom


class SplatArrays(NamedTuple):
    """Projected Gaussians, padded with culled ones to a multiple of `LANES`."""

    rows: np.ndarray  # [padded N * ROW]
    depths: np.ndarray  # [padded N], CULLED where nothing is drawn
    tile_rects: np.ndarray  # [padded N * 4]: first and last tile column, first and last tile row; to be truncated


def slope_limits(focal: float, center: float, size: int) -> tuple[np.float32, np.float32]:
    """Where the slope x / z is clamped before linearising, along one axis; see FOV_MARGIN."""
    margin = FOV_MARGIN * size / (2 * focal)
    return np.float32(-center / focal - margin), np.float32((size - center) / focal + margin)


@inlined
def broadcast_view(camera: CameraArrays) -> tuple[Matrix3, Vector3]:
    """Rotation (as rows) and translation of world_to_camera, broadcast to all lanes."""
    m = camera.world_to_camera
    return (
        (splat(m[0]), splat(m[1]), splat(m[2])),
        (splat(m[4]), splat(m[5]), splat(m[6])),
        (splat(m[8]), splat(m[9]), splat(m[10])),
    ), (splat(m[3]), splat(m[7]), splat(m[11]))


@inlined
def unit_quaternion(quats: np.ndarray, first: int) -> tuple[Quaternion, float32x16]:
    """Normalised quaternions and the reciprocals of their lengths."""
    w, x, y, z = load_columns(quats, first * 4, 4)
    inverse_length = _ONE / square_root(w * w + x * x + y * y + z * z)
    return (w * inverse_length, x * inverse_length, y * inverse_length, z * inverse_length), inverse_length


@inlined
def linearise(
    point: Vector3, camera: CameraArrays
) -> tuple[float32x16, tuple[float32x16, float32x16], tuple[float32x16, float32x16]]:
    """1 / z, the slopes (x / z, y / z), and the slopes clamped to the widened field of view."""
    inverse_z = _ONE / point[2]
    slopes = (point[0] * inverse_z, point[1] * inverse_z)
    left, right, top, bottom = camera.slope_limits
    clamped = (
        minimum(maximum(slopes[0], splat(left)), splat(right)),
        minimum(maximum(slopes[1], splat(top)), splat(bottom)),
    )
    return inverse_z, slopes, clamped


@inlined
def along_image(
    axes: Matrix3, inverse_z: float32x16, clamped: tuple[float32x16, float32x16], camera: CameraArrays
) -> tuple[Vector3, Vector3]:
    """The splat's axes seen along image x and y (px): the rows of J V R diag(scales)."""
    along_x = scale(combine(axes[0], splat(_ONE), axes[2], -clamped[0]), camera.fx * inverse_z)
    along_y = scale(combine(axes[1], splat(_ONE), axes[2], -clamped[1]), camera.fy * inverse_z)
    return along_x, along_y


@inlined
def covariance(along_x: Vector3, along_y: Vector3) -> tuple[float32x16, float32x16, float32x16, float32x16]:
    """Filtered 2D covariance xx, xy, yy (px^2) and its determinant, which is expanded so that nothing cancels."""
    xx, xy, yy = dot(along_x, along_x), dot(along_x, along_y), dot(along_y, along_y)
    normal = cross(along_x, along_y)
    determinant = dot(normal, normal) + _EPS2D * (xx + yy + _EPS2D)
    return xx + _EPS2D, xy, yy + _EPS2D, determinant


@compiled
def _project_blocks(
    gaussians: GaussianArrays, start: int, stop: int, camera: CameraArrays, splats: SplatArrays, target: int
) -> None:
    """Projects Gaussians `start` to `stop` into the splat table from row `target` on."""
    view = broadcast_view(camera)
    for first in range(start, stop, LANES):
        _project_block(gaussians, first, camera, view, splats, target + first - start)


@inlined
def _project_block(
    gaussians: GaussianArrays,
    first: int,
    camera: CameraArrays,
    view: tuple[Matrix3, Vector3],
    splats: SplatArrays,
    target: int,
) -> None:
    view_rotation, view_translation = view
    mean = load_columns(gaussians.means, first * 3, 3)
    quaternion, _ = unit_quaternion(gaussians.quats, first)
    axes = scale_columns(
        multiply(view_rotation, rotation(quaternion[0], quaternion[1], quaternion[2], quaternion[3])),
        load_columns(gaussians.scales, first * 3, 3),
    )
    point = add(apply(view_rotation, mean), view_translation)
    inverse_z, slopes, clamped = linearise(point, camera)
    along_x, along_y = along_image(axes, inverse_z, clamped, camera)
    xx, xy, yy, determinant = covariance(along_x, along_y)
    falloff_x, root_falloff_y = -CONIC_SCALE / xx, square_root(CONIC_SCALE * xx / determinant)
    mean_x, mean_y = camera.fx * slopes[0] + camera.cx, camera.fy * slopes[1] + camera.cy
    opacity = load(gaussians.opacities, first)
    red, green, blue = load_columns(gaussians.colors, first * 3, 3)

    # Alpha reaches ALPHA_MIN at this many standard deviations, squared (Radl et al. 2024, appendix B.2).
    log2_opacity = log2(maximum(opacity, splat(_SMALLEST_NORMAL)))
    extent = maximum((log2_opacity - _LOG2_ALPHA_MIN) * _EXTENT_SCALE, splat(_ZERO))
    half_width, half_height = square_root(extent * xx) + _BOUNDS_MARGIN, square_root(extent * yy) + _BOUNDS_MARGIN
    last_column, last_row = splat(np.float32(camera.width - 1)), splat(np.float32(camera.height - 1))
    left = maximum(-round_down(half_width + _HALF - mean_x), splat(_ZERO))
    right = minimum(round_down(mean_x + half_width - _HALF), last_column)
    top = maximum(-round_down(half_height + _HALF - mean_y), splat(_ZERO))
    bottom = minimum(round_down(mean_y + half_height - _HALF), last_row)

    # A sum is finite only if all of its terms are.
    finite = is_finite(mean_x + mean_y + falloff_x + root_falloff_y + yy) & is_finite(red + green + blue + opacity)
    inside = (point[2] > _NEAR) & (point[2] < _FAR) & (left <= right) & (top <= bottom)
    visible = finite & inside & (opacity >= _ALPHA_MIN)
    store(splats.depths, target, select(visible, point[2], splat(CULLED)))
    last_tile_column = select(visible, right * _TILES_PER_COLUMN, splat(CULLED))
    last_tile_row = select(visible, bottom * _TILES_PER_ROW, splat(CULLED))
    rect = (left * _TILES_PER_COLUMN, last_tile_column, top * _TILES_PER_ROW, last_tile_row)
    store_columns(splats.tile_rects, target * 4, rect)
    unused = splat(_ZERO)
    row = (
        mean_x, mean_y, falloff_x, xy / xx, root_falloff_y,
        log2_opacity * np.float32(1 / EXPONENT_STEPS),
        red, green, blue, left, right, top, bottom, unused, unused, unused,
    )  # fmt: skip
    store_columns(splats.rows, target * ROW, row)


@inlined
def tile_rect(tile_rects: np.ndarray, splat: int) -> tuple[int, int, int, int]:
    """First and last tile column, first and last tile row of a splat; nothing lies between them where it is culled."""
    at = splat * 4
    return int(tile_rects[at]), int(tile_rects[at + 1]), int(tile_rects[at + 2]), int(tile_rects[at + 3])


@inlined
def _tail(array: np.ndarray, first: int) -> np.ndarray:
    """The elements from `first` on, followed by as many zeros as keep a block of `LANES` rows in bounds."""
    tail = np.zeros(array.size - first + (LANES - 1) * 4, np.float32)
    tail[: array.size - first] = array[first:]
    return tail


@inlined
def tails(gaussians: GaussianArrays, first: int) -> GaussianArrays:
    return GaussianArrays(
        _tail(gaussians.means, first * 3),
        _tail(gaussians.quats, first * 4),
        _tail(gaussians.scales, first * 3),
        _tail(gaussians.opacities, first),
        _tail(gaussians.colors, first * 3),
    )


@kernel
def project(
    gaussians: GaussianArrays, camera: CameraArrays, splats: SplatArrays, counts: np.ndarray, start: int, stop: int
) -> None:
    """Projects Gaussians `start` to `stop` into `splats`. `start` is a multiple of LANES; `stop` is, or is N.

    `counts`, int32 [tile rows, tile columns], is raised by how many of them touch each tile.
    """
    whole = stop // LANES * LANES
    _project_blocks(gaussians, start, whole, camera, splats, start)
    if whole < stop:
        _project_blocks(tails(gaussians, whole), 0, LANES, camera, splats, whole)
    for number in range(start, stop):
        first_column, last_column, first_row, last_row = tile_rect(splats.tile_rects, number)
        for row in range(first_row, last_row + 1):
            for column in range(first_column, last_column + 1):
                counts[row, column] += 1
