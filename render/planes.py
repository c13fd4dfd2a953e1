"""Tri-plane feature grids: position features without a custom extension.

TalkingGaussian (arXiv 2404.15264, Eq. 5) reads three hash-encoded planes; plain dense planes read with `grid_sample`
hold a head as well, need no compiled code, and are constants of a fitted avatar.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_AXES = (slice(0, 2), slice(0, 3, 2), slice(1, 3))
"""The coordinates that the xy, xz and yz plane read."""


class TriPlane(nn.Module):
    """Three axis-aligned feature planes over the cube [-extent, extent]^3.

    Args:
        resolution: cells along each side of a plane.
        channels: features per plane; a point gets 3 * channels.
        extent: half side of the cube, head units; points outside read its border.
    """

    def __init__(self, resolution: int, channels: int, extent: float) -> None:
        super().__init__()
        self.register_buffer("extent", torch.tensor(extent))
        # Not normal: for tensors without memory, in which a file is checked, torch would first load its compiler.
        self.planes = nn.Parameter(torch.empty(3, channels, resolution, resolution).uniform_(-0.17, 0.17))

    @property
    def size(self) -> int:
        """Features per point."""
        return 3 * self.planes.shape[1]

    def forward(self, points: Tensor) -> Tensor:
        """Bilinear features of points. points: [N, 3] head units -> [N, 3 * channels]."""
        coordinates = torch.stack([points[:, axes] for axes in _AXES])[:, None] / self.extent
        read = functional.grid_sample(self.planes, coordinates, align_corners=True, padding_mode="border")
        return read[:, :, 0].permute(2, 0, 1).flatten(1)
