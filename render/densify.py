"""Adaptive density: remove Gaussians that became transparent, split those the pictures pull at, add none beyond a cap.

After Kerbl et al. 2023 (Sec. 5.2), with two changes: the pull is the gradient of the mean in 3D, which every back end
gives, and the count has a cap, so that the cost of a step has one too.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from render._rasterize_torch import rotation_matrices
from render.head_model import FIELD_PER_GAUSSIAN, PER_GAUSSIAN, Branch

MINIMUM_OPACITY = 0.02
SPLIT_SHRINK = 1.6
"""A split Gaussian's halves are this much smaller (Kerbl et al. 2023)."""


def densify_and_prune(
    branch: Branch, optimizer: torch.optim.Optimizer, pull: Tensor, cap: int, growth: float, generator: torch.Generator
) -> int:
    """Changes the branch and the optimizer's state in place.

    Args:
        branch: the Gaussians; their order changes.
        optimizer: holds the branch's parameters; moments follow their Gaussians, those of new ones start at zero.
        pull: [N] mean length of the gradient of each Gaussian's mean since the last call.
        cap: count up to which Gaussians are added.
        growth: largest share of new Gaussians.
        generator: for the places of the new ones.

    Returns:
        The new count.
    """
    with torch.no_grad():
        kept = torch.nonzero(torch.sigmoid(branch.opacity_logits) > MINIMUM_OPACITY)[:, 0]
        room = max(0, min(cap - len(kept), int(growth * len(branch))))
        strongest = torch.argsort(pull[kept], descending=True)[:room]
        split = kept[strongest]
        order = torch.cat([kept, split])
        _reorder(branch, optimizer, order, fresh=len(split))
        halves = torch.cat([strongest, torch.arange(len(kept), len(order), device=order.device)])
        offset = torch.randn(len(halves), 3, generator=generator).to(order.device) * branch.log_scales[halves].exp()
        branch.means[halves] += (rotation_matrices(branch.quats[halves]) @ offset[..., None])[..., 0]
        branch.log_scales[halves] -= math.log(SPLIT_SHRINK)
    return len(branch)


def _reorder(branch: Branch, optimizer: torch.optim.Optimizer, order: Tensor, fresh: int) -> None:
    for name in PER_GAUSSIAN:
        old = getattr(branch, name)
        new = nn.Parameter(old.detach()[order])
        setattr(branch, name, new)
        for group in optimizer.param_groups:
            group["params"] = [new if parameter is old else parameter for parameter in group["params"]]
        state = optimizer.state.pop(old, None)
        if state is not None:
            for key in ("exp_avg", "exp_avg_sq"):
                state[key] = state[key][order]
                state[key][len(order) - fresh :] = 0
            optimizer.state[new] = state
    for name in FIELD_PER_GAUSSIAN:
        setattr(branch.field, name, getattr(branch.field, name)[order])
