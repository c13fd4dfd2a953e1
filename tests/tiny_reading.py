"""A made-up person whose lips can be read, for the tests."""

from __future__ import annotations

from collections.abc import Generator
from fractions import Fraction
from typing import TypeVar

import numpy as np
import torch

from encoders.contrastive.lip_clips import LIP_HEIGHT, LIP_WIDTH, LipClip
from encoders.contrastive.training import TrainingProgress
from encoders.experts.judged import JudgedMouths
from encoders.features import EXTRA_COLUMNS, SpeechFeatureTrack
from encoders.phones import PHONES, VISEMES

SHAPES: dict[str, tuple[int, int]] = {
    "silence": (3, 30),
    "bilabial": (0, 30),
    "open": (30, 30),
    "close rounded": (8, 12),
    "close spread": (8, 60),
}
"""Height and width of the mouth in px, by viseme."""
T = TypeVar("T")


def legible_clip(
    seconds: float = 10.0, fps: Fraction = Fraction(25), seed: int = 0
) -> tuple[LipClip, SpeechFeatureTrack]:
    """A mouth that has another shape for each viseme, 0.16 to 0.28 s long, and features that tell which it is."""
    random = np.random.default_rng(seed)
    frames = round(seconds * float(fps))
    said = np.concatenate([np.full(random.integers(4, 8), random.integers(len(SHAPES))) for _ in range(frames)])
    said = said[(np.arange(frames) * 25 / float(fps)).astype(int)]
    mouths = np.full((frames, LIP_HEIGHT, LIP_WIDTH, 3), 180, np.uint8)
    shapes = list(SHAPES.values())
    for mouth, index in zip(mouths, said, strict=True):
        height, width = shapes[index]
        down, across = (LIP_HEIGHT - height) // 2, (LIP_WIDTH - width) // 2
        mouth[down : down + height, across : across + width] = 40
    mouths += random.integers(0, 12, mouths.shape, dtype=np.uint8)
    features = np.zeros((frames, 4 + EXTRA_COLUMNS), np.float32)
    names = [list(VISEMES).index(name) for name in SHAPES]
    features[np.arange(frames), 4 + len(PHONES) + np.array(names)[said]] = 1.0
    clip = LipClip("legible.mp4", f"{seed:064x}", fps, np.zeros(round(seconds * 16_000), np.float32), mouths, said >= 0)
    return clip, SpeechFeatureTrack(features, fps)


def value_of(job: Generator[TrainingProgress, None, T]) -> T:
    """What a training comes to."""
    while True:
        try:
            next(job)
        except StopIteration as finished:
            return finished.value


def judged_run(clip: LipClip, first: int, rendered: slice, count: int = 24, heard: int = 6) -> JudgedMouths:
    """A run of a clip's frames whose `rendered` ones are leaves that want a gradient, and random audio embeddings."""
    frames = np.arange(first, first + count)
    real = torch.from_numpy(clip.mouths[frames]).permute(0, 3, 1, 2) / 255
    is_rendered = torch.zeros(count, dtype=torch.bool)
    is_rendered[rendered] = True
    embeddings = torch.randn(count, heard, generator=torch.Generator().manual_seed(first)).requires_grad_(True)
    return JudgedMouths(real.clone().requires_grad_(True), real, is_rendered, frames, embeddings)
