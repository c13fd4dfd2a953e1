"""Exponential, logarithm and small vectors over sixteen lanes.

Annotations of kernel code name Numba types. A matrix is a tuple of its rows.
"""

from __future__ import annotations

import numpy as np
from numba import types

from render._numba_simd import (
    binary_exponent,
    float32x16,
    inlined,
    mantissa,
    maximum,
    minimum,
    multiply_add,
    round_down,
    splat,
    times_power_of_two,
)

Vector3 = types.UniTuple(float32x16, 3)
Matrix3 = types.UniTuple(Vector3, 3)
Quaternion = types.UniTuple(float32x16, 4)  # (w, x, y, z)
Matrix4 = types.UniTuple(Quaternion, 4)

EXPONENT_STEPS = 8
"""The argument of `exp2_scaled` is the true exponent over this: three squarings of a polynomial that is good on [-1, 0]
reach down to 2^-8, and with it to every alpha that is not skipped (log2(1 / 255) = -7.99)."""

# Polynomials of least maximal error, by reweighted least squares on 4001 nodes: 2^x on [-1, 0] with relative
# error 7.5e-8, which the squarings multiply by eight, and log2(1 + u) / u on [0, 1], error of the logarithm 3.1e-7.
_E0, _E1, _E2, _E3, _E4, _E5 = (
    np.float32(c) for c in (0.99999994, 0.69314224, 0.24017219, 0.05527972, 0.009188611, 0.00093878794)
)
_L1, _L2, _L3, _L4, _L5, _L6, _L7 = (
    np.float32(c) for c in (1.4426678, -0.7205854, 0.4735529, -0.3259003, 0.19429158, -0.07955552, 0.0155292265)
)

_LOG2_E = np.float32(1.4426950408889634)
_LARGEST_EXPONENT = np.float32(87.0)
"""The exponential of this, and of its negative, is a normal float."""


@inlined
def _exp2(x: float32x16) -> float32x16:
    """2 ** x for x in [-1, 0], within 1.5e-7 relative."""
    power = multiply_add(splat(_E5), x, splat(_E4))
    power = multiply_add(power, x, splat(_E3))
    power = multiply_add(power, x, splat(_E2))
    power = multiply_add(power, x, splat(_E1))
    return multiply_add(power, x, splat(_E0))


@inlined
def exp2_scaled(x: float32x16) -> float32x16:
    """2 ** (EXPONENT_STEPS * x) for x in [-1, 0], within 2.5e-6 relative."""
    power = _exp2(x)
    power = power * power
    power = power * power
    return power * power


@inlined
def exp(x: float32x16) -> float32x16:
    """e ** x within 3e-7 relative for x in [-87, 87], as at the ends beyond; NaN stays NaN."""
    held = minimum(splat(_LARGEST_EXPONENT), maximum(splat(-_LARGEST_EXPONENT), x))
    whole = -round_down(held * -_LOG2_E)
    return times_power_of_two(_exp2(multiply_add(held, splat(_LOG2_E), -whole)), whole)


@inlined
def sigmoid(x: float32x16) -> float32x16:
    """1 / (1 + e ** -x)."""
    return np.float32(1.0) / (np.float32(1.0) + exp(-x))


@inlined
def log2(x: float32x16) -> float32x16:
    """log2(x) of positive normal floats, within 8e-7."""
    u = mantissa(x) - np.float32(1.0)
    slope = multiply_add(splat(_L7), u, splat(_L6))
    slope = multiply_add(slope, u, splat(_L5))
    slope = multiply_add(slope, u, splat(_L4))
    slope = multiply_add(slope, u, splat(_L3))
    slope = multiply_add(slope, u, splat(_L2))
    slope = multiply_add(slope, u, splat(_L1))
    return multiply_add(slope, u, binary_exponent(x))


@inlined
def dot(a: Vector3, b: Vector3) -> float32x16:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@inlined
def cross(a: Vector3, b: Vector3) -> Vector3:
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])


@inlined
def add(a: Vector3, b: Vector3) -> Vector3:
    return (a[0] + b[0], a[1] + b[1], a[2] + b[2])


@inlined
def scale(a: Vector3, factor: float32x16) -> Vector3:
    return (a[0] * factor, a[1] * factor, a[2] * factor)


@inlined
def combine(a: Vector3, weight_a: float32x16, b: Vector3, weight_b: float32x16) -> Vector3:
    """weight_a * a + weight_b * b."""
    return add(scale(a, weight_a), scale(b, weight_b))


@inlined
def transposed(matrix: Matrix3) -> Matrix3:
    return (
        (matrix[0][0], matrix[1][0], matrix[2][0]),
        (matrix[0][1], matrix[1][1], matrix[2][1]),
        (matrix[0][2], matrix[1][2], matrix[2][2]),
    )


@inlined
def apply(matrix: Matrix3, vector: Vector3) -> Vector3:
    return (dot(matrix[0], vector), dot(matrix[1], vector), dot(matrix[2], vector))


@inlined
def multiply(a: Matrix3, b: Matrix3) -> Matrix3:
    """The matrix product a b."""
    columns = transposed(b)
    return (apply(columns, a[0]), apply(columns, a[1]), apply(columns, a[2]))


@inlined
def scale_columns(matrix: Matrix3, factors: Vector3) -> Matrix3:
    return (multiply3(matrix[0], factors), multiply3(matrix[1], factors), multiply3(matrix[2], factors))


@inlined
def multiply3(a: Vector3, b: Vector3) -> Vector3:
    """Elementwise product of two 3-vectors."""
    return (a[0] * b[0], a[1] * b[1], a[2] * b[2])


@inlined
def dot4(a: Quaternion, b: Quaternion) -> float32x16:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3]


@inlined
def add4(a: Quaternion, b: Quaternion) -> Quaternion:
    return (a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3])


@inlined
def scale4(a: Quaternion, factor: float32x16) -> Quaternion:
    return (a[0] * factor, a[1] * factor, a[2] * factor, a[3] * factor)


@inlined
def transposed4(matrix: Matrix4) -> Matrix4:
    a, b, c, d = matrix
    return (
        (a[0], b[0], c[0], d[0]),
        (a[1], b[1], c[1], d[1]),
        (a[2], b[2], c[2], d[2]),
        (a[3], b[3], c[3], d[3]),
    )


@inlined
def apply4(matrix: Matrix4, vector: Quaternion) -> Quaternion:
    return (dot4(matrix[0], vector), dot4(matrix[1], vector), dot4(matrix[2], vector), dot4(matrix[3], vector))


@inlined
def rotation(w: float32x16, x: float32x16, y: float32x16, z: float32x16) -> Matrix3:
    """The matrix of a unit quaternion."""
    two = splat(np.float32(2.0))
    one = splat(np.float32(1.0))
    return (
        (one - two * (y * y + z * z), two * (x * y - w * z), two * (x * z + w * y)),
        (two * (x * y + w * z), one - two * (x * x + z * z), two * (y * z - w * x)),
        (two * (x * z - w * y), two * (y * z + w * x), one - two * (x * x + y * y)),
    )


@inlined
def rotation_gradient(quaternion: Quaternion, gradient: Matrix3) -> Quaternion:
    """Gradient of `rotation` with respect to its quaternion, given that with respect to the matrix."""
    w, x, y, z = quaternion
    g = gradient
    two = splat(np.float32(2.0))
    gradient_w = two * (x * (g[2][1] - g[1][2]) + y * (g[0][2] - g[2][0]) + z * (g[1][0] - g[0][1]))
    gradient_x = two * (
        y * (g[1][0] + g[0][1]) + z * (g[2][0] + g[0][2]) + w * (g[2][1] - g[1][2]) - two * x * (g[1][1] + g[2][2])
    )
    gradient_y = two * (
        x * (g[1][0] + g[0][1]) + z * (g[2][1] + g[1][2]) + w * (g[0][2] - g[2][0]) - two * y * (g[0][0] + g[2][2])
    )
    gradient_z = two * (
        x * (g[2][0] + g[0][2]) + y * (g[2][1] + g[1][2]) + w * (g[1][0] - g[0][1]) - two * z * (g[0][0] + g[1][1])
    )
    return (gradient_w, gradient_x, gradient_y, gradient_z)
