"""`talkinghead compare`: one head, lips by several features; stopped, resumed, damaged, and with weights missing."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Collection, Generator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NoReturn

import pytest
from demo_clip_track import HOLDOUT, demo_clip, finish
from fitted_demo import FittedDemo

import talkinghead.compare
import talkinghead.config
from encoders.errors import EncoderWeightsError, FeatureUnavailableError, LipClipError
from talkinghead.avatar import Avatar, load_avatar
from talkinghead.cli import main
from talkinghead.compare import compare
from talkinghead.comparison import Comparison, FeatureFigures
from talkinghead.config import CompareConfig, EvaluateConfig, FitConfig
from talkinghead.errors import NoFeatureError, NothingHeldOutError, OutputExistsError
from talkinghead.evaluate import measure
from talkinghead.evaluation.available import Available, available
from talkinghead.evaluation.instruments import Measure
from talkinghead.evaluation.pictures import PictureInstrument
from talkinghead.evaluation.result import Evaluation
from talkinghead.file_record import FileRecord
from talkinghead.fit import work_folder
from talkinghead.outputs import COMPARISON_NAME, MANIFEST_NAME, check_comparison_folder
from talkinghead.progress import Progress
from tools.errors import OutputError, UserError

CONFIG = CompareConfig(("default", "logmel", "mfcc"), preset="fast")
HEAD_FILES = ("gaussians.ply", "motion.safetensors", "tracks.safetensors", "background.png", "source.mp4")


@dataclass
class Work:
    """What was done, in order; the fakes of `work` add to it."""

    done: list[str] = field(default_factory=list)
    refused: dict[str, BaseException] = field(default_factory=dict)
    """What goes wrong when lips are learned from a feature."""

    def taken(self) -> list[str]:
        """What was done since it was last asked."""
        done, self.done = self.done, []
        return done


@pytest.fixture
def demo_head(fitted_demo: FittedDemo, monkeypatch: pytest.MonkeyPatch) -> Work:
    """Fitting puts the avatar of the demo clip and its track where they shall be."""
    work = Work()

    def fit(video: Path, output: Path, config: FitConfig) -> Iterator[Progress]:
        assert (video.name, config) == (demo_clip().path.name, FitConfig("fast", config.seed, HOLDOUT))
        work.done.append("fit")
        yield Progress("fitting", 0, 1)
        for source, copy in ((fitted_demo.avatar, output), (work_folder(fitted_demo.avatar), work_folder(output))):
            shutil.copytree(source, copy, dirs_exist_ok=True)

    monkeypatch.setattr(talkinghead.config, "EVALUATION_HOLDOUT", HOLDOUT)
    monkeypatch.setattr(talkinghead.compare, "fit", fit)
    return work


@pytest.fixture
def work(demo_head: Work, monkeypatch: pytest.MonkeyPatch) -> Work:
    """In addition lips are not learned, and every figure is the length of the feature's name."""

    def exchange_lips(
        avatar: Avatar, info: object, config: FitConfig, output: Path
    ) -> Generator[Progress, None, Avatar]:
        if config.speech in demo_head.refused:
            raise demo_head.refused[config.speech]
        demo_head.done.append(f"lips {config.speech}")
        yield Progress("lips", 1, 1)
        output.mkdir(exist_ok=True)
        (output / MANIFEST_NAME).touch()
        return replace(avatar, manifest=replace(avatar.manifest, speech_feature=config.speech), path=output)

    def measure(
        avatar: Avatar, looking: Available, config: EvaluateConfig, rows: Collection[str]
    ) -> Generator[Progress, None, Evaluation]:
        demo_head.done.append(f"measure {avatar.path.name}")
        yield Progress("measuring", 1, 1)
        values = dict.fromkeys((one.name for one in looking.measures), float(len(avatar.manifest.speech_feature)))
        return Evaluation({"seed": 0}, looking.measures, {row: values | {"closures": math.nan} for row in rows})

    monkeypatch.setattr(talkinghead.compare, "exchange_lips", exchange_lips)
    monkeypatch.setattr(talkinghead.compare, "measure", measure)
    return demo_head


def compared(folder: Path, config: CompareConfig = CONFIG) -> Comparison:
    return finish(compare(demo_clip().path, folder, config))


def everything() -> Available:
    """What can be measured here, without a network."""
    return finish(available(EvaluateConfig(), demo_clip().fps))


ALL = ["fit", "measure head.avatar"]
ALL += [f"{done}" for name in CONFIG.speech for done in (f"lips {name}", f"measure {name}.avatar")]


# --- for real ---


def test_only_the_lips_differ_between_features(
    demo_head: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def urlopen(url: str, timeout: float) -> NoReturn:
        tried.append(url)
        raise OSError("no network")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    result = compared(tmp_path / "out", replace(CONFIG, speech=("default", "logmel")))
    head, default, logmel = (tmp_path / "out" / f"{name}.avatar" for name in ("head", "default", "logmel"))
    for name in HEAD_FILES:
        assert (head / name).read_bytes() == (default / name).read_bytes() == (logmel / name).read_bytes(), name
    learned = [(folder / "speech_encoder.safetensors").read_bytes() for folder in (head, default, logmel)]
    assert learned[0] == learned[1], "learned anew, the fit's own lips are the fit's own, to the bit"
    assert learned[1] != learned[2] and load_avatar(logmel).manifest.speech_feature == "logmel"

    assert tried and len(set(tried)) == len(tried), "weights were fetched for every feature"
    assert "own_sync_distance" in result.to_table()[0]
    looking = everything()
    assert [one.name for one in result.features] == ["default", "logmel"] and result.notes == looking.notes
    evaluation = finish(measure(load_avatar(logmel), looking, EvaluateConfig()))
    for row, figures in (("tracked", result.tracked), ("audio", result.features[1].audio)):
        assert evaluation.rows[row] == pytest.approx(figures, nan_ok=True), f"{row}: not what evaluate says"
    assert result.features[0].audio["lmd_px"] != result.features[1].audio["lmd_px"]
    assert {one.shuffled["lmd_px"] > 0 for one in result.features} == {True}


# --- stopped, resumed, damaged ---


def test_a_comparison_that_is_done_is_not_done_again(work: Work, tmp_path: Path) -> None:
    first = compared(tmp_path / "out")
    assert work.taken() == ALL
    content = (tmp_path / "out" / "comparison.json").read_bytes()
    assert repr(compared(tmp_path / "out")) == repr(first) and work.taken() == []
    assert (tmp_path / "out" / "comparison.json").read_bytes() == content


@pytest.mark.parametrize("last", range(len(ALL)))
def test_a_stopped_comparison_goes_on(work: Work, tmp_path: Path, last: int) -> None:
    job = compare(demo_clip().path, tmp_path / "out", CONFIG)
    while len(work.done) <= last:
        next(job)
    job.close()
    check_comparison_folder(tmp_path / "out")
    begun = work.taken()
    assert begun == ALL[: last + 1]
    half = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert len(half["features"]) == max(last - 2, 0) // 2
    result = compared(tmp_path / "out")
    # What was under way begins anew, with the lips of a feature that was being measured.
    again = last - 1 if ALL[last].startswith("measure") and last > 1 else last
    assert work.taken() == ALL[again:]
    assert [(one.name, one.audio["lmd_px"]) for one in result.features] == [("default", 7), ("logmel", 6), ("mfcc", 4)]


def test_ctrl_c_is_exit_code_130_and_the_same_command_goes_on(
    work: Work, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    command = ["compare", str(demo_clip().path), "--speech", "default,logmel", "--preset", "fast", "-o", str(folder)]
    work.refused = {"logmel": KeyboardInterrupt()}
    assert main(command) == 130
    shown = capsys.readouterr()
    assert shown.out == "" and "talkinghead: stopped" in shown.err and "Traceback" not in shown.err
    assert work.taken() == ["fit", "measure head.avatar", "lips default", "measure default.avatar"]
    assert list(json.loads((folder / COMPARISON_NAME).read_text())["features"]) == ["default"]
    work.refused = {}
    assert main(command) == 0 and work.taken() == ["lips logmel", "measure logmel.avatar"]
    assert list(json.loads((folder / COMPARISON_NAME).read_text())["features"]) == ["default", "logmel"]


# --- another comparison in the folder ---


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def another_clip(tmp_path: Path) -> Path:
    """The same pictures and sound in a file of the same name."""
    (tmp_path / "other").mkdir()
    path = tmp_path / "other" / demo_clip().path.name
    path.write_bytes(demo_clip().path.read_bytes() + b"\0\0\0\x08free")
    return path


def test_another_video_does_not_replace_a_comparison_by_itself(
    work: Work, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    compared(folder)
    work.taken()
    before = contents(folder)
    command = ["compare", str(another_clip(tmp_path)), "--speech", "logmel", "--preset", "fast", "-o", str(folder)]
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"talkinghead: {folder} holds a comparison of another video: "
        "add --overwrite to replace it, or give another folder with -o"
    )
    assert contents(folder) == before and work.done == []

    assert main([*command, "--overwrite"]) == 0
    assert work.taken() == ["fit", "measure head.avatar", "lips logmel", "measure logmel.avatar"]
    assert not list(folder.glob("default*")) and not list(folder.glob("mfcc*")), "of the video that is replaced"
    written = json.loads((folder / COMPARISON_NAME).read_text())
    assert written["protocol"]["source_sha256"] == FileRecord.of(Path(command[1])).sha256


def test_another_seed_is_another_comparison_and_other_features_are_not(work: Work, tmp_path: Path) -> None:
    compared(tmp_path / "out", replace(CONFIG, speech=("default",)))
    with pytest.raises(OutputExistsError, match="of another seed: add --overwrite"):
        compared(tmp_path / "out", replace(CONFIG, seed=1))
    work.taken()
    assert len(compared(tmp_path / "out").features) == 3
    assert work.taken() == ["lips logmel", "measure logmel.avatar", "lips mfcc", "measure mfcc.avatar"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"protocol": {"preset": "fast"}}'])
def test_a_comparison_that_cannot_be_read_is_not_replaced_either(work: Work, tmp_path: Path, text: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / COMPARISON_NAME).write_text(text)
    with pytest.raises(OutputExistsError, match="of another kind: add --overwrite"):
        compared(tmp_path / "out")
    assert len(finish(compare(demo_clip().path, tmp_path / "out", CONFIG, overwrite=True)).features) == 3


def cut_off(text: str) -> str:
    return text[: len(text) // 2]


def with_another_figure(text: str) -> str:
    return text.replace('"lmd_px": 6.0', '"lmd_px": 5.0')


@pytest.mark.parametrize(
    "damage", [cut_off, with_another_figure, lambda text: "", lambda text: "[]", lambda text: "{}", lambda text: "\0"]
)
def test_damaged_figures_are_measured_anew(work: Work, tmp_path: Path, damage: Callable[[str], str]) -> None:
    compared(tmp_path / "out")
    work.taken()
    path = tmp_path / "out" / "logmel.figures.json"
    text = path.read_text()
    assert damage(text) != text
    path.write_text(damage(text))
    result = compared(tmp_path / "out")
    assert work.taken() == ["lips logmel", "measure logmel.avatar"]
    assert result.features[1].audio["lmd_px"] == 6 and math.isnan(result.features[1].audio["closures"])


def test_bytes_that_are_no_text_are_measured_anew(work: Work, tmp_path: Path) -> None:
    compared(tmp_path / "out")
    work.taken()
    (tmp_path / "out" / "head.figures.json").write_bytes(b"\xff\xfe\xff")
    compared(tmp_path / "out")
    assert work.taken() == ["measure head.avatar"]


@pytest.mark.parametrize("name", ["avatar.json", "gaussians.ply"])
def test_a_damaged_head_is_fitted_anew(work: Work, tmp_path: Path, name: str) -> None:
    compared(tmp_path / "out")
    work.taken()
    path = tmp_path / "out" / "head.avatar" / name
    path.write_bytes(path.read_bytes()[:-20])
    compared(tmp_path / "out")
    assert work.taken()[0] == "fit"


def test_figures_belong_to_one_head_its_weights_and_its_measures(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = tmp_path / "out" / "head.avatar"
    compared(tmp_path / "out")
    measures = PictureInstrument.measures
    keys = {talkinghead.compare._key(head, speech, measures) for speech in (None, *CONFIG.speech)}
    keys.add(talkinghead.compare._key(head, "default", measures[1:]))
    monkeypatch.setattr(talkinghead.compare, "weights_sha256", lambda speech: "other weights")
    keys.add(talkinghead.compare._key(head, "default", measures))
    for content in (b"one", b"two"):
        (tmp_path / "se4lip.safetensors").write_bytes(content)
        keys.add(talkinghead.compare._key(head, str(tmp_path / "se4lip.safetensors"), measures))
    (head / "avatar.json").write_bytes((head / "avatar.json").read_bytes() + b"\n")
    keys.add(talkinghead.compare._key(head, "default", measures))
    assert len(keys) == 9


# --- what cannot be had ---


def unavailable(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Whoever wants these features is told to fetch their weights."""

    def fetch(speech: str) -> Iterator[Progress]:
        if speech in names:
            raise EncoderWeightsError(f"no weights of {speech}: fetch them")
        yield from ()

    monkeypatch.setattr(talkinghead.compare, "fetch_weights", fetch)


def test_a_feature_without_its_weights_is_left_out(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unavailable(monkeypatch, "hubert")
    command = ["compare", str(demo_clip().path), "--speech", "default,hubert", "logmel", "--preset", "fast"]
    assert main([*command, "-o", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr()
    first_words = [line.split("  ")[0] for line in shown.out.splitlines()]
    assert first_words == ["", "tracked", "default", "default, shuffled", "logmel", "logmel, shuffled"]
    assert "note: hubert left out: no weights of hubert: fetch them\n" in shown.err
    written = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert list(written["features"]) == ["default", "logmel"] and written["features"]["logmel"]["audio"]["lmd_px"] == 6
    assert written["features"]["logmel"]["audio"]["closures"] is None
    assert written["notes"] == ["hubert left out: no weights of hubert: fetch them", *everything().notes]


def test_without_any_feature_nothing_is_fitted(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unavailable(monkeypatch, "hubert", "whisper")
    command = ["compare", str(demo_clip().path), "--speech", "hubert", "whisper", "-o", str(tmp_path / "out")]
    assert main(command) == 2
    assert "no speech feature can be used: hubert left out: " in capsys.readouterr().err
    assert work.done == [] and list(tmp_path.iterdir()) == []


def test_a_video_that_is_too_short_is_refused_at_once(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(talkinghead.config, "EVALUATION_HOLDOUT", 0.1)
    with pytest.raises(NothingHeldOutError, match="give a longer video"):
        compared(tmp_path / "out")
    assert work.done == [] and not (tmp_path / "out").exists()


@pytest.mark.parametrize("error", [LipClipError("no lips"), FeatureUnavailableError("no package")])
def test_a_feature_that_learns_nothing_is_left_out(work: Work, tmp_path: Path, error: Exception) -> None:
    work.refused = {"logmel": error}
    result = compared(tmp_path / "out")
    assert [one.name for one in result.features] == ["default", "mfcc"]
    assert result.notes == (*everything().notes, f"logmel left out: {error}")
    work.refused = dict.fromkeys(CONFIG.speech, error)
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(NoFeatureError, match=r"default left out: .* mfcc left out: "):
        compared(tmp_path / "out")


# --- smaller things ---


@pytest.mark.parametrize("speech", [("default", "se4lip", "a/x.safetensors"), ("default,se4lip,a/x.safetensors",)])
def test_features_stand_between_spaces_or_commas(speech: tuple[str, ...]) -> None:
    assert CompareConfig(speech).features == ("default", "se4lip", "a/x.safetensors")
    assert CompareConfig(speech, "fast", 3).fit("pase") == FitConfig("fast", 3, 0.2, speech="pase")


@pytest.mark.parametrize("speech", [("default,default",), ("a/x.safetensors", "b/x.safetensors"), (), ("mel",)])
def test_unknown_and_repeated_features_are_refused(speech: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match=r"^--speech takes "):
        CompareConfig(speech)


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    check_comparison_folder(tmp_path)
    check_comparison_folder(tmp_path / "new")
    (tmp_path / "diary.txt").touch()
    for path, reason in ((tmp_path, "holds other files"), (tmp_path / "diary.txt", "is a file")):
        with pytest.raises(OutputError, match=reason):
            check_comparison_folder(path)
    (tmp_path / "comparison.json").touch()
    check_comparison_folder(tmp_path)


def test_the_table_shows_the_measures_that_there_are() -> None:
    names = ("hull_psnr", "whole_psnr", "lmd_px", "closure_recall")
    values = dict(zip(names, (39.84, 31.0, 1.6422, math.nan), strict=True))
    table = Comparison(
        {}, tuple(Measure(name, name) for name in names), values, (FeatureFigures("pase", 61.3, values, values),)
    ).to_table()
    assert table == [
        ("", "lmd_px", "closure_recall", "hull_psnr", "seconds"),
        ("tracked", "1.642", "-", "39.84", ""),
        ("pase", "1.642", "-", "39.84", "61"),
        ("pase, shuffled", "1.642", "-", "39.84", ""),
    ]
