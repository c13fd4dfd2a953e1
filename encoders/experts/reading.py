"""TalkLip's reading expert (Wang et al. 2023, Sec. 3.5-3.6): can what is said be read from rendered lips?

A frozen lip reader is shown a run of real pictures some of which were replaced by rendered ones. Its error (Eq. 4) and
a contrastive term between what is heard and what it sees (Eq. 5-6) go back into the rendered ones.

The formulas are damaged in the text we had; they are read so:

- Eq. 4, L_lip = -Y log P(Y' | V): cross entropy, averaged over the steps whose reading can depend on a rendered
  picture. All others are the same whatever is rendered.
- Eq. 5, theta(x, x') = exp(F(x) . F(x') / tau), "F is a linear layer", "x and x' before and after F are normalized": by
  their Euclidean norm. One layer F for both can be only where audio embeddings and visual features have the same size;
  ours have not, and there is one for each. They are learned with the lips.
- Eq. 6, L_av = -sum over masked i of log(theta(E_i, R_i) / (theta(E_i, R_i) + sum over masked j != i of
  theta(E_i, E_j))): E_i are audio embeddings, R_i visual context features. The negatives are audio embeddings of the
  other masked frames, not their pictures. We take the mean over i, so that its weight means the same in any run. Our
  runs are of one clip and steps of 40 ms; those nearer than NEAR steps sound alike, and are no negatives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders.contrastive.lip_clips import LipClip
from encoders.contrastive.losses import sound_contrast
from encoders.experts.judged import JudgedMouths
from encoders.experts.viseme_reader import VisemeReader, reached, reading_frames, shown
from encoders.experts.viseme_training import LabelledMouths
from encoders.features import SpeechFeatureTrack

NEAR = 3
"""Steps within which two frames are not held to differ: 120 ms, as for the other contrastive losses."""


@dataclass(frozen=True)
class ReadingConfig:
    """What of a reading counts."""

    reading: float = 1.0
    """Weight of the reader's error (Eq. 4)."""
    contrast: float = 0.1
    """Weight of the contrastive term (Eq. 6)."""
    temperature: float = 0.1
    """tau of Eq. 5; the paper does not state its own."""
    size: int = 32
    """Columns that the linear layers F map to."""
    seed: int = 0
    """Initial weights of the linear layers."""


@dataclass(frozen=True)
class JudgedReading:
    """What a frozen reader makes of a run of T pictures."""

    error: Tensor  # scalar: Eq. 4
    context: Tensor  # [T, f]


class LipReader(Protocol):
    """A frozen reader that knows what ought to be read."""

    size: int  # f, columns of the context

    def read(self, judged: JudgedMouths) -> JudgedReading:
        """Reads a run of READING_RATE pictures a second, some of them rendered.

        Args:
            judged: frames are READING_RATE a second, so their numbers may skip or repeat.
        """


class VisemeLipReader(nn.Module):
    """A `VisemeReader` with what a person says in a clip."""

    def __init__(self, network: VisemeReader, clip: LipClip, speech: SpeechFeatureTrack) -> None:
        """
        Args:
            network: is frozen.
            speech: the default encoder's features of the clip's frames, in step with its lips.

        Raises:
            LipClipError: lengths differ, or hardly a face is seen.
        """
        super().__init__()
        self.network, self.size = network.eval().requires_grad_(False), network.size
        self.register_buffer("still", LabelledMouths.of(clip, speech).still)
        self.register_buffer("visemes", torch.tensor(speech.visemes))  # [frames of the clip, len(VISEMES)]

    def read(self, judged: JudgedMouths) -> JudgedReading:
        """See `LipReader`."""
        reading = self.network(shown(judged.mouths, self.still)[None])
        errors = -(self.visemes[judged.frames] * reading.logits[0].log_softmax(dim=-1)).sum(dim=-1)
        return JudgedReading(errors[reached(judged.rendered, self.network.REACH)].mean(), reading.context[0])


class ReadingExpert(nn.Module):
    """Meets `judged.MouthExpert`."""

    def __init__(self, reader: LipReader, fps: Fraction, heard_size: int, config: ReadingConfig) -> None:
        """
        Args:
            fps: of the runs that will be judged.
            heard_size: columns of `JudgedMouths.heard`.
        """
        super().__init__()
        self.reader, self._fps, self._config = reader, fps, config
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(config.seed)
            self.of_sound = nn.Linear(heard_size, config.size)
            self.of_lips = nn.Linear(reader.size, config.size)

    def loss(self, judged: JudgedMouths, generator: torch.Generator) -> Tensor:
        """Weighted sum of Eq. 4 and Eq. 6; zero where nothing that is rendered is read. Nothing in it is random."""
        steps = self._steps(judged)
        if not steps.rendered.any():
            return judged.mouths.new_zeros(())
        reading = self.reader.read(steps)
        masked = steps.rendered.nonzero()[:, 0]
        sounds = _projected(steps.heard[masked], self.of_sound)
        lips = _projected(reading.context[masked], self.of_lips)
        contrast = sound_contrast(sounds, lips, apart(masked), self._config.temperature)
        return self._config.reading * reading.error + self._config.contrast * contrast

    def learned(self) -> Sequence[nn.Parameter]:
        """The linear layers F."""
        return (*self.of_sound.parameters(), *self.of_lips.parameters())

    def learn(self, judged: JudgedMouths) -> None:
        """Nothing: the reader is frozen."""

    def _steps(self, judged: JudgedMouths) -> JudgedMouths:
        """The run at READING_RATE."""
        chosen = reading_frames(len(judged.frames), self._fps)
        tensors = {name: getattr(judged, name)[chosen] for name in ("mouths", "real", "rendered", "heard")}
        return replace(judged, frames=judged.frames[chosen], **tensors)


def apart(steps: Tensor) -> Tensor:
    """bool [n, n]: pairs of steps [n], READING_RATE a second, that may be held to sound different."""
    return (steps[:, None] - steps).abs() >= NEAR


def _projected(x: Tensor, layer: nn.Linear) -> Tensor:
    return functional.normalize(layer(functional.normalize(x, dim=1)), dim=1)
