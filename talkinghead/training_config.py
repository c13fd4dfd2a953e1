"""What a user may choose of the training of speech encoders and lip readers. See `talkinghead.config`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from talkinghead.config import LARGEST_HOLDOUT, require
from tools.errors import UserError


@dataclass(frozen=True)
class TrainEncoderConfig:
    """How a speech encoder is trained."""

    method: Literal["phones", "se4lip", "pase", "talklip", "lip-prior", "reader", "observer"] = "phones"
    """What to train: phones, the embedded encoder, on speech that this machine's synthesisers speak; se4lip, pase or
    talklip, on the lips in videos; lip-prior, the small map from what the embedded encoder hears to anybody's lips;
    reader, a lip reader for `fit --reader`, or observer, one that measures for `evaluate --observer`, on videos."""
    steps: int | None = None
    """Batches; by default 8000 (phones), 20000 (se4lip, pase, talklip), or some hundred for each video (reader,
    observer)."""
    seed: int = 0
    """Everything random follows from it."""
    holdout: float = 0.2
    """Share of every video, at its end, that is not learned from but measured on: 0 to 0.5."""
    spectrogram: Literal["stft", "mel"] = "stft"
    """What SE4Lip and PASE hear: 257 linear bins as in the paper, or 80 mel bands."""
    network: Literal["gru", "cnn", "local", "global"] = "gru"
    """How they hear it: the paper's recurrent network, or a convolutional one; TalkLip: local, which hears 0.2 s, or
    global, a transformer."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where SE4Lip, PASE and TalkLip are trained."""

    def __post_init__(self) -> None:
        require("--holdout", self.holdout, 0, LARGEST_HOLDOUT)
        require("--seed", self.seed, 0, None)
        if self.steps is not None:
            require("--steps", self.steps, 1, None)
        if (self.method == "talklip") != (self.network in ("local", "global")):
            raise UserError(
                "--method talklip takes --network local or global, and no other method does, "
                f"got {self.method} with {self.network}"
            )


@dataclass(frozen=True)
class AblationConfig:
    """How the variants of SE4Lip's Table 6 are trained, all alike."""

    steps: int = 300
    """Batches of each variant; the paper trains far longer."""
    seed: int = 0
    """Everything random follows from it."""
    holdout: float = 0.2
    """Share of every video, at its end, that is measured on: 0.05 to 0.5."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where to train."""

    def __post_init__(self) -> None:
        require("--steps", self.steps, 1, None)
        require("--seed", self.seed, 0, None)
        require("--holdout", self.holdout, 0.05, LARGEST_HOLDOUT)
