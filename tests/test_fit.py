"""`talkinghead fit` on the demo clip from end to end, interrupted and resumed, and its smaller decisions."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import cache, partial
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from demo_clip_track import demo_clip, demo_track, fitted_frames
from fitted_demo import CONFIG, RECIPE, STEPS, FittedDemo, quick_fit
from safetensors import safe_open
from tiny_head import fitter, rendered_frames

import talkinghead.blend_fit
import talkinghead.fit
from render.fitting import HeadFitter
from talkinghead.avatar import load_avatar
from talkinghead.blend_fit import BlendTraining
from talkinghead.config import FitConfig
from talkinghead.fit import fit, fitted_frame_count, work_folder
from talkinghead.presets import RECIPES
from talkinghead.progress import Progress
from talkinghead.renderer import AvatarRenderer, DrivenFrame
from talkinghead.training_history import TrainingHistory
from tools.errors import NoAudioError, OutputError
from tools.metrics import face_hull_mask
from tools.picture_quality import psnr
from tools.video import read_frames

frames = cache(rendered_frames)


# --- the avatar ---


def test_the_avatar_can_be_loaded_and_tells_where_it_comes_from(fitted_demo: FittedDemo) -> None:
    facts = load_avatar(fitted_demo.avatar).manifest
    assert (facts.source_name, facts.frame_count, facts.fitted_frames) == ("demo_clip.mp4", 293, fitted_frames())
    assert (facts.width, facts.height, facts.fps) == (512, 512, Fraction(25))
    assert (facts.preset, facts.seed, facts.crop) == ("fast", 0, demo_track().crop)
    assert facts.sound_delay_frames == 0 and facts.findings == ()
    assert 1500 < facts.face + facts.body + facts.mouth <= RECIPE.fitting.cap
    assert (fitted_demo.avatar / "report.html").is_file()


def test_a_moments_fit_already_resembles_the_person(fitted_demo: FittedDemo) -> None:
    avatar = load_avatar(fitted_demo.avatar)
    number = fitted_frames() + 10
    source = next(read_frames(demo_clip(), number, 1))
    (rendered,) = AvatarRenderer(avatar).free([DrivenFrame(number, avatar.tracks.lower[number])])
    hull = face_hull_mask(avatar.tracks.landmarks[number], 512, 512)
    assert psnr(rendered, source, hull) > 17
    assert psnr(avatar.background, source, hull) < 15  # what no head at all would give


def test_progress_names_its_stages_in_order(fitted_demo: FittedDemo) -> None:
    stages = list(dict.fromkeys(event.stage for event in fitted_demo.events))
    tracking = ["shots", "landmarks", "head pose", "torso and background"]
    assert stages == [*tracking, "frames", "fitting", "aligning", "saving"]
    fitting = [event for event in fitted_demo.events if event.stage == "fitting"]
    assert list(dict.fromkeys((event.done, event.total) for event in fitting)) == [(k + 1, STEPS) for k in range(STEPS)]
    assert "Gaussians, loss" in fitting[0].detail


def test_only_the_track_is_left_beside_the_avatar(fitted_demo: FittedDemo) -> None:
    assert sorted(path.name for path in fitted_demo.avatar.parent.iterdir()) == [".demo.avatar.work", "demo.avatar"]
    assert [path.name for path in work_folder(fitted_demo.avatar).iterdir()] == ["track.safetensors"]


def test_every_frame_is_aligned_and_stays_near_its_track(fitted_demo: FittedDemo) -> None:
    tracks, tracked = load_avatar(fitted_demo.avatar).tracks, demo_track()
    turned = np.abs(tracks.head_rotations - tracked.head.rotations).max(axis=(1, 2))
    assert turned[tracks.found].min() > 0 and turned.max() < 0.05
    assert np.abs(tracks.torso_translations - tracked.torso.translations).max() > 0
    assert 0 < np.abs(tracks.lower - tracked.expression.lower).max() < 1.5


# --- interrupted, resumed, repeated ---


def test_an_interrupted_fit_goes_on_to_the_same_avatar(
    fitted_demo: FittedDemo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(talkinghead.fit, "CHECKPOINT_S", 0.0)
    output = tmp_path / "again.avatar"
    with quick_fit() as tracked:
        job = fit(demo_clip().path, output, replace(CONFIG, restart=True))
        for event in job:
            if event.stage == "fitting" and event.done == 13:
                break
        job.close()
        assert not output.exists()
        assert {path.name for path in work_folder(output).iterdir()} == {"track.safetensors", "fit.safetensors"}
        events = list(fit(demo_clip().path, output, CONFIG))
    assert len(tracked) == fitted_demo.tracked == 1
    resumed = [event.done for event in events if event.stage == "fitting"]
    assert resumed[0] in (13, 14) and resumed[-1] == STEPS  # the state of a step is saved after it was told
    assert "landmarks" not in {event.stage for event in events}
    for name in ("gaussians.ply", "motion.safetensors", "tracks.safetensors", "speech_encoder.safetensors"):
        assert (output / name).read_bytes() == (fitted_demo.avatar / name).read_bytes(), name
    assert [path.name for path in work_folder(output).iterdir()] == ["track.safetensors"]


def test_a_restart_forgets_track_and_state(tmp_path: Path) -> None:
    output = tmp_path / "new.avatar"
    work_folder(output).mkdir()
    (work_folder(output) / "track.safetensors").write_bytes(b"damaged")
    with quick_fit() as tracked:
        job = fit(demo_clip().path, output, replace(CONFIG, restart=True))
        next(event for event in job if event.stage == "landmarks")
    assert len(tracked) == 1


def test_a_fit_that_stops_at_once_leaves_no_folder(tmp_path: Path) -> None:
    with quick_fit():
        job = fit(demo_clip().path, tmp_path / "new.avatar", CONFIG)
        next(job)
        job.close()
    assert list(tmp_path.iterdir()) == []


def run(job: HeadFitter, checkpoint: Path, key: str) -> Generator[Progress, None, TrainingHistory]:
    return talkinghead.fit._run_fit(job, checkpoint, key)


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state after 9 of 40 steps of a tiny fit with the key "mine"."""
    monkeypatch.setattr(talkinghead.fit, "CHECKPOINT_S", 0.0)
    list(islice(run(fitter(frames()), tmp_path / "fit.safetensors", "mine"), 10))
    return tmp_path / "fit.safetensors"


def test_a_state_is_gone_on_from(checkpoint: Path) -> None:
    assert next(run(fitter(frames()), checkpoint, "mine")).done == 10
    assert [path.name for path in checkpoint.parent.iterdir()] == ["fit.safetensors"]


def test_what_was_recorded_is_gone_on_with(checkpoint: Path) -> None:
    recorded = []

    def watched() -> Iterator[Progress]:
        recorded.append((yield from run(fitter(frames()), checkpoint, "mine")))

    done = [event.done for event in watched()]
    assert (done[0], done[-1]) == (10, 40)
    (history,) = recorded
    assert history.steps == list(range(1, 41))
    assert len(history.losses) == len(history.gaussians) == 40 and min(history.losses) > 0


def test_a_state_of_another_fit_is_not_taken(checkpoint: Path) -> None:
    assert next(run(fitter(frames()), checkpoint, "other")).done == 1


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_state_cut_off_by_a_crash_begins_anew(checkpoint: Path, share: float) -> None:
    checkpoint.write_bytes(checkpoint.read_bytes()[: int(share * checkpoint.stat().st_size)])
    assert next(run(fitter(frames()), checkpoint, "mine")).done == 1


def test_a_crash_while_the_state_is_saved_keeps_the_last_one(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(talkinghead.fit, "save_file", crash)
    with pytest.raises(OutputError, match="disk full"):
        list(run(fitter(frames()), checkpoint, "mine"))
    with safe_open(checkpoint, framework="pt") as file:
        assert file.get_tensor("steps")[0] == 9
    assert [path.name for path in checkpoint.parent.iterdir()] == [checkpoint.name], "nothing half-written"


def test_a_state_belongs_to_one_clip_one_setting_and_one_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    key = talkinghead.fit._fit_key("clip", CONFIG)
    assert key == talkinghead.fit._fit_key("clip", replace(CONFIG, restart=True))
    others = [talkinghead.fit._fit_key("other clip", CONFIG)]
    others += [
        talkinghead.fit._fit_key("clip", replace(CONFIG, **change)) for change in ({"seed": 1}, {"holdout": 0.3})
    ]
    monkeypatch.setitem(RECIPES, "fast", RECIPE)
    others.append(talkinghead.fit._fit_key("clip", CONFIG))
    assert key not in others and len(set(others)) == len(others)
    assert json.loads(key)


# --- smaller decisions ---


@pytest.mark.parametrize(
    ("frames", "fps", "holdout", "fitted"),
    [(500, 25, 0.0, 500), (500, 25, 0.2, 400), (293, 25, 0.15, 249), (15_000, 25, 0.2, 14_250), (3600, 60, 0.5, 1800)],
)
def test_a_share_at_the_end_is_held_out_30_seconds_at_most(frames: int, fps: int, holdout: float, fitted: int) -> None:
    assert fitted_frame_count(replace(demo_clip(), frame_count=frames, fps=Fraction(fps)), holdout) == fitted


def test_a_silent_video_is_refused_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(talkinghead.fit, "probe", lambda path: replace(demo_clip(), has_audio=False))
    with pytest.raises(NoAudioError, match="has no sound"):
        next(fit(demo_clip().path, tmp_path / "new.avatar", FitConfig()))
    assert list(tmp_path.iterdir()) == []


def test_the_head_starts_alike_whatever_ran_before() -> None:
    from talkinghead.training_frames import TrainingFrames

    indices = np.arange(0, 40, 8)
    pictures = [np.full((512, 512, 3), 100, np.uint8)] * len(indices)
    training = TrainingFrames(indices, pictures, [np.full((512, 512), 255, np.uint8)] * len(indices), demo_track())
    states = []
    with quick_fit():
        for seed in (1, 2):
            torch.manual_seed(seed)
            fitter = talkinghead.fit._start_fit(demo_track(), training, CONFIG, torch.device("cpu"))
            states.append(fitter.to_tensors())
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def test_a_fit_with_a_blend_net_saves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(talkinghead.blend_fit, "BlendTraining", partial(BlendTraining, steps=3))
    with quick_fit():
        events = list(fit(demo_clip().path, tmp_path / "demo.avatar", replace(CONFIG, blend_net=True)))
    stages = list(dict.fromkeys(event.stage for event in events))
    assert stages[-4:] == ["aligning", "frames to blend", "blending", "saving"]
    avatar = load_avatar(tmp_path / "demo.avatar")
    assert avatar.manifest.blend_net and avatar.blend_net.layers[-1].weight.any()
    assert [path.name for path in work_folder(tmp_path / "demo.avatar").iterdir()] == ["track.safetensors"]
