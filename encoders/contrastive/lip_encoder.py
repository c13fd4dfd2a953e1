"""SE4Lip's lip encoder, Table 2: five RGB pictures of the lower face to one embedding.

Where the table leaves room, Wav2Lip's face encoder (Prajwal et al. 2020), on which the paper builds it, decides:

- "Stride (1,2)" is (height, width): the 5 x 5 layer halves the width only and, padded by 1, takes a pixel off every
  side, so 48 x 96 becomes a nearly square 46 x 47.
- "ResidualBlock" with one kernel is one convolution whose input is added before the activation.
- Every convolution is followed by batch normalisation and ReLU, the last one included: the table names neither. With
  the last ReLU no embedding has a negative entry, which is what Eq. 6 needs (see `losses`).
- "Stride (4,1)" cannot be seen: the map is 3 x 3 there, which a 3 x 3 kernel without padding covers in one place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders.contrastive.lip_clips import LIP_FRAMES, LIP_HEIGHT, LIP_WIDTH

PAPER_SIZE = 512
"""Channels of the table's last row, the size of the embedding."""


@dataclass(frozen=True)
class LipLayer:
    """One row of Table 2. Sizes are (height, width)."""

    inputs: int
    outputs: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: int
    residual: bool = False


TABLE_2: tuple[LipLayer, ...] = (
    LipLayer(15, 32, (7, 7), (1, 1), 3),
    LipLayer(32, 64, (5, 5), (1, 2), 1),
    LipLayer(64, 64, (3, 3), (1, 1), 1, residual=True),
    LipLayer(64, 64, (3, 3), (1, 1), 1, residual=True),
    LipLayer(64, 128, (3, 3), (2, 2), 1),
    LipLayer(128, 128, (3, 3), (1, 1), 1, residual=True),
    LipLayer(128, 128, (3, 3), (1, 1), 1, residual=True),
    LipLayer(128, 256, (3, 3), (2, 2), 1),
    LipLayer(256, 256, (3, 3), (1, 1), 1, residual=True),
    LipLayer(256, 512, (3, 3), (2, 2), 1),
    LipLayer(512, 512, (3, 3), (1, 1), 1, residual=True),
    LipLayer(512, 512, (3, 3), (2, 2), 1),
    LipLayer(512, 512, (3, 3), (4, 1), 0),
    LipLayer(512, 512, (1, 1), (1, 1), 0),
)
"""Table 2 of SE4Lip, row by row."""


class ConvolutionBlock(nn.Module):
    """Convolution, batch normalisation, ReLU; a residual one adds its input before the ReLU."""

    def __init__(self, layer: LipLayer) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(layer.inputs, layer.outputs, layer.kernel, layer.stride, layer.padding)
        self.norm = nn.BatchNorm2d(layer.outputs)
        self.residual = layer.residual

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] to [B, outputs, H', W']."""
        y = self.norm(self.convolution(x))
        return functional.relu(x + y if self.residual else y)


class LipEncoder(nn.Module):
    """Table 2. With another embedding size every layer's width is scaled with it; only 512 is the paper's."""

    def __init__(self, size: int = PAPER_SIZE) -> None:
        super().__init__()
        self.size = size
        self.layers = nn.ModuleList([ConvolutionBlock(layer) for layer in scaled(TABLE_2, size)])

    def forward(self, pictures: Tensor) -> Tensor:
        """Embeddings [B, size], no entry negative.

        Args:
            pictures: [B, 15, LIP_HEIGHT, LIP_WIDTH] in [0, 1]: R, G, B of the first picture, of the second, and so on.
        """
        x = pictures - 0.5
        for layer in self.layers:
            x = layer(x)
        return x.flatten(1)


def scaled(table: Sequence[LipLayer], size: int) -> list[LipLayer]:
    """The layers with widths such that the last has `size` channels; what the first takes stays as it is.

    Args:
        table: layers at the paper's width, the last of PAPER_SIZE channels.

    Raises:
        ValueError: widths would not be whole numbers.
    """
    if size < 16 or size % 16:
        raise ValueError(f"expected a size that is a multiple of 16, got {size}")
    layers = [
        replace(row, inputs=row.inputs * size // PAPER_SIZE, outputs=row.outputs * size // PAPER_SIZE) for row in table
    ]
    layers[0] = replace(layers[0], inputs=table[0].inputs)
    return layers


def stacked_pictures(mouths: Tensor) -> Tensor:
    """uint8 [B, LIP_FRAMES, LIP_HEIGHT, LIP_WIDTH, 3] to what `LipEncoder` takes, float32 [B, 15, ...] in [0, 1].

    Raises:
        ValueError: another shape or type.
    """
    expected = (LIP_FRAMES, LIP_HEIGHT, LIP_WIDTH, 3)
    if tuple(mouths.shape[1:]) != expected or mouths.dtype != torch.uint8:
        raise ValueError(f"expected uint8 mouths [B, {expected}], got {mouths.dtype} {list(mouths.shape)}")
    return mouths.permute(0, 1, 4, 2, 3).flatten(1, 2).float() / 255.0
