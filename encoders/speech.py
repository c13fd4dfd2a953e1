"""The embedded speech encoder: log-mel -> embedding, with phone, viseme and articulatory heads.

A network of dilated convolutions whose receptive field is PAST_S before and LOOKAHEAD_S after a frame, so that it gives
a live stream exactly what it gives a file. The phone head follows PASE's idea of phoneme embeddings as anchors (Huang
et al.); depth, width and the other heads are ours: the network is trained on synthetic speech with known phone timing,
so that it needs neither video nor a fetched model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders.normalisation import SpeechStatistics
from encoders.phones import ARTICULATORS, PHONES, VISEMES
from encoders.spectrogram import FFT_SIZE, HOP_SIZE, MEL_BANDS, SAMPLE_RATE

STRIDE = 2
"""Spectrogram frames per encoder frame."""
FRAME_RATE = SAMPLE_RATE / (HOP_SIZE * STRIDE)
"""Encoder frames per second (62.5). Frame j is centred on sample j * HOP_SIZE * STRIDE."""


@dataclass(frozen=True)
class Reach:
    """The frames a dilated convolution of KERNEL taps sees before and after its own."""

    past: int
    future: int

    @property
    def dilation(self) -> int:
        """Frames between two taps."""
        return (self.past + self.future) // (KERNEL - 1)


KERNEL = 5
BLOCKS = (Reach(2, 2), Reach(4, 4), Reach(2, 2), Reach(8, 0), Reach(4, 0))
"""Of the residual blocks, in encoder frames."""
_FRONT = (KERNEL // 2) * 2  # spectrogram frames that the two front convolutions see on either side
PAST_FRAMES = _FRONT + STRIDE * sum(reach.past for reach in BLOCKS)
FUTURE_FRAMES = _FRONT + STRIDE * sum(reach.future for reach in BLOCKS)
"""Spectrogram frames that an encoder frame depends on, before and after its own."""
PAST_S = (PAST_FRAMES * HOP_SIZE + FFT_SIZE / 2) / SAMPLE_RATE
LOOKAHEAD_S = (FUTURE_FRAMES * HOP_SIZE + FFT_SIZE / 2) / SAMPLE_RATE
"""Seconds of sound that an encoder frame depends on: 0.37 before and 0.18 after it."""


@dataclass(frozen=True)
class SpeechEncoding:
    """What the encoder says about every encoder frame."""

    embedding: Tensor  # [B, T, E]
    phone_logits: Tensor  # [B, T, len(PHONES)]
    viseme_logits: Tensor  # [B, T, len(VISEMES)]
    articulation: Tensor  # [B, T, 3] aperture, width, closure (logit): see phones.ARTICULATORS


class ResidualBlock(nn.Module):
    """x + pointwise(gelu(norm(dilated convolution(x)))) on [B, C, T]."""

    def __init__(self, channels: int, reach: Reach) -> None:
        super().__init__()
        self.reach = reach
        self.convolution = nn.Conv1d(channels, channels, KERNEL, dilation=reach.dilation)
        self.norm = nn.BatchNorm1d(channels)
        self.pointwise = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T] -> [B, C, T]; silence (zeros) lies before and after."""
        window = functional.pad(x, (self.reach.past, self.reach.future))
        return x + self.pointwise(functional.gelu(self.norm(self.convolution(window))))


class SpeechEncoder(nn.Module):
    """Two convolutions (the second halves the rate), residual blocks, an embedding, three heads."""

    def __init__(self, channels: int = 224, embedding_size: int = 64) -> None:
        super().__init__()
        self.embedding_size = embedding_size
        self.front = nn.ModuleList(
            [
                nn.Conv1d(MEL_BANDS, channels, KERNEL, padding=KERNEL // 2),
                nn.Conv1d(channels, channels, KERNEL, padding=KERNEL // 2, stride=STRIDE),
            ]
        )
        self.norms = nn.ModuleList([nn.BatchNorm1d(channels) for _ in self.front])
        self.blocks = nn.Sequential(*[ResidualBlock(channels, reach) for reach in BLOCKS])
        self.norm = nn.BatchNorm1d(channels)
        self.embedding = nn.Linear(channels, embedding_size)
        self.embedding_norm = nn.LayerNorm(embedding_size)
        self.phone_anchors = nn.Parameter(torch.empty(len(PHONES), embedding_size).uniform_(-0.17, 0.17))
        self.phone_log_scale = nn.Parameter(torch.tensor(2.5))
        self.viseme_head = nn.Linear(embedding_size, len(VISEMES))
        self.articulation_head = nn.Linear(embedding_size, len(ARTICULATORS))
        self.register_buffer("typical_level", torch.ones(()))
        self.register_buffer("typical_mean", torch.zeros(MEL_BANDS))

    @property
    def typical_speech(self) -> SpeechStatistics:
        """Level and spectrum of the speech it was trained on: where the normalisation of a live stream starts."""
        mean = self.typical_mean.numpy().astype(np.float64)
        return SpeechStatistics(self.typical_level.numpy().astype(np.float64), mean, np.zeros(()))

    def start_from(self, speech: SpeechStatistics) -> None:
        """Sets `typical_speech`."""
        self.typical_level.fill_(float(speech.level))
        self.typical_mean.copy_(torch.from_numpy(speech.mean))

    def forward(self, log_mel: Tensor) -> SpeechEncoding:
        """Encode normalised log-mel frames [B, T, MEL_BANDS] (see `features`); gives ceil(T / STRIDE) frames."""
        x = log_mel.transpose(1, 2)
        for convolution, norm in zip(self.front, self.norms, strict=True):
            x = functional.gelu(norm(convolution(x)))
        x = functional.gelu(self.norm(self.blocks(x)))
        embedding = self.embedding_norm(self.embedding(x.transpose(1, 2)))
        cosine = functional.normalize(embedding, dim=-1) @ functional.normalize(self.phone_anchors, dim=-1).T
        return SpeechEncoding(
            embedding=embedding,
            phone_logits=cosine * self.phone_log_scale.exp(),
            viseme_logits=self.viseme_head(embedding),
            articulation=self.articulation_head(embedding),
        )
