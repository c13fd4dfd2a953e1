"""A small lip reader: pictures of the lower face to visemes.

Built as TalkLip's expert (Wang et al. 2023, Sec. 3.1 and 3.5), at a size that twenty seconds of one person can train:
a 3D convolution for local movement, a residual CNN, and a temporal encoder whose output is the context feature R. The
paper's temporal encoder is a transformer and a decoder spells words; ours are convolutions over half a second, and a
linear layer to the 15 visemes of `encoders.phones`, which the embedded speech encoder hears without a transcript.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from encoders.phones import VISEMES

READING_RATE = 25
"""Pictures per second that lip readers take (TalkLip Sec. 4.1)."""
POOLING = 2
"""Side of the squares of px that are averaged before anything is learned."""
CONTRAST = 4.0
"""Deviations from a person's still face are small; so much larger they have a spread of about one half."""


@dataclass(frozen=True)
class Reading:
    """What a network reads in B sequences of T pictures."""

    context: Tensor  # [B, T, f] features (TalkLip's R)
    logits: Tensor  # [B, T, len(VISEMES)]


def reading_frames(count: int, fps: Fraction) -> np.ndarray:
    """Numbers [n] of the frames that are shown at the middles of READING_RATE intervals a second, of `count` frames.

    So whatever is learned over pictures lasts as long in every video; in a slow one, frames are read twice.
    """
    steps = np.arange(int(count * READING_RATE / fps))
    return np.floor((steps + 0.5) * float(fps) / READING_RATE + 1e-9).astype(int)


def shown(mouths: Tensor, still: Tensor) -> Tensor:
    """What the networks see of mouths [..., 3, LIP_HEIGHT, LIP_WIDTH] in [0, 1]: half the size, less the still face.

    Args:
        still: [3, LIP_HEIGHT, LIP_WIDTH] mean picture of the person.
    """
    pooled = functional.avg_pool2d(mouths.flatten(0, -4), POOLING).unflatten(0, mouths.shape[:-3])
    return CONTRAST * (pooled - functional.avg_pool2d(still, POOLING))


class ResidualBlock(nn.Module):
    """ResNet's basic block (He et al. 2016) that halves the size, with group normalisation.

    Batch normalisation would judge rendered pictures by the statistics of real ones.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False)
        self.first_norm = nn.GroupNorm(4, outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = nn.GroupNorm(4, outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, H / 2, W / 2]."""
        y = functional.relu(self.first_norm(self.first(x)))
        return functional.relu(self.shortcut(x) + self.second_norm(self.second(y)))


class VisemeReader(nn.Module):
    """The expert's network."""

    REACH = 6
    """Pictures on either side that a step's reading depends on: 2 of the 3D convolution, 2 of each temporal one."""

    def __init__(self, width: int = 16, size: int = 64, dropout: float = 0.3) -> None:
        super().__init__()
        self.width, self.size = width, size
        self.movement = nn.Conv3d(3, width, 5, (1, 2, 2), 2, bias=False)
        self.movement_norm = nn.GroupNorm(4, width)
        self.blocks = nn.Sequential(ResidualBlock(width, 2 * width), ResidualBlock(2 * width, 2 * width))
        self.projection = nn.Linear(2 * width * 3 * 6, size)
        self.projection_norm = nn.LayerNorm(size)
        self.temporal = nn.ModuleList([nn.Conv1d(size, size, 5, padding=2) for _ in range(2)])
        self.dropout = nn.Dropout(dropout)
        self.visemes = nn.Linear(size, len(VISEMES))

    def forward(self, pictures: Tensor) -> Reading:
        """Reads pictures [B, T, 3, 24, 48], as `shown` gives them."""
        steps = pictures.shape[:2]
        moving = self.movement(pictures.transpose(1, 2)).transpose(1, 2).flatten(0, 1)
        seen = self.blocks(functional.relu(self.movement_norm(moving))).flatten(1)
        x = functional.relu(self.projection_norm(self.projection(self.dropout(seen))))
        x = x.unflatten(0, steps).transpose(1, 2)
        for layer in self.temporal:
            x = x + functional.relu(layer(self.dropout(x)))
        context = x.transpose(1, 2)
        return Reading(context, self.visemes(self.dropout(context)))


def reached(marked: Tensor, reach: int) -> Tensor:
    """bool [T]: those within `reach` of one that is marked in bool [T]."""
    spread = functional.max_pool1d(marked.float()[None, None], 2 * reach + 1, 1, reach)
    return spread[0, 0].bool()
