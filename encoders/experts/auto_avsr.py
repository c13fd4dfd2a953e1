"""Auto-AVSR's lip reader (Ma et al. 2023): pictures of the mouth to word pieces.

A 3D convolution and a ResNet-18, a Conformer of twelve blocks with relative positions (Gulati et al. 2020; Dai et al.
2019), and a CTC head. Tensors have the names of the published checkpoints, so that these can be loaded; the decoder
that they also hold is not needed. Attention is written for one sequence without padding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

PICTURE_SIZE = 88
"""Side of the pictures, px."""
BLANK = 0
"""CTC's symbol for nothing."""


@dataclass(frozen=True)
class AutoAvsrSizes:
    """Widths of the layers; the defaults are those of the published checkpoints."""

    channels: int = 64
    """Of the 3D convolution and of the first of four stages of the ResNet, each of which doubles them."""
    size: int = 768
    """Columns of the context."""
    heads: int = 12
    hidden: int = 3072
    """Units of the feed-forward layers."""
    blocks: int = 12
    kernel: int = 31
    """Steps that a block's convolution sees."""
    vocabulary: int = 5049
    """Word pieces, blank and end."""

    @classmethod
    def of(cls, shapes: Mapping[str, Sequence[int]]) -> AutoAvsrSizes:
        """What the shapes of a file's tensors say.

        Raises:
            KeyError, IndexError: they are not those of this network.
        """
        blocks = {name.split(".")[2] for name in shapes if name.startswith("encoder.encoders.")}
        first = "encoder.encoders.0."
        return cls(
            channels=shapes["frontend.frontend3D.0.weight"][0],
            size=shapes["proj_encoder.weight"][0],
            heads=shapes[f"{first}self_attn.pos_bias_u"][0],
            hidden=shapes[f"{first}feed_forward.w_1.weight"][0],
            blocks=len(blocks),
            kernel=shapes[f"{first}conv_module.depthwise_conv.weight"][2],
            vocabulary=shapes["ctc.ctc_lo.weight"][0],
        )


class AutoAvsr(nn.Module):
    """Pictures to context features and scores of word pieces."""

    def __init__(self, sizes: AutoAvsrSizes = AutoAvsrSizes()) -> None:
        super().__init__()
        self.sizes = sizes
        self.frontend = _VisualFrontEnd(sizes.channels)
        self.proj_encoder = nn.Linear(8 * sizes.channels, sizes.size)
        self.encoder = _Conformer(sizes)
        self.ctc = nn.ModuleDict({"ctc_lo": nn.Linear(sizes.size, sizes.vocabulary)})

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Context [T, size] and logits [T, vocabulary] of normalised grey pictures [T, PICTURE_SIZE, PICTURE_SIZE]."""
        context = self.encoder(self.proj_encoder(self.frontend(pictures)))
        return context, self.ctc["ctc_lo"](context)


class _VisualFrontEnd(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.frontend3D = nn.Sequential(
            nn.Conv3d(1, channels, (5, 7, 7), (1, 2, 2), (2, 3, 3), bias=False),
            nn.BatchNorm3d(channels),
            nn.SiLU(),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        )
        self.trunk = nn.Module()
        inputs = channels
        for stage in range(4):
            outputs, stride = channels << stage, 1 if stage == 0 else 2
            blocks = nn.Sequential(_BasicBlock(inputs, outputs, stride), _BasicBlock(outputs, outputs, 1))
            self.trunk.add_module(f"layer{stage + 1}", blocks)
            inputs = outputs

    def forward(self, pictures: Tensor) -> Tensor:
        """[T, H, W] to [T, 8 * channels]."""
        x = self.frontend3D(pictures[None, None])[0].transpose(0, 1)
        for stage in self.trunk.children():
            x = stage(x)
        return x.mean(dim=(-2, -1))


class _BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(functional.silu(self.bn1(self.conv1(x)))))
        return functional.silu(y + self.downsample(x))


class _Conformer(nn.Module):
    def __init__(self, sizes: AutoAvsrSizes) -> None:
        super().__init__()
        self.encoders = nn.ModuleList([_ConformerBlock(sizes) for _ in range(sizes.blocks)])
        self.after_norm = _norm(sizes.size)

    def forward(self, x: Tensor) -> Tensor:
        """[T, size] to [T, size]."""
        positions = relative_positions(len(x), x.shape[1]).to(x)
        x = x * math.sqrt(x.shape[1])
        for block in self.encoders:
            x = block(x, positions)
        return self.after_norm(x)


class _ConformerBlock(nn.Module):
    def __init__(self, sizes: AutoAvsrSizes) -> None:
        super().__init__()
        self.feed_forward_macaron = _FeedForward(sizes)
        self.self_attn = _RelativeAttention(sizes)
        self.conv_module = _Convolution(sizes)
        self.feed_forward = _FeedForward(sizes)
        self.norm_ff_macaron, self.norm_mha, self.norm_conv, self.norm_ff, self.norm_final = (
            _norm(sizes.size) for _ in range(5)
        )

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        x = x + 0.5 * self.feed_forward_macaron(self.norm_ff_macaron(x))
        x = x + self.self_attn(self.norm_mha(x), positions)
        x = x + self.conv_module(self.norm_conv(x))
        x = x + 0.5 * self.feed_forward(self.norm_ff(x))
        return self.norm_final(x)


class _FeedForward(nn.Module):
    def __init__(self, sizes: AutoAvsrSizes) -> None:
        super().__init__()
        self.w_1 = nn.Linear(sizes.size, sizes.hidden)
        self.w_2 = nn.Linear(sizes.hidden, sizes.size)

    def forward(self, x: Tensor) -> Tensor:
        return self.w_2(functional.relu(self.w_1(x)))


class _RelativeAttention(nn.Module):
    """Self-attention whose scores also depend on how far apart two steps are (Dai et al. 2019, Sec. 3.3)."""

    def __init__(self, sizes: AutoAvsrSizes) -> None:
        super().__init__()
        self.linear_q, self.linear_k, self.linear_v, self.linear_out = (
            nn.Linear(sizes.size, sizes.size) for _ in range(4)
        )
        self.linear_pos = nn.Linear(sizes.size, sizes.size, bias=False)
        self.pos_bias_u, self.pos_bias_v = (
            nn.Parameter(torch.zeros(sizes.heads, sizes.size // sizes.heads)) for _ in range(2)
        )

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """x: [T, size]; positions: [2 T - 1, size], see `relative_positions`."""
        steps, (heads, width) = len(x), self.pos_bias_u.shape
        query = self.linear_q(x).view(steps, heads, width)
        key, value = (layer(x).view(steps, heads, width) for layer in (self.linear_k, self.linear_v))
        distance = self.linear_pos(positions).view(-1, heads, width)
        by_content = torch.einsum("ihd,jhd->hij", query + self.pos_bias_u, key)
        by_distance = torch.einsum("ihd,rhd->hir", query + self.pos_bias_v, distance)
        order = torch.arange(steps, device=x.device)
        row = steps - 1 - (order[:, None] - order)  # of the position that is i - j steps away
        by_distance = by_distance.gather(2, row.expand(heads, steps, steps))
        weights = ((by_content + by_distance) / math.sqrt(width)).softmax(dim=-1)
        return self.linear_out(torch.einsum("hij,jhd->ihd", weights, value).flatten(1))


class _Convolution(nn.Module):
    """The Conformer's convolution; "cov" stands in the published names."""

    def __init__(self, sizes: AutoAvsrSizes) -> None:
        super().__init__()
        self.pointwise_cov1 = nn.Conv1d(sizes.size, 2 * sizes.size, 1)
        self.depthwise_conv = nn.Conv1d(
            sizes.size, sizes.size, sizes.kernel, padding=sizes.kernel // 2, groups=sizes.size
        )
        self.norm = nn.BatchNorm1d(sizes.size)
        self.pointwise_cov2 = nn.Conv1d(sizes.size, sizes.size, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.glu(self.pointwise_cov1(x.T[None]), dim=1)
        y = functional.silu(self.norm(self.depthwise_conv(y)))
        return self.pointwise_cov2(y)[0].T


def relative_positions(steps: int, size: int) -> Tensor:
    """[2 steps - 1, size]: sines and cosines (Vaswani et al. 2017) of distances from steps - 1 down to 1 - steps."""
    distances = torch.arange(steps - 1, -steps, -1, dtype=torch.float64)
    angles = distances[:, None] * torch.exp(torch.arange(0, size, 2) * (-math.log(10_000.0) / size))
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


def _norm(size: int) -> nn.LayerNorm:
    return nn.LayerNorm(size, eps=1e-12)
