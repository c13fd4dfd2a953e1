"""Experts in a fit: which are made, what they leave in the avatar, and that the head's own part does not change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from demo_clip_track import demo_clip, finish
from fitted_demo import CONFIG, RECIPE, FittedDemo, quick_fit

from encoders.experts.discriminator import DiscriminatorConfig
from encoders.experts.sync_expert import SyncConfig
from encoders.experts.viseme_training import VisemeTraining
from talkinghead.avatar import Avatar, load_avatar
from talkinghead.config import Expert, FitConfig
from talkinghead.driven_fit import DrivenConfig
from talkinghead.experts import ExpertsConfig, seeded
from talkinghead.fit import exchange_lips
from talkinghead.info import Fact, describe
from talkinghead.lip_fit import clip_features
from talkinghead.presets import RECIPES
from talkinghead.progress import Progress
from tools.errors import UserError

EVERY: tuple[Expert, ...] = ("sync", "reading", "discriminator")
MOMENT = ExpertsConfig(
    driven=DrivenConfig(steps=4, run=12, length=5),
    sync=SyncConfig(size=16, steps=2),
    reader=VisemeTraining(steps=2, runs=2),
    discriminator=DiscriminatorConfig(size=16, learns_after=1, judges_after=2),
)


@pytest.fixture(scope="module")
def judged(fitted_demo: FittedDemo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Avatar, list[str]]]:
    """The demo avatar after all experts, and the stages on the way."""
    yield judged_demo(fitted_demo, EVERY, tmp_path_factory.mktemp("judged") / "judged.avatar")


def judged_demo(fitted_demo: FittedDemo, experts: tuple[Expert, ...], output: Path) -> tuple[Avatar, list[str]]:
    stages: list[Progress] = []
    with quick_fit(), pytest.MonkeyPatch.context() as patch:
        patch.setitem(RECIPES, "fast", replace(RECIPE, experts=MOMENT))
        job = exchange_lips(load_avatar(fitted_demo.avatar), demo_clip(), replace(CONFIG, experts=experts), output)
        while True:
            try:
                stages.append(next(job))
            except StopIteration:
                return load_avatar(output), list(dict.fromkeys(event.stage for event in stages))


def test_every_expert_is_made_once_and_then_all_judge(judged: tuple[Avatar, list[str]]) -> None:
    _, stages = judged
    assert [stage for stage in stages if stage in ("sync expert", "lip reader", "driving the mouth")] == [
        "sync expert",
        "lip reader",
        "driving the mouth",
    ]


def test_what_was_learned_is_in_the_saved_avatar(judged: tuple[Avatar, list[str]], fitted_demo: FittedDemo) -> None:
    after, before = judged[0], load_avatar(fitted_demo.avatar)
    assert before.lips.residual is None and after.lips.residual is not None
    changed = {
        name
        for name, tensor in after.model.state_dict().items()
        if not torch.equal(tensor, before.model.state_dict()[name])
    }
    assert {name.split(".")[0] for name in changed} == {"face", "mouth"}
    assert {name.split(".")[1] for name in changed} == {"field"}
    speech = clip_features(demo_clip(), after.encoder, after.embedding, after.manifest.sound_delay_frames)
    difference = np.abs(after.lips.predict(speech) - before.lips.predict(speech))
    assert 0 < difference.max() < 0.5
    plain = replace(after.lips, residual=None)
    np.testing.assert_array_equal(plain.predict(speech), before.lips.predict(speech))


def test_the_avatar_says_who_judged_it(judged: tuple[Avatar, list[str]], fitted_demo: FittedDemo) -> None:
    avatar = judged[0]
    assert avatar.manifest.experts == EVERY
    assert Fact("mouth judged by", ", ".join(EVERY)) in describe(avatar.path)
    assert "mouth judged by" not in {fact.name for fact in describe(fitted_demo.avatar)}


def test_with_nobody_but_the_pictures_no_network_is_trained(fitted_demo: FittedDemo, tmp_path: Path) -> None:
    avatar, stages = judged_demo(fitted_demo, ("picture",), tmp_path / "picture.avatar")
    assert avatar.lips.residual is not None
    assert "driving the mouth" in stages and not {"sync expert", "lip reader"} & set(stages)


def test_seeds_are_the_fits_and_the_recipes() -> None:
    assert seeded(VisemeTraining(seed=5), FitConfig(seed=2)).seed == 7


@pytest.mark.parametrize("reader", ["av-hubert", "reader.pt", ""])
def test_a_reader_that_is_none(reader: str) -> None:
    with pytest.raises(UserError, match=r"--reader takes visemes, auto-avsr or a \.safetensors file"):
        FitConfig(reader=reader)


def test_the_whole_fit_goes_through_the_same_part(tmp_path: Path) -> None:
    """What `fit` makes with experts is what `exchange_lips` makes of the head without."""
    from talkinghead.fit import fit

    with quick_fit(), pytest.MonkeyPatch.context() as patch:
        patch.setitem(RECIPES, "fast", replace(RECIPE, experts=MOMENT))
        config = replace(CONFIG, experts=("picture",))
        finish(fit(demo_clip().path, tmp_path / "whole.avatar", config))
        finish(fit(demo_clip().path, tmp_path / "head.avatar", CONFIG))
        finish(exchange_lips(load_avatar(tmp_path / "head.avatar"), demo_clip(), config, tmp_path / "parts.avatar"))
    whole, parts = (load_avatar(tmp_path / f"{name}.avatar") for name in ("whole", "parts"))
    assert whole.manifest.experts == parts.manifest.experts == ("picture",)
    for name, tensor in whole.model.state_dict().items():
        torch.testing.assert_close(tensor, parts.model.state_dict()[name], atol=1e-6, rtol=0)
    for name, tensor in whole.lips.residual.state_dict().items():
        torch.testing.assert_close(tensor, parts.lips.residual.state_dict()[name], atol=1e-6, rtol=0)
