"""The script for machines with a GPU, on one without: the glue, with stand-ins for what needs one."""

from __future__ import annotations

import json
import math
import subprocess
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from media_samples import write_sound
from tiny_avatar import save_speaking_avatar

from talkinghead import gpu_check
from talkinghead.gpu_check import CheckFailedError, GpuCheck, Outcome, main, outcomes, parity, table, video_psnr
from talkinghead.progress import Progress
from tools.video import EncodeSettings, VideoWriter


def write_video(path: Path, pictures: list[np.ndarray]) -> Path:
    """Greys, of which 4:2:0 loses nothing."""
    height, width, _ = pictures[0].shape
    with VideoWriter(path, width, height, Fraction(25), settings=EncodeSettings(crf=0)) as writer:
        for picture in pictures:
            writer.write(picture)
    return path


@pytest.fixture
def check(tmp_path: Path) -> GpuCheck:
    save_speaking_avatar(tmp_path)
    speech = write_sound(tmp_path / "speech.wav", np.sin(np.arange(16_000) / 9).astype(np.float32) / 4, 16_000)
    return GpuCheck(tmp_path / "tiny-spoken.mp4", speech, tmp_path, seconds=1)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which gsplat is usable; nothing runs there."""
    monkeypatch.setattr("render.rasterize.why_gsplat_is_unusable", lambda: None)


def test_without_a_gpu_it_says_so_in_one_line(
    check: GpuCheck, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("render.rasterize.why_gsplat_is_unusable", lambda: "torch sees no CUDA device; add one")
    folder = check.output / "new"
    assert main([str(check.video), str(check.audio), "-o", str(folder)]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and not folder.exists()
    assert shown.err.startswith("talkinghead: --device cuda cannot work here: torch sees no CUDA device")
    assert shown.err.count("\n") == 1


def test_inputs_that_are_missing(check: GpuCheck, gpu: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(check.video), "none.wav", "-o", str(check.output)]) == 2
    assert "none.wav does not exist" in capsys.readouterr().err


def test_a_step_that_fails_does_not_stop_the_next() -> None:
    def broken() -> dict[str, object]:
        raise RuntimeError("out of memory\nand more")

    found = list(outcomes([("one", lambda: {"a": 1}), ("two", broken), ("three", lambda: {"b": 2.5})]))
    assert [(outcome.step, outcome.ok, outcome.facts) for outcome in found] == [
        ("one", True, {"a": 1}),
        ("two", False, {}),
        ("three", True, {"b": 2.5}),
    ]
    assert found[1].error == "RuntimeError: out of memory\nand more"
    assert [line[:2] + line[-1:] for line in table(found)[1:]] == [
        ("one", "ok", "a 1"),
        ("two", "FAILED", "RuntimeError: out of memory"),
        ("three", "ok", "b 2.5"),
    ]


def test_a_step_that_is_stopped_stops_the_rest() -> None:
    def stopped() -> dict[str, object]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(outcomes([("one", stopped)]))


def test_memory_is_that_of_the_step() -> None:
    def hungry() -> dict[str, object]:
        return {"sum": int(np.ones(200 << 20, np.uint8).sum(dtype=np.int64))}

    small, large, after = outcomes([("small", dict), ("large", hungry), ("after", dict)])
    if small.host_peak_mib is None:
        pytest.skip("needs a system that tells a process's peak memory")
    assert large.host_peak_mib - small.host_peak_mib > 150
    assert after.host_peak_mib <= large.host_peak_mib


@pytest.mark.parametrize(("failing", "code"), [(False, 0), (True, 1)])
def test_the_report(
    failing: bool,
    code: int,
    check: GpuCheck,
    gpu: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def second() -> dict[str, object]:
        if failing:
            raise CheckFailedError("30.00 dB between the devices")
        return {"psnr_db": 60.0}

    listed = [("first", lambda: {"rows": [1, 2], "compile_s": 480.0}), ("second", second)]
    monkeypatch.setattr(gpu_check, "steps", lambda check: listed)
    assert main([str(check.video), str(check.audio), "-o", str(check.output / "new")]) == code
    shown = capsys.readouterr().out
    assert "compile_s 480.0" in shown and ("30.00 dB" in shown) == failing and "rows" not in shown
    written = json.loads((check.output / "new" / "gpu_check.json").read_text())
    assert [step["ok"] for step in written["steps"]] == [True, not failing]
    assert written["steps"][0]["facts"]["rows"] == [1, 2] and written["machine"]["torch"]


def test_every_step_that_was_asked_for_is_listed(check: GpuCheck) -> None:
    names = [name for name, _ in gpu_check.steps(check)]
    assert len(set(names)) == len(names)
    assert names[:3] == ["doctor", "compile", "CUDA tests"]
    assert {f"fit 512 on {device}" for device in ("cuda", "cpu")} <= set(names)
    assert {f"speak {size} on {device}" for size in (512, 1024) for device in ("cuda", "cpu")} <= set(names)
    assert {"parity, source", "parity, plate", "rasterizer gsplat", "rasterizer numba"} <= set(names)
    assert {"fit an implicit mouth", "parity, implicit mouth"} <= set(names)


def test_psnr_of_two_videos(tmp_path: Path) -> None:
    greys = [np.full((32, 32, 3), level, np.uint8) for level in (60, 90, 120)]
    first = write_video(tmp_path / "a.mp4", greys)
    assert video_psnr(first, first) == (math.inf, math.inf)
    brighter = [greys[0], greys[1] + np.uint8(7), greys[2]]
    pooled, worst = video_psnr(first, write_video(tmp_path / "b.mp4", brighter))
    # A step of the limited range in which video is stored is 255 / 219, so a difference may be a level off.
    assert worst == pytest.approx(20 * math.log10(255 / 7), abs=1.4)
    assert pooled == pytest.approx(worst + 10 * math.log10(3), abs=0.01)
    with pytest.raises(CheckFailedError, match="differ in size or length"):
        video_psnr(first, write_video(tmp_path / "c.mp4", greys[:2]))


@pytest.mark.parametrize("background", ["source", "plate"])
def test_parity(background: str, check: GpuCheck, monkeypatch: pytest.MonkeyPatch) -> None:
    avatar = check.output / "tiny.avatar"
    facts = parity(check, avatar, background, devices=("cpu", "cpu"))
    assert facts == {"psnr_db": 100.0, "worst_frame_db": 100.0}
    videos = sorted(check.output.glob(f"parity-{background}-*.mp4"))
    assert len(videos) == 2

    spoken = gpu_check.speak

    def with_other_mouths(avatar, audio, output, config):
        return spoken(avatar, audio, output, replace(config, mouth_gain=2.0 if "-1-" in output.name else 0.0))

    monkeypatch.setattr(gpu_check, "speak", with_other_mouths)
    monkeypatch.setattr(gpu_check, "LEAST_PSNR_DB", 90.0)
    with pytest.raises(CheckFailedError, match=r"dB between the devices \(worst frame .*not 90"):
        parity(check, avatar, background, devices=("cpu", "cpu"))


def test_a_fit_is_timed_and_begun_anew(check: GpuCheck, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def quick(video, output, config):
        asked.append((video, output.name, config.device, config.resolution, config.mouth, config.restart))
        (check.output / "tiny.avatar").rename(output)
        yield Progress("fitting", 1, 1)

    monkeypatch.setattr(gpu_check, "fit", quick)
    facts = gpu_check.fit_avatar(check, check.output / "cpu-512.avatar", "cpu", 512, "implicit")
    assert asked == [(check.video, "cpu-512.avatar", "cpu", 512, "implicit", True)]
    assert facts["Gaussians"] == 90 and facts["crop_px"] == 64 and facts["fit_s"] >= 0


def test_rates_of_an_avatar(check: GpuCheck) -> None:
    facts = gpu_check.speaking_rates(check.output / "tiny.avatar", 1, "cpu")
    assert facts["Gaussians"] == 90 and facts["batch frames"] == 1 and facts["speak: wav in, mp4 out frames/s"] > 0
    json.dumps(facts, allow_nan=False)


def test_the_cuda_tests_are_found_and_a_failure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, len(commands) - 1, "5 passed in 2s\n", "")

    monkeypatch.setattr(gpu_check.subprocess, "run", run)
    assert gpu_check.cuda_tests() == {"result": "5 passed in 2s"}
    assert commands[0][2:6] == ["pytest", "-q", "-m", "cuda"] and Path(commands[0][-1], "test_cuda.py").is_file()
    with pytest.raises(CheckFailedError, match="exit code 1: 5 passed"):
        gpu_check.cuda_tests()


def test_a_report_without_numbers_has_dashes() -> None:
    (_, line) = table([Outcome("one", True, 1.25, None, None, {})])
    assert line == ("one", "ok", "1.2", "-", "-", "")
