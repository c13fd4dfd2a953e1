"""The ablation's variants and its table; fits themselves are tested elsewhere."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path

import pytest
from fitted_demo import RECIPE
from test_fitting import CONFIG as TINY
from test_fitting import finished, fitter, frames

import talkinghead.ablation
from talkinghead.ablation import MEASURES, VARIANTS, main
from talkinghead.config import EvaluateConfig, FitConfig
from talkinghead.evaluation.drives import AUDIO, TRACKED
from talkinghead.presets import RECIPES
from talkinghead.progress import Progress


def test_every_variant_but_the_first_changes_the_recipe_in_its_own_way() -> None:
    recipes = [change(RECIPE) for change in VARIANTS.values()]
    assert recipes[0] == RECIPE
    assert len({repr(recipe) for recipe in recipes}) == len(VARIANTS)


def test_without_body_motion_the_body_field_learns_nothing() -> None:
    moved, still = (finished(fitter(frames(), body_motion=motion)) for motion in (True, False))
    assert TINY.body_motion and moved.model.body.field.output_layer.weight.abs().max() > 0
    assert still.model.body.field.output_layer.weight.abs().max() == 0


def test_the_table_is_printed_and_what_is_there_is_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fits: list[FitConfig] = []

    class Figures:
        def to_json(self) -> str:
            row = {name: 30.0 + len(fits) for name in MEASURES} | {"head_jitter": None}
            return json.dumps({"rows": {TRACKED: row, AUDIO: row}})

    def fake_fit(video: Path, output: Path, config: FitConfig) -> Generator[Progress, None, None]:
        fits.append(config)
        yield Progress("fitting", 1, 1)

    def fake_evaluate(target: Path, config: EvaluateConfig) -> Generator[Progress, None, Figures]:
        yield Progress("measuring", 1, 1)
        return Figures()

    monkeypatch.setattr(talkinghead.ablation, "fit", fake_fit)
    monkeypatch.setattr(talkinghead.ablation, "probe", lambda video: None)
    monkeypatch.setattr(talkinghead.ablation, "evaluate", fake_evaluate)
    monkeypatch.setattr(talkinghead.ablation, "RECIPES", dict(RECIPES))
    arguments = ["person.mp4", "-o", str(tmp_path / "ablation"), "--preset", "fast", "--seed", "3"]
    main(arguments)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "person.mp4" and len(printed) == len(VARIANTS) + 2
    assert [line.split("  ")[0] for line in printed[2:]] == list(VARIANTS)
    assert printed[2].split()[-1] == "31" and printed[3].split()[-2:] == ["-", "32"]
    assert [config.seed for config in fits] == [3] * len(VARIANTS)
    main(arguments)
    assert len(fits) == len(VARIANTS)
    assert capsys.readouterr().out.splitlines() == printed


def test_a_wrong_path_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "no.mp4"), "-o", str(tmp_path)]) == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1 and "no.mp4" in complaint
