"""Speech2Lip's sync expert (Wu et al. 2023, Sec. 4.4, Eq. 6): do rendered lips belong to what is heard?

The paper's: two encoders that are trained beforehand and frozen score windows of pictures and sound by their cosine,
and a contrastive loss draws windows to the sound of their own moment and away from that of others, since with a short
video the first alone has a trivial solution.

Ours: the encoders are SE4Lip's, trained on the person's own clip (`encoders.contrastive.own_clip`), on windows of five
pictures. Eq. 6 itself is lost in the text we had. What is said of it, "the cosine similarity metric", "positive and
negative speech-image pairs", "for the input speech, the positive images are the matched images at the same timestamp
while the negative images are randomly chosen at some timestamps else", is taken for InfoNCE (van den Oord et al. 2018)
with the speech as anchor, the rendered window as positive, and windows of the clip's own pictures as negatives. Those
have no gradient: they say how much a window that is already right still counts. The reverse, a rendered window among
sounds of other moments, would also push it away from those. It was tried: its gradients point no nearer to the real
pictures (docs/experts.md), so the paper's words stand.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders.contrastive.lip_clips import LipClip, picture_indices
from encoders.contrastive.losses import cosines
from encoders.contrastive.own_clip import OwnPair, train_on_own_clip
from encoders.contrastive.speech_inputs import windows_at_frames
from encoders.contrastive.speech_paths import embedded
from encoders.contrastive.training import ContrastiveTraining, TrainingProgress
from encoders.contrastive.windows import MINIMUM_SHIFT_S
from encoders.experts.judged import JudgedMouths
from encoders.features import SpeechFeatureTrack

TEMPERATURE = 0.1
"""By which cosines are divided; the paper's is not known."""
NEGATIVES = 64
"""Windows of the clip that every rendered one stands beside."""
MOST_WINDOWS = 8
"""Windows of a run that are scored."""
BATCH = 64


@dataclass(frozen=True)
class SyncConfig:
    """How the expert is trained."""

    size: int = 64
    """Columns of the joint space; the lip encoder's width follows it."""
    steps: int = 100
    """Batches of sounds and lips."""
    learning_rate: float = 5e-3
    """Of Adam."""
    seed: int = 0
    """Initial weights and batches."""


class SyncExpert:
    """Meets `encoders.experts.judged.MouthExpert`; frozen, nothing of it is ever learned."""

    def __init__(self, pair: OwnPair) -> None:
        windows = pair.windows
        self.lips = pair.model.lips
        self._fps = windows.clip.fps
        every = windows_at_frames(windows.rows, np.arange(len(windows.clip)), self._fps, windows.timing)
        self._heard = torch.from_numpy(embedded(pair.model.speech, every))  # [T, E] what is heard at every frame
        self._moments = torch.from_numpy(windows.frames)  # [N] that negatives are drawn from
        self._shown = embedded_lips(pair)  # [N, E] what is seen then

    def loss(self, judged: JudgedMouths, generator: torch.Generator) -> Tensor:
        """InfoNCE of windows that are wholly rendered, MOST_WINDOWS at most; zero if there is none."""
        pictures, frames = rendered_windows(judged, self._fps)
        if not len(frames):
            return judged.mouths.new_zeros(())
        chosen = torch.randperm(len(frames), generator=generator)[:MOST_WINDOWS]
        pictures, frames = pictures[chosen], frames[chosen]
        lips = self.lips(judged.mouths[pictures].flatten(1, 2))
        drawn = torch.randperm(len(self._moments), generator=generator)[:NEGATIVES]
        heard, others = self._heard[frames].to(lips), self._shown[drawn].to(lips)
        right, wrong = cosines(heard, lips).diagonal(), cosines(heard, others)
        near = (frames[:, None] - self._moments[drawn]).abs() < MINIMUM_SHIFT_S * float(self._fps) - 1e-6
        logits = torch.cat([right[:, None], wrong.masked_fill(near.to(wrong.device), -torch.inf)], dim=1) / TEMPERATURE
        return functional.cross_entropy(logits, torch.zeros(len(frames), dtype=torch.long, device=logits.device))

    def learned(self) -> Sequence[nn.Parameter]:
        """Nothing."""
        return ()

    def learn(self, judged: JudgedMouths) -> None:
        """Nothing."""


@torch.inference_mode()
def embedded_lips(pair: OwnPair) -> Tensor:
    """[N, E] what is seen around the frames of the pair's windows."""
    parts = np.array_split(pair.windows.frames, math.ceil(len(pair.windows.frames) / BATCH))
    return torch.cat([pair.model.embed_lips(pair.windows.lips(part)) for part in parts])


def rendered_windows(judged: JudgedMouths, fps: Fraction) -> tuple[Tensor, Tensor]:
    """The windows of LIP_FRAMES pictures all of which are rendered.

    Returns:
        Places [n, LIP_FRAMES] of the pictures in the run, and the numbers [n] of the frames around which they lie.
    """
    count = len(judged.frames)
    places = picture_indices(np.arange(count), fps)
    inside = (places[:, 0] >= 0) & (places[:, -1] < count)
    rendered = judged.rendered.cpu().numpy()
    whole = inside & rendered[np.clip(places, 0, count - 1)].all(axis=1)
    return torch.from_numpy(places[whole]), torch.from_numpy(judged.frames[whole])


def train_sync_expert(
    clip: LipClip, speech: SpeechFeatureTrack, config: SyncConfig
) -> Generator[TrainingProgress, None, SyncExpert]:
    """Trains the expert on a person's fitted frames; arguments, progress and errors as `own_clip.train_on_own_clip`."""
    training = ContrastiveTraining(steps=config.steps, learning_rate=config.learning_rate, seed=config.seed)
    return SyncExpert((yield from train_on_own_clip(clip, speech, "se4lip", config.size, training)))
