"""Gaussians changed by a motion field's network and placed by two bones, sixteen at a time.

The formulas are those of `head_model.Branch.reference_pose`, which defines them. Arrays are flat float32. Row i of a
[N, k] array starts at i * k.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import types

from render._numba_columns import load_columns, store_columns
from render._numba_math import (
    Matrix3,
    Matrix4,
    Quaternion,
    Vector3,
    add,
    add4,
    apply,
    apply4,
    combine,
    dot4,
    exp,
    scale,
    scale4,
    sigmoid,
)
from render._numba_projection import GaussianArrays
from render._numba_simd import LANES, compiled, float32x16, inlined, kernel, load, maximum, splat, square_root, store

BONE = 28
"""Floats that describe a bone: rotation, translation, and the matrix [4, 4] that turns quaternions."""
RIGID, FULL = 3, 13
"""Columns of the network's output: those of the means alone; those of means, quats, log_scales and color_logits."""

Bone = types.Tuple((Matrix3, Vector3, Matrix4))
Shares = types.UniTuple(float32x16, 4)

_ONE = np.float32(1.0)
_SHORTEST = np.float32(1e-12)
"""Length by which a shorter quaternion is divided, as in `torch.nn.functional.normalize`."""


class PoseArrays(NamedTuple):
    """What a pose is computed from, or the gradients with respect to it."""

    moved: np.ndarray  # [N * 3] canonical means with the mesh's motion
    quats: np.ndarray  # [N * 4]
    log_scales: np.ndarray  # [N * 3]
    opacity_logits: np.ndarray  # [N]
    color_logits: np.ndarray  # [N * 3]
    skinning_logits: np.ndarray  # [N]
    outputs: np.ndarray  # [N * RIGID] or [N * FULL]
    depths: np.ndarray  # [N] canonical; [0] where the order of depths is not kept


class ShareArrays(NamedTuple):
    """How much of the network's output each Gaussian takes, and what one unit of it is."""

    moving: np.ndarray  # [N] means, quats and log_scales
    anywhere: np.ndarray  # [N] color_logits
    units: tuple[np.float32, np.float32, np.float32, np.float32]  # means, quats, log_scales, color_logits


@kernel
def pose(inputs: PoseArrays, shares: ShareArrays, bones: np.ndarray, posed: GaussianArrays) -> None:
    """Fills `posed`, whose arrays are padded to a multiple of LANES rows. bones: [2 * BONE], head and torso."""
    count = inputs.skinning_logits.size
    whole = count // LANES * LANES
    _pose_blocks(inputs, shares, bones, posed, whole, 0)
    if whole < count:
        _pose_blocks(*pose_tails(inputs, shares, whole), bones, posed, LANES, whole)


@inlined
def repeating_tail(array: np.ndarray, first: int, columns: int) -> np.ndarray:
    """The rows from `first` on, and the last one again up to `LANES`: none is made up, that might divide by zero."""
    if array.size == 0:
        return array
    tail = np.empty(LANES * columns, np.float32)
    last = array.size - columns
    for row in range(LANES):
        start = min((first + row) * columns, last)
        tail[row * columns : (row + 1) * columns] = array[start : start + columns]
    return tail


@inlined
def pose_tails(inputs: PoseArrays, shares: ShareArrays, first: int) -> tuple[PoseArrays, ShareArrays]:
    return PoseArrays(
        repeating_tail(inputs.moved, first, 3),
        repeating_tail(inputs.quats, first, 4),
        repeating_tail(inputs.log_scales, first, 3),
        repeating_tail(inputs.opacity_logits, first, 1),
        repeating_tail(inputs.color_logits, first, 3),
        repeating_tail(inputs.skinning_logits, first, 1),
        repeating_tail(inputs.outputs, first, RIGID if is_rigid(inputs) else FULL),
        repeating_tail(inputs.depths, first, 1),
    ), ShareArrays(repeating_tail(shares.moving, first, 1), repeating_tail(shares.anywhere, first, 1), shares.units)


@inlined
def is_rigid(inputs: PoseArrays) -> bool:
    return inputs.outputs.size == RIGID * inputs.skinning_logits.size


@inlined
def _row3(bones: np.ndarray, start: int) -> Vector3:
    return (splat(bones[start]), splat(bones[start + 1]), splat(bones[start + 2]))


@inlined
def _row4(bones: np.ndarray, start: int) -> Quaternion:
    return (splat(bones[start]), splat(bones[start + 1]), splat(bones[start + 2]), splat(bones[start + 3]))


@inlined
def broadcast_bone(bones: np.ndarray, start: int) -> Bone:
    """A bone's rotation, translation and quaternion product, in all lanes."""
    rotation = (_row3(bones, start), _row3(bones, start + 3), _row3(bones, start + 6))
    product = (_row4(bones, start + 12), _row4(bones, start + 16), _row4(bones, start + 20), _row4(bones, start + 24))
    return rotation, _row3(bones, start + 9), product


@inlined
def taken_shares(shares: ShareArrays, first: int) -> Shares:
    """Change of means, quats, log_scales and color_logits per unit of the network's output."""
    means, quats, log_scales, color_logits = shares.units
    moving, anywhere = load(shares.moving, first), load(shares.anywhere, first)
    return (moving * means, moving * quats, moving * log_scales, anywhere * color_logits)


@inlined
def changed(inputs: PoseArrays, share: Shares, first: int) -> tuple[Vector3, Quaternion, Vector3, Vector3]:
    """Means, quats, log_scales and color_logits of a block with the network's changes."""
    moved, quats = load_columns(inputs.moved, first * 3, 3), load_columns(inputs.quats, first * 4, 4)
    log_scales = load_columns(inputs.log_scales, first * 3, 3)
    colors = load_columns(inputs.color_logits, first * 3, 3)
    if is_rigid(inputs):
        means = load_columns(inputs.outputs, first * RIGID, RIGID)
        return add(moved, scale(means, share[0])), quats, log_scales, colors
    columns = load_columns(inputs.outputs, first * FULL, FULL)
    return (
        add(moved, scale(columns[:3], share[0])),
        add4(quats, scale4(columns[3:7], share[1])),
        add(log_scales, scale(columns[7:10], share[2])),
        add(colors, scale(columns[10:], share[3])),
    )


@inlined
def unit(quats: Quaternion) -> tuple[Quaternion, float32x16]:
    """Normalised quaternions and the reciprocals of their lengths."""
    inverse_length = _ONE / maximum(splat(_SHORTEST), square_root(dot4(quats, quats)))
    return scale4(quats, inverse_length), inverse_length


@inlined
def in_order(point: Vector3, translation: Vector3, depth: float32x16) -> Vector3:
    """The point on its ray at its canonical depth."""
    return scale(point, (translation[2] + depth) / point[2])


@compiled
def _pose_blocks(
    inputs: PoseArrays, shares: ShareArrays, bones: np.ndarray, posed: GaussianArrays, stop: int, target: int
) -> None:
    """Poses the first `stop` Gaussians into rows from `target` on."""
    head_rotation, head_translation, head_product = broadcast_bone(bones, 0)
    torso_rotation, torso_translation, torso_product = broadcast_bone(bones, BONE)
    for first in range(0, stop, LANES):
        place = target + first
        means, quats, log_scales, colors = changed(inputs, taken_shares(shares, first), first)
        torso = sigmoid(load(inputs.skinning_logits, first))
        head = _ONE - torso
        on_head = add(apply(head_rotation, means), head_translation)
        if inputs.depths.size:
            on_head = in_order(on_head, head_translation, load(inputs.depths, first))
        on_torso = add(apply(torso_rotation, means), torso_translation)
        store_columns(posed.means, place * 3, combine(on_head, head, on_torso, torso))
        quats, _ = unit(quats)
        turned = add4(scale4(apply4(head_product, quats), head), scale4(apply4(torso_product, quats), torso))
        store_columns(posed.quats, place * 4, turned)
        store_columns(posed.scales, place * 3, (exp(log_scales[0]), exp(log_scales[1]), exp(log_scales[2])))
        store(posed.opacities, place, sigmoid(load(inputs.opacity_logits, first)))
        store_columns(posed.colors, place * 3, (sigmoid(colors[0]), sigmoid(colors[1]), sigmoid(colors[2])))
