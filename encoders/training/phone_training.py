"""Training of the embedded encoder: phones, visemes and articulation of synthetic speech, from augmented crops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, IterableDataset

from encoders.bundle import with_prefix
from encoders.corpus.recording import VoiceRecordings
from encoders.normalisation import SpeechStatistics
from encoders.phones import PHONES, VISEME_OF_PHONE
from encoders.spectrogram import SAMPLE_RATE, mel_filter_bank, mel_power_blocks
from encoders.speech import SpeechEncoder, SpeechEncoding
from encoders.training.augmentation import AugmentationConfig, Augmenter, TrainingBatch

FORMANT_ENGINE = "espeak-ng"
_TYPICAL_S = 30.0
_VISEME_OF = torch.tensor(VISEME_OF_PHONE)


@dataclass(frozen=True)
class PhoneTrainingConfig:
    """How the embedded encoder is trained."""

    steps: int = 8000
    """Batches; each holds batch_size crops of 4 s."""
    batch_size: int = 24
    learning_rate: float = 2.5e-3
    """Of AdamW at its highest; it rises over warm_up steps and falls along a half cosine."""
    warm_up: int = 100
    weight_decay: float = 1e-2
    averaging: float = 0.998
    """Decay of the running average of the weights, which is what is kept."""
    label_smoothing: float = 0.05
    rarity: float = 0.35
    """Exponent with which rare phones weigh more than frequent ones."""
    viseme: float = 0.7
    articulation: float = 3.0
    closure: float = 0.7
    """Weights of the heads' losses; the phone head's is 1."""
    formant_share: float = 0.3
    """Share of the crops that espeak-ng speaks: it has the languages, the others have the voices."""
    seed: int = 0
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)


@dataclass(frozen=True)
class PhoneTrainingProgress:
    """After a step."""

    step: int
    steps: int
    loss: float
    phone_accuracy: float


class PhoneTrainer:
    """Trains on the voices that are not held out; the same seed on the same machine gives the same weights."""

    def __init__(self, voices: Sequence[VoiceRecordings], config: PhoneTrainingConfig | None = None) -> None:
        self.config = config or PhoneTrainingConfig()
        self.voices = [voice for voice in voices if not voice.held_out]
        self.shares = voice_shares(self.voices, self.config.formant_share)
        torch.manual_seed(self.config.seed)
        self.encoder = SpeechEncoder()
        self.encoder.start_from(typical_speech(self.voices))
        self.average = AveragedModel(
            self.encoder, multi_avg_fn=get_ema_multi_avg_fn(self.config.averaging), use_buffers=True
        )
        self.optimiser = torch.optim.AdamW(
            self.encoder.parameters(), self.config.learning_rate, weight_decay=self.config.weight_decay
        )
        self.criterion = EncodingLoss(self.voices, self.shares, self.config)
        self.step = 0

    def run(self) -> Iterator[PhoneTrainingProgress]:
        """Takes the steps that are left."""
        config = self.config
        seed = np.random.SeedSequence([config.seed, self.step]).generate_state(1)[0]
        augmenter = Augmenter(self.voices, self.shares, config.batch_size, int(seed), config.augmentation)
        batches = iter(DataLoader(_Batches(augmenter), batch_size=None, num_workers=1, prefetch_factor=4))
        self.encoder.train()
        while self.step < config.steps:
            yield self._take_step(TrainingBatch(*next(batches)))

    def _take_step(self, batch: TrainingBatch) -> PhoneTrainingProgress:
        config = self.config
        for group in self.optimiser.param_groups:
            group["lr"] = config.learning_rate * learning_rate_share(self.step, config.steps, config.warm_up)
        with torch.autocast("cpu", torch.bfloat16):
            encoding = self.encoder(batch.log_mel)
        loss = self.criterion(encoding, batch)
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.encoder.parameters(), 1.0)
        self.optimiser.step()
        self.average.update_parameters(self.encoder)
        self.step += 1
        accuracy = (encoding.phone_logits.argmax(dim=-1) == batch.phones).float().mean()
        return PhoneTrainingProgress(self.step, config.steps, loss.item(), accuracy.item())

    def result(self) -> SpeechEncoder:
        """The averaged weights, in evaluation mode."""
        return self.average.module.eval()

    def save(self, path: Path) -> None:
        """Writes a state that `restore` goes on from."""
        tensors = {f"average.{name}": tensor for name, tensor in self.average.state_dict().items()}
        tensors |= {f"encoder.{name}": tensor for name, tensor in self.encoder.state_dict().items()}
        names = [name for name, _ in self.encoder.named_parameters()]
        for index, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{names[index]}.{key}": value for key, value in state.items()}
        tensors["step"] = torch.tensor(self.step)
        temporary = path.with_suffix(".part")
        save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, temporary)
        temporary.replace(path)

    def restore(self, path: Path) -> None:
        """Goes on from `save`d state; the crops that follow are new ones."""
        tensors = load_file(path)
        self.step = int(tensors.pop("step"))
        self.average.load_state_dict(with_prefix(tensors, "average."))
        self.encoder.load_state_dict(with_prefix(tensors, "encoder."))
        state = {
            index: with_prefix(tensors, f"optimiser.{name}.")
            for index, (name, _) in enumerate(self.encoder.named_parameters())
        }
        self.optimiser.load_state_dict(self.optimiser.state_dict() | {"state": state})


class EncodingLoss(nn.Module):
    """Cross entropy of phones and visemes, rare ones weighing more, and the distance to the articulatory targets."""

    def __init__(self, voices: Sequence[VoiceRecordings], shares: np.ndarray, config: PhoneTrainingConfig) -> None:
        super().__init__()
        self.config = config
        phones = sum(
            share * np.bincount(voice.phones, minlength=len(PHONES)) / len(voice.phones)
            for voice, share in zip(voices, shares, strict=True)
        )
        visemes = np.bincount(_VISEME_OF.numpy(), phones)
        self.register_buffer("phone_weights", _rarity_weights(phones, config.rarity))
        self.register_buffer("viseme_weights", _rarity_weights(visemes, config.rarity))

    def forward(self, encoding: SpeechEncoding, batch: TrainingBatch) -> Tensor:
        """The weighted sum of the heads' losses."""
        config = self.config
        phones = batch.phones.flatten()
        entropy = {"label_smoothing": config.label_smoothing}
        phone = functional.cross_entropy(
            encoding.phone_logits.float().flatten(0, 1), phones, self.phone_weights, **entropy
        )
        viseme = functional.cross_entropy(
            encoding.viseme_logits.float().flatten(0, 1), _VISEME_OF[phones], self.viseme_weights, **entropy
        )
        articulation = encoding.articulation.float()
        lips = functional.smooth_l1_loss(articulation[..., :2], batch.articulation[..., :2], beta=0.1)
        closure = functional.binary_cross_entropy_with_logits(articulation[..., 2], batch.articulation[..., 2])
        return phone + config.viseme * viseme + config.articulation * lips + config.closure * closure


class _Batches(IterableDataset):
    def __init__(self, augmenter: Augmenter) -> None:
        self.augmenter = augmenter

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        torch.set_num_threads(1)
        for batch in self.augmenter:
            yield batch.log_mel, batch.phones, batch.articulation


def typical_speech(voices: Sequence[VoiceRecordings]) -> SpeechStatistics:
    """Level and spectrum of the mean voice, from the first seconds of each."""
    filters = mel_filter_bank()
    heard = []
    for voice in voices:
        samples = voice.samples[: round(_TYPICAL_S * SAMPLE_RATE)].astype(np.float32) / 32768.0
        heard.append(SpeechStatistics.of(np.concatenate(list(mel_power_blocks([samples], filters)))))
    return SpeechStatistics(
        level=np.exp(np.mean([np.log(one.level) for one in heard])),
        mean=np.mean([one.mean for one in heard], axis=0),
        weight=np.zeros(()),
    )


def voice_shares(voices: Sequence[VoiceRecordings], formant_share: float) -> np.ndarray:
    """Probability [V] of each voice: by the square root of its length, so that no long voice drowns the others."""
    shares = np.sqrt([len(voice.phones) for voice in voices])
    formant = np.array([voice.engine == FORMANT_ENGINE for voice in voices])
    if formant.any() and not formant.all():
        shares[formant] *= formant_share / shares[formant].sum()
        shares[~formant] *= (1.0 - formant_share) / shares[~formant].sum()
    return shares / shares.sum()


def learning_rate_share(step: int, steps: int, warm_up: int) -> float:
    """Share of the highest learning rate: a linear rise, then a half cosine down to 1 %."""
    return min(1.0, (step + 1) / warm_up) * (0.01 + 0.99 * 0.5 * (1.0 + np.cos(np.pi * step / steps)))


def _rarity_weights(frequencies: np.ndarray, exponent: float) -> Tensor:
    weights = np.maximum(frequencies, 0.004) ** -exponent
    return torch.from_numpy((weights / weights.mean()).astype(np.float32))
