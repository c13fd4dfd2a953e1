"""Bad input on the real command line: one line that says what and what to do, exit code 2, and no file touched."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from media_samples import write_clip, write_sound
from tiny_avatar import save_tiny_avatar

from talkinghead.cli import main

FPS = Fraction(25)
RATE = 16_000


def tone(seconds: float) -> np.ndarray:
    return (0.3 * np.sin(np.arange(round(seconds * RATE)) / 5)).astype(np.float32)


def clip(path: Path, frames: int, sound: bool = True) -> Path:
    """Numbered pictures without any face."""
    heard = (tone(float(frames / FPS)), RATE, Fraction(0)) if sound else None
    return write_clip(path, [k / FPS for k in range(frames)], sound=heard)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of things that are wrong, and some that are right. No test may change it."""
    folder = tmp_path_factory.mktemp("bad input")
    clip(folder / "faceless.mov", frames=80)
    clip(folder / "one_frame.mov", frames=1)
    clip(folder / "short.mov", frames=25)
    clip(folder / "silent.mov", frames=80, sound=False)
    (folder / "text.mp4").write_text("I am not a video.\n")
    (folder / "empty.mp4").touch()
    (folder / "cut_off.mov").write_bytes((folder / "faceless.mov").read_bytes()[:300])
    write_sound(folder / "speech.wav", tone(1.0), RATE)
    (folder / "empty.wav").touch()
    (folder / "no_samples.wav").write_bytes((folder / "speech.wav").read_bytes()[:44])
    (folder / "corrupt.wav").write_bytes(np.random.default_rng(0).bytes(20_000))
    write_sound(folder / "blip.wav", tone(0.01), RATE)
    (folder / "photos").mkdir()
    (folder / "photos" / "holiday.jpg").write_bytes(b"not really")
    save_tiny_avatar(folder)
    for name in ("truncated", "newer", "older", "incomplete"):
        shutil.copytree(folder / "tiny.avatar", folder / f"{name}.avatar")
    motion = folder / "truncated.avatar" / "motion.safetensors"
    motion.write_bytes(motion.read_bytes()[:1000])
    (folder / "incomplete.avatar" / "source.mp4").unlink()
    for name, version in (("newer", 99), ("older", 1)):
        manifest = folder / f"{name}.avatar" / "avatar.json"
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format_version": version}))
    (folder / "result.mp4").write_bytes(b"an earlier result")
    (folder / "figures.json").write_text("{}")
    return folder


def snapshot(folder: Path) -> dict[str, str]:
    """Every path under a folder, and what its file holds."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in folder.rglob("*")
    }


# Command line, with {} for the folder of inputs -> what the one line says.
CASES = {
    # fit: the video
    "fit {}/none.mp4 -o {}/new": "none.mp4 does not exist",
    "fit {}/photos -o {}/new": "photos is not a file",
    "fit {}/tiny.avatar -o {}/new": "tiny.avatar is not a file",
    "fit {}/text.mp4 -o {}/new": "text.mp4 is not a video",
    "fit {}/empty.mp4 -o {}/new": "empty.mp4 is empty",
    "fit {}/cut_off.mov -o {}/new": "cut_off.mov is not a video or audio file, or its header is cut off",
    "fit {}/speech.wav -o {}/new": "speech.wav has no video track",
    "fit {}/silent.mov -o {}/new": "silent.mov has no sound",
    "fit {}/one_frame.mov -o {}/new": r"one_frame.mov is 0.0 s long \(1 frames\): give a clip of at least 3 s",
    "fit {}/short.mov -o {}/new": r"short.mov is 1.0 s long .* at least 3 s",
    "fit {}/faceless.mov -o {}/new": "no face found in .*faceless.mov: give",
    # fit: the output
    "fit {}/faceless.mov -o {}/tiny.avatar": "tiny.avatar exists: add --overwrite",
    "fit {}/faceless.mov -o {}/faceless.mov --overwrite": "it is a file, and an avatar is a folder",
    "fit {}/faceless.mov -o {}/photos --overwrite": "holds other files",
    "fit {}/faceless.mov -o {}/none/new": "none is not a folder; create it first",
    "fit {}/faceless.mov -o /proc/new": "cannot write /proc/new",
    "fit {}/faceless.mov -o {}/new --holdout 0.9": "--holdout takes 0 to 0.5, got 0.9",
    "fit {}/faceless.mov -o {}/new --holdout nan": "--holdout takes",
    "fit {}/faceless.mov -o {}/new --face 0": "--face takes 1 or more",
    # fit: the speech feature
    "fit {}/faceless.mov -o {}/new --speech humbert": "--speech takes default, logmel, .*, got 'humbert'",
    "fit {}/faceless.mov -o {}/new --speech {}/none.safetensors": "no encoder at .*none.safetensors; train one",
    "fit {}/faceless.mov -o {}/new --speech {}/tiny.avatar/tracks.safetensors": "holds no encoder of train-encoder",
    # speak: the avatar
    "speak {}/none.avatar {}/speech.wav -o {}/new.mp4": "none.avatar does not exist: make an avatar with",
    "speak {}/faceless.mov {}/speech.wav -o {}/new.mp4": "faceless.mov is a file, and an avatar is a folder",
    "speak {}/photos {}/speech.wav -o {}/new.mp4": "photos has no avatar.json",
    "speak {}/truncated.avatar {}/speech.wav -o {}/new.mp4": "motion.safetensors has 1000 bytes instead of",
    "speak {}/incomplete.avatar {}/speech.wav -o {}/new.mp4": "source.mp4 is missing: copy the avatar again",
    "speak {}/newer.avatar {}/speech.wav -o {}/new.mp4": "format 99, and this talkinghead reads 3 to 5: update",
    # speak: the audio
    "speak {}/tiny.avatar {}/none.wav -o {}/new.mp4": "none.wav does not exist",
    "speak {}/tiny.avatar {}/empty.wav -o {}/new.mp4": "empty.wav is empty",
    "speak {}/tiny.avatar {}/no_samples.wav -o {}/new.mp4": "no_samples.wav",
    "speak {}/tiny.avatar {}/corrupt.wav -o {}/new.mp4": "corrupt.wav is not a video or audio file",
    "speak {}/tiny.avatar {}/blip.wav -o {}/new.mp4": "blip.wav lasts 0.010 s, less than half a frame: give longer",
    "speak {}/tiny.avatar {}/silent.mov -o {}/new.mp4": "silent.mov has no sound",
    "speak {}/tiny.avatar {}/tiny.avatar -o {}/new.mp4": "tiny.avatar is not a file",
    # speak: the output
    "speak {}/tiny.avatar {}/speech.wav -o {}/result.mp4": "result.mp4 exists: add --overwrite",
    "speak {}/tiny.avatar {}/speech.wav -o {}/photos": "a name that ends in .mp4",
    "speak {}/tiny.avatar {}/speech.wav -o {}/new.mov": "a name that ends in .mp4, or add --background alpha",
    # speak: whole person
    "speak {}/tiny.avatar {}/speech.wav -o {}/new.mp4 --background alpha": "with transparency: .* ends in .mov, .webm",
    "speak {}/tiny.avatar {}/speech.wav -o {}/new.mov --background red": "a name that ends in .mp4, or add",
    "speak {}/tiny.avatar {}/speech.wav -o {}/photos/%d.png --background alpha": "holds other files .* a new folder",
    "speak {}/tiny.avatar {}/speech.wav -o {}/new.png --background alpha": "a name with a number in it, such as",
    "speak {}/tiny.avatar {}/speech.wav -o {}/none/a/%d.png --background alpha": "none is not a folder; create it",
    "speak {}/tiny.avatar {}/speech.wav -o {}/new.mp4 --background #12": "#rrggbb, got '#12': write",
    "speak {}/tiny.avatar {}/speech.wav -o {}/new.mp4 --background {}/none.jpg": "none.jpg' is none of them: check",
    "speak {}/tiny.avatar {}/speech.wav -o {}/new.mp4 --background {}/text.mp4": "cannot be read as a picture: give",
    "speak {}/tiny.avatar {}/speech.wav -o {}/new.mp4 --pose idle": "needs another background .*: add e.g. --back",
    "speak {}/tiny.avatar {}/speech.wav -o {}/new.mp4 --background red --pose {}/none.csv": "cannot read the poses in",
    "speak {}/tiny.avatar {}/speech.wav -o {}/new.mp4 --background red --pose {}/text.mp4": "line 1: expected the head",
    "speak {}/tiny.avatar {}/speech.wav -o {}/new.mp4 --gaze up": "takes source, camera or YAW,PITCH .*, not 'up'",
    "speak {}/tiny.avatar {}/speech.wav -o {}/new.mp4 --mouth-gain 3": "--mouth-gain takes 0 to 2.*, got 3",
    "speak {}/tiny.avatar {}/speech.wav -o {}/new.avi": "a name that ends in .mp4",
    "speak {}/tiny.avatar {}/speech.wav -o {}/none/new.mp4": "none is not a folder; create it first",
    "speak {}/tiny.avatar {}/speech.wav -o /proc/new.mp4": "cannot write /proc/new.mp4",
    "speak {}/tiny.avatar {}/result.mp4 -o {}/result.mp4 --overwrite": "is, or lies in, the input",
    "speak {}/tiny.avatar {}/speech.wav -o {}/tiny.avatar/source.mp4 --overwrite": "is, or lies in, the input",
    "speak {}/tiny.avatar {}/speech.wav -o {}/new.mp4 --crf 99": "--crf takes 0 to 51, got 99",
    "speak {}/older.avatar {}/speech.wav -o {}/new.mp4": "has avatar format 1, .*: fit it again from .*source.mp4",
    # features
    "features {}/none.wav -o {}/new.npy": "none.wav does not exist",
    "features {}/no_samples.wav -o {}/new.npy": "no_samples.wav",
    "features {}/blip.wav -o {}/new.npy --speech humbert": "--speech takes default, logmel, .*, got 'humbert'",
    "features {}/speech.wav -o {}/new.npz": "a name that ends in .npy",
    "features {}/speech.wav -o {}/none/new.npy": "none is not a folder; create it first",
    "features {}/silent.mov -o {}/new.npy": "silent.mov has no sound",
    # evaluate
    "evaluate {}/none": "none does not exist",
    "evaluate {}/text.mp4": "text.mp4 is not a video",
    "evaluate {}/silent.mov": "silent.mov has no sound",
    "evaluate {}/one_frame.mov": "one_frame.mov is 0.0 s long",
    "evaluate {}/faceless.mov": "80 frames, of which --holdout 0.2 keeps 16 for measuring, expected",
    "evaluate {}/photos": "photos has no avatar.json",
    "evaluate {}/truncated.avatar": "motion.safetensors has 1000 bytes",
    "evaluate {}/tiny.avatar": "fit it with --holdout",
    "evaluate {}/tiny.avatar --preset best": "nothing is fitted: leave the options of the fit away",
    "evaluate {}/tiny.avatar --speech mfcc": "nothing is fitted: leave the options of the fit away",
    "evaluate {}/tiny.avatar --json {}/figures.json": "figures.json exists: add --overwrite",
    "evaluate {}/faceless.mov --json {}/faceless.mov --overwrite": "is, or lies in, the input",
    "evaluate {}/faceless.mov --json {}/none/figures.json": "create it first",
    # the others
    "info {}/none": "none does not exist",
    "info {}/text.mp4": "text.mp4 is not a video",
    "info {}/photos": "photos has no avatar.json",
    "info {}/newer.avatar": "update it",
    "demo -o {}/none/demo": "none is not a folder",
    "demo -o {}/text.mp4": "text.mp4: it is a file",
    "bench --json {}/figures.json": "figures.json exists",
    "bench {}/none.avatar": "none.avatar does not exist",
    "bench {}/text.mp4": "text.mp4 is a file",
    "bench {}/tiny.avatar --json {}/tiny.avatar/figures.json": "the input .*tiny.avatar",
    "bench {}/tiny.avatar --seconds 0.1": "--seconds takes 1 to 3600, got 0.1",
    "bench --skip-rasterizer": "nothing is left to measure",
}


@pytest.mark.parametrize("command", CASES)
def test_one_line_and_exit_code_2(command: str, inputs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = snapshot(inputs)
    arguments = [argument.replace("{}", str(inputs)) for argument in command.split()]
    assert main(arguments) == 2
    printed, complaints = capfd.readouterr()
    lines = [line for line in complaints.splitlines() if line.startswith("talkinghead: ")]
    assert printed == "" and len(lines) == 1, complaints
    assert complaints.endswith(lines[0] + "\n"), "the reason comes last"
    assert re.search(CASES[command], lines[0]), lines[0]
    assert re.search(r"[:;,] \S", lines[0].removeprefix("talkinghead: ")), "what is wrong, and what to do"
    assert "Traceback" not in complaints
    assert snapshot(inputs) == before


@pytest.mark.parametrize(
    "command", ["speak {}/tiny.avatar {}/speech.wav -o {}/new.mp4", "evaluate {}/tiny.avatar", "demo -o {}/new"]
)
def test_a_gpu_that_is_missing(
    command: str, inputs: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("render.rasterize.why_gsplat_is_unusable", lambda: "torch sees no CUDA device; install one")
    before = snapshot(inputs)
    arguments = [argument.replace("{}", str(inputs)) for argument in command.split()]
    assert main([*arguments, "--device", "cuda"]) == 2
    complaint = "--device cuda cannot work here: torch sees no CUDA device; install one; or use --device cpu"
    assert capfd.readouterr().err == f"talkinghead: {complaint}\n"
    assert snapshot(inputs) == before


@pytest.mark.parametrize("command", ["fit {}/none.mp4", "speak {}/newer.avatar {}/speech.wav -o {}/new.mp4"])
def test_the_program_itself(command: str, inputs: Path) -> None:
    before = snapshot(inputs)
    arguments = [argument.replace("{}", str(inputs)) for argument in command.split()]
    run = subprocess.run(
        [sys.executable, "-m", "talkinghead", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout) == (2, "")
    assert re.fullmatch(r"talkinghead: .*(does not exist|update).*\n", run.stderr)
    assert snapshot(inputs) == before


@pytest.mark.parametrize("arguments", [["fit"], ["speak", "a", "b"], ["fit", "a", "--bogus"], ["dance"], []])
def test_options_that_do_not_exist(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert capfd.readouterr().err
