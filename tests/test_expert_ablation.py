"""The ablation of experts: what is fitted and measured when, what a stopped run keeps, and the table's arithmetic."""

from __future__ import annotations

import json
import math
from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace

import pytest

import talkinghead.expert_ablation as ablation
from encoders.errors import EncoderWeightsError
from talkinghead.config import FitConfig
from talkinghead.errors import UnjudgedClipError
from talkinghead.evaluation.drives import AUDIO, TRUTH
from talkinghead.expert_ablation import BASELINE, COLUMNS, VARIANTS, ExpertAblation, Line, changes, main, table
from talkinghead.progress import Progress
from tools.errors import UserError

VARIANT = "+ contrastive sync"


class FakeFits:
    """Stands in for everything slow, counts what is asked for, and stops when told to."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.heads: list[FitConfig] = []
        self.lips: list[FitConfig] = []
        self.observers = 0
        self.stop_before_lips = math.inf
        self.unjudged: tuple[str, ...] = ("nobody",)
        patch.setattr(ablation, "fit", self.fit)
        patch.setattr(ablation, "exchange_lips", self.exchange)
        patch.setattr(ablation, "measure", self.measure)
        patch.setattr(ablation, "_observer", self.observer)
        patch.setattr(ablation, "load_avatar", lambda path: path)

    def fit(self, video: Path, output: Path, config: FitConfig) -> Generator[Progress, None, None]:
        self.heads.append(config)
        output.mkdir(parents=True, exist_ok=True)
        (output / "avatar.json").touch()
        yield Progress("fitting", 1, 1)

    def exchange(self, head: Path, info: object, config: FitConfig, output: Path) -> Generator[Progress, None, None]:
        if len(self.lips) >= self.stop_before_lips:
            raise KeyboardInterrupt
        if config.experts == self.unjudged:
            raise UnjudgedClipError("no face is seen long enough")
        self.lips.append(config)
        output.mkdir(exist_ok=True)
        yield Progress("adapting", 1, 1)

    def measure(
        self, avatar: object, looking: object, config: object, rows: list[str]
    ) -> Generator[Progress, None, SimpleNamespace]:
        yield Progress("measuring", 1, 1)
        figures = dict.fromkeys(COLUMNS, float(len(self.lips))) | {"closure_recall": math.nan}
        return SimpleNamespace(rows=dict.fromkeys([*rows, TRUTH], figures))

    def observer(self, job: ExpertAblation) -> Generator[Progress, None, None]:
        self.observers += 1
        (job.output / ablation.OBSERVER_NAME).write_text("observer")
        yield Progress("observer", 1, 1)


@pytest.fixture
def arguments(tmp_path: Path, fixture_clip: Path) -> list[str]:
    chosen = ["--seeds", "0", "7", "--variants", BASELINE, VARIANT, "implicit mouth"]
    return [str(fixture_clip), "-o", str(tmp_path / "out"), "--preset", "fast", *chosen]


@pytest.fixture
def fixture_clip() -> Path:
    from demo_clip_track import demo_clip

    return demo_clip().path


def test_a_head_for_each_seed_and_mouth_and_lips_for_each_variant(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fits = FakeFits(monkeypatch)
    assert main(arguments) == 0
    assert [(one.seed, one.mouth, one.experts) for one in fits.heads] == [
        (seed, mouth, ()) for seed in (0, 7) for mouth in ("gaussians", "implicit")
    ]
    assert [one.experts for one in fits.lips] == 2 * [(), ("sync",), ()]
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split()[:2] == ["hull", "PSNR,"]
    names = [line.split("  ")[0] for line in printed[1 : printed.index("")]]
    assert {BASELINE, VARIANT, "implicit mouth", TRUTH, "tracked", "shuffled"} == set(names)
    assert " 3.5 ± 2.1 " in next(line for line in printed if line.startswith(VARIANT)), "of 2 and 5"
    assert " - " in printed[1], "closures are undefined"


def test_a_stopped_run_goes_on_and_what_changed_is_done_anew(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fits = FakeFits(monkeypatch)
    fits.stop_before_lips = 4
    assert main(arguments) == 130
    fits.stop_before_lips = math.inf
    assert main(arguments) == 0
    assert (len(fits.heads), len(fits.lips)) == (4, 6)
    first = capsys.readouterr().out
    assert main(arguments) == 0
    assert (len(fits.heads), len(fits.lips)) == (4, 6)
    assert capsys.readouterr().out == first
    text = (tmp_path / "out" / "table.md").read_text()
    assert text.count("| baseline |") == 2, "of the clip, and of all clips"
    assert text.count("against the baseline's") == len(ablation.CHANGES)
    damaged = next((tmp_path / "out").glob("*.0.baseline.json"))
    damaged.write_text("{")
    monkeypatch.setitem(ablation.RECIPES, "fast", ablation.RECIPES["standard"])
    assert main(arguments) == 0
    assert (len(fits.heads), len(fits.lips)) == (8, 12), "another recipe"


def test_an_expert_that_a_clip_has_nothing_for_is_a_note(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fits = FakeFits(monkeypatch)
    fits.unjudged = ("sync",)
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    row = next(line for line in printed.splitlines() if line.startswith(f"{VARIANT} "))
    assert row.split()[-len(COLUMNS) :] == ["-"] * len(COLUMNS)
    assert printed.count(f", {VARIANT}: no face is seen long enough") == 2, "one for each seed"
    assert len(fits.lips) == 4, "the others are measured"
    assert (tmp_path / "out" / "table.md").read_text().count("no face is seen long enough") == 2


def test_every_variant_is_a_fit_of_its_own() -> None:
    fits = [variant.of(FitConfig()) for variant in VARIANTS.values()]
    assert fits[0] == FitConfig() and len({repr(one) for one in fits}) == len(VARIANTS)


def test_an_unknown_variant_and_a_wrong_path(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="--variants takes baseline"):
        ExpertAblation((), Path("x"), variants=("+ nothing",))
    assert main(["no.mp4", *arguments[1:]]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_mean_over_clips_and_spread_over_seeds() -> None:
    def line(clip: str, seed: int, psnr: float) -> Line:
        return Line("one", clip, seed, dict.fromkeys(COLUMNS, math.nan) | {"hull_psnr": psnr})

    values = [line("a", 0, 30), line("b", 0, 40), line("a", 1, 34), line("b", 1, math.inf)]
    heading, row = table(values)
    assert heading[1] == COLUMNS["hull_psnr"]
    assert row == ("one", "34.5 ± 0.71", *["-"] * (len(COLUMNS) - 1)), "of 35 and 34: infinite is not counted"
    assert table([line("a", 0, 30)])[1][1] == "30"


def test_changes_are_of_the_same_clip_and_seed() -> None:
    def line(name: str, clip: str, seed: int, lmd: float) -> Line:
        return Line(name, clip, seed, dict.fromkeys(COLUMNS, math.nan) | {"lmd_px": lmd, "hull_psnr": lmd})

    lines = [line(BASELINE, "a", 0, 2), line(BASELINE, "a", 1, 4), line(BASELINE, "b", 0, 1), line(TRUTH, "a", 0, 0)]
    assert changes(lines, "lmd_px") == [], "there is nothing to compare"
    lines += [line(VARIANT, "a", 0, 1.9), line(VARIANT, "a", 1, 4.2), line(VARIANT, "b", 1, 5)]
    assert changes(lines, "lmd_px") == [("", "a", "b"), (VARIANT, "+0.0 ± 7.1", "-")], "of -5 % and +5 %"
    assert changes(lines, "hull_psnr")[1][1] == "+0.05 ± 0.21", "in dB"
    assert changes(lines, "seconds")[1][1] == "-", "undefined"
    assert changes([line for line in lines if line.name != BASELINE], "lmd_px") == []


def test_figures_are_strict_json(arguments: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    FakeFits(monkeypatch)
    assert main(arguments) == 0
    for path in (tmp_path / "out").glob("*.json"):
        content = json.loads(path.read_text(), parse_constant=lambda constant: pytest.fail(constant))
        assert set(content) == {"key", "rows"} and (AUDIO in content["rows"] or "head" in content["rows"])


def test_an_observer_that_was_half_written_is_trained_again(tmp_path: Path) -> None:
    (tmp_path / ablation.OBSERVER_NAME).write_bytes(b"half")
    with pytest.raises(EncoderWeightsError):
        ablation.load_observer(tmp_path / ablation.OBSERVER_NAME)
