"""TalkLip's contrastive loss (Wang et al. 2023, Sec. 3.6, Eq. 5-6) between its audio encoders and what lips look like.

In the paper the visual features R are the context of a lip-reading expert that is frozen, and the embeddings E are
trained for a generator beside. A person's clip has neither: here a lip encoder (SE4Lip's Table 2, five pictures) stands
in for the expert's context and is trained jointly. It cannot collapse to what suits E, since wrong pairs are pairs of
sounds, which must differ whatever the lips do. A batch of windows stands for the masked frames.

Eq. 5 needs one linear layer F for both, so both embeddings have one size. tau is not stated; 0.07 is that of the loss
which the paper follows (Khosla et al. 2020).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders.contrastive.losses import pair_accuracy, sound_contrast
from encoders.contrastive.se4lip import TALKLIP_NETWORKS, EncoderConfig, Method, SE4Lip, StepResult
from encoders.contrastive.speech_paths import SpeechNetwork, SpeechPath
from encoders.contrastive.talklip_paths import TRANSFORMER_LAYERS, TRANSFORMER_SIZE
from encoders.contrastive.windows import WindowBatch

TEMPERATURE = 0.07
PAPER_CONFIGS = {
    "local": EncoderConfig("local", "local"),
    "global": EncoderConfig("global", "global", TRANSFORMER_LAYERS, TRANSFORMER_SIZE),
}
"""By the name of the network."""
OWN_CONFIGS = {
    "local": EncoderConfig("local", "local", size=64),
    "global": EncoderConfig("global", "global", layers=2, size=48),
}
"""Small enough for one person's clip..."""
OWN_STEPS, OWN_RATE = 400, 1e-3
"""...which takes so many batches, at this learning rate of Adam."""


class MiddleState(nn.Module):
    """A window's embedding is the state in its middle."""

    def __init__(self, path: SpeechPath) -> None:
        super().__init__()
        self.path = path

    def forward(self, sounds: Tensor) -> Tensor:
        """[B, size] for windows of rows [B, W, inputs]."""
        states = self.path.states(sounds)
        return states[:, states.shape[1] // 2]


class TalkLip(SE4Lip):
    """Local or global audio embeddings and lips, drawn together by Eq. 6."""

    method: Method = "talklip"
    networks: ClassVar[tuple[SpeechNetwork, ...]] = TALKLIP_NETWORKS

    def __init__(self, inputs: int, network: SpeechNetwork, layers: int, size: int) -> None:
        super().__init__(inputs, network, layers, size)
        self.speech = MiddleState(self.speech.path)
        self.projection = nn.Linear(size, size)

    def alike(self, speech: Tensor, lips: Tensor) -> Tensor:
        """Eq. 5 before its exponential, without the temperature: [A, B] in [-1, 1]."""
        return self._projected(speech) @ self._projected(lips).T

    def step(self, batch: WindowBatch, generator: torch.Generator) -> StepResult:
        """Eq. 6, the mean over the batch. Dropout is drawn from `generator`."""
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
            speech, lips = self.embed_speech(batch.sounds), self.embed_lips(batch.lips)
        sounds, pictures = self._projected(speech), self._projected(lips)
        loss = sound_contrast(sounds, pictures, batch.shifted, TEMPERATURE)
        return StepResult(loss, pair_accuracy(sounds @ pictures.T, batch.shifted))

    def _projected(self, x: Tensor) -> Tensor:
        """F, with the norms before and after it taken out."""
        return functional.normalize(self.projection(functional.normalize(x, dim=-1)), dim=-1)
