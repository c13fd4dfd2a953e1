"""Gradient of the pose, sixteen Gaussians at a time: derived by hand from `_numba_pose.pose`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from render._numba_columns import load_columns, store_columns
from render._numba_math import (
    Quaternion,
    Vector3,
    add,
    add4,
    apply,
    apply4,
    combine,
    dot,
    dot4,
    multiply3,
    scale,
    scale4,
    sigmoid,
    transposed,
    transposed4,
)
from render._numba_pose import (
    BONE,
    FULL,
    RIGID,
    PoseArrays,
    ShareArrays,
    Shares,
    broadcast_bone,
    changed,
    in_order,
    is_rigid,
    pose_tails,
    repeating_tail,
    taken_shares,
    unit,
)
from render._numba_projection import GaussianArrays, tails
from render._numba_simd import LANES, compiled, float32x16, inlined, kernel, load, splat, store

_ONE = np.float32(1.0)
_HEAD_DEPTH = 11
"""Place of the third component of the head's translation among the floats of the bones."""


class ActivatedArrays(NamedTuple):
    """What the forward pass gave where its slope is known from the value."""

    scales: np.ndarray  # [N * 3]
    opacities: np.ndarray  # [N]
    colors: np.ndarray  # [N * 3]


@kernel
def pose_backward(
    inputs: PoseArrays,
    shares: ShareArrays,
    bones: np.ndarray,
    activated: ActivatedArrays,
    upstream: GaussianArrays,
    gradients: PoseArrays,
    bone_sums: np.ndarray,
) -> None:
    """Fills `gradients`, whose arrays are padded to a multiple of LANES rows, but for `depths` where there are none.

    Adds to `bone_sums` [2 * BONE * LANES] the gradients of the bones, a sum per lane.
    """
    count = inputs.skinning_logits.size
    whole = count // LANES * LANES
    _blocks_backward(inputs, shares, bones, activated, upstream, gradients, bone_sums, (whole, 0))
    if whole < count:
        rest = pose_tails(inputs, shares, whole)
        activated = ActivatedArrays(
            repeating_tail(activated.scales, whole, 3),
            repeating_tail(activated.opacities, whole, 1),
            repeating_tail(activated.colors, whole, 3),
        )
        upstream = tails(upstream, whole)  # zero for what is repeated, which so adds nothing to the bones
        _blocks_backward(*rest, bones, activated, upstream, gradients, bone_sums, (LANES, whole))


@inlined
def _accumulate(sums: np.ndarray, number: int, value: float32x16) -> None:
    store(sums, number * LANES, load(sums, number * LANES) + value)


@inlined
def _accumulate3(sums: np.ndarray, number: int, vector: Vector3) -> None:
    _accumulate(sums, number, vector[0])
    _accumulate(sums, number + 1, vector[1])
    _accumulate(sums, number + 2, vector[2])


@inlined
def _accumulate4(sums: np.ndarray, number: int, vector: Quaternion) -> None:
    _accumulate(sums, number, vector[0])
    _accumulate(sums, number + 1, vector[1])
    _accumulate(sums, number + 2, vector[2])
    _accumulate(sums, number + 3, vector[3])


@inlined
def _accumulate_bone(
    sums: np.ndarray, start: int, points: tuple[Vector3, Vector3], quats: tuple[Quaternion, Quaternion]
) -> None:
    """Adds to a bone's gradients; `points` and `quats` are the gradients of what it placed, and what it placed."""
    g, point = points
    _accumulate3(sums, start, scale(point, g[0]))
    _accumulate3(sums, start + 3, scale(point, g[1]))
    _accumulate3(sums, start + 6, scale(point, g[2]))
    _accumulate3(sums, start + 9, g)
    g, quaternion = quats
    _accumulate4(sums, start + 12, scale4(quaternion, g[0]))
    _accumulate4(sums, start + 16, scale4(quaternion, g[1]))
    _accumulate4(sums, start + 20, scale4(quaternion, g[2]))
    _accumulate4(sums, start + 24, scale4(quaternion, g[3]))


@inlined
def _in_order_backward(
    gradient: Vector3, point: Vector3, translation: Vector3, depth: float32x16
) -> tuple[Vector3, float32x16]:
    """Gradients of the point that `in_order` takes and of the depth that it gives."""
    inverse_z = _ONE / point[2]
    along = (translation[2] + depth) * inverse_z
    across = (gradient[0] * point[0] + gradient[1] * point[1]) * inverse_z
    return (gradient[0] * along, gradient[1] * along, -across * along), across + gradient[2]


@inlined
def _slope(activated: float32x16) -> float32x16:
    """Of the sigmoid, where its value is given."""
    return activated * (_ONE - activated)


@inlined
def _activations_backward(
    activated: ActivatedArrays, upstream: GaussianArrays, first: int, gradients: PoseArrays, place: int
) -> tuple[Vector3, Vector3]:
    """Writes the gradients of log_scales, opacity_logits and color_logits; returns the first and the last."""
    log_scales = multiply3(load_columns(upstream.scales, first * 3, 3), load_columns(activated.scales, first * 3, 3))
    store_columns(gradients.log_scales, place * 3, log_scales)
    opacities = load(upstream.opacities, first) * _slope(load(activated.opacities, first))
    store(gradients.opacity_logits, place, opacities)
    red, green, blue = load_columns(activated.colors, first * 3, 3)
    slopes = (_slope(red), _slope(green), _slope(blue))
    colors = multiply3(load_columns(upstream.colors, first * 3, 3), slopes)
    store_columns(gradients.color_logits, place * 3, colors)
    return log_scales, colors


@inlined
def _store_outputs(
    gradients: PoseArrays, place: int, rigid: bool, share: Shares, parts: tuple[Vector3, Quaternion, Vector3, Vector3]
) -> None:
    """Writes the gradient of the network's output, given that of what it changes."""
    means, quats, log_scales, colors = parts
    means = scale(means, share[0])
    if rigid:
        store_columns(gradients.outputs, place * RIGID, means)
    else:
        quats, log_scales, colors = scale4(quats, share[1]), scale(log_scales, share[2]), scale(colors, share[3])
        store_columns(gradients.outputs, place * FULL, means + quats + log_scales + colors)


@compiled
def _blocks_backward(
    inputs: PoseArrays,
    shares: ShareArrays,
    bones: np.ndarray,
    activated: ActivatedArrays,
    upstream: GaussianArrays,
    gradients: PoseArrays,
    bone_sums: np.ndarray,
    span: tuple[int, int],
) -> None:
    """Gradients of the first `span[0]` Gaussians, into rows from `span[1]` on."""
    head_rotation, head_translation, head_product = broadcast_bone(bones, 0)
    torso_rotation, torso_translation, torso_product = broadcast_bone(bones, BONE)
    stop, target = span
    for first in range(0, stop, LANES):
        place = target + first
        share = taken_shares(shares, first)
        means, quats, _, _ = changed(inputs, share, first)
        quats, inverse_length = unit(quats)
        on_head = add(apply(head_rotation, means), head_translation)
        on_torso = add(apply(torso_rotation, means), torso_translation)
        torso = sigmoid(load(inputs.skinning_logits, first))
        head = _ONE - torso
        g_means, g_quats = load_columns(upstream.means, first * 3, 3), load_columns(upstream.quats, first * 4, 4)
        g_head, g_torso = scale(g_means, head), scale(g_means, torso)
        if inputs.depths.size:
            depth = load(inputs.depths, first)
            g_head, g_depth = _in_order_backward(g_head, on_head, head_translation, depth)
            store(gradients.depths, place, g_depth)
            _accumulate(bone_sums, _HEAD_DEPTH, g_depth)
            on_head = in_order(on_head, head_translation, depth)

        apart = combine(on_torso, splat(_ONE), on_head, splat(-_ONE))
        turned_apart = add4(apply4(torso_product, quats), scale4(apply4(head_product, quats), splat(-_ONE)))
        g_torso_share = dot(g_means, apart) + dot4(g_quats, turned_apart)
        store(gradients.skinning_logits, place, g_torso_share * _slope(torso))
        q_head, q_torso = scale4(g_quats, head), scale4(g_quats, torso)
        _accumulate_bone(bone_sums, 0, (g_head, means), (q_head, quats))
        _accumulate_bone(bone_sums, BONE, (g_torso, means), (q_torso, quats))

        g_means = add(apply(transposed(head_rotation), g_head), apply(transposed(torso_rotation), g_torso))
        store_columns(gradients.moved, place * 3, g_means)
        g_quats = add4(apply4(transposed4(head_product), q_head), apply4(transposed4(torso_product), q_torso))
        radial = dot4(g_quats, quats)  # normalising removes the part along the quaternion
        g_quats = scale4(add4(g_quats, scale4(quats, -radial)), inverse_length)
        store_columns(gradients.quats, place * 4, g_quats)
        g_log_scales, g_colors = _activations_backward(activated, upstream, first, gradients, place)
        _store_outputs(gradients, place, is_rigid(inputs), share, (g_means, g_quats, g_log_scales, g_colors))
