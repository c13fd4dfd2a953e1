"""Training a Blend-Net: on a made-up person whose frames are tinted renders it learns the tint and to fill holes."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_blend_net import scrambled
from tiny_avatar import SIDE, TinyClip, tiny_avatar

import talkinghead.blend_fit
from render.blend_net import BlendNet
from render.losses import LossWeights, dssim
from talkinghead.avatar import Avatar
from talkinghead.blend_fit import BlendTraining, FilmedFrames, Paste, blend_loss, fit_blend_net, training_pastes
from talkinghead.compositing import BlendRegion
from talkinghead.progress import Progress
from talkinghead.renderer import AvatarRenderer, DrivenFrame
from tools.video import EncodeSettings, VideoInfo, VideoWriter, probe

FITTED, FRAMES = 15, 20
TINT = np.array([14, -12, 8])
TRAINING = BlendTraining(steps=200, most_holes=30, hole=(1, 4), learning_rate=5e-3)
"""Holes for a crop of 64 px."""
QUICK = BlendTraining(steps=4)


@pytest.fixture(scope="module")
def avatar() -> Avatar:
    avatar = tiny_avatar(TinyClip(frames=FRAMES, missing=(3,)))
    return replace(avatar, manifest=replace(avatar.manifest, fitted_frames=FITTED))


def filmed(avatar: Avatar, number: int) -> np.ndarray:
    """The made-up footage: what the avatar shows, tinted."""
    (picture,) = AvatarRenderer(replace(avatar, blend_net=None), "cpu").free(
        [DrivenFrame(number, avatar.tracks.lower[number])]
    )
    return np.clip(picture + TINT, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def footage(avatar: Avatar, tmp_path_factory: pytest.TempPathFactory) -> VideoInfo:
    path = tmp_path_factory.mktemp("footage") / "person.mp4"
    with VideoWriter(path, SIDE, SIDE, avatar.manifest.fps, settings=EncodeSettings(crf=1)) as writer:
        for number in range(FRAMES):
            writer.write(filmed(avatar, number))
    return probe(path)


def fitted(
    avatar: Avatar, footage: VideoInfo, training: BlendTraining, heard: np.ndarray | None = None
) -> tuple[Avatar, list[Progress]]:
    heard = avatar.tracks.lower if heard is None else heard
    job, events = fit_blend_net(avatar, footage, heard, footage.path.parent, "cpu", training), []
    while True:
        try:
            events.append(next(job))
        except StopIteration as end:
            return end.value, events


@pytest.fixture(scope="module")
def trained(avatar: Avatar, footage: VideoInfo) -> BlendNet:
    mended, _ = fitted(avatar, footage, TRAINING)
    assert mended.manifest == replace(avatar.manifest, blend_net=True) and mended.path is None
    return mended.blend_net


def error(one: np.ndarray, other: np.ndarray, where: np.ndarray) -> float:
    """Mean absolute difference, levels."""
    return float(np.abs(one.astype(float) - other)[where].mean())


def test_held_out_frames_are_mended_in_place_and_free(avatar: Avatar, trained: BlendNet) -> None:
    plain, mended = (AvatarRenderer(replace(avatar, blend_net=net), "cpu") for net in (None, trained))
    for number in range(FITTED, FRAMES):
        truth, mouth = filmed(avatar, number), BlendRegion(avatar).mask(number) == 255
        frame = DrivenFrame(number, avatar.tracks.lower[number], picture=truth)
        ((before, before_free),), ((after, after_free),) = (one.in_crop_and_free([frame]) for one in (plain, mended))
        assert error(after, truth, mouth) < 0.5 * error(before, truth, mouth)
        # What is behind the person stays as it is.
        assert error(after_free, truth, mouth) < 0.7 * error(before_free, truth, mouth)


def test_black_holes_in_held_out_frames_are_filled(avatar: Avatar, trained: BlendNet) -> None:
    """Better than they are; in so short a training not well. The tint alone is a tenth of what is missing at most."""
    errors = []
    for number in range(FITTED, FRAMES):
        rows, columns = np.nonzero(BlendRegion(avatar).mask(number) == 255)
        middle = int(np.median(rows)), int(np.median(columns))
        hole = np.zeros((SIDE, SIDE), bool)
        hole[middle[0] - 2 : middle[0] + 2, middle[1] - 3 : middle[1] + 3] = True
        truth, share = filmed(avatar, number), torch.from_numpy(1.0 - hole).float()[None, None]
        picture = torch.from_numpy(np.where(hole[..., None], 0, np.clip(truth - TINT, 0, 255))).permute(2, 0, 1) / 255
        filled = picture + trained(picture[None], share)[0]
        shown = (255 * one.permute(1, 2, 0).numpy() for one in (filled, picture))
        errors.append([error(one, truth, hole) for one in shown])
    filled_error, hole_error = np.mean(errors, axis=0)
    assert hole_error > 10 * np.abs(TINT).mean() and filled_error < 0.9 * hole_error


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_only_free_pictures_are_pierced_and_where_they_are_nothing_was_rendered(avatar: Avatar, share: float) -> None:
    training = replace(TRAINING, steps=20, pierced=share)
    frames = FilmedFrames(np.arange(3), [filmed(avatar, number) for number in range(3)])
    renderer, codes = AvatarRenderer(avatar, "cpu"), avatar.tracks.lower
    for in_place, free in training_pastes(avatar, frames, codes, renderer, training):
        black = [(paste.picture == 0).all(axis=2) & (paste.share == 0) for paste in (in_place, free)]
        assert not black[0].any() and black[1].any() == (share > 0)
        assert (free.truth == in_place.truth).all()


def test_the_same_seed_gives_the_same_network_and_nothing_else_changes(avatar: Avatar, footage: VideoInfo) -> None:
    before = {name: tensor.clone() for name, tensor in avatar.model.state_dict().items()}
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    other = replace(avatar, manifest=replace(avatar.manifest, seed=1), blend_net=scrambled())
    nets = [fitted(one, footage, QUICK)[0].blend_net for one in (avatar, replace(avatar, blend_net=scrambled()), other)]
    for one, again, differs in zip(*(net.state_dict().values() for net in nets), strict=True):
        assert torch.equal(one, again) and not torch.equal(one, differs)
    assert torch.equal(state, torch.get_rng_state()) and torch.get_num_threads() == threads
    assert all(torch.equal(tensor, before[name]) for name, tensor in avatar.model.state_dict().items())
    assert not any(parameter.requires_grad for parameter in nets[0].parameters())


def test_progress_counts_frames_and_steps(avatar: Avatar, footage: VideoInfo) -> None:
    _, events = fitted(avatar, footage, QUICK)
    counts = [(event.stage, event.done, event.total) for event in events]
    assert counts == [(stage, k, 4) for stage in ("frames to blend", "blending") for k in range(1, 5)]
    assert events[-1].detail.startswith("loss 0.")


def test_only_fitted_frames_with_a_face_are_learned_from(
    avatar: Avatar, footage: VideoInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    class Watched(AvatarRenderer):
        def person(self, frames: Sequence[DrivenFrame]) -> list[np.ndarray]:
            drawn.extend(frame.number for frame in frames)
            return super().person(frames)

    monkeypatch.setattr(talkinghead.blend_fit, "AvatarRenderer", Watched)
    fitted(avatar, footage, replace(QUICK, steps=FITTED))
    assert set(drawn) == set(range(FITTED)) - {3}


def test_a_training_that_is_closed_leaves_no_thread(avatar: Avatar, footage: VideoInfo, tmp_path: Path) -> None:
    threads = threading.active_count()
    job = fit_blend_net(avatar, footage, avatar.tracks.lower, tmp_path, "cpu", TRAINING)
    assert any(event.stage == "blending" for event in job)
    job.close()
    assert threading.active_count() == threads and not list(tmp_path.iterdir())


@pytest.mark.parametrize(("share", "is_the_same"), [(0.0, True), (1.0, False)])
def test_lips_are_as_heard_in_the_share_asked_for(
    avatar: Avatar, footage: VideoInfo, share: float, is_the_same: bool
) -> None:
    training, codes = replace(QUICK, heard=share), avatar.tracks.lower
    tracked, heard = (fitted(avatar, footage, training, said)[0].blend_net for said in (codes, -codes))
    assert torch.equal(tracked.layers[-1].weight, heard.layers[-1].weight) == is_the_same


def paste(weights: int) -> Paste:
    random = np.random.default_rng(0)
    picture, truth = random.integers(0, 256, (2, 32, 32, 3), np.uint8)
    return Paste(picture, np.full((32, 32), 255, np.uint8), np.full((32, 32), weights, np.uint8), truth)


def test_the_loss_is_that_of_the_pictures_and_only_what_may_change_is_learned_from() -> None:
    weights = LossWeights(dssim=0.5, detail=0.0)
    one = paste(255)
    picture, truth = (torch.from_numpy(part).permute(2, 0, 1) / 255 for part in (one.picture, one.truth))
    expected = (picture - truth).abs().mean() + 0.5 * dssim(picture, truth)
    torch.testing.assert_close(blend_loss(BlendNet(), [one, one], weights), expected)
    for level in (0, 255):
        net = scrambled().requires_grad_(True)
        blend_loss(net, [paste(level)], weights).backward()
        assert net.layers[0].weight.grad.any() == (level > 0)


def test_the_losses_slope_is_that_of_finite_differences() -> None:
    """Through D-SSIM, detail and the weights, along a random direction of all parameters."""
    net, step = scrambled().requires_grad_(True), 1e-3
    generator = torch.Generator().manual_seed(0)
    directions = [torch.randn(parameter.shape, generator=generator) / 10 for parameter in net.parameters()]

    def loss_at(offset: float) -> float:
        moved = scrambled()
        for parameter, direction in zip(moved.parameters(), directions, strict=True):
            parameter.add_(offset * direction)
        return float(blend_loss(moved, [paste(200)], LossWeights()))

    blend_loss(net, [paste(200)], LossWeights()).backward()
    slopes = [parameter.grad for parameter in net.parameters()]
    slope = sum(float((one * direction).sum()) for one, direction in zip(slopes, directions, strict=True))
    assert slope == pytest.approx((loss_at(step) - loss_at(-step)) / (2 * step), rel=0.02)
