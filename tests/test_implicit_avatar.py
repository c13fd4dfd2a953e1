"""An avatar with an implicit mouth: fitted, saved, loaded, refused when damaged, drawn, and made to speak."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from demo_clip_track import demo_clip
from fitted_demo import CONFIG, RECIPE, quick_fit
from media_samples import write_sound
from plyfile import PlyData
from safetensors.torch import load_file, save_file
from test_avatar import CLIP, sample_avatar, sample_clip, scramble, seal
from tiny_avatar import tiny_avatar

import talkinghead.fit
import talkinghead.renderer
from render.head_model import HeadModel
from render.implicit_mouth import ImplicitMouth
from talkinghead.avatar import Avatar, load_avatar, save_avatar
from talkinghead.config import FitConfig, SpeakConfig
from talkinghead.errors import DamagedAvatarError
from talkinghead.fit import fit
from talkinghead.info import Fact, describe
from talkinghead.presets import RECIPES
from talkinghead.progress import Progress
from talkinghead.renderer import AvatarRenderer, DrivenFrame
from talkinghead.report.page import write_report
from talkinghead.speak import speak
from tools.tracked_clip import TrackedClip
from tools.video import VideoInfo, probe

BATCH = 4


def with_implicit_mouth(avatar: Avatar) -> Avatar:
    """The mouth of a tiny avatar exchanged for a sheet before its face, so that it is seen."""
    model, codes = avatar.model, avatar.manifest.codes
    torch.manual_seed(0)
    inside = ImplicitMouth(torch.tensor([0.0, 0.3, -0.2]), torch.tensor([0.6, 0.4]), torch.ones(codes))
    torch.nn.init.normal_(inside.field.output_layer.weight, std=0.3)
    model.face.opacity_logits.data -= 5
    manifest = dataclasses.replace(avatar.manifest, mouth=0, mouth_kind="implicit")
    changed = HeadModel(model.face, model.body, inside, model.intrinsics)
    return dataclasses.replace(avatar, model=changed.eval().requires_grad_(False), manifest=manifest)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample_clip(tmp_path_factory.mktemp("clip") / "clip.mov")


@pytest.fixture
def saved(clip: Path, tmp_path: Path) -> Avatar:
    avatar = with_implicit_mouth(sample_avatar())
    scramble(avatar.model, seed=3)
    return save_avatar(avatar, clip, tmp_path / "a.avatar")


# --- the folder ---


def test_everything_comes_back_bit_for_bit(saved: Avatar, clip: Path, tmp_path: Path) -> None:
    loaded = load_avatar(saved.path)
    assert loaded.manifest == saved.manifest and loaded.manifest.mouth_kind == "implicit"
    before, after = saved.model.state_dict(), loaded.model.state_dict()
    assert before.keys() == after.keys() and isinstance(loaded.model.mouth, ImplicitMouth)
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]), name
    vertices = PlyData.read(str(saved.path / "gaussians.ply"))["vertex"]
    assert len(vertices) == len(saved.model) and set(vertices["branch"]) == {0, 1}
    again = save_avatar(loaded, clip, tmp_path / "b.avatar")
    assert (again.path / "motion.safetensors").read_bytes() == (saved.path / "motion.safetensors").read_bytes()


def test_info_and_report_say_what_the_mouth_is(saved: Avatar, clip: Path, tmp_path: Path) -> None:
    assert Fact("inside the mouth", "implicit") in describe(saved.path)
    ordinary = save_avatar(sample_avatar(), clip, tmp_path / "c.avatar")
    assert not any(fact.name == "inside the mouth" for fact in describe(ordinary.path))
    page = write_report(saved, saved.source_video(), tmp_path, device="cpu").read_text(encoding="utf-8")
    assert "implicit mouth" in page


def changed_tensor(name: str, change: Callable[[torch.Tensor], torch.Tensor | None]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        tensors = load_file(path)
        changed = change(tensors.pop(name))
        save_file(tensors if changed is None else tensors | {name: changed.contiguous()}, path)

    return apply


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed_tensor("mouth.field.place_layer.weight", lambda t: t[:, 1:]), "place_layer.weight"),
        (changed_tensor("mouth.field.hidden_layer.weight", lambda t: t[:5, :5]), "hidden_layer.weight"),
        (changed_tensor("mouth.field.output_layer.bias", lambda t: None), "holds nothing under mouth.field.output"),
        (changed_tensor("mouth.field.reach", lambda t: t[1:]), "mouth.field.reach"),
        (changed_tensor("mouth.middle", lambda t: t.double()), "float64"),
        (lambda path: path.write_bytes(path.read_bytes()[:-7]), "cannot be read"),
        (lambda path: path.write_bytes(b"\xff" * 64), "cannot be read"),
    ],
)
def test_damaged_tensors_are_refused(saved: Avatar, change: Callable[[Path], None], message: str) -> None:
    change(saved.path / "motion.safetensors")
    seal(saved.path)
    with pytest.raises(DamagedAvatarError, match=message):
        load_avatar(saved.path)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"mouth": 10}, "expected no Gaussians of an implicit mouth, got 10"),
        ({"mouth_kind": "gaussians"}, "under mouth"),
        ({"mouth_kind": "wax"}, "expected a mouth of gaussians or implicit"),
        ({"experts": ["picture", "wizard"]}, "expected experts of picture, sync, .* got picture, wizard"),
    ],
)
def test_facts_that_contradict_the_files(saved: Avatar, facts: dict[str, object], message: str) -> None:
    seal(saved.path, **facts)
    with pytest.raises(DamagedAvatarError, match=message):
        load_avatar(saved.path)


def test_tensors_of_wild_numbers_are_drawn_without_them(saved: Avatar) -> None:
    """Shapes are right, numbers are not: somebody made them up."""
    changed_tensor("mouth.middle", lambda t: t * torch.nan)(saved.path / "motion.safetensors")
    seal(saved.path)
    (picture,) = AvatarRenderer(load_avatar(saved.path), "cpu").free([DrivenFrame(0, saved.tracks.lower[0])])
    assert picture.shape == (CLIP.crop.resolution, CLIP.crop.resolution, 3)


# --- drawn ---


def test_a_batch_shows_what_its_frames_show_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    avatar = with_implicit_mouth(tiny_avatar())
    frames = [DrivenFrame(number, avatar.tracks.lower[number + 5]) for number in range(BATCH)]
    alone = [picture for frame in frames for picture in AvatarRenderer(avatar, "cpu").free([frame])]
    monkeypatch.setattr(talkinghead.renderer, "batch_size_for", lambda device, side: BATCH)
    for picture, other in zip(AvatarRenderer(avatar, "cpu").free(frames), alone, strict=True):
        difference = np.abs(picture.astype(int) - other)
        assert difference.max() <= 1 and (difference > 0).mean() < 0.01


def test_a_frame_has_the_time_of_its_source_and_the_lips_that_are_heard() -> None:
    avatar = with_implicit_mouth(tiny_avatar())
    tracks, renderer = avatar.tracks, AvatarRenderer(avatar, "cpu")
    tracks.head_rotations[:], tracks.upper[:] = tracks.head_rotations[0], tracks.upper[0]
    still, later = renderer.free([DrivenFrame(number, tracks.lower[0]) for number in (0, 19)])
    assert np.abs(still.astype(int) - later).max() > 3
    (spoken,) = renderer.free([DrivenFrame(0, tracks.lower[0] + 2)])
    assert np.abs(still.astype(int) - spoken).max() > 3
    held = dataclasses.replace(avatar, manifest=dataclasses.replace(avatar.manifest, fitted_frames=10))
    end, beyond = AvatarRenderer(held, "cpu").free([DrivenFrame(number, tracks.lower[0]) for number in (9, 19)])
    np.testing.assert_array_equal(end, beyond)


# --- from end to end ---


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """From few frames in few steps, and not aligned to them in the end."""
    folder = tmp_path_factory.mktemp("implicit")

    def not_aligned(info: VideoInfo, clip: TrackedClip, *_: object) -> Generator[Progress, None, TrackedClip]:
        yield Progress("aligning", 1, 1)
        return clip

    with quick_fit(), pytest.MonkeyPatch.context() as patch:
        short = dataclasses.replace(RECIPE, fitting=dataclasses.replace(RECIPE.fitting, steps=20), frames=12)
        patch.setitem(RECIPES, "fast", short)
        patch.setattr(talkinghead.fit, "refine_track", not_aligned)
        for _ in fit(demo_clip().path, folder / "demo.avatar", dataclasses.replace(CONFIG, mouth="implicit")):
            pass
    yield folder / "demo.avatar"


def test_a_fit_makes_an_avatar_that_speaks(fitted: Path, tmp_path: Path) -> None:
    avatar = load_avatar(fitted)
    facts = avatar.manifest
    assert (facts.mouth_kind, facts.mouth) == ("implicit", 0)
    assert json.loads((fitted / "avatar.json").read_text(encoding="utf-8"))["avatar"]["mouth_kind"] == "implicit"
    assert avatar.model.mouth.field.output_layer.weight.abs().max() > 0, "it has learned"
    assert bool((avatar.model.mouth.half_size > 0.02).all())
    tone = (0.3 * np.sin(np.arange(8_000) / 5)).astype(np.float32)
    sound = write_sound(tmp_path / "tone.wav", tone, 16_000)
    for background in ("source", "plate"):
        output = tmp_path / f"{background}.mp4"
        for _ in speak(avatar, sound, output, SpeakConfig(background=background)):
            pass
        assert probe(output).frame_count == 12


def test_the_mouth_is_an_option_of_fit() -> None:
    assert FitConfig().mouth == "gaussians"
