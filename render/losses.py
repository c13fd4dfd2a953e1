"""Image losses of the fit."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

WINDOW, SIGMA = 11, 1.5
"""Gaussian window of SSIM, px (Wang et al. 2004, Sec. III-B)."""
C1, C2 = 0.01**2, 0.03**2


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


def absolute_error(rendered: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Mean over pixels of the channel-averaged absolute error times weights. Pictures [3, H, W], weights [H, W]."""
    return ((rendered - target).abs().sum(0) * weights).mean() / len(rendered)
