"""The pose of a branch in one pass over its Gaussians, and its gradient in another.

In plain torch what follows the motion field's network is some forty short operations, bound by memory. Here every
Gaussian is read once. The network is products of matrices and stays torch's, as do the few numbers that are the bones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from render._numba_pose import BONE, PoseArrays, ShareArrays, pose
from render._numba_pose_backward import ActivatedArrays, pose_backward
from render._numba_projection import GaussianArrays
from render._numba_simd import LANES
from render.gaussians import Gaussians
from render.head_model import BonePose, Branch, left_multiplication
from render.motion import UNITS, PositionTerms

_UNITS = tuple(np.float32(unit) for _, unit in UNITS.values())


def fused_pose(branch: Branch, terms: PositionTerms, bones: BonePose, code: Tensor) -> Gaussians:
    """See `render.head_model.Branch.reference_pose`; float32 tensors on the CPU."""
    inputs = PoseArrays(
        moved=branch.means + branch.field.mesh_motion(code),
        quats=branch.quats,
        log_scales=branch.log_scales,
        opacity_logits=branch.opacity_logits,
        color_logits=branch.color_logits,
        skinning_logits=branch.skinning_logits,
        outputs=branch.field.outputs(terms, code),
        depths=branch.means[:, 2] if branch.keeps_order else branch.means.new_empty(0),
    )
    head, torso = bones.head_rotation, bones.torso_rotation
    placements = (
        *(head.flatten(), bones.head_translation, left_multiplication(head).flatten()),
        *(torso.flatten(), bones.torso_translation, left_multiplication(torso).flatten()),
    )
    return Gaussians(*_Pose.apply(terms.moving, terms.anywhere, torch.cat(placements), *inputs))


class _Pose(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, moving: Tensor, anywhere: Tensor, bones: Tensor, *inputs: Tensor
    ) -> tuple[Tensor, ...]:
        """`inputs` are those of `PoseArrays`."""
        quats, log_scales, opacity_logits, color_logits = inputs[1:5]
        padded = _padded((log_scales, quats, log_scales, opacity_logits, color_logits))
        pose(PoseArrays(*_flat(inputs)), _shares(moving, anywhere), *_flat([bones]), GaussianArrays(*_flat(padded)))
        posed = tuple(tensor[: len(quats)] for tensor in padded)
        ctx.save_for_backward(moving, anywhere, bones, *inputs, *posed[2:])
        return posed

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        moving, anywhere, bones, *rest = ctx.saved_tensors
        inputs, activated = rest[:8], rest[8:]
        gradients, bone_sums = _padded(inputs), torch.zeros(2 * BONE, LANES)
        pose_backward(
            PoseArrays(*_flat(inputs)),
            _shares(moving, anywhere),
            *_flat([bones]),
            ActivatedArrays(*_flat(activated)),
            GaussianArrays(*_flat(upstream)),
            PoseArrays(*_flat(gradients)),
            *_flat([bone_sums]),
        )
        cut = (gradient[: len(tensor)] for gradient, tensor in zip(gradients, inputs, strict=True))
        return None, None, bone_sums.sum(1), *cut


def _flat(tensors: Sequence[Tensor]) -> list[np.ndarray]:
    return [tensor.detach().contiguous().view(-1).numpy() for tensor in tensors]


def _shares(moving: Tensor, anywhere: Tensor) -> ShareArrays:
    return ShareArrays(*_flat([moving, anywhere]), _UNITS)


def _padded(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Room for tensors of these sizes, with whole blocks of rows."""
    return [torch.empty(-(-len(tensor) // LANES) * LANES, *tensor.shape[1:]) for tensor in tensors]
