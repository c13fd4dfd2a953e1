"""The loss of a step and its gradient in one pass over the pixels.

In plain torch the loss is some thirty operations on pictures of 3 MB, each bound by memory: as expensive as the
rasterizer, forward and backward. Here every pixel is read once; only a small window goes through autograd.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from render.losses import LossTarget, LossWeights, window_loss, window_share
from render.rasterize import RenderOutput


def fused_picture_loss(front: RenderOutput, mouth: RenderOutput, target: LossTarget, weights: LossWeights) -> Tensor:
    """See `render.losses.picture_loss`; float32 tensors on the CPU."""
    return _PictureLoss.apply(front.rgb, front.alpha, mouth.rgb, mouth.alpha, target, weights)


class _PictureLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        front_rgb: Tensor,
        front_alpha: Tensor,
        mouth_rgb: Tensor,
        mouth_alpha: Tensor,
        target: LossTarget,
        weights: LossWeights,
    ) -> Tensor:
        window = (slice(None), target.rows, target.columns)
        through = 1 - front_alpha[window[1:]]
        behind = mouth_rgb[window] + (1 - mouth_alpha[window[1:]]) * target.background[window]
        picture = (front_rgb[window] + through * behind).requires_grad_()
        with torch.enable_grad():
            inside = window_share(target) * window_loss(picture, _window_image(target), weights)
            (window_gradient,) = torch.autograd.grad(inside, picture)
        renders = (front_rgb, front_alpha, mouth_rgb, mouth_alpha)
        gradients = tuple(torch.empty_like(tensor) for tensor in renders)
        loss = _accumulate(
            tuple(tensor.numpy() for tensor in renders),
            tuple(tensor.numpy() for tensor in gradients),
            tuple(tensor.numpy() for tensor in (target.image, target.matte, target.face, target.mouth)),
            target.background.numpy(),
            window_gradient.contiguous().numpy(),
            (target.rows.start, target.columns.start),
            (np.float32(weights.face), np.float32(weights.matte), np.float32(weights.hole)),
        )
        ctx.save_for_backward(*gradients)
        return inside.detach() + loss

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, upstream: Tensor) -> tuple[Tensor | None, ...]:
        gradients = ctx.saved_tensors
        if float(upstream) != 1:
            gradients = tuple(upstream * gradient for gradient in gradients)
        return *gradients, None, None


def _window_image(target: LossTarget) -> Tensor:
    return target.image[target.rows, target.columns].permute(2, 0, 1) / 255


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _accumulate(renders, gradients, targets, background, window_gradient, window_start, weights):
    """Loss without the window's; fills the gradients of everything, those of the window [3, h, w] given."""
    front_rgb, front_alpha, mouth_rgb, mouth_alpha = renders
    g_front_rgb, g_front_alpha, g_mouth_rgb, g_mouth_alpha = gradients
    image, matte, face, mouth = targets
    face_weight, matte_weight, hole_weight = weights
    height, width = front_alpha.shape
    one, scale = np.float32(1), np.float32(1 / 255)
    share = one / np.float32(height * width)
    third = share / np.float32(3)
    total = 0.0
    for y in range(height):
        row = np.float32(0)
        window_y = y - window_start[0]
        in_rows = 0 <= window_y < window_gradient.shape[1]
        for x in range(width):
            window_x = x - window_start[1]
            in_window = in_rows and 0 <= window_x < window_gradient.shape[2]
            through = one - front_alpha[y, x]
            clear = one - mouth_alpha[y, x]
            pixel_weight = third * (one + face_weight * np.float32(face[y, x]))
            along_front = np.float32(0)
            along_mouth = np.float32(0)
            for c in range(3):
                behind = mouth_rgb[c, y, x] + clear * background[c, y, x]
                error = front_rgb[c, y, x] + through * behind - np.float32(image[y, x, c]) * scale
                row += pixel_weight * abs(error)
                slope = pixel_weight * np.sign(error)
                if in_window:
                    slope += window_gradient[c, window_y, window_x]
                g_front_rgb[c, y, x] = slope
                g_mouth_rgb[c, y, x] = slope * through
                along_front += slope * behind
                along_mouth += slope * background[c, y, x]
            error = front_alpha[y, x] + through * mouth_alpha[y, x] - np.float32(matte[y, x]) * scale
            hole = share * hole_weight * np.float32(mouth[y, x])
            skin = share * hole_weight * np.float32(face[y, x]) * (one - np.float32(mouth[y, x]))
            row += share * matte_weight * abs(error) + hole * front_alpha[y, x] + skin * through
            slope = share * matte_weight * np.sign(error)
            g_front_alpha[y, x] = slope * clear - along_front + hole - skin
            g_mouth_alpha[y, x] = (slope - along_mouth) * through
        total += row
    return total
