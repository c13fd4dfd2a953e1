"""Checks of job lists: everything that is wrong with any row is told before any work, and nothing is touched."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Generator
from dataclasses import fields
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from media_samples import write_clip, write_sound
from tiny_avatar import save_tiny_avatar

from talkinghead.cli import main
from talkinghead.config import DubOptions, FitConfig, SpeakConfig
from talkinghead.dubbing.cell_values import OF_THE_COMMAND, OPTION_COLUMNS, options_of
from talkinghead.dubbing.job import Job
from talkinghead.dubbing.job_checks import JobFolder, check_jobs
from talkinghead.errors import JobListError
from talkinghead.progress import Progress
from tools.errors import UserError

RATE, FPS = 16_000, Fraction(25)


def tone(seconds: float) -> np.ndarray:
    return (0.3 * np.sin(np.arange(round(seconds * RATE)) / 5)).astype(np.float32)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is right and what is wrong, in a folder with a job list's files. No test may change it."""
    folder = tmp_path_factory.mktemp("studio footage")
    pictures = [frame / FPS for frame in range(80)]
    write_clip(folder / "person.mov", pictures, sound=(tone(3.2), RATE, Fraction(0)))
    write_clip(folder / "short.mov", pictures[:25], sound=(tone(1.0), RATE, Fraction(0)))
    write_clip(folder / "silent.mov", pictures)
    (folder / "text.mp4").write_text("I am not a video.\n")
    write_sound(folder / "speech.wav", tone(1.0), RATE)
    write_sound(folder / "blip.wav", tone(0.01), RATE)
    (folder / "no_samples.wav").write_bytes((folder / "speech.wav").read_bytes()[:44])
    save_tiny_avatar(folder)
    shutil.copytree(folder / "tiny.avatar", folder / "damaged.avatar")
    (folder / "damaged.avatar" / "motion.safetensors").write_bytes(b"cut off")
    (folder / "photos").mkdir()
    (folder / "poses.csv").write_text("yaw,pitch,roll,x,y,z\n0,0,0,0,0,0\n")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    out = tmp_path / "out"
    return JobFolder(out, out / "avatars", DubOptions(), overwrite=False)


def checked(inputs: Path, folder: JobFolder, *rows: str, columns: str = "video,audio,output") -> tuple[Job, ...]:
    path = inputs / "jobs.csv"
    path.write_text("\n".join([columns, *rows]) + "\n", encoding="utf-8")
    job: Generator[Progress, None, tuple[Job, ...]] = check_jobs(path, folder)
    while True:
        try:
            next(job)
        except StopIteration as finished:
            return finished.value


def problems(inputs: Path, folder: JobFolder, *rows: str, columns: str = "video,audio,output") -> list[str]:
    with pytest.raises(JobListError) as refused:
        checked(inputs, folder, *rows, columns=columns)
    return list(refused.value.problems)


def test_jobs_as_they_are_meant(inputs: Path, folder: JobFolder) -> None:
    rows = [
        "person.mov,,speech.wav,de/a.mp4,fast,,",
        ",tiny.avatar,./speech.wav,,,0.5,plate",
        "tiny.avatar,,speech.wav,b.mov,,,alpha",
    ]
    jobs = checked(inputs, folder, *rows, columns="video,avatar,audio,output,preset,Mouth Gain,background")
    assert [job.row for job in jobs] == [2, 3, 4]
    assert [job.output.relative_to(folder.path).as_posix() for job in jobs] == ["de/a.mp4", "tiny.speech.mp4", "b.mov"]
    assert [job.video for job in jobs] == [inputs / "person.mov", inputs / "tiny.avatar", inputs / "tiny.avatar"]
    assert [job.options for job in jobs] == [
        DubOptions(preset="fast"),
        DubOptions(mouth_gain=0.5, background="plate"),
        DubOptions(background="alpha"),
    ]
    assert jobs[0].options.fit == FitConfig(preset="fast") and isinstance(jobs[0].options, SpeakConfig)
    assert not folder.path.exists(), "nothing is written"


def test_files_among_the_options_lie_beside_the_list(inputs: Path, folder: JobFolder) -> None:
    columns = "video,audio,background,pose"
    (job,) = checked(inputs, folder, "tiny.avatar,speech.wav,red,poses.csv", columns=columns)
    assert job.options.pose == str(inputs / "poses.csv") and job.options.background == "red"
    key = job.key()
    (inputs / "poses.csv").write_text("yaw,pitch,roll,x,y,z\n0,1,0,0,0,0\n")
    assert job.key() != key, "what is in them counts"


def test_every_problem_of_every_row_is_told(inputs: Path, folder: JobFolder) -> None:
    columns = "video,audio,output,mouth_gain,crf,bakground,codec"
    rows = [
        "none.mp4,none.wav,../a.mp4,5,99,,h264",
        "tiny.avatar,speech.wav,b.mp4,much,1.5,,",
        "tiny.avatar,speech.wav,good.mp4,,,,",
        "damaged.avatar,blip.wav,b.mp4,,,red,",
        ",,,,,,",
        "short.mov,,c.mp4,,,,",
    ]
    expected = [
        "row 2: codec takes libx264, libx265, got 'h264'",
        "row 2: --crf takes 0 to 51, got 99",
        "row 2: --mouth-gain takes 0 to 2.0, got 5.0",
        "row 2: output '../a.mp4' leads out of .*out: give a name or a path inside it",
        "row 2: .*none.mp4 does not exist: check the name",
        "row 2: .*none.wav does not exist: check the name",
        "row 3: mouth_gain takes a number such as 0.8, got 'much'",
        "row 3: crf takes a whole number, got '1.5'",
        "row 5: has an unknown column 'bakground': did you mean 'background'?",
        "row 5: .*motion.safetensors has 7 bytes instead of .*: copy the avatar again",
        "row 5: writes b.mp4, and so does row 3: give them different outputs",
        "row 7: says nothing to be heard: fill audio",
    ]
    found = problems(inputs, folder, *rows, columns=columns)
    for line in expected:
        assert len([one for one in found if re.fullmatch(f"{line}.*", one)]) == 1, (line, found)
    assert len(found) == len(expected)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (",speech.wav,", "names 0 people: fill one of video and avatar"),
        ("silent.mov,speech.wav,", "silent.mov has no sound: the avatar learns its lips"),
        ("short.mov,speech.wav,", "short.mov is 1.0 s long .* at least 3 s"),
        ("text.mp4,speech.wav,", "text.mp4 is not a video"),
        ("speech.wav,speech.wav,", "speech.wav has no video track"),
        ("photos,speech.wav,", "photos has no avatar.json"),
        ("person.mov,silent.mov,", "silent.mov has no sound track"),
        ("person.mov,blip.wav,", "blip.wav lasts less than half a frame: give longer speech"),
        ("person.mov,no_samples.wav,", "no_samples.wav"),
        ("person.mov,photos,", "photos is not a file"),
        ("person.mov,speech.wav,a.avi", "a name that ends in .mp4"),
        ("person.mov,speech.wav,a.mov", "a name that ends in .mp4, or add --background alpha"),
        ("person.mov,speech.wav,/tmp/a.mp4", "leads out of"),
        ("person.mov,speech.wav,C:a.mp4", "leads out of"),
        ("person.mov,speech.wav,a/../../b.mp4", "leads out of"),
        ("person.mov,speech.wav,sub.mp4", "sub.mp4 is a folder"),
        ("person.mov,speech.wav,file/a.mp4", "file is not a folder"),
        ("person.mov,speech.wav,.dub/a.mp4", "which is not for videos"),
        ("person.mov,speech.wav,avatars/a.mp4", "which is not for videos"),
        (f"person.mov,speech.wav,{'x' * 252}.mp4", "is longer than 255 bytes: shorten it"),
        (f"{'y' * 300}.mov,speech.wav,a.mp4", "correct the name"),
        (f"person.mov,speech.wav,{'z' * 300}/a.mp4", "correct the name"),
    ],
)
def test_a_bad_row(row: str, expected: str, inputs: Path, folder: JobFolder) -> None:
    (folder.path / "sub.mp4").mkdir(parents=True)
    (folder.path / "file").touch()
    (found,) = problems(inputs, folder, row)
    assert re.match(f"row 2: .*{expected}", found), found


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ("tiny.avatar,fast,,,", "is an avatar, so nothing is fitted: leave preset empty"),
        ("tiny.avatar,,photos/none.jpg,,", "photos/none.jpg' is none of them: check"),
        ("tiny.avatar,,text.mp4,,", "cannot be read as a picture"),
        ("tiny.avatar,,plate,speech.wav,", "is no CSV file|expected the heading"),
        ("tiny.avatar,,,idle,", "needs another background"),
        ("person.mov,,,,none.safetensors", "no encoder at .*none.safetensors"),
        ("person.mov,,,,humbert", "--speech takes default"),
        ("person.mov,slow,,,", "preset takes fast, standard, best, got 'slow'"),
    ],
)
def test_a_bad_option(cells: str, expected: str, inputs: Path, folder: JobFolder) -> None:
    video, rest = cells.split(",", 1)
    (found,) = problems(
        inputs, folder, f"{video},speech.wav,{rest}", columns="video,audio,preset,background,pose,speech"
    )
    assert re.search(expected, found), found


@pytest.mark.parametrize(
    ("columns", "row"),
    [("avatar,audio", "person.mov,speech.wav"), ("video,avatar,audio", "person.mov,tiny.avatar,speech.wav")],
)
def test_one_person_of_the_right_kind(columns: str, row: str, inputs: Path, folder: JobFolder) -> None:
    (found,) = problems(inputs, folder, row, columns=columns)
    assert re.search("an avatar is a folder: name it under 'video'|names 2 people", found)


def test_outputs_that_harm(inputs: Path, tmp_path: Path) -> None:
    """Into the folder of the inputs: over what a row reads, into an avatar, over one another, over other files."""
    folder = JobFolder(inputs, inputs / "avatars", DubOptions(), overwrite=False)
    write_clip(inputs / "clip.mp4", [frame / FPS for frame in range(80)], sound=(tone(3.2), RATE, Fraction(0)))
    rows = [
        "clip.mp4,speech.wav,new.mp4",
        "clip.mp4,speech.wav,clip.mp4",
        "tiny.avatar,speech.wav,tiny.avatar/source.mp4",
        "tiny.avatar,speech.wav,NEW.mp4",
        "tiny.avatar,speech.wav,new.mp4/inside.mp4",
        "tiny.avatar,speech.wav,text.mp4",
    ]
    found = problems(inputs, folder, *rows)
    for line in (
        "row 3: .*clip.mp4 exists, and no job made it: add --overwrite",
        "row 4: .*source.mp4 exists, and no job made it",
        "row 4: writes tiny.avatar/source.mp4, which is, or lies in, what row 4 reads",
        "row 5: writes NEW.mp4, and so does row 2",
        "row 6: writes into new.mp4, which row 2 writes as a file",
        "row 7: .*text.mp4 exists",
    ):
        assert any(re.match(line, one) for one in found), (line, found)
    overwriting = JobFolder(inputs, inputs / "avatars", DubOptions(), overwrite=True)
    assert any(
        re.match("row 3: writes clip.mp4, which is, or lies in, what row", one)
        for one in problems(inputs, overwriting, *rows)
    )
    assert [job.output.name for job in checked(inputs, overwriting, rows[5])] == ["text.mp4"]


def test_a_link_that_leads_out(inputs: Path, folder: JobFolder, tmp_path: Path) -> None:
    folder.path.mkdir()
    (folder.path / "link").symlink_to(tmp_path)
    (found,) = problems(inputs, folder, "tiny.avatar,speech.wav,link/a.mp4")
    assert "leads out of" in found and "by a link" in found


def test_a_folder_that_takes_no_files(inputs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, message in (
        (tmp_path / "file", "it is a file"),
        (tmp_path / "none" / "out", "none is not a folder"),
        (Path("/proc/out"), "cannot write /proc/out"),
    ):
        with pytest.raises(UserError, match=message):
            checked(inputs, JobFolder(path, path / "avatars", DubOptions(), False), "tiny.avatar,speech.wav,a.mp4")


def test_the_command_prints_them_all_and_does_nothing(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (inputs / "bad.jsonl").write_text('{"video": "a\\nb.mp4", "audio": "x.wav"}\n{"video": "person.mov"}\n')
    assert main(["dub", str(inputs / "bad.jsonl"), "--out", str(tmp_path / "out")]) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("talkinghead: ")]
    assert len(told) == 4 and not (tmp_path / "out").exists()
    assert [line.split()[1:3] for line in told[:3]] == [["row", "1:"], ["row", "1:"], ["row", "2:"]]
    assert told[3].endswith("bad.jsonl has 3 problems (above); nothing was done")


def test_columns_are_the_options_but_those_of_the_command() -> None:
    names = {item.name for item in fields(DubOptions)}
    assert set(OPTION_COLUMNS) == names - set(OF_THE_COMMAND) and names >= set(OF_THE_COMMAND)
    guide = (ROOT / "docs" / "dubbing.md").read_text(encoding="utf-8").partition("## Jobs")[2].partition("\n## ")[0]
    of_its_own = names - {item.name for item in fields(SpeakConfig)}
    assert [name for name in of_its_own if f"`{name}`" not in guide] == []


@pytest.mark.parametrize("column", ["device", "mark", "key", "certificate"])
def test_what_no_job_list_decides(column: str, inputs: Path, folder: JobFolder) -> None:
    (found,) = problems(inputs, folder, "tiny.avatar,speech.wav,x", columns=f"video,audio,{column}")
    assert f"unknown column {column!r}" in found


def test_a_row_of_many_bad_values_ends() -> None:
    cells = {"crf": "99", "mouth_gain": "9", "seed": "-1", "gaze": "up", "face": "0", "resolution": "1", "pose": "idle"}
    options, told = options_of(cells, DubOptions(), Path(os.sep))
    assert options == DubOptions() and len(told) == len(cells)
