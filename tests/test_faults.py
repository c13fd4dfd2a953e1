"""A disk that is full or read-only, files that are cut off or still grow, and names that only mischief gives."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from media_samples import write_clip, write_sound
from tiny_avatar import save_tiny_avatar

from talkinghead.cli import main
from tools.video import probe

RATE = 16_000
DISK_BYTES = 12 << 20
NAMES = [
    "a b",
    'it\'s "it"',
    "two\nlines",
    "100%d %s",
    "Zoë 声 \N{SMILING FACE WITH SUNGLASSES}",
    "-o",
    "x" * 100,
    "\x1b[31m",
]


def tone(seconds: float) -> np.ndarray:
    return (0.3 * np.sin(np.arange(round(seconds * RATE)) / 5)).astype(np.float32)


def listing(folder: Path) -> dict[str, str]:
    """Every path under a folder, and what its file holds; not an avatar's log."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in folder.rglob("*")
        if path.name != "log.jsonl"
    }


def one_line(complaints: str) -> str:
    """What a command says went wrong."""
    lines = [line for line in complaints.splitlines() if line.startswith("talkinghead: ")]
    assert len(lines) == 1 and "Traceback" not in complaints, complaints
    return lines[0]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An avatar and a recording. No test may change them."""
    folder = tmp_path_factory.mktemp("inputs")
    save_tiny_avatar(folder)
    write_sound(folder / "speech.wav", tone(1.0), RATE)
    return folder


# --- disks ---


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small file system of its own, in memory."""
    folder = tmp_path_factory.mktemp("disk")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs to mount a file system, which root may")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def disk(mounted: Path, inputs: Path) -> Iterator[Path]:
    """The inputs on that file system."""
    shutil.copytree(inputs, mounted, dirs_exist_ok=True)
    yield mounted
    subprocess.run(["mount", "-o", "remount,rw", str(mounted)], check=True)
    for path in mounted.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def fill(disk: Path, left: int) -> None:
    """Leaves so many bytes."""
    gc.collect()  # what is still open of files that an earlier test removed takes room
    (disk / "filler").write_bytes(bytes(shutil.disk_usage(disk).free - left))


@pytest.mark.parametrize(
    ("options", "left"),
    [
        *((options, left) for options in ("out.mp4", "out.mp4 --no-mark") for left in (0, 8_192)),
        *(("out.webm --background alpha", left) for left in (0, 4_096)),
        ("out.mp4", 20_480),
    ],
)
def test_speaking_onto_a_full_disk(options: str, left: int, disk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Before the first picture, at the end of the file, and while it is marked."""
    name, *others = options.split()
    fill(disk, left)
    before = listing(disk)
    command = ["speak", str(disk / "tiny.avatar"), str(disk / "speech.wav"), "-o", str(disk / name), *others]
    assert main(command) == 2
    assert "No space left on device" in one_line(capfd.readouterr().err)
    assert listing(disk) == before


@pytest.mark.parametrize("left", [0, 8_192])
def test_a_job_on_a_full_disk_fails_and_says_why(left: int, disk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (disk / "jobs.csv").write_text("avatar,audio,output\ntiny.avatar,speech.wav,a.mp4\n")
    fill(disk, left)
    before = listing(disk)
    code = main(["dub", str(disk / "jobs.csv"), "--out", str(disk / "out")])
    printed, complaints = capfd.readouterr()
    assert "1    failed" in printed.replace("2  ", "1  ") and "No space left on device" in printed
    left_over = {path for path in listing(disk).keys() - before.keys() if not path.endswith(".lock")}
    if left:
        assert code == 1 and left_over == {"out", "out/.dub", "out/report.jsonl"}
        assert json.loads((disk / "out" / "report.jsonl").read_text())["status"] == "failed"
    else:
        assert code == 2 and left_over == {"out", "out/.dub"}
        assert "report.jsonl: No space left on device" in one_line(complaints)


def test_nothing_is_written_to_a_read_only_disk(disk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (disk / "jobs.csv").write_text("avatar,audio,output\ntiny.avatar,speech.wav,a.mp4\n")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    before = listing(disk)
    inputs = [str(disk / "tiny.avatar"), str(disk / "speech.wav")]
    for command in (
        ["speak", *inputs, "-o", str(disk / "out.mp4")],
        ["fit", str(disk / "tiny-source.mp4"), "-o", str(disk / "new.avatar")],
        ["dub", str(disk / "jobs.csv"), "--out", str(disk / "out")],
    ):
        assert main(command) == 2
        assert "Read-only file system" in one_line(capfd.readouterr().err), command
    assert listing(disk) == before


def test_an_avatar_on_a_read_only_disk_speaks(disk: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    inputs = [str(disk / "tiny.avatar"), str(disk / "speech.wav")]
    assert main(["speak", *inputs, "-o", str(tmp_path / "out.mp4")]) == 0
    assert "log.jsonl cannot be written" in capfd.readouterr().err
    assert main(["speak", *inputs, "-o", str(tmp_path / "unmarked.mp4"), "--no-mark"]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


# --- files that are cut off, or still grow ---


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of 4 s with sound."""
    pictures = [frame / Fraction(25) for frame in range(100)]
    return write_clip(tmp_path_factory.mktemp("video") / "whole.mov", pictures, sound=(tone(4.0), RATE, Fraction(0)))


@pytest.mark.parametrize("command", ["fit {} -o new.avatar", "info {}", "speak tiny.avatar {} -o new.mp4"])
def test_an_mp4_without_its_index(
    command: str,
    whole: Path,
    inputs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(inputs, tmp_path, dirs_exist_ok=True)
    content = whole.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: content.rindex(b"moov") - 4])
    monkeypatch.chdir(tmp_path)
    before = listing(tmp_path)
    assert main([part.replace("{}", "cut.mp4") for part in command.split()]) == 2
    assert "or its header is cut off" in one_line(capfd.readouterr().err)
    assert listing(tmp_path) == before


def test_a_matroska_file_that_is_cut_off_is_read_as_far_as_it_goes(
    whole: Path, inputs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    film = tmp_path / "film.mkv"
    subprocess.run(["ffmpeg", "-v", "error", "-i", whole, "-c", "copy", film], check=True)
    film.write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    assert main(["speak", str(inputs / "tiny.avatar"), str(film), "-o", str(tmp_path / "out.mp4")]) == 0
    assert 20 < probe(tmp_path / "out.mp4").frame_count < 80
    assert main(["info", str(film)]) == 0
    assert re.search(r"length +[1-3]\.\d\d s", capfd.readouterr().out)


def test_a_recording_that_grows_while_it_is_read(inputs: Path, tmp_path: Path) -> None:
    """What is there in the beginning is said; nothing hangs, and nothing is out of step."""
    audio, stop = tmp_path / "growing.wav", tmp_path / "stop"
    write_sound(audio, tone(2.0), RATE)
    writer = (
        "import pathlib, sys, time\n"
        "audio, stop = map(pathlib.Path, sys.argv[1:])\n"
        "with audio.open('ab') as file:\n"
        "    while not stop.exists():\n"
        "        file.write(bytes(3200)); file.flush(); time.sleep(0.02)\n"
    )
    growing = subprocess.Popen([sys.executable, "-c", writer, str(audio), str(stop)])
    try:
        assert main(["speak", str(inputs / "tiny.avatar"), str(audio), "-o", str(tmp_path / "out.mp4")]) == 0
    finally:
        stop.touch()
        growing.wait()
    assert probe(tmp_path / "out.mp4").frame_count == 50, "as its header says"


def test_a_job_whose_recording_grows_is_not_called_finished(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read may be neither the beginning nor the end of it: the next run does the job again."""
    import talkinghead.dubbing.task as task_module
    from talkinghead.config import DubOptions
    from talkinghead.dubbing.speech_job import SpeechJob

    audio, out = shutil.copy(inputs / "speech.wav", tmp_path / "a.wav"), tmp_path / "out"
    out.mkdir()
    options = DubOptions()
    job = SpeechJob(row=1, video=inputs / "tiny.avatar", output=out / "a.mp4", options=options, audio=Path(audio))
    task = task_module.Task(job, job.key(), out, out / "avatars")
    steps = task.perform()
    grown = False
    while True:
        try:
            event = next(steps)
        except StopIteration as finished:
            outcome = finished.value
            break
        if event.stage == "speak" and not grown:
            grown = True
            with Path(audio).open("ab") as file:
                file.write(bytes(3200))
    assert outcome.status == "failed" and "an input changed while it was read" in outcome.error
    assert not (out / "a.mp4").exists()


# --- names ---


@pytest.mark.parametrize("name", NAMES)
def test_names_of_all_kinds(
    name: str, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Folder, avatar, recording and video all have it; a leading dash is given as ./-o, as everywhere."""
    folder = tmp_path / name / name
    folder.mkdir(parents=True)
    shutil.copytree(inputs / "tiny.avatar", folder / name)
    shutil.copy(inputs / "speech.wav", folder / f"{name}.wav")
    monkeypatch.chdir(folder)
    given = [f"./{name}" if name.startswith("-") else name, f"./{name}.wav"]
    assert main(["speak", *given, "-o", f"./{name}.mp4"]) == 0
    assert probe(Path(f"{name}.mp4")).frame_count == 25
    assert main(["info", f"./{name}.mp4"]) == 0 and main(["info", f"./{name}"]) == 0
    assert main(["fit", f"./{name}.mp4", "-o", "new.avatar"]) == 2
    assert main(["speak", given[0], f"./{name}.mkv", "-o", "new.mp4"]) == 2
    printed, complaints = capfd.readouterr()
    facts = [line for line in printed.splitlines() if line.startswith(("video", "avatar", "source"))]
    assert len(facts) >= 3 and "\x1b[31m" not in complaints + "".join(facts), "only what the user gave comes back raw"
    assert sorted(path.name for path in folder.iterdir()) == sorted([name, f"{name}.wav", f"{name}.mp4"])


def test_a_job_whose_files_have_such_names(inputs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    name = "-".join(NAMES)
    folder = tmp_path / name
    folder.mkdir()
    shutil.copytree(inputs / "tiny.avatar", folder / name)
    shutil.copy(inputs / "speech.wav", folder / f"{name}.wav")
    row = {"avatar": name, "audio": f"{name}.wav", "output": f"{name}.mp4"}
    (folder / "jobs.jsonl").write_text(json.dumps(row), encoding="utf-8")
    assert main(["dub", str(folder / "jobs.jsonl"), "--out", str(folder / "out")]) == 0
    assert probe(folder / "out" / f"{name}.mp4").frame_count == 25
    printed, complaints = capfd.readouterr()
    assert "\x1b[31m" not in complaints + printed.partition("1 job:")[0], (
        "but in the name of the folder that was given"
    )


@pytest.mark.parametrize("make", [lambda deep: "p" * 250, lambda deep: deep], ids=["name", "path"])
def test_long_names(make: Callable[[str], str], inputs: Path, tmp_path: Path) -> None:
    folder = Path(tmp_path, make("/".join(["d" * 100] * 8)))
    folder.mkdir(parents=True)
    name = "n" * 251
    shutil.copy(inputs / "speech.wav", folder / f"{name}.wav")
    command = ["speak", str(inputs / "tiny.avatar"), str(folder / f"{name}.wav"), "-o", str(folder / f"{name}.mp4")]
    assert main(command) == 0
    assert probe(folder / f"{name}.mp4").frame_count == 25
    assert len(os.listdir(folder)) == 2


@pytest.mark.parametrize(
    "command",
    [
        "fit {long}.mp4 -o new.avatar",
        "fit tiny-source.mp4 -o {long}",
        "fit whole.mov -o {long:.246}",
        "speak tiny.avatar {long}.wav -o new.mp4",
        "speak tiny.avatar speech.wav -o {long}.mp4",
        "speak {long} speech.wav -o new.mp4",
        "info {long}",
        "dub {long}.csv --out out",
    ],
)
def test_names_that_are_too_long(
    command: str,
    inputs: Path,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(inputs, tmp_path, dirs_exist_ok=True)
    shutil.copy(whole, tmp_path)
    monkeypatch.chdir(tmp_path)
    before = listing(tmp_path)
    assert main(command.format(long="n" * 300).split()) == 2
    assert re.search("File name too long", one_line(capfd.readouterr().err))
    assert listing(tmp_path) == before


# --- what is never done ---


def test_nothing_reads_pickles() -> None:
    """Nor YAML that builds objects; the one torch.load reads tensors only, of published checkpoints, and so does the
    command that a user is told to convert one with."""
    files = ("encoders/acoustic/weights.py", "encoders/experts/auto_avsr_reader.py")
    allowed = dict.fromkeys(files, "weights_only=True")
    reading = r"^\s*(import|from) (pickle|dill|joblib|shelve|marshal)\b|\btorch\.load\(|allow_pickle=True"
    building = r"\byaml\.(load|unsafe_load|full_load)\b|(?<![.\w])(eval|exec)\(|shell=True"
    for package in ("talkinghead", "tools", "encoders", "render"):
        for path in (ROOT / package).rglob("*.py"):
            for line in path.read_text(encoding="utf-8").splitlines():
                if re.search(f"{reading}|{building}", line):
                    name = path.relative_to(ROOT).as_posix()
                    assert name in allowed and allowed[name] in line, f"{name}: {line}"


def test_inputs_changed_at_random() -> None:
    """A moment of `python tests/fuzz_inputs.py --minutes 10`."""
    from fuzz_inputs import fuzz

    assert fuzz(seconds=4, seed=0) == []
