"""The loss of a step and its gradient in one pass over the pixels.

In plain torch the loss is some thirty operations on pictures of 3 MB, each bound by memory: as expensive as the
rasterizer, forward and backward. Here every pixel is read once, while another thread measures the window.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from render._fused_window import window_loss_and_gradient
from render._workers import on_threads
from render.losses import LossTarget, LossWeights, window_share
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
        renders = (front_rgb, front_alpha, mouth_rgb, mouth_alpha)
        gradients = tuple(torch.empty_like(tensor) for tensor in renders)
        everywhere, (inside, window_gradients) = on_threads(
            [
                lambda: _accumulate(
                    tuple(tensor.numpy() for tensor in renders),
                    tuple(tensor.numpy() for tensor in gradients),
                    tuple(tensor.numpy() for tensor in (target.image, target.matte, target.face, target.mouth)),
                    target.background.numpy(),
                    (np.float32(weights.face), np.float32(weights.matte), np.float32(weights.hole)),
                ),
                lambda: _in_window(renders, target, weights),
            ]
        )
        for gradient, part in zip(gradients, window_gradients, strict=True):
            gradient[..., target.rows, target.columns] += torch.from_numpy(part)
        ctx.save_for_backward(*gradients)
        return torch.tensor(inside + everywhere, dtype=torch.float32)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, upstream: Tensor) -> tuple[Tensor | None, ...]:
        gradients = ctx.saved_tensors
        if float(upstream) != 1:
            gradients = tuple(upstream * gradient for gradient in gradients)
        return *gradients, None, None


def _in_window(
    renders: tuple[Tensor, ...], target: LossTarget, weights: LossWeights
) -> tuple[float, tuple[np.ndarray, ...]]:
    """The loss of the window, and its gradients there."""
    window = (..., target.rows, target.columns)
    front_rgb, front_alpha, mouth_rgb, mouth_alpha = (tensor.detach().numpy()[window] for tensor in renders)
    background = target.background.numpy()[window]
    image = target.image.numpy()[target.rows, target.columns].transpose(2, 0, 1) * np.float32(1 / 255)
    through = 1 - front_alpha
    behind = mouth_rgb + (1 - mouth_alpha) * background
    loss, slopes = window_loss_and_gradient(front_rgb + through * behind, image, weights)
    share = window_share(target)
    slopes *= np.float32(share)
    along_front, along_mouth = (slopes * behind).sum(0), (slopes * background).sum(0)
    return share * loss, (slopes, -along_front, slopes * through, -along_mouth * through)


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _accumulate(renders, gradients, targets, background, weights):
    """Loss without the window's; fills its gradients."""
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
        for x in range(width):
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
