"""Blend-Net (Speech2Lip, arXiv 2309.04814, Sec. 4.4): what to add to a picture into which a render was pasted.

The paper's is given the pasted picture and predicts a residual that is added back; its layers are in a supplement that
we do not have. This one is ours: four convolutions on cells of FOLD x FOLD pixels, which cost a sixteenth of what they
would on pixels and see four times as far, and beside them a linear map of each cell by itself: what the convolutions
have too few channels to carry, such as which pixels of a cell are missing.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

FOLD = 4
"""Side of a cell, px."""
WIDTH = 32
"""Channels between the convolutions."""
LAYERS = 4
"""Convolutions of 3x3 cells."""
LEAK = 0.1
"""Slope of what is below zero; with none, all channels may end up there, and learn no more."""
CONTEXT = FOLD * LAYERS
"""So many pixels beside one decide about it, rounded to whole cells."""


class BlendNet(nn.Module):
    """A new one changes nothing: what its output is a sum of is zero."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (4 * FOLD**2, *[WIDTH] * (LAYERS - 1))
        hidden = [part for ends in pairwise(sizes) for part in (_convolution(*ends), nn.LeakyReLU(LEAK, inplace=True))]
        self.layers = nn.Sequential(*hidden, _convolution(WIDTH, 3 * FOLD**2))
        self.shortcut = nn.Conv2d(sizes[0], 3 * FOLD**2, 1, bias=False).to(memory_format=torch.channels_last)
        for parameter in (self.layers[-1].weight, self.layers[-1].bias, self.shortcut.weight):
            nn.init.zeros_(parameter)

    def forward(self, pictures: Tensor, shares: Tensor) -> Tensor:
        """The residuals.

        Args:
            pictures: [B, 3, H, W] RGB in [0, 1], with a render in them.
            shares: [B, 1, H, W] how much of each pixel is the render's, in [0, 1].

        Returns:
            [B, 3, H, W], to be added to the pictures.
        """
        height, width = pictures.shape[2:]
        whole_cells = (0, -width % FOLD, 0, -height % FOLD)
        centred = 2 * torch.cat([pictures, shares], dim=1) - 1  # black is far from nothing
        cells = _folded(functional.pad(centred, whole_cells, mode="replicate"))
        return _unfolded(self.layers(cells) + self.shortcut(cells))[..., :height, :width]


def _folded(pictures: Tensor) -> Tensor:
    """`torch.nn.functional.pixel_unshuffle`, with channels last in the same pass."""
    batch, channels, height, width = pictures.shape
    cells = pictures.reshape(batch, channels, height // FOLD, FOLD, width // FOLD, FOLD).permute(0, 2, 4, 1, 3, 5)
    return cells.reshape(batch, height // FOLD, width // FOLD, -1).permute(0, 3, 1, 2)


def _unfolded(cells: Tensor) -> Tensor:
    """`torch.nn.functional.pixel_shuffle`, with channels last."""
    batch, _, height, width = cells.shape
    pixels = cells.permute(0, 2, 3, 1).reshape(batch, height, width, -1, FOLD, FOLD).permute(0, 1, 4, 2, 5, 3)
    return pixels.reshape(batch, height * FOLD, width * FOLD, -1).permute(0, 3, 1, 2)


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1).to(memory_format=torch.channels_last)
