"""The sync expert: what it scores, what it knows of lips it was trained on, and that it stays as it is."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from fractions import Fraction
from typing import TypeVar

import numpy as np
import pytest
import torch
from finite_differences import driven_scene, slope_errors
from tiny_contrastive import made_up_clip
from torch import Tensor

from encoders.contrastive.lip_clips import LIP_FRAMES, LipClip
from encoders.contrastive.training import TrainingProgress
from encoders.errors import LipClipError
from encoders.experts.judged import JudgedMouths
from encoders.experts.sync_expert import SyncConfig, SyncExpert, rendered_windows, train_sync_expert
from encoders.features import EXTRA_COLUMNS, SpeechFeatureTrack

QUICK = SyncConfig(size=32, steps=90, learning_rate=1e-2)
RUN = 24
T = TypeVar("T")


def value_of(job: Generator[TrainingProgress, None, T]) -> T:
    while True:
        try:
            next(job)
        except StopIteration as finished:
            return finished.value


def heard_in(clip: LipClip) -> SpeechFeatureTrack:
    """Features that say how loud each frame is, beside noise."""
    features = np.random.default_rng(5).standard_normal((len(clip), 8 + EXTRA_COLUMNS)).astype(np.float32)
    per_frame = len(clip.samples) // len(clip)
    loudness = np.abs(clip.samples[: per_frame * len(clip)]).reshape(len(clip), per_frame).mean(axis=1)
    features[:, :6] = ((loudness - loudness.mean()) / loudness.std())[:, None]
    return SpeechFeatureTrack(features, clip.fps)


def run_of(clip: LipClip, first: int, rendered: slice, shown: np.ndarray | None = None) -> JudgedMouths:
    """RUN frames from `first` on; in place of the rendered ones the frames `shown` of the clip, or the real ones."""
    frames = np.arange(first, first + RUN)
    real = torch.from_numpy(clip.mouths[frames]).permute(0, 3, 1, 2).float() / 255
    mouths, is_rendered = real.clone(), torch.zeros(RUN, dtype=torch.bool)
    is_rendered[rendered] = True
    if shown is not None:
        mouths[rendered] = torch.from_numpy(clip.mouths[shown]).permute(0, 3, 1, 2).float() / 255
    return JudgedMouths(mouths, real, is_rendered, frames, torch.zeros(RUN, 4))


def seed() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.fixture(scope="module")
def clip() -> LipClip:
    return made_up_clip(10.0)


@pytest.fixture(scope="module")
def expert(clip: LipClip) -> SyncExpert:
    return value_of(train_sync_expert(clip, heard_in(clip), QUICK))


def mean_loss(expert: SyncExpert, clip: LipClip, shift: int) -> float:
    """Over the clip, the lips of each run taken `shift` frames later."""
    losses = []
    for first in range(0, len(clip) - RUN - shift, RUN):
        shown = np.arange(first + 4, first + 20) + shift
        losses.append(float(expert.loss(run_of(clip, first, slice(4, 20), shown), seed())))
    return float(np.mean(losses))


def test_the_later_the_lips_the_worse(expert: SyncExpert, clip: LipClip) -> None:
    """Real windows score best; two frames late is worse, and what is said at another moment is worst."""
    losses = [mean_loss(expert, clip, shift) for shift in (0, 2, 31)]
    assert losses[1] > losses[0] + 0.2 and losses[2] > losses[1] + 0.2, losses


def test_one_right_window_among_wrong_ones_costs_less(expert: SyncExpert, clip: LipClip) -> None:
    falls = []
    for first in range(0, len(clip) - RUN - 31, RUN):
        wrong = run_of(clip, first, slice(4, 16), np.arange(first + 4, first + 16) + 31)
        mouths = wrong.mouths.clone()
        mouths[8:13] = wrong.real[8:13]
        falls.append(float(expert.loss(wrong, seed()) - expert.loss(replace(wrong, mouths=mouths), seed())))
    assert np.mean(falls) > 0.05, falls


def test_windows_lie_wholly_in_what_is_rendered(clip: LipClip) -> None:
    judged = run_of(clip, 30, slice(3, 10))
    places, frames = rendered_windows(judged, Fraction(25))
    assert frames.tolist() == [35, 36, 37]
    assert places.tolist() == [list(range(3 + k, 8 + k)) for k in range(3)]
    places, frames = rendered_windows(run_of(clip, 30, slice(3, 12)), Fraction(50))  # 40 ms apart: every second one
    assert places.tolist() == [[3, 5, 7, 9, 11]] and frames.tolist() == [37]
    at_the_end, frames = rendered_windows(run_of(clip, 30, slice(RUN - 5, RUN)), Fraction(25))
    assert at_the_end.tolist() == [list(range(RUN - 5, RUN))] and frames.tolist() == [30 + RUN - 3]


def test_real_pictures_beside_the_rendered_ones_are_not_judged(expert: SyncExpert, clip: LipClip) -> None:
    judged = run_of(clip, 30, slice(6, 14))
    judged.mouths.requires_grad_(True)
    expert.loss(judged, seed()).backward()
    reached = judged.mouths.grad.abs().sum(dim=(1, 2, 3)) > 0
    assert reached.tolist() == judged.rendered.tolist()


@pytest.mark.parametrize("rendered", [slice(0, 0), slice(5, 5 + LIP_FRAMES - 1)])
def test_too_little_to_judge_costs_nothing(expert: SyncExpert, clip: LipClip, rendered: slice) -> None:
    loss = expert.loss(run_of(clip, 10, rendered), seed())
    assert loss.item() == 0 and not loss.requires_grad


def test_the_loss_is_finite_where_no_other_moment_is_far_enough(clip: LipClip) -> None:
    few = replace(clip, seen=(np.arange(len(clip)) >= 30) & (np.arange(len(clip)) < 36))
    alone = value_of(train_sync_expert(few, heard_in(clip), replace(QUICK, steps=1)))
    judged = run_of(clip, 22, slice(5, 15))
    judged.mouths.requires_grad_(True)
    loss = alone.loss(judged, seed())
    loss.backward()
    assert loss.isfinite() and judged.mouths.grad.isfinite().all()


def test_judging_changes_nothing_in_the_expert(expert: SyncExpert, clip: LipClip) -> None:
    before = {name: tensor.clone() for name, tensor in expert.lips.state_dict().items()}
    judged = run_of(clip, 30, slice(4, 20), np.arange(100, 116))
    judged.mouths.requires_grad_(True)
    losses = []
    for _ in range(2):
        loss = expert.loss(judged, seed())
        loss.backward()
        expert.learn(judged)
        losses.append(loss.item())
    assert losses[0] == losses[1]
    assert list(expert.learned()) == [] and not any(weights.requires_grad for weights in expert.lips.parameters())
    assert not expert.lips.training
    for name, tensor in expert.lips.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_the_seed_decides(clip: LipClip) -> None:
    short = replace(QUICK, steps=2)
    one, two = (value_of(train_sync_expert(clip, heard_in(clip), short)) for _ in range(2))
    judged = run_of(clip, 30, slice(4, 20))
    assert one.loss(judged, seed()) == two.loss(judged, seed())
    other = value_of(train_sync_expert(clip, heard_in(clip), replace(short, seed=1)))
    assert one.loss(judged, seed()) != other.loss(judged, seed())


def test_slopes_through_the_rasterizer(clip: LipClip) -> None:
    expert = value_of(train_sync_expert(clip, heard_in(clip), replace(QUICK, steps=3)))
    expert.lips.double()

    def loss(mouths: Tensor) -> Tensor:
        everything = torch.ones(LIP_FRAMES, dtype=torch.bool)
        judged = JudgedMouths(mouths, mouths.detach(), everything, np.arange(60, 65), torch.zeros(LIP_FRAMES, 4))
        return expert.loss(judged, seed())

    assert slope_errors(driven_scene(LIP_FRAMES), loss) < 1e-3


def test_features_of_another_clip_are_named(clip: LipClip) -> None:
    with pytest.raises(LipClipError, match="as many frames"):
        next(train_sync_expert(clip, heard_in(clip.part(0, 40)), QUICK))
