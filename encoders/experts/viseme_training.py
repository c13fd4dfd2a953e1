"""Training lip readers on the visemes that the embedded encoder hears: a generator of progress.

A network is shown runs of real pictures that are moved, mirrored, relit, blurred and made noisy, so that a rendered
mouth, which is softer and never quite in place, does not look foreign to it.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders.contrastive.lip_clips import LipClip
from encoders.contrastive.training import TrainingProgress
from encoders.errors import LipClipError
from encoders.experts.viseme_reader import CONTRAST, Reading, VisemeReader, reading_frames, shown
from encoders.features import SpeechFeatureTrack
from encoders.phones import VISEMES

SILENCE = list(VISEMES).index("silence")
RUN = 32
"""Pictures of a run, 1.3 seconds."""
LEAST_SEEN = 50
"""Pictures of a face that a network is trained on at least: two seconds."""


@dataclass(frozen=True)
class VisemeTraining:
    """How a lip reader is trained."""

    steps: int = 150
    """Batches."""
    runs: int = 6
    """Runs of pictures in a batch."""
    learning_rate: float = 2e-3
    """Of AdamW, at its highest: it rises and falls in one cycle."""
    balance: float = 0.5
    """A viseme's weight falls with this power of how often it is heard."""
    shift: int = 3
    """Pictures are moved by up to so many px."""
    gain: float = 0.15
    """Largest change of a colour's brightness, relative."""
    blur: float = 0.3
    """Share of the runs that are blurred."""
    noise: float = 0.02
    """Standard deviation of what is added to pictures."""
    seed: int = 0
    """Initial weights, and everything else random."""


@dataclass(frozen=True)
class LabelledMouths:
    """n pictures of a person's lower face, READING_RATE a second, and what is heard with them."""

    mouths: Tensor  # uint8 [n, 3, LIP_HEIGHT, LIP_WIDTH]
    seen: Tensor  # bool [n]
    visemes: Tensor  # float32 [n, len(VISEMES)] probabilities
    still: Tensor  # float32 [3, LIP_HEIGHT, LIP_WIDTH] the mean of the seen pictures, in [0, 1]

    @classmethod
    def of(cls, clip: LipClip, speech: SpeechFeatureTrack) -> LabelledMouths:
        """
        Raises:
            LipClipError: lengths differ, or hardly a face is seen.
        """
        if len(clip) != len(speech):
            raise LipClipError(f"expected features of the {len(clip)} frames of {clip.name}, got {len(speech)}")
        frames = reading_frames(len(clip), clip.fps)
        mouths, seen = torch.from_numpy(clip.mouths[frames]).permute(0, 3, 1, 2), torch.from_numpy(clip.seen[frames])
        if seen.sum() < LEAST_SEEN:
            raise LipClipError(
                f"a lip reader needs {LEAST_SEEN} pictures of a face, 25 a second, and {clip.name} has "
                f"{int(seen.sum())}: give a longer clip"
            )
        visemes = torch.from_numpy(np.ascontiguousarray(speech.visemes[frames], np.float32))
        return cls(mouths, seen, visemes, mean_picture(mouths[seen]))

    def __len__(self) -> int:
        return len(self.mouths)


def mean_picture(mouths: Tensor) -> Tensor:
    """float32 [3, H, W] in [0, 1] of pictures uint8 [n, 3, H, W]."""
    return sum((part.float().mean(0) * len(part) for part in mouths.split(256)), torch.zeros(())) / (255 * len(mouths))


def train_visemes(
    network: nn.Module, people: Sequence[LabelledMouths], config: VisemeTraining
) -> Generator[TrainingProgress, None, None]:
    """Trains a network in place, that takes what `shown` gives and returns a `Reading`; then freezes it.

    Yields:
        Progress; its accuracy is the share of the batch's pictures whose likeliest viseme is found.
    """
    network.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(network.parameters(), config.learning_rate)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=max(2, config.steps))
    weights = _class_weights(people, config.balance)
    for step in range(config.steps):
        generator = torch.Generator().manual_seed(int(np.random.default_rng([config.seed, step]).integers(2**62)))
        pictures, visemes, seen = _batch(people, config, generator)
        with torch.random.fork_rng(devices=()):  # dropout
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            reading: Reading = network(pictures)
        losses = -(visemes * weights * reading.logits.log_softmax(dim=-1)).sum(dim=-1)
        loss = losses[seen].mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        cycle.step()
        right = (reading.logits.argmax(dim=-1) == visemes.argmax(dim=-1))[seen]
        yield TrainingProgress(step + 1, config.steps, loss.item(), right.float().mean().item())
    network.eval().requires_grad_(False)


def train_reader(
    clips: Sequence[LipClip], speech: Sequence[SpeechFeatureTrack], config: VisemeTraining
) -> Generator[TrainingProgress, None, VisemeReader]:
    """Trains the expert's reader; all frames of the clips are learned from.

    Args:
        speech: the default encoder's features of the clips' frames, in step with the lips.

    Returns:
        The reader, frozen (the generator's value).

    Raises:
        LipClipError: see `LabelledMouths.of`.
    """
    people = [LabelledMouths.of(clip, track) for clip, track in zip(clips, speech, strict=True)]
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(config.seed)
        reader = VisemeReader()
    yield from train_visemes(reader, people, config)
    return reader


@torch.inference_mode()
def read_visemes(network: nn.Module, mouths: np.ndarray, seen: np.ndarray, fps: Fraction) -> np.ndarray:
    """The likeliest viseme of every frame, int [T].

    Args:
        mouths: uint8 [T, LIP_HEIGHT, LIP_WIDTH, 3]; the still face is the mean of those that are `seen` [T].
    """
    pictures = torch.from_numpy(mouths).permute(0, 3, 1, 2)
    still = mean_picture(pictures[torch.from_numpy(seen)])
    frames = reading_frames(len(mouths), fps)
    logits = network(shown(pictures[frames] / 255, still)[None]).logits[0]
    nearest = np.abs(frames[:, None] - np.arange(len(mouths))).argmin(axis=0)
    return logits.argmax(dim=-1).numpy()[nearest]


def viseme_accuracy(read: np.ndarray, said: np.ndarray) -> float:
    """Share of frames whose viseme is found, the mean over the visemes that occur; NaN where nothing is said.

    Guessing gives one by their number. Frames of silence do not count: lips may do anything in a pause.

    Args:
        read, said: int [T].
    """
    spoken = [viseme for viseme in np.unique(said) if viseme != SILENCE]
    if not spoken:
        return float("nan")
    return float(np.mean([(read[said == viseme] == viseme).mean() for viseme in spoken]))


@dataclass(frozen=True)
class HeldOutReading:
    """How well a network reads pictures of real lips that it was not trained on, and what guessing would give."""

    accuracy: float  # `viseme_accuracy`
    guessing: float  # the same when one viseme is named throughout, or any at random
    frames_right: float  # share of the frames outside silence whose viseme is found
    commonest: float  # share of those frames that have the commonest viseme
    frames: int  # their number


def held_out_reading(read: np.ndarray, said: np.ndarray) -> HeldOutReading | None:
    """The figures of frames, int [T] each; None where nothing is said."""
    spoken = said != SILENCE
    read, said = read[spoken], said[spoken]
    if not len(said):
        return None
    counts = np.bincount(said)
    return HeldOutReading(
        accuracy=viseme_accuracy(read, said),
        guessing=1 / int((counts > 0).sum()),
        frames_right=float((read == said).mean()),
        commonest=float(counts.max() / len(said)),
        frames=len(said),
    )


def _class_weights(people: Sequence[LabelledMouths], balance: float) -> Tensor:
    """[len(VISEMES)] with a mean of one over what is heard."""
    heard = torch.cat([person.visemes[person.seen] for person in people]).mean(dim=0)
    weights = heard.clamp(min=1e-3) ** -balance
    return weights / (weights * heard).sum()


def _batch(
    people: Sequence[LabelledMouths], config: VisemeTraining, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures [runs, RUN, ...] as `shown` gives them, visemes, and where a face is seen; a person's share grows with
    the length of their clip. A clip that is shorter than a run is filled up with unseen pictures."""
    lengths = torch.tensor([float(len(person)) for person in people])
    runs = []
    for index in torch.multinomial(lengths, config.runs, True, generator=generator).tolist():
        person = people[index]
        start = int(torch.randint(max(1, len(person) - RUN + 1), (), generator=generator))
        part = slice(start, start + RUN)
        pictures = _augmented(person.mouths[part], person.still, config, generator)
        pictures = pictures * person.seen[part, None, None, None]
        runs.append((pictures, person.visemes[part], person.seen[part]))
    return tuple(torch.stack([_filled(run) for run in column]) for column in zip(*runs, strict=True))


def _filled(run: Tensor) -> Tensor:
    return torch.cat([run, run.new_zeros(RUN - len(run), *run.shape[1:])])


def _augmented(mouths: Tensor, still: Tensor, config: VisemeTraining, generator: torch.Generator) -> Tensor:
    """A run uint8 [T, 3, H, W], changed alike in all pictures and in the still face, as `shown` gives it."""

    def chance(share: float) -> bool:
        return float(torch.rand((), generator=generator)) < share

    if chance(0.5):
        mouths, still = mouths.flip(-1), still.flip(-1)
    shift = torch.randint(-config.shift, config.shift + 1, (2,), generator=generator).tolist()
    pictures = shown(mouths.roll(shift, (-2, -1)) / 255, still.roll(shift, (-2, -1)))
    pictures = pictures * (1 + config.gain * (2 * torch.rand(3, 1, 1, generator=generator) - 1))
    if chance(config.blur):
        pictures = functional.avg_pool2d(functional.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return pictures + CONTRAST * config.noise * torch.randn(pictures.shape, generator=generator)
