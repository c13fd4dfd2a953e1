"""The part of a fit in which a Blend-Net learns to mend finished pictures (Speech2Lip, arXiv 2309.04814, Sec. 4.4).

Each step renders one of the fitted frames, pastes the render into the frame, puts it over the plate, and asks the
network to make the frame itself of both. The lips are as tracked, or as the predictor hears them in the clip's own
sound, which is what they are in use. Nothing flows back into the head: the network sees finished pictures, as it will.

The paper adds black holes "with a ratio of 50 %" to what the network is given, so that it fills what a new pose
uncovers (Sec. 4.3). We take that for half of the pictures, and for those of the free head: in place no pose is new.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from render._workers import torch_on_one_thread
from render.blend_net import BlendNet
from render.fitting import random_window
from render.losses import LossWeights, window_loss
from render.pipelining import prefetched
from talkinghead.avatar import Avatar
from talkinghead.backgrounds import over
from talkinghead.compositing import composite
from talkinghead.config import Device
from talkinghead.devices import device_for
from talkinghead.mending import Window, network_inputs, seen_within_reach, within_reach
from talkinghead.picture_file import PictureFile
from talkinghead.progress import Progress
from talkinghead.renderer import AvatarRenderer, DrivenFrame
from tools.tracked_clip import CropBox
from tools.video import VideoInfo, read_frames

WAITING_STEPS = 2
"""Steps whose pictures are rendered ahead, by a thread of their own."""


@dataclass(frozen=True)
class BlendTraining:
    """How a Blend-Net is trained."""

    steps: int = 300
    """Optimisation steps, a frame each: in place and free."""
    side: int = 160
    """Of the square that is looked at in each, px of the crop."""
    heard: float = 0.5
    """Share of the frames whose lips are as heard; those of the others are as tracked."""
    pierced: float = 0.5
    """Share of the free pictures with black holes."""
    most_holes: int = 30
    """In such a picture; one at least..."""
    hole: tuple[int, int] = (2, 10)
    """...with half axes between these, px of the crop."""
    learning_rate: float = 2e-3
    """Of Adam, for the first half of the steps..."""
    final: float = 0.05
    """...and what is left of it at the end, after an exponential decay."""
    loss: LossWeights = field(default_factory=lambda: LossWeights(detail=0.5))
    """Weights of D-SSIM and of the difference in detail beside the absolute error."""


@dataclass(frozen=True)
class Paste:
    """A square of a crop with a render in it."""

    picture: np.ndarray  # [h, w, 3] uint8
    share: np.ndarray  # [h, w] uint8: how much of each pixel is the render's
    weights: np.ndarray  # [h, w] uint8: how far each may be changed
    truth: np.ndarray  # [h, w, 3] uint8


@dataclass(frozen=True)
class FilmedFrames:
    """What the pictures are to look like."""

    numbers: np.ndarray  # [N] of the clip's frames
    crops: Sequence[np.ndarray]  # [R, R, 3] uint8


def fit_blend_net(
    avatar: Avatar,
    info: VideoInfo,
    heard: np.ndarray,
    folder: Path,
    device: Device,
    training: BlendTraining | None = None,
) -> Generator[Progress, None, Avatar]:
    """Trains a Blend-Net on the fitted frames of an avatar; its seed decides all that is random.

    Memory does not grow with the clip: as many frames as there are steps, at most, wait on disk, and are rendered when
    they are needed.

    Args:
        info: the clip that it was fitted to.
        heard: [F, Kl] codes of the lower face in every frame of the clip, as heard.
        folder: where there is room for the frames.

    Returns:
        The avatar with the network (the generator's value), not saved.

    Raises:
        OutputError: there is no room for the frames.
    """
    training, avatar = training or BlendTraining(), replace(avatar, blend_net=None)
    frames = yield from _filmed_frames(avatar, info, training.steps, folder)
    renderer = AvatarRenderer(avatar, device)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(avatar.manifest.seed)
        net = BlendNet().to(device_for(device))
    optimizer = torch.optim.Adam(net.parameters(), lr=training.learning_rate)
    decay = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: training.final ** max(0.0, 2 * step / training.steps - 1)
    )
    with closing(prefetched(training_pastes(avatar, frames, heard, renderer, training), WAITING_STEPS)) as steps:
        for done, pastes in enumerate(steps, start=1):
            with torch_on_one_thread():  # the other core renders
                optimizer.zero_grad()
                loss = blend_loss(net, pastes, training.loss)
                loss.backward()
                optimizer.step()
                decay.step()
            yield Progress("blending", done, training.steps, f"loss {float(loss.detach()):.4f}")
    net = net.cpu().eval().requires_grad_(False)
    return replace(avatar, manifest=replace(avatar.manifest, blend_net=True), blend_net=net, path=None)


def _filmed_frames(
    avatar: Avatar, info: VideoInfo, most: int, folder: Path
) -> Generator[Progress, None, FilmedFrames]:
    """So many fitted frames with a face, evenly spread, or all."""
    facts = avatar.manifest
    seen = np.flatnonzero(avatar.tracks.found[: facts.fitted_frames])
    numbers = seen[np.linspace(0, len(seen) - 1, min(most, len(seen))).round().astype(int)]
    wanted, crops = set(numbers.tolist()), PictureFile(folder, (facts.crop.resolution, facts.crop.resolution, 3))
    for number, frame in enumerate(read_frames(info, 0, int(numbers[-1]) + 1)):
        if number in wanted:
            crops.append(facts.crop.cut(frame))
            yield Progress("frames to blend", len(crops), len(numbers))
    return FilmedFrames(numbers, crops)


def blend_loss(net: BlendNet, pastes: list[Paste], weights: LossWeights) -> Tensor:
    """Mean over the pictures of absolute error, D-SSIM and difference in detail of what the network makes of them."""
    total = torch.zeros(())
    device = next(net.parameters()).device
    for paste in pastes:
        pictures, shares = network_inputs(paste.picture, paste.share, device)
        (truth,), (may_change,) = network_inputs(paste.truth, paste.weights, device)
        mended = (pictures + may_change * net(pictures, shares))[0]
        total = total + (mended - truth).abs().mean() + window_loss(mended, truth, weights)
    return total / len(pastes)


def training_pastes(
    avatar: Avatar, frames: FilmedFrames, heard: np.ndarray, renderer: AvatarRenderer, training: BlendTraining
) -> Iterator[list[Paste]]:
    """For every step a frame, in place and free."""
    seed, whole = avatar.manifest.seed, CropBox(0, 0, *[avatar.manifest.crop.resolution] * 2)
    for step in range(training.steps):
        epoch, turn = divmod(step, len(frames.numbers))
        place = int(np.random.default_rng([seed, 3, epoch]).permutation(len(frames.numbers))[turn])
        random = np.random.default_rng([seed, 4, step])
        number, truth = int(frames.numbers[place]), frames.crops[place]
        codes = heard if random.random() < training.heard else avatar.tracks.lower
        (person,) = renderer.person([DrivenFrame(number, codes[number])])
        mask, alpha, free = renderer.region.mask(number), person[..., 3].copy(), over(person, avatar.background)
        in_place = Paste(composite(truth, free, whole, mask), mask, within_reach(mask), truth)
        window = random_window(mask, training.side, random)
        alone = _cut(Paste(free, alpha, seen_within_reach(mask, alpha), truth), window)
        is_pierced = random.random() < training.pierced
        yield [_cut(in_place, window), pierced(alone, training, random) if is_pierced else alone]


def _cut(paste: Paste, window: Window) -> Paste:
    return Paste(*(np.ascontiguousarray(getattr(paste, part.name)[window]) for part in fields(Paste)))


def pierced(paste: Paste, training: BlendTraining, random: np.random.Generator) -> Paste:
    """The same with black ellipses where nothing was rendered."""
    picture, share = paste.picture.copy(), paste.share.copy()
    for _ in range(random.integers(1, training.most_holes + 1)):
        middle = random.integers(0, len(picture), 2).tolist()
        axes = random.integers(*training.hole, 2, endpoint=True).tolist()
        turn = float(random.uniform(0, 180))
        for layer in (picture, share):
            cv2.ellipse(layer, middle, axes, turn, 0, 360, (0, 0, 0), cv2.FILLED)
    return replace(paste, picture=picture, share=share)
