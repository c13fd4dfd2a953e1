"""How far projected head points lie from landmarks, with the gradient written out.

Bundle adjustment evaluates it some three hundred times over all landmarks of all frames; autograd would take thirty
passes over them where these are twelve.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

ROBUST_PX = 0.5
"""Residuals under this many pixels (of a 512 px crop) count quadratically, larger ones linearly."""


def reprojection_error(
    rotations: Tensor,
    translations: Tensor,
    points: Tensor,
    focal: Tensor,
    observed: Tensor,
    weights: Tensor,
    side: int,
) -> Tensor:
    """Mean robust distance (pseudo-Huber) of projected points from landmarks, in pixels of a 512 px crop.

    x_camera = rotation @ point + translation, OpenCV axes, the principal point in the middle of the crop.
    Differentiable once in the first four.

    Args:
        rotations: [F, 3, 3]; translations: [F, 3] head units.
        points: [K, 3] head units.
        focal: [] px of the crop.
        observed: [F, 2, K] landmarks, px of the crop.
        weights: [K] how much each landmark counts.
        side: of the crop, px.
    """
    return _ReprojectionError.apply(rotations, translations, points, focal, observed, weights, side)


class _ReprojectionError(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        rotations: Tensor,
        translations: Tensor,
        points: Tensor,
        focal: Tensor,
        observed: Tensor,
        weights: Tensor,
        side: int,
    ) -> Tensor:
        to_512 = 512 / side
        camera = torch.matmul(rotations, points.T).add_(translations[..., None])  # [F, 3, K]
        inverse_depth = camera[:, 2:].reciprocal()
        slope = camera[:, :2] * inverse_depth
        error = torch.addcmul(side / 2 - observed, slope, focal).mul_(to_512)
        length = torch.addcmul(error.new_tensor(ROBUST_PX**2), error, error).sqrt_()
        value = (length.sum((0, 1)) @ weights) / length.numel()
        # From here on: the derivative in the slopes, then in the points before the camera.
        along_slope = error.div_(length).mul_(weights * (to_512 / length.numel()))
        along_focal = torch.vdot(along_slope.flatten(), slope.flatten())
        along_camera = camera  # is no longer needed
        torch.mul(along_slope, focal * inverse_depth, out=along_camera[:, :2])
        torch.neg((along_camera[:, :2] * slope).sum(1), out=along_camera[:, 2])
        along_points = along_camera.flatten(0, 1).T @ rotations.flatten(0, 1)
        ctx.save_for_backward(along_camera @ points, along_camera.sum(2), along_points, along_focal)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return *(upstream * gradient for gradient in ctx.saved_tensors), None, None, None
