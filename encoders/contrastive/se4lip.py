"""SE4Lip (Huang et al. 2025, Sec. 4): a speech and a lip encoder whose embeddings meet where sound and lips do.

The paper's: both encoders, the window of five frames, the loss (Eq. 5, 6), the spectrogram, the variants of Table 6.
Ours: what the paper leaves open, named where it is done (`speech_inputs`, `lip_encoder`, `speech_paths`, `losses`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from encoders.contrastive.lip_encoder import PAPER_SIZE, LipEncoder, stacked_pictures
from encoders.contrastive.losses import contrastive_loss, cosines, pair_accuracy
from encoders.contrastive.speech_inputs import SPECTROGRAMS, Spectrogram
from encoders.contrastive.speech_paths import PAPER_GRU_LAYERS, SpeechNetwork, SpeechSide, speech_path
from encoders.contrastive.talklip_paths import TRANSFORMER_HEADS
from encoders.contrastive.windows import WindowBatch

Method = Literal["se4lip", "pase", "talklip"]
TALKLIP_NETWORKS: tuple[SpeechNetwork, ...] = ("local", "global")


@dataclass(frozen=True)
class EncoderConfig:
    """What an encoder is built of; the defaults are SE4Lip's. Table 6 varies the first two."""

    spectrogram: Spectrogram = "stft"
    """What the speech side sees: 257 linear frequency bins, or 80 mel bands; TalkLip's networks have one each."""
    network: SpeechNetwork = "gru"
    """The speech side itself."""
    layers: int = PAPER_GRU_LAYERS
    """Layers of the GRU, or of the transformer."""
    size: int = PAPER_SIZE
    """Columns of the embedding; the lip encoder's width follows it. A multiple of 16; of the transformer, of 48."""

    def __post_init__(self) -> None:
        for name, value, known in (
            ("spectrogram", self.spectrogram, get_args(Spectrogram)),
            ("network", self.network, get_args(SpeechNetwork)),
        ):
            if value not in known:
                raise ValueError(f"expected {name} to be one of {', '.join(known)}, got {value!r}")
        if self.layers < 1 or self.size < 16 or self.size % 16:
            raise ValueError(f"expected a layer or more and a size of 16, 32, ..., got {self.layers} and {self.size}")
        if self.network == "global" and self.size % TRANSFORMER_HEADS:
            raise ValueError(f"expected a size that {TRANSFORMER_HEADS} heads can share, got {self.size}")
        if self.network != self.spectrogram and {self.network, self.spectrogram} & set(TALKLIP_NETWORKS):
            raise ValueError(f"the network {self.network} does not take the spectrogram {self.spectrogram}")


@dataclass(frozen=True)
class StepResult:
    """What a batch costs, and how well it is told apart."""

    loss: Tensor  # scalar
    accuracy: float  # of pairs, see `losses.pair_accuracy`


class SE4Lip(nn.Module):
    """Sounds and lips to embeddings of one space; no entry is negative."""

    method: Method = "se4lip"
    networks: ClassVar[tuple[SpeechNetwork, ...]] = ("gru", "cnn")

    def __init__(self, inputs: int, network: SpeechNetwork, layers: int, size: int) -> None:
        """inputs: columns of the rows that the speech side takes."""
        super().__init__()
        self.size = size
        self.speech = SpeechSide(speech_path(network, inputs, size, layers))
        self.lips = LipEncoder(size)

    @classmethod
    def build(cls, config: EncoderConfig) -> SE4Lip:
        """The encoder on spectrograms.

        Raises:
            ValueError: the method has another network.
        """
        if config.network not in cls.networks:
            raise ValueError(f"{cls.method} takes {' or '.join(cls.networks)}, not {config.network}")
        return cls(SPECTROGRAMS[config.spectrogram].size, config.network, config.layers, config.size)

    def embed_speech(self, sounds: Tensor) -> Tensor:
        """[B, size] for windows of rows [B, W, inputs]."""
        return self.speech(sounds)

    def embed_lips(self, lips: Tensor) -> Tensor:
        """[B, size] for uint8 pictures [B, LIP_FRAMES, LIP_HEIGHT, LIP_WIDTH, 3]."""
        return self.lips(stacked_pictures(lips))

    def alike(self, speech: Tensor, lips: Tensor) -> Tensor:
        """How alike all pairs of embeddings [A, size] and [B, size] are: cosines [A, B]."""
        return cosines(speech, lips)

    def step(self, batch: WindowBatch, generator: torch.Generator) -> StepResult:
        """The loss of a batch. `generator` (on the CPU) is what anything random is drawn from; here nothing is."""
        cosine = self.alike(self.embed_speech(batch.sounds), self.embed_lips(batch.lips))
        return StepResult(contrastive_loss(cosine, batch.shifted), pair_accuracy(cosine, batch.shifted))
