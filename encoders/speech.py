"""The embedded speech encoder: log-mel -> 64-d embedding, with phone, viseme and articulatory heads.

The audio path is SE4Lip's (Huang et al. 2025, Table 6, "Mel + GRU") behind a convolutional front end, and the phone
head follows PASE's idea of phoneme embeddings as anchors. Depth, width and heads are ours: the network is trained on
synthetic speech with known phone timing, so that it needs neither video nor a fetched model.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders.phones import ARTICULATORS, PHONES, VISEMES
from encoders.spectrogram import HOP_SIZE, MEL_BANDS, SAMPLE_RATE

STRIDE = 2
"""Spectrogram frames per encoder frame."""
FRAME_RATE = SAMPLE_RATE / (HOP_SIZE * STRIDE)
"""Encoder frames per second (62.5). Frame j is centred on sample j * HOP_SIZE * STRIDE."""


@dataclass(frozen=True)
class SpeechEncoding:
    """What the encoder says about every encoder frame."""

    embedding: Tensor  # [B, T, E]
    phone_logits: Tensor  # [B, T, len(PHONES)]
    viseme_logits: Tensor  # [B, T, len(VISEMES)]
    articulation: Tensor  # [B, T, 3] aperture, width, closure (logit): see phones.ARTICULATORS


class SpeechEncoder(nn.Module):
    """Three convolutions (the second halves the rate), two bidirectional GRU layers, an embedding, three heads."""

    def __init__(self, channels: int = 160, hidden: int = 128, embedding_size: int = 64) -> None:
        super().__init__()
        self.embedding_size = embedding_size
        self.convolutions = nn.ModuleList(
            [
                nn.Conv1d(MEL_BANDS, channels, 5, padding=2),
                nn.Conv1d(channels, channels, 5, padding=2, stride=STRIDE),
                nn.Conv1d(channels, channels, 5, padding=2),
            ]
        )
        self.norms = nn.ModuleList([nn.BatchNorm1d(channels) for _ in self.convolutions])
        self.recurrent = nn.GRU(channels, hidden, num_layers=2, batch_first=True, bidirectional=True, dropout=0.1)
        self.embedding = nn.Linear(2 * hidden, embedding_size)
        self.embedding_norm = nn.LayerNorm(embedding_size)
        self.phone_anchors = nn.Parameter(0.1 * torch.randn(len(PHONES), embedding_size))
        self.phone_log_scale = nn.Parameter(torch.tensor(2.5))
        self.viseme_head = nn.Linear(embedding_size, len(VISEMES))
        self.articulation_head = nn.Linear(embedding_size, len(ARTICULATORS))

    def forward(self, log_mel: Tensor) -> SpeechEncoding:
        """Encode normalised log-mel frames [B, T, MEL_BANDS] (see `features`); gives ceil(T / STRIDE) frames."""
        x = log_mel.transpose(1, 2)
        for index, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            y = functional.gelu(norm(convolution(x)))
            x = x + y if index == 2 else y
        hidden, _ = self.recurrent(x.transpose(1, 2))
        embedding = self.embedding_norm(self.embedding(hidden))
        cosine = functional.normalize(embedding, dim=-1) @ functional.normalize(self.phone_anchors, dim=-1).T
        return SpeechEncoding(
            embedding=embedding,
            phone_logits=cosine * self.phone_log_scale.exp(),
            viseme_logits=self.viseme_head(embedding),
            articulation=self.articulation_head(embedding),
        )
