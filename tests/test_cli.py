"""The command line: light help, progress, results, and being interrupted."""

from __future__ import annotations

import functools
import json
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
import tyro
from conftest import ROOT
from media_samples import write_sound
from tiny_avatar import save_speaking_avatar, save_tiny_avatar

import render.benchmark
import talkinghead.benchmark
import talkinghead.doctor
import talkinghead.evaluate
import talkinghead.fit
import talkinghead.speak
from talkinghead import __version__, cli
from talkinghead.cli import Command, main
from talkinghead.config import EvaluateConfig, FitConfig, SpeakConfig
from talkinghead.doctor import Finding
from talkinghead.evaluation.instruments import Measure
from talkinghead.evaluation.result import Evaluation
from talkinghead.machine import Machine
from talkinghead.progress import Progress
from talkinghead.terminal import show
from tools.audio import frame_count, probe_audio
from tools.video import probe

COMMANDS = (
    *("fit", "speak", "dub", "evaluate", "compare", "features", "train-encoder", "ablate-encoder"),
    *("study", "demo", "info", "doctor", "bench"),
)
HEAVY = {"torch", "numpy", "mediapipe", "cv2", "numba", "scipy", "av", "rich", "c2pa", "cryptography"}


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    samples = (0.1 * np.random.default_rng(0).normal(size=16_000)).astype(np.float32)
    return write_sound(tmp_path / "speech.wav", samples, 16_000)


def program(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The real program in a process of its own."""
    command = [sys.executable, "-m", "talkinghead", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


# Help and version


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([command, "--help"] for command in COMMANDS)])
def test_help_is_light(arguments: list[str]) -> None:
    code = "import sys; from talkinghead.cli import main\ntry: main(sys.argv[1:])\nfinally: print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    *shown, modules = run.stdout.splitlines()
    assert shown and not HEAVY & set(modules.split())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"talkinghead {__version__}\n"


@pytest.mark.parametrize(("command", "config"), [("fit", FitConfig), ("speak", SpeakConfig), ("evaluate", FitConfig)])
def test_every_option_is_in_the_help_with_its_text(
    command: str, config: type, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    for item in fields(config):
        option = re.search(rf"--(?:no-)?{item.name.replace('_', '-')}\b[^\n]*\n((?:(?!--\w).+\n)+)", shown)
        assert option and len(re.findall(r"\w{3,}", option[1])) >= 4, item.name


def test_the_commands_of_the_readme_exist() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"(?:^    |&& |`)talkinghead ([^`#\n]+)", readme, re.MULTILINE)
    assert {command.split()[0] for command in commands} >= set(COMMANDS) - {"bench"}
    for command in commands:
        arguments = shlex.split(command)
        parsed = tyro.cli(Command, args=arguments, config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff))
        assert type(parsed).__name__.lower() == arguments[0].replace("-", "")


def test_options_reach_the_configuration() -> None:
    flags = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff)
    line = "fit a.mp4 -o b --preset best --seed 3 --holdout 0.2 --face 2 --landmarks face-alignment --restart"
    parsed = tyro.cli(Command, args=line.split(), config=flags)
    expected = FitConfig(preset="best", seed=3, holdout=0.2, face=2, landmarks="face-alignment", restart=True)
    assert (parsed.fit, parsed.output, parsed.overwrite) == (expected, Path("b"), False)
    parsed = tyro.cli(Command, args=["evaluate", "a.mp4", "--seed", "5", "--json", "f.json"], config=flags)
    assert parsed.evaluate == EvaluateConfig(FitConfig(seed=5, holdout=0.2)) and parsed.json == Path("f.json")


# Results


def test_speak(tmp_path: Path, speech: Path) -> None:
    avatar = save_tiny_avatar(tmp_path)
    output = tmp_path / "Zoë says “hi”.mp4"
    run = program("speak", str(tmp_path / "tiny.avatar"), str(speech), "-o", str(output))
    assert (run.returncode, run.stdout) == (0, f"{output}\n")
    assert [line.split()[0] for line in run.stderr.splitlines()] == ["speak"], "nothing but the progress bar"
    frames = frame_count(probe_audio(speech).duration_s, avatar.manifest.fps)
    assert probe(output).frame_count == frames and f"{frames}/{frames}" in run.stderr


def test_overwriting_is_asked_for(tmp_path: Path, speech: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_tiny_avatar(tmp_path)
    output = tmp_path / "out.mp4"
    output.write_bytes(b"earlier")
    command = ["speak", str(tmp_path / "tiny.avatar"), str(speech), "-o", str(output)]
    assert main(command) == 2
    assert output.read_bytes() == b"earlier"
    assert main([*command, "--overwrite"]) == 0
    assert probe(output).frame_count == 25


def saving_fit(video: Path, output: Path, config: FitConfig) -> Iterator[Progress]:
    """Stands for the real fit, which takes a minute: leaves a tiny avatar and remembers what it was asked."""
    yield Progress("fitting", 0, 2)
    save_tiny_avatar(output.parent)
    output.parent.joinpath("tiny.avatar").rename(output)
    output.parent.joinpath("asked.txt").write_text(f"{video.name} {config.preset}")
    yield Progress("fitting", 2, 2)


def test_fit_names_the_avatar_after_the_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(talkinghead.fit, "fit", saving_fit)
    monkeypatch.chdir(tmp_path)
    assert main(["fit", str(cli.ASSETS / "demo_clip.mp4"), "--preset", "best"]) == 0
    assert (tmp_path / "demo_clip.avatar" / "avatar.json").exists()
    assert (tmp_path / "asked.txt").read_text() == "demo_clip.mp4 best"
    assert capsys.readouterr().out.startswith("demo_clip.avatar")


def test_demo_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    devices = []

    def replacing_fit(video: Path, output: Path, config: FitConfig) -> Iterator[Progress]:
        devices.append(config.device)
        if not output.exists():
            yield from saving_fit(video, output, config)

    monkeypatch.setattr(talkinghead.fit, "fit", replacing_fit)
    monkeypatch.chdir(tmp_path)
    for options in ([], ["--device", "cpu"]):
        assert main(["demo", *options]) == 0
        assert capsys.readouterr().out == "talkinghead-demo/demo.mp4\n"
    assert (tmp_path / "talkinghead-demo" / "asked.txt").read_text() == "demo_clip.mp4 fast"
    assert devices == ["auto", "cpu"]
    assert probe(Path("talkinghead-demo/demo.mp4")).has_audio


def test_info_of_an_avatar_and_of_a_video(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_tiny_avatar(tmp_path)
    assert main(["info", str(tmp_path / "tiny.avatar")]) == 0
    shown = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert shown["picture"] == "64x64 px, 25 frames/s" and shown["length"] == "0.80 s, 20 frames"
    assert main(["info", str(cli.ASSETS / "demo_clip.mp4")]) == 0
    shown = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert shown["length"] == "11.72 s, 293 frames" and shown["sound"] == "yes"


def test_evaluate_prints_a_table_and_writes_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measures = (Measure("psnr", "how near"), Measure("lmd", "how far off"))
    rows = {drive: {"psnr": start, "lmd": start + 1} for drive, start in (("audio", 0.5), ("tracked", 100.25))}
    result = Evaluation({"seed": 0}, measures, rows, ("no weights: fetch them",))

    def measured(target: Path, config: EvaluateConfig) -> Generator[Progress, None, Evaluation]:
        yield Progress("measuring", 1, 1)
        return result

    monkeypatch.setattr(talkinghead.evaluate, "evaluate", measured)
    assert main(["evaluate", "clip.mp4", "--json", str(tmp_path / "figures.json")]) == 0
    shown = capsys.readouterr()
    head, *table = shown.out.splitlines()
    assert head.split() == ["audio", "tracked"]
    assert [line.split() for line in table] == [["psnr", "0.5", "100.2"], ["lmd", "1.5", "101.2"]]
    assert "note: no weights: fetch them" in shown.err
    assert json.loads((tmp_path / "figures.json").read_text()) == json.loads(result.to_json())


def test_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    small = functools.partial(render.benchmark.BenchmarkConfig, gaussians=(50,), sizes=(32,), threads=(1,), repeats=1)
    monkeypatch.setattr(talkinghead.benchmark, "BenchmarkConfig", small)
    assert main(["bench", "--backend", "torch", "--json", str(tmp_path / "bench.json")]) == 0
    *machine, empty, head, row = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in machine} >= {"date", "processor", "cores", "torch", "ffmpeg"} and not empty
    assert head.split()[:3] == ["gaussians", "size", "threads"] and row.split()[:3] == ["50", "32", "1"]
    written = json.loads((tmp_path / "bench.json").read_text())
    assert written["rasterizer"][0]["gaussians"] == 50 and written["avatar"] == []
    assert list(written["machine"]) == [item.name for item in fields(Machine)]


def test_bench_of_an_avatar(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_speaking_avatar(tmp_path)
    options = ["--seconds", "1", "--skip-rasterizer", "--json", str(tmp_path / "bench.json")]
    assert main(["bench", str(tmp_path / "tiny.avatar"), *options]) == 0
    head, *lines = capsys.readouterr().out.partition("\n\n")[2].splitlines()
    written = json.loads((tmp_path / "bench.json").read_text())
    assert head.split() == ["stage", "picture,", "px"] and len(lines) == len(written["avatar"]) > 7
    assert lines[0].split() == ["Gaussians", "90"] and lines[-1].endswith("64x64")
    assert written["rasterizer"] == [] and written["avatar"][0]["value"] == 90


def test_doctor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    findings = (
        Finding("ffmpeg", False, "not found", "install it"),
        Finding("GPU", False, "none", "buy one", optional=True),
        Finding("Python", True, "3.12"),
    )
    monkeypatch.setattr(talkinghead.doctor, "diagnose", lambda: findings[1:])
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out.split() == ["-", "GPU", "none", "->", "buy", "one", "ok", "Python", "3.12"]
    monkeypatch.setattr(talkinghead.doctor, "diagnose", lambda: findings)
    assert main(["doctor"]) == 2
    assert "see ffmpeg above" in capsys.readouterr().err


# Being stopped, and what nobody can mend


@pytest.mark.parametrize("stopped_at", [0, 1, 3])
def test_a_job_is_closed_when_interrupted(
    stopped_at: int, tmp_path: Path, speech: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_tiny_avatar(tmp_path)
    closed: list[bool] = []

    def interrupted(*arguments: object) -> Iterator[Progress]:
        try:
            for done in range(stopped_at):
                yield Progress("working", done, None)
            raise KeyboardInterrupt
        finally:
            closed.append(True)

    monkeypatch.setattr(talkinghead.speak, "speak", interrupted)
    assert main(["speak", str(tmp_path / "tiny.avatar"), str(speech), "-o", str(tmp_path / "out.mp4")]) == 130
    assert closed == [True]
    assert capsys.readouterr().err.endswith(
        "talkinghead: stopped; nothing half-written is left, and a fit or comparison that is started again goes on\n"
    )


def test_a_job_is_closed_when_the_interrupt_comes_between_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[bool] = []

    def job() -> Generator[Progress, None, None]:
        try:
            yield Progress("working", 0, 5)
            yield Progress("working", 1, 5)
        finally:
            closed.append(True)

    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rich.progress.Progress.update", interrupt)
    with pytest.raises(KeyboardInterrupt):
        show(job())
    assert closed == [True]


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    save_tiny_avatar(tmp_path)
    rng = np.random.default_rng(0)
    speech = write_sound(tmp_path / "long.wav", (0.1 * rng.normal(size=16_000 * 600)).astype(np.float32), 16_000)
    before = sorted(path.name for path in tmp_path.iterdir())
    command = [sys.executable, "-m", "talkinghead", "speak", str(tmp_path / "tiny.avatar"), str(speech)]
    job = subprocess.Popen(
        [*command, "-o", str(tmp_path / "out.mp4")],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # A shell in the background lets its children ignore Ctrl-C, and so would this one's.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while not list(tmp_path.glob(".unfinished-*.mp4")):
        assert job.poll() is None, job.stderr.read()
        time.sleep(0.02)
    job.send_signal(signal.SIGINT)
    _, complaints = job.communicate()
    assert job.returncode == 130, complaints
    assert (
        complaints.splitlines()[-1]
        == "talkinghead: stopped; nothing half-written is left, and a fit or comparison that is started again goes on"
    )
    assert "Traceback" not in complaints
    assert sorted(path.name for path in tmp_path.iterdir()) == before


OUT_OF_MEMORY = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7.79 GiB of which 16.19 MiB is "
    "free. Including non-PyTorch memory, this process has 7.70 GiB memory in use. See documentation for more."
)


@pytest.mark.parametrize(
    ("command", "job"),
    [
        ("fit {clip} -o new", "talkinghead.fit.fit"),
        ("speak tiny.avatar speech.wav -o new.mp4", "talkinghead.speak.speak"),
        ("bench tiny.avatar", "talkinghead.benchmark.measure_avatar"),
        ("evaluate tiny.avatar", "talkinghead.evaluate.evaluate"),
    ],
)
def test_a_gpu_whose_memory_is_full(
    command: str,
    job: str,
    tmp_path: Path,
    speech: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def hungry(*arguments: object) -> Iterator[Progress]:
        yield Progress("working", 0, 1)
        raise torch.OutOfMemoryError(OUT_OF_MEMORY)

    save_tiny_avatar(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job, hungry)
    assert main(command.format(clip=cli.ASSETS / "demo_clip.mp4").split()) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "talkinghead: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7.79 GiB of which "
        "16.19 MiB is free: fit with a smaller --resolution, or work with --device cpu"
    )


def test_a_defect_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ZeroDivisionError("our own fault")

    monkeypatch.setattr(talkinghead.doctor, "diagnose", broken)
    with pytest.raises(ZeroDivisionError):
        main(["doctor"])


def test_stages_follow_one_another(capsys: pytest.CaptureFixture[str]) -> None:
    def job() -> Generator[Progress, None, str]:
        yield Progress("first", 0, 4)
        yield Progress("first", 3, 4)
        yield Progress("second", 1, 2, detail="loss 0.5")
        return "value"

    assert show(job()) == "value"
    first, second = capsys.readouterr().err.splitlines()
    assert re.search(r"first .* 4/4 ", first), "a stage that is left is done"
    assert re.search(r"second .* 1/2 .*loss 0.5", second)
