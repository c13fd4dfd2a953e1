"""What the frames of a track start from when they are registered after a fit. The registration is tested apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from demo_clip_track import demo_clip, demo_track
from torch import Tensor

import talkinghead.refinement
from render.fitting import FrameStates
from render.head_model import BonePose
from render.registration import RegistrationConfig
from talkinghead.refinement import motion_targets, refine_track
from tools.tracked_clip import TrackedClip
from tools.video import read_frames

FITTED = np.array([1, 2, 5])
UNSEEN = 4
LAST = 9
CORRECTION = 0.25


class Shift:
    """A registration that moves every head by a known step and keeps what it was shown."""

    seen: list[np.ndarray] = []  # noqa: RUF012 - set anew by the test

    def __init__(self, *_: object) -> None:
        pass

    def register_all(self, frames: Iterator[tuple[BonePose, Tensor, np.ndarray]]) -> Iterator[tuple[BonePose, Tensor]]:
        """Shifts the head by one unit and the code by two."""
        for pose, code, picture in frames:
            self.seen.append(picture)
            yield replace(pose, head_translation=pose.head_translation + 1), code + 2


def short_track() -> TrackedClip:
    """Ten frames of the demo clip's track, one of them without a face."""
    clip = demo_track()
    landmarks = clip.landmarks[: LAST + 1].copy()
    landmarks[UNSEEN] = np.nan
    cut = {
        name: replace(part, **{key: value[: LAST + 1] for key, value in vars(part).items() if np.ndim(value) > 0})
        for name, part in (("head", clip.head), ("torso", clip.torso), ("expression", clip.expression))
    }
    return replace(clip, landmarks=landmarks, **cut)


@pytest.fixture
def refined(monkeypatch: pytest.MonkeyPatch) -> tuple[TrackedClip, TrackedClip, list[np.ndarray]]:
    """The track before and after, and the pictures that were registered."""
    monkeypatch.setattr(talkinghead.refinement, "Registration", Shift)
    Shift.seen = []
    clip = short_track()
    states = FrameStates(motion_targets(clip, FITTED))
    states.codes += CORRECTION
    fitter = SimpleNamespace(
        model=None, background=None, device=torch.device("cpu"), states=states
    )
    job = refine_track(demo_clip(), clip, fitter, FITTED, RegistrationConfig())
    try:
        while True:
            next(job)
    except StopIteration as end:
        return clip, end.value, Shift.seen


def test_fitted_frames_start_from_the_fit_and_others_from_the_track(
    refined: tuple[TrackedClip, TrackedClip, list[np.ndarray]],
) -> None:
    before, after, _ = refined
    others = np.setdiff1d(np.arange(LAST + 1), [*FITTED, UNSEEN])
    assert np.allclose(after.expression.codes[FITTED], before.expression.codes[FITTED] + CORRECTION + 2, atol=1e-5)
    assert np.allclose(after.expression.codes[others], before.expression.codes[others] + 2, atol=1e-5)
    seen = np.flatnonzero(before.found)
    assert np.allclose(after.head.translations[seen], before.head.translations[seen] + 1, atol=1e-5)


def test_every_frame_with_a_face_is_registered_to_its_own_picture(
    refined: tuple[TrackedClip, TrackedClip, list[np.ndarray]],
) -> None:
    before, _, pictures = refined
    seen, frames = np.flatnonzero(before.found), list(read_frames(demo_clip(), 0, LAST + 1))
    assert len(pictures) == len(seen)
    for picture, number in zip(pictures, seen, strict=True):
        assert np.array_equal(picture, before.crop.cut(frames[number]))


def test_a_frame_without_a_face_and_all_else_stay(
    refined: tuple[TrackedClip, TrackedClip, list[np.ndarray]],
) -> None:
    before, after, _ = refined
    assert np.allclose(after.head.translations[UNSEEN], before.head.translations[UNSEEN])
    assert np.allclose(after.expression.codes[UNSEEN], before.expression.codes[UNSEEN])
    assert after.expression.lower.shape == before.expression.lower.shape
    assert np.allclose(after.torso.rotations, before.torso.rotations, atol=1e-6)
    assert after.landmarks is before.landmarks and after.basis is before.basis
