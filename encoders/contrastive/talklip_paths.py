"""TalkLip's audio encoders (Wang et al. 2023, Sec. 3.2): a CNN hears 0.2 s, a transformer the utterance.

The local one is Table 3, with batch normalisation after each convolution (Sec. 6.1). Which rows are summed with their
input was marked by lines, which our text has lost: those are that can be, one by one, as in Wav2Lip's audio encoder,
whose table this is. The global one is Sec. 6.2. In the paper it was trained before, within AV-HuBERT; here it starts
from nothing. Ours: sinusoidal positions (Vaswani et al. 2017), normalisation before each block instead of behind it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from encoders.contrastive.lip_encoder import PAPER_SIZE, ConvolutionBlock, LipLayer, scaled

TABLE_3: tuple[LipLayer, ...] = (
    LipLayer(1, 32, (3, 3), (1, 1), 1),
    LipLayer(32, 32, (3, 3), (1, 1), 1, residual=True),
    LipLayer(32, 32, (3, 3), (1, 1), 1, residual=True),
    LipLayer(32, 64, (3, 3), (3, 1), 1),
    LipLayer(64, 64, (3, 3), (1, 1), 1, residual=True),
    LipLayer(64, 64, (3, 3), (1, 1), 1, residual=True),
    LipLayer(64, 128, (3, 3), (3, 3), 1),
    LipLayer(128, 128, (3, 3), (1, 1), 1, residual=True),
    LipLayer(128, 128, (3, 3), (1, 1), 1, residual=True),
    LipLayer(128, 256, (3, 3), (3, 2), 1),
    LipLayer(256, 256, (3, 3), (1, 1), 1, residual=True),
    LipLayer(256, 512, (3, 3), (1, 1), 0),
    LipLayer(512, 512, (1, 1), (1, 1), 0),
)
"""Table 3 of TalkLip, row by row, repeated rows written out. Sizes are (mel bands, rows of the spectrogram)."""
STACKED = 4
"""Rows that make a step of the transformer..."""
TRANSFORMER_SIZE, TRANSFORMER_LAYERS, TRANSFORMER_HEADS = 768, 12, 12
"""...and the paper's transformer, whose feed-forward layers are four times as wide."""
DROPOUT = 0.1


class LocalPath(nn.Module):
    """Table 3. With another embedding size every layer's width is scaled with it; only 512 is the paper's."""

    def __init__(self, size: int = PAPER_SIZE) -> None:
        super().__init__()
        self.size = size
        self.layers = nn.ModuleList([ConvolutionBlock(layer) for layer in scaled(TABLE_3, size)])

    def states(self, rows: Tensor) -> Tensor:
        """One state [B, 1, size] for windows [B, 16, 80] of rows."""
        x = rows.transpose(1, 2)[:, None]
        for layer in self.layers:
            x = layer(x)
        return x.flatten(1)[:, None]


class GlobalPath(nn.Module):
    """Sec. 6.2: a transformer on every four rows as one. Only 768 and 12 layers are the paper's."""

    def __init__(self, inputs: int, size: int = TRANSFORMER_SIZE, layers: int = TRANSFORMER_LAYERS) -> None:
        super().__init__()
        self.size = size
        self.stacked = nn.Linear(STACKED * inputs, size)
        block = nn.TransformerEncoderLayer(
            size, TRANSFORMER_HEADS, 4 * size, DROPOUT, "gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, layers, nn.LayerNorm(size), enable_nested_tensor=False)

    def states(self, rows: Tensor) -> Tensor:
        """States [B, W // 4, size] for rows [B, W, inputs]."""
        whole = rows[:, : rows.shape[1] // STACKED * STACKED]
        steps = self.stacked(whole.unflatten(1, (-1, STACKED)).flatten(2))
        return self.blocks(steps + positions(steps.shape[1], self.size, steps.device))


def positions(steps: int, size: int, device: torch.device) -> Tensor:
    """[steps, size]: sines and cosines of the step's number at wavelengths from 2 pi to 10,000 times that."""
    places = torch.arange(size // 2, device=device)
    angles = torch.arange(steps, device=device)[:, None] * torch.exp(-math.log(10_000) * 2 * places / size)
    return torch.cat([angles.sin(), angles.cos()], dim=1)
