"""Image losses of the fit. On a CPU `picture_loss` runs as one fused pass, see `render._fused_loss`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from render.rasterize import RenderOutput

WINDOW, SIGMA = 11, 1.5
"""Gaussian window of SSIM, px (Wang et al. 2004, Sec. III-B)."""
C1, C2 = 0.01**2, 0.03**2
LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601."""
DETAIL_FLOOR = 1e-3
"""Less is invisible; keeps the square root smooth."""


@dataclass(frozen=True)
class LossWeights:
    """What the fit minimises."""

    face: float = 1.0
    """Extra weight of the absolute error inside the face."""
    dssim: float = 0.2
    """Weight of D-SSIM, measured on a random window of the mouth, the face or the person."""
    detail: float = 1.5
    """Weight of the difference in how much fine detail there is, on the same window."""
    window: int = 128
    """Side of that window, px."""
    matte: float = 0.05
    """Weight of the difference between alpha and the person's matte."""
    hole: float = 0.2
    """Weight of face Gaussians that cover the open mouth, or leave holes beside it."""


@dataclass(frozen=True)
class LossTarget:
    """What a rendered frame is compared with."""

    image: Tensor  # [H, W, 3] uint8 RGB
    matte: Tensor  # [H, W] uint8, 255 where the person is
    face: Tensor  # [H, W] uint8, 1 inside the face
    mouth: Tensor  # [H, W] uint8, 1 inside the lips
    background: Tensor  # [3, H, W] in [0, 1]
    rows: slice  # of the window that D-SSIM and detail are measured on
    columns: slice


@cache
def _window_matrix(size: int) -> Tensor:
    """[size - WINDOW + 1, size]: each row holds the window at another place. On a CPU a product with this banded
    matrix is many times faster, forward and backward, than a convolution with so few channels."""
    offsets = torch.arange(size)[None] - torch.arange(size - WINDOW + 1)[:, None] - WINDOW // 2
    weights = torch.exp(-(offsets**2) / (2 * SIGMA**2)) * (offsets.abs() <= WINDOW // 2)
    return weights / weights.sum(1, keepdim=True)


def _blur(images: Tensor) -> Tensor:
    """Separable Gaussian window over [B, H, W], valid part only."""
    rows, columns = (_window_matrix(size).to(images) for size in images.shape[1:])
    return rows @ images @ columns.T


def dssim(rendered: Tensor, target: Tensor) -> Tensor:
    """Structural dissimilarity (1 - SSIM) / 2 of two pictures [3, H, W] in [0, 1], at least 11 px in size (Wang et al.
    2004, Eq. 13; the D-SSIM of Kerbl et al. 2023, Eq. 7)."""
    stack = torch.cat([rendered, target, rendered * rendered, target * target, rendered * target])
    mean_r, mean_t, square_r, square_t, product = _blur(stack).split(len(rendered))
    variance = (square_r - mean_r**2) + (square_t - mean_t**2)
    covariance = product - mean_r * mean_t
    luminance = (2 * mean_r * mean_t + C1) / (mean_r**2 + mean_t**2 + C1)
    similarity = luminance * (2 * covariance + C2) / (variance + C2)
    return (1 - similarity.mean()) / 2


def detail_difference(rendered: Tensor, target: Tensor) -> Tensor:
    """Mean difference of the local strength of fine detail between pictures [3, H, W] in [0, 1].

    The strength is the root mean square of the luma's Laplacian under the window of SSIM. What many frames disagree on
    by a fraction of a pixel, absolute error and SSIM average away: they ask for every edge in its place or none. This
    asks only that there be as much of it, as a texture loss does (Portilla and Simoncelli 2000, Sec. 2.2.2: magnitudes
    of band-pass coefficients).
    """
    luma = torch.tensor(LUMA, device=rendered.device, dtype=rendered.dtype)
    grey = torch.einsum("c,bchw->bhw", luma, torch.stack([rendered, target]))
    around = functional.pad(grey, (1, 1, 1, 1), mode="replicate")
    across, down = around[:, 1:-1, :-2] + around[:, 1:-1, 2:], around[:, :-2, 1:-1] + around[:, 2:, 1:-1]
    laplacian = across + down - 4 * grey
    strength = (_blur(laplacian * laplacian) + DETAIL_FLOOR**2).sqrt()
    return (strength[0] - strength[1]).abs().mean()


def window_loss(rendered: Tensor, target: Tensor, weights: LossWeights) -> Tensor:
    """What is measured on the window: two pictures [3, H, W] in [0, 1]."""
    return weights.dssim * dssim(rendered, target) + weights.detail * detail_difference(rendered, target)


def window_share(target: LossTarget) -> float:
    """Part of the picture that the window covers."""
    height = target.rows.stop - target.rows.start
    return height * (target.columns.stop - target.columns.start) / target.face.numel()


def picture_loss(front: RenderOutput, mouth: RenderOutput, target: LossTarget, weights: LossWeights) -> Tensor:
    """The scalar that a step of the fit minimises, differentiable in both renders.

    Mean over pixels of: absolute error, weighted up inside the face; D-SSIM and difference in detail of a window, times
    the share of the picture it covers; difference of alpha from the matte; front alpha inside the lips and what is
    missing of it in the rest of the face.
    """
    if front.rgb.device.type == "cpu":
        from render._fused_loss import fused_picture_loss

        return fused_picture_loss(front, mouth, target, weights)
    return reference_picture_loss(front, mouth, target, weights)


def reference_picture_loss(
    front: RenderOutput, mouth: RenderOutput, target: LossTarget, weights: LossWeights
) -> Tensor:
    """`picture_loss` in plain torch: what the fused pass is tested against, and what runs on a GPU."""
    through = 1 - front.alpha
    picture = front.rgb + through * mouth.over(target.background)
    alpha = front.alpha + through * mouth.alpha
    image = target.image.permute(2, 0, 1) / 255
    error = (picture - image).abs().mean(0) * (1 + weights.face * target.face)
    loss = error.mean() + weights.matte * (alpha - target.matte / 255).abs().mean()
    skin = target.face * (1.0 - target.mouth)
    loss = loss + weights.hole * (front.alpha * target.mouth + (1 - front.alpha) * skin).mean()
    window = (slice(None), target.rows, target.columns)
    return loss + window_share(target) * window_loss(picture[window], image[window], weights)
