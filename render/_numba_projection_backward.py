"""Gradient of the projection, sixteen Gaussians at a time: derived by hand from `_numba_projection.project`."""

from __future__ import annotations

import numpy as np

from render._numba_columns import load_columns, store_columns, sums
from render._numba_math import (
    Matrix3,
    Quaternion,
    Vector3,
    add,
    apply,
    combine,
    dot,
    multiply,
    multiply3,
    rotation,
    rotation_gradient,
    scale,
    scale_columns,
    transposed,
)
from render._numba_projection import (
    CONIC_SCALE,
    CameraArrays,
    GaussianArrays,
    along_image,
    broadcast_view,
    covariance,
    linearise,
    tails,
    unit_quaternion,
)
from render._numba_simd import (
    LANES,
    compiled,
    float32x16,
    inlined,
    kernel,
    load,
    mask16,
    select,
    splat,
    square_root,
    store,
)

SPLAT_GRADIENT = 16
"""Floats in a row of a splat gradient table. With q the gradient of -log(alpha) at a pixel, (dx, dy) the way from the
mean to that pixel and t as in the splat table, the row sums over all pixels: q, q dx, q t, q dx^2, q dx t, q t^2 and
the gradients of red, green, blue."""

_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
_INVERSE_CONIC_SCALE = np.float32(1 / CONIC_SCALE)


@kernel
def project_backward(
    gaussians: GaussianArrays,
    camera: CameraArrays,
    depths: np.ndarray,
    tables: np.ndarray,
    gradients: GaussianArrays,
    view_gradient: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Gradients of Gaussians `start` to `stop`, from the splat gradient tables of all workers.

    `tables` is [workers, padded N * SPLAT_GRADIENT], and the first is overwritten; the arrays of `gradients` are padded
    to a multiple of LANES; `view_gradient` [16] takes the sums for world_to_camera, row by row. `start` is a multiple
    of LANES; `stop` is, or is N.
    """
    for worker in range(1, tables.shape[0]):
        for element in range(start * SPLAT_GRADIENT, (stop + LANES - 1) // LANES * LANES * SPLAT_GRADIENT):
            tables[0, element] += tables[worker, element]
    table = tables[0]
    whole = stop // LANES * LANES
    view_sums = _blocks_backward(gaussians, start, whole, camera, depths, table, gradients, start)
    if whole < stop:
        rest = tails(gaussians, whole)
        view_sums = view_sums + _blocks_backward(rest, 0, LANES, camera, depths, table, gradients, whole)
    store(view_gradient, 0, view_sums)


@compiled
def _blocks_backward(
    gaussians: GaussianArrays,
    start: int,
    stop: int,
    camera: CameraArrays,
    depths: np.ndarray,
    table: np.ndarray,
    gradients: GaussianArrays,
    target: int,
) -> float32x16:
    """Gradients of Gaussians `start` to `stop`, whose splats begin at row `target`; returns the sums for the view."""
    view = broadcast_view(camera)
    zeros = (splat(_ZERO), splat(_ZERO), splat(_ZERO))
    first_row, second_row, third_row, translation = zeros, zeros, zeros, zeros
    for first in range(start, stop, LANES):
        place = target + first - start
        splat_gradient = load_columns(table, place * SPLAT_GRADIENT, SPLAT_GRADIENT)
        visible = load(depths, place) > _ZERO
        more_rows, more_translation = _block_backward(
            gaussians, first, camera, view, visible, splat_gradient, gradients, place
        )
        first_row = add(first_row, more_rows[0])
        second_row = add(second_row, more_rows[1])
        third_row = add(third_row, more_rows[2])
        translation = add(translation, more_translation)
    tx, ty, tz = translation
    return sums((*first_row, tx, *second_row, ty, *third_row, tz))


@inlined
def _block_backward(
    gaussians: GaussianArrays,
    first: int,
    camera: CameraArrays,
    view: tuple[Matrix3, Vector3],
    visible: mask16,
    splat_gradient: tuple[float32x16, ...],
    gradients: GaussianArrays,
    place: int,
) -> tuple[Matrix3, Vector3]:
    """Writes the gradients of one block; returns its gradients for the view's rotation and translation."""
    mean, scales, quaternion, inverse_length = _load_visible(gaussians, first, visible)
    view_rotation, view_translation = view
    world_rotation = rotation(quaternion[0], quaternion[1], quaternion[2], quaternion[3])
    world_axes = scale_columns(world_rotation, scales)
    x, y, z = add(apply(view_rotation, mean), view_translation)
    point = (x, y, select(visible, z, splat(_ONE)))

    point_gradient, axes_gradient = _image_backward(multiply(view_rotation, world_axes), point, camera, splat_gradient)

    view_rows = transposed(view_rotation)
    store_columns(gradients.means, place * 3, apply(view_rows, point_gradient))
    world_axes_gradient = multiply(view_rows, axes_gradient)
    scales_gradient = multiply3(world_axes_gradient[0], world_rotation[0])
    scales_gradient = add(scales_gradient, multiply3(world_axes_gradient[1], world_rotation[1]))
    scales_gradient = add(scales_gradient, multiply3(world_axes_gradient[2], world_rotation[2]))
    store_columns(gradients.scales, place * 3, scales_gradient)

    w, x, y, z = quaternion
    gw, gx, gy, gz = rotation_gradient(quaternion, scale_columns(world_axes_gradient, scales))
    radial = gw * w + gx * x + gy * y + gz * z  # normalising removes the part along the quaternion
    gw, gx, gy, gz = gw - radial * w, gx - radial * x, gy - radial * y, gz - radial * z
    quats_gradient = (gw * inverse_length, gx * inverse_length, gy * inverse_length, gz * inverse_length)
    store_columns(gradients.quats, place * 4, quats_gradient)

    opacity = select(visible, load(gaussians.opacities, first), splat(_ONE))
    store(gradients.opacities, place, -splat_gradient[0] / opacity)
    store_columns(gradients.colors, place * 3, (splat_gradient[6], splat_gradient[7], splat_gradient[8]))

    rotation_rows = (
        add(scale(mean, point_gradient[0]), apply(world_axes, axes_gradient[0])),
        add(scale(mean, point_gradient[1]), apply(world_axes, axes_gradient[1])),
        add(scale(mean, point_gradient[2]), apply(world_axes, axes_gradient[2])),
    )
    return rotation_rows, point_gradient


@inlined
def _load_visible(
    gaussians: GaussianArrays, first: int, visible: mask16
) -> tuple[Vector3, Vector3, Quaternion, float32x16]:
    """Mean, scales, unit quaternion and the reciprocal of its length; harmless values for culled Gaussians.

    Those may hold anything, NaN included. Their splat gradients are zero, so with finite inputs all they get is zero.
    """
    zero, one = splat(_ZERO), splat(_ONE)
    x, y, z = load_columns(gaussians.means, first * 3, 3)
    mean = (select(visible, x, zero), select(visible, y, zero), select(visible, z, zero))
    x, y, z = load_columns(gaussians.scales, first * 3, 3)
    scales = (select(visible, x, zero), select(visible, y, zero), select(visible, z, zero))
    (w, x, y, z), inverse_length = unit_quaternion(gaussians.quats, first)
    quaternion = (select(visible, w, one), select(visible, x, zero), select(visible, y, zero), select(visible, z, zero))
    return mean, scales, quaternion, select(visible, inverse_length, one)


@inlined
def _image_backward(
    axes: Matrix3, point: Vector3, camera: CameraArrays, splat_gradient: tuple[float32x16, ...]
) -> tuple[Vector3, Matrix3]:
    """Gradients of the camera-space point and axes, from those of the splat."""
    inverse_z, slopes, clamped = linearise(point, camera)
    along_x, along_y = along_image(axes, inverse_z, clamped, camera)
    variance_x, covariance_xy, _, determinant = covariance(along_x, along_y)
    inverse_variance, shear = _ONE / variance_x, covariance_xy / variance_x
    stiffness = variance_x / determinant

    # -log(alpha) = dx^2 / (2 variance_x) + stiffness * u^2 / 2 + const, with u = dy - shear * dx. The gradient is taken
    # through these three and not through the inverse covariance, in which large terms cancel for thin splats.
    # The table holds sums with t = sqrt(CONIC_SCALE * stiffness) * u.
    _, q_x, q_t, q_xx, q_xt, q_tt = splat_gradient[:6]
    stiffness_per_t = square_root(stiffness * _INVERSE_CONIC_SCALE)  # stiffness * u / t
    residual = combine(along_y, splat(_ONE), along_x, -shear)
    widening = -stiffness * _INVERSE_CONIC_SCALE * q_tt
    shearing = stiffness_per_t * inverse_variance * q_xt
    along_y_gradient = combine(residual, widening, along_x, -shearing)
    along_x_gradient = combine(
        along_x, shearing * shear - inverse_variance * inverse_variance * q_xx, residual, -(shearing + shear * widening)
    )
    mean_y = -stiffness_per_t * q_t
    mean_x = -inverse_variance * q_x - shear * mean_y

    first = scale(along_x_gradient, camera.fx * inverse_z)
    second = scale(along_y_gradient, camera.fy * inverse_z)
    third = combine(first, -clamped[0], second, -clamped[1])

    # The mean follows the true slopes; the linearisation stops following them where they are clamped.
    left, right, top, bottom = camera.slope_limits
    follows_x = (slopes[0] >= left) & (slopes[0] <= right)
    follows_y = (slopes[1] >= top) & (slopes[1] <= bottom)
    slope_x = select(follows_x, -dot(first, axes[2]), splat(_ZERO)) + camera.fx * mean_x
    slope_y = select(follows_y, -dot(second, axes[2]), splat(_ZERO)) + camera.fy * mean_y
    shrinking = dot(along_x_gradient, along_x) + dot(along_y_gradient, along_y)
    gradient_z = -(shrinking + slope_x * slopes[0] + slope_y * slopes[1]) * inverse_z
    return (slope_x * inverse_z, slope_y * inverse_z, gradient_z), (first, second, third)
