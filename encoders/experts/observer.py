"""A lip reader that only measures.

TalkLip (Wang et al. 2023, Sec. 4.1) reads its videos with another network than the one they were trained against. Ours
shares no layer with the expert's reader, nor the augmentation, nor the seed: what one overlooks the other need not. It
takes pictures as NumPy arrays of whole numbers, so that no gradient can ever pass through it, and has no loss.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders.contrastive.lip_clips import LipClip
from encoders.contrastive.training import TrainingProgress
from encoders.experts.viseme_reader import Reading
from encoders.experts.viseme_training import (
    LabelledMouths,
    VisemeTraining,
    read_visemes,
    train_visemes,
    viseme_accuracy,
)
from encoders.features import SpeechFeatureTrack
from encoders.phones import VISEMES

OBSERVER_TRAINING = VisemeTraining(steps=200, shift=4, gain=0.25, blur=0.5, noise=0.03, seed=1000)
"""How it is trained: longer, on pictures that are changed more, from another seed."""


class ObserverNetwork(nn.Module):
    """Pictures and their differences in time, projected linearly, and a recurrent network over the whole clip."""

    def __init__(self, size: int = 64, dropout: float = 0.3) -> None:
        super().__init__()
        self.size = size
        self.projection = nn.Linear(2 * 3 * 12 * 24, size)
        self.projection_norm = nn.LayerNorm(size)
        self.gru = nn.GRU(size, size // 2, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(dropout)
        self.visemes = nn.Linear(size, len(VISEMES))

    def forward(self, pictures: Tensor) -> Reading:
        """Reads pictures [B, T, 3, 24, 48], as `shown` gives them."""
        steps = pictures.shape[:2]
        small = functional.avg_pool2d(pictures.flatten(0, 1), 2).flatten(1).unflatten(0, steps)
        changes = functional.pad(small[:, 1:] - small[:, :-1], (0, 0, 1, 0))
        x = self.projection(self.dropout(torch.cat([small, 2 * changes], dim=-1)))
        context, _ = self.gru(functional.relu(self.projection_norm(x)))
        return Reading(context, self.visemes(self.dropout(context)))


@dataclass(frozen=True)
class VisemeObserver:
    """A trained observer."""

    _network: ObserverNetwork = field(repr=False)

    def accuracy(self, mouths: np.ndarray, seen: np.ndarray, speech: SpeechFeatureTrack) -> float:
        """How much of what is heard can be read from lips: `viseme_accuracy`; NaN where no face is seen.

        Args:
            mouths: uint8 [T, LIP_HEIGHT, LIP_WIDTH, 3], cut as those that the observer was trained on.
            seen: bool [T]: frames with a face; the others do not count.
            speech: the default encoder's features of the sound of the same frames.
        """
        if not seen.any():
            return float("nan")
        return viseme_accuracy(self.read(mouths, seen, speech.fps)[seen], speech.visemes.argmax(axis=1)[seen])

    def read(self, mouths: np.ndarray, seen: np.ndarray, fps: Fraction) -> np.ndarray:
        """The likeliest viseme of every frame, int [T]; arguments as for `accuracy`, of which some must be seen."""
        return read_visemes(self._network, mouths, seen, fps)

    def state(self) -> dict[str, Tensor]:
        """The weights, for a file."""
        return self._network.state_dict()


def train_observer(
    clips: Sequence[LipClip], speech: Sequence[SpeechFeatureTrack], config: VisemeTraining = OBSERVER_TRAINING
) -> Generator[TrainingProgress, None, VisemeObserver]:
    """Trains an observer; all frames of the clips are learned from. Arguments and errors as for `train_reader`."""
    people = [LabelledMouths.of(clip, track) for clip, track in zip(clips, speech, strict=True)]
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(config.seed)
        network = ObserverNetwork()
    yield from train_visemes(network, people, config)
    return VisemeObserver(network)
