"""The speech sides of SE4Lip: a GRU (Sec. 4.2) or, for Table 6's ablation, a CNN, on windows of any rows.

These take five video frames' worth of rows and give states along them, of which the last stands for the window. With
the ReLU on it the embedding has no negative entry (see `losses`). TalkLip's are in `talklip_paths`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders.contrastive.lip_encoder import ConvolutionBlock, LipLayer
from encoders.contrastive.talklip_paths import GlobalPath, LocalPath

SpeechNetwork = Literal["gru", "cnn", "local", "global"]
PAPER_GRU_LAYERS = 8
"""Sec. 5.1."""
ROWS_AT_ONCE = 8192
"""Of windows, which limits the memory that a network takes."""


class GRUPath(nn.Module):
    """Layers of gated recurrent units, Eq. 1-4; "the output of the last GRU layer" is the embedding.

    The paper's has 8 layers and an embedding of 512; that the units of all layers are as many and that the last row's
    output stands for the window is our reading. Recurrent weights start orthogonal and input weights at variance 1 / n
    (ours): from PyTorch's start the eighth layer hardly depends on the sound.
    """

    def __init__(self, inputs: int, size: int = 512, layers: int = PAPER_GRU_LAYERS) -> None:
        super().__init__()
        self.size = size
        self.recurrent = nn.GRU(inputs, size, num_layers=layers, batch_first=True)
        for name, weights in self.recurrent.named_parameters():
            if name.startswith("bias"):
                nn.init.zeros_(weights)
                continue
            for gate in weights.split(size):
                (nn.init.orthogonal_ if "_hh_" in name else nn.init.xavier_normal_)(gate)

    def states(self, rows: Tensor) -> Tensor:
        """The last layer's outputs [B, W, size] for rows [B, W, inputs]."""
        return self.recurrent(rows)[0]


class CNNPath(nn.Module):
    """Convolutions over time and frequency, the "traditional" model of Table 6. The paper does not give its layers.

    Ours: the plan of Wav2Lip's audio encoder, whose map shrinks by 3 at a time, with an average over what remains, so
    that it takes spectrograms of any height.
    """

    def __init__(self, size: int = 512) -> None:
        super().__init__()
        self.size = size
        a, b, c, d = (size // 16, size // 8, size // 4, size // 2)
        plan = (
            LipLayer(1, a, (3, 3), (1, 1), 1),
            LipLayer(a, a, (3, 3), (1, 1), 1, residual=True),
            LipLayer(a, b, (3, 3), (1, 3), 1),
            LipLayer(b, b, (3, 3), (1, 1), 1, residual=True),
            LipLayer(b, c, (3, 3), (3, 3), 1),
            LipLayer(c, c, (3, 3), (1, 1), 1, residual=True),
            LipLayer(c, d, (3, 3), (2, 3), 1),
            LipLayer(d, d, (3, 3), (1, 1), 1, residual=True),
            LipLayer(d, size, (3, 3), (2, 2), 1),
        )
        self.layers = nn.ModuleList([ConvolutionBlock(layer) for layer in plan])
        self.head = nn.Linear(size, size)

    def states(self, rows: Tensor) -> Tensor:
        """One state [B, 1, size] for windows [B, W, inputs] of rows."""
        x = rows[:, None]
        for layer in self.layers:
            x = layer(x)
        return self.head(x.mean(dim=(2, 3)))[:, None]


SpeechPath = GRUPath | CNNPath | LocalPath | GlobalPath


def speech_path(network: SpeechNetwork, inputs: int, size: int, layers: int) -> SpeechPath:
    """A network for rows of `inputs` columns; `layers` are the GRU's or the transformer's."""
    if network == "gru":
        return GRUPath(inputs, size, layers)
    if network == "global":
        return GlobalPath(inputs, size, layers)
    return LocalPath(size) if network == "local" else CNNPath(size)


class SpeechSide(nn.Module):
    """From a window of rows to its embedding: what is left of an encoder when it is at work."""

    def __init__(self, path: SpeechPath) -> None:
        super().__init__()
        self.path = path

    def forward(self, sounds: Tensor) -> Tensor:
        """[B, size] without negative entries for windows of rows [B, W, inputs]."""
        return functional.relu(self.path.states(sounds)[:, -1])


@torch.inference_mode()
def embedded(speech: nn.Module, windows: np.ndarray) -> np.ndarray:
    """float32 [n, size] for windows [n, W, inputs] of rows, by a speech side in evaluation mode on the CPU."""
    rows = torch.from_numpy(np.ascontiguousarray(windows, dtype=np.float32))
    parts = rows.split(max(1, ROWS_AT_ONCE // rows.shape[1]))
    return torch.cat([speech(part) for part in parts]).numpy()
