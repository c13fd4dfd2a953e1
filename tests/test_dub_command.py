"""`talkinghead dub` with real avatars and real rendering, small; the option's way to the jobs; the summary."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from media_samples import write_sound
from tiny_avatar import save_speaking_avatar

import talkinghead.fit
from talkinghead.cli import main
from talkinghead.config import FitConfig
from talkinghead.dubbing.avatar_store import AvatarStore
from talkinghead.progress import Progress
from tools.video import probe

RATE = 16_000


@pytest.fixture
def studio(tmp_path: Path) -> Path:
    """A folder with an avatar, footage and speech."""
    save_speaking_avatar(tmp_path)
    noise = np.random.default_rng(0).normal(scale=0.1, size=RATE).astype(np.float32)
    write_sound(tmp_path / "Grüße an “alle”.wav", noise, RATE)
    write_sound(tmp_path / "half.wav", noise[: RATE // 2], RATE)
    return tmp_path


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "report.jsonl").read_text(encoding="utf-8").splitlines()]


def test_avatars_speak(studio: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entries = [
        {"avatar": "tiny.avatar", "audio": "Grüße an “alle”.wav"},
        {"avatar": "tiny.avatar", "audio": "half.wav", "output": "de/half.mov", "background": "alpha"},
    ]
    (studio / "jobs.jsonl").write_text("\n".join(map(json.dumps, entries)), encoding="utf-8")
    command = ["dub", str(studio / "jobs.jsonl"), "-o", str(studio / "out"), "--workers", "2"]
    assert main(command) == 0
    shown = capsys.readouterr()
    first, second = studio / "out" / "tiny.Grüße an “alle”.mp4", studio / "out" / "de" / "half.mov"
    assert (probe(first).frame_count, probe(second).frame_count) == (25, 12)
    assert probe(first).has_audio and probe(second).pixel_format.startswith("yuva")
    report = lines(studio / "out")
    assert [(line["row"], line["status"], line["frames"]) for line in report] == [(1, "done", 25), (2, "done", 12)]
    assert [line["output"] for line in report] == [str(first), str(second)]
    assert {line["avatar"] for line in report} == {str(studio / "tiny.avatar")}
    assert "2 jobs: 2 done; see" in shown.out and "row 2: half.mov done" in shown.err
    assert sorted(path.name for path in (studio / "out").iterdir()) == [".dub", "de", "report.jsonl", first.name]
    assert main(command) == 0
    assert "2 jobs: 2 already done" in capsys.readouterr().out


def test_a_person_who_is_fitted_in_another_run(
    studio: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The avatar that a fit (here a copy) left in the store is taken for every job of that person."""
    video = studio / "tiny-spoken.mp4"
    monkeypatch.setattr("tools.preflight.MINIMUM_SECONDS", 0.5)

    def fit(video: Path, output: Path, config: FitConfig) -> Iterator[Progress]:
        yield Progress("fitting", 0, 1)
        (studio / "tiny.avatar").rename(output)

    monkeypatch.setattr(talkinghead.fit, "fit", fit)
    store = AvatarStore(studio / "people")
    config = FitConfig(preset="fast", consent="Zoë agreed")
    list(store.avatar_for(video, config))
    (studio / "jobs.csv").write_text(
        "video;audio;preset;consent\ntiny-spoken.mp4;half.wav;fast;Zoë agreed\n", encoding="utf-8"
    )
    options = ["--avatars", str(studio / "people"), "--device", "cpu"]
    assert main(["dub", str(studio / "jobs.csv"), "--out", str(studio / "out"), *options]) == 0
    (line,) = lines(studio / "out")
    assert line["avatar"] == str(store.place(video, config)) and line["frames"] == 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["film.mp4", "--out", "new"], "film.mp4 is no job list: give a file that ends in .csv"),
        (["jobs.csv", "--out", "new", "--workers", "0"], "--workers takes 1 to"),
        (["jobs.csv", "--out", "new", "--crf", "99"], "--crf takes 0 to 51"),
        (["none.csv", "--out", "new"], "none.csv cannot be read"),
        (["jobs.csv", "--out", "new", "--device", "cuda"], "--device cuda cannot work here"),
        (["jobs.csv", "--out", "new", "--certificate", "none.pem"], "none.pem"),
        (["jobs.csv", "--out", "jobs.csv"], "jobs.csv: it is a file"),
    ],
)
def test_what_is_wrong_with_the_command(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (tmp_path / "jobs.csv").write_text("video,audio\na.mp4,b.wav\n")
    assert main(["dub", *options]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "new").exists()
