"""The part of a fit in which speech drives the mouth: what it looks like, and what experts say about it, is learned.

A head is fitted to tracked expressions and lips are fitted to speech, each by itself. Here both meet: mouths are
rendered as speech drives them, and losses on those pictures go back through the rasterizer into the motion fields of
the face and of the mouth, and into a small network beside the lips' regression. As in TalkLip (Wang et al. 2023, Sec.
3.5) some frames of a run are rendered, the others stay as they were filmed.

On frames that the regression was fitted to it is better than it will be on new speech; therefore what drives each
frame here comes from a regression that has not seen the frames around it.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from encoders.contrastive.lip_clips import LIP_HEIGHT, LIP_WIDTH, LipClip
from encoders.experts.judged import JudgedMouths, MouthExpert
from encoders.lip_motion import HeardFrames, LipMotionPredictor
from encoders.lip_residual import LipResidual
from render._workers import torch_on_one_thread
from render.head_model import BonePose, HeadModel
from render.implicit_mouth import time_stamps
from render.mouth_view import (
    OVERSAMPLING,
    HeldMotion,
    MouthView,
    in_view,
    mouth_camera,
    part_of,
    render_mouths,
)
from talkinghead.errors import UnjudgedClipError
from talkinghead.lip_clips import mouth_picture
from talkinghead.progress import Progress
from tools.tracked_clip import TrackedClip

PROBED = 24
"""Frames that are looked at to find the Gaussians that mouths show."""


@dataclass(frozen=True)
class DrivenConfig:
    """How a mouth learns to be driven."""

    steps: int = 100
    """Optimisation steps, a run of frames each."""
    run: int = 24
    """Consecutive frames that are judged together."""
    start: float = 0.1
    """Share of the frames at which a stretch of rendered ones starts (TalkLip's p)..."""
    length: int = 6
    """...and its frames (TalkLip's M). A window of the sync expert lies within one."""
    folds: int = 4
    """Parts of the clip whose lips are predicted from the others."""
    lips_rate: float = 1e-3
    """Adam's step size for the network beside the regression and what experts learn beside..."""
    field_rate: float = 2e-4
    """...and for planes and layers of the motion fields."""
    picture: float = 1.0
    """Weight of the absolute difference of rendered mouths from real ones (TalkLip Eq. 1)."""
    codes: float = 0.2
    """Weight of the squared difference of driven from tracked codes."""
    held: float = 3.0
    """Weight of the squared change of what the face's Gaussians do that no picture of the mouth shows."""


@dataclass(frozen=True)
class DrivenClip:
    """T fitted frames of a clip, and what drives them."""

    track: TrackedClip
    lips: LipClip  # their lower faces
    transforms: np.ndarray  # [T, 2, 3] px of the crop to px of the lower face
    heard: HeardFrames  # by regressions that have not seen the frames around
    predictor: LipMotionPredictor  # that all were fitted to


@dataclass(frozen=True)
class WeightedExpert:
    """One of those who judge."""

    expert: MouthExpert
    weight: float


def fit_driven(
    clip: DrivenClip, model: HeadModel, experts: Sequence[WeightedExpert], config: DrivenConfig, seed: int
) -> Generator[Progress, None, LipMotionPredictor]:
    """Lets a person's lips, and the motion fields of their model, which is changed, learn from driven mouths.

    Returns:
        The clip's predictor with a residual (the generator's value).

    Raises:
        UnjudgedClipError: the face is not seen long enough at a time.
    """
    predictor = clip.predictor
    driven = _DrivenMouths(clip, model, config)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        residual = LipResidual(predictor.support.shape[1], len(predictor.closed_code))
    fields = [parameter for branch in (model.face, model.mouth) for parameter in branch.field.parameters()]
    beside = [*residual.parameters(), *(parameter for one in experts for parameter in one.expert.learned())]
    groups = [{"params": fields, "lr": config.field_rate}, {"params": beside, "lr": config.lips_rate}]
    optimizer = torch.optim.Adam(groups)
    for parameter in fields:
        parameter.requires_grad_(True)
    for step in range(config.steps):
        random = np.random.default_rng([seed, 2, step])
        generator = torch.Generator().manual_seed(int(random.integers(2**31)))
        with torch_on_one_thread():
            optimizer.zero_grad()
            judged, beside = driven.run(residual, random)
            shown = judged.rendered
            loss = config.picture * (judged.mouths[shown] - judged.real[shown]).abs().mean() + beside
            for one in experts:
                loss = loss + one.weight * one.expert.loss(judged, generator)
            loss.backward()
            optimizer.step()
            for one in experts:
                one.expert.learn(judged)
        yield Progress("driving the mouth", step + 1, config.steps, f"loss {float(loss.detach()):.4f}")
    model.requires_grad_(False)
    return replace(predictor, residual=residual.eval().requires_grad_(False))


class _DrivenMouths:
    """Runs of frames, some of them rendered as a residual says."""

    def __init__(self, clip: DrivenClip, model: HeadModel, config: DrivenConfig) -> None:
        self._clip, self._config = clip, config
        self._device = model.neck_mean.device
        self._upper = torch.from_numpy(clip.track.expression.upper[: len(clip.lips)])
        self._tracked = torch.from_numpy(clip.track.expression.lower[: len(clip.lips)])
        self._heard = [torch.from_numpy(part) for part in vars(clip.heard).values()]
        self._times = time_stamps(np.arange(len(clip.lips)), clip.track.fitted_frames)
        self._intrinsics, self._starts = model.intrinsics, _starts(clip.lips.seen, config.run)
        some = np.flatnonzero(clip.lips.seen)
        some = some[np.linspace(0, len(some) - 1, min(PROBED, len(some))).astype(int)]
        codes = torch.cat([self._tracked, self._upper], dim=1)[some].to(self._device)
        seen = in_view(model, [self._view(number) for number in some], codes)
        self._model = part_of(model, seen)
        self._held = HeldMotion(model.face.part(~seen["face"]))

    def run(self, residual: LipResidual, random: np.random.Generator) -> tuple[JudgedMouths, Tensor]:
        """A random run of frames, and what it costs beside its pictures."""
        start = int(random.choice(self._starts))
        frames = np.arange(start, start + self._config.run)
        rendered = torch.from_numpy(self._masked(random))
        windows, codes, openness = (part[frames] for part in self._heard)
        heard = residual.heard(windows)
        lower = self._clip.predictor.spoken(codes + residual(heard), openness)
        views = [self._view(number) for number in frames[rendered.numpy()]]
        driven = torch.cat([lower, self._upper[frames]], dim=1)[rendered].to(self._device)
        drawn = render_mouths(self._model, views, driven).cpu()
        real = torch.from_numpy(self._clip.lips.mouths[frames]).permute(0, 3, 1, 2) / 255
        mouths = real.index_put((rendered,), drawn)
        beside = self._config.codes * (lower - self._tracked[frames]).square().mean()
        beside = beside + self._config.held * self._held.change(driven[0].detach()).cpu()
        return JudgedMouths(mouths, real, rendered, frames, heard), beside

    def _masked(self, random: np.random.Generator) -> np.ndarray:
        """bool [run]: stretches of `length` that start at random places, one at least."""
        last = self._config.run - self._config.length
        starts = np.flatnonzero(random.random(last + 1) < self._config.start)
        starts = starts if len(starts) else random.integers(0, last + 1, 1)
        masked = np.zeros(self._config.run, bool)
        masked[starts[:, None] + np.arange(self._config.length)] = True
        return masked

    def _view(self, number: int) -> MouthView:
        clip, size = self._clip, (LIP_HEIGHT, LIP_WIDTH)
        onto = clip.transforms[number]
        camera = mouth_camera(self._intrinsics, onto, size, self._device)
        plate = mouth_picture(clip.track.background, onto, OVERSAMPLING)
        behind = torch.from_numpy(plate).to(self._device).permute(2, 0, 1) / 255
        bones = (clip.track.head, clip.track.torso)
        placed = [part[number] for bone in bones for part in (bone.rotations, bone.translations)]
        pose = BonePose(*(torch.from_numpy(part).to(self._device, torch.float32) for part in placed))
        return MouthView(pose, camera, behind, float(self._times[number]))


def _starts(seen: np.ndarray, run: int) -> np.ndarray:
    """Numbers of the frames from which a face is seen for a whole run."""
    lengths = np.convolve(seen, np.ones(run), "valid") if len(seen) >= run else np.zeros(0)
    starts = np.flatnonzero(lengths == run)
    if not len(starts):
        raise UnjudgedClipError(
            f"--experts judge {run} frames with a face on end, and the clip has no such stretch: leave them out"
        )
    return starts
