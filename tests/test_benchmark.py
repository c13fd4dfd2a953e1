"""The measurement of an avatar: every stage is there and is measured on what it says; how fast, no test asks."""

from __future__ import annotations

import math
import os
from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from tiny_avatar import LOWER_CODES, SIDE, TinyClip, save_speaking_avatar

import render.benchmark
import talkinghead.benchmark
from render.rasterize import Backend, BackendUnavailableError
from talkinghead.benchmark import Figure, measure_avatar, measure_rasterizer
from talkinghead.machine import this_machine
from talkinghead.progress import Progress
from talkinghead.renderer import AvatarRenderer, DrivenFrame

SIZE = f"{SIDE}x{SIDE}"


def measured(folder: Path, seconds: float) -> tuple[list[Progress], tuple[Figure, ...]]:
    job, events = measure_avatar(save_speaking_avatar(folder), seconds), []
    while True:
        try:
            events.append(next(job))
        except StopIteration as end:
            return events, end.value


def test_every_stage_is_measured(tmp_path: Path) -> None:
    events, figures = measured(tmp_path, seconds=1)
    assert [(figure.stage.partition(":")[0], figure.unit, figure.picture) for figure in figures] == [
        ("Gaussians", "", ""),
        ("batch", "frames", ""),
        ("hearing", "s of sound/s", ""),
        ("reading the footage", "frames/s", SIZE),
        ("posing the Gaussians", "ms", ""),
        ("rendering the whole crop", "frames/s", SIZE),
        ("rendering and blending in place", "frames/s", SIZE),
        ("encoding", "frames/s", SIZE),
        ("speak", "frames/s", SIZE),
        ("speak", "s", SIZE),
    ]
    assert all(math.isfinite(figure.value) and figure.value > 0 for figure in figures)
    assert [event.done for event in events] == list(range(events[-1].total + 1))
    assert not list(tmp_path.parent.glob("talkinghead-bench-*"))


def test_a_rate_counts_the_frames_after_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, asked = [0.0], []

    def stage(count: int) -> Generator[None, None, None]:
        asked.append(count)
        for _ in range(count):
            clock[0] += 0.5
            yield

    monkeypatch.setattr(talkinghead.benchmark.time, "perf_counter", lambda: clock[0])
    assert talkinghead.benchmark._rate(stage, 100) == 2
    assert asked == [16, 100]


def test_the_sound_is_the_avatars_own_over_and_over(tmp_path: Path) -> None:
    avatar = save_speaking_avatar(tmp_path)
    samples = talkinghead.benchmark._looped_sound(avatar.path / "source.mp4", 2.5)
    assert len(samples) == 40_000 and samples.dtype == np.int16
    period = next(k for k in range(1, 30_000) if np.array_equal(samples[:8000], samples[k : k + 8000]))
    assert period >= 16_000 and np.array_equal(samples[period:], samples[:-period])


def test_only_pictures_with_a_face_are_rendered_into(tmp_path: Path) -> None:
    avatar = save_speaking_avatar(tmp_path)
    avatar.tracks.found[[0, 1, 5]] = False
    scene = talkinghead.benchmark._scene(avatar, 1, "cpu", tmp_path)
    numbers = [shot.number for shot in scene.shots]
    assert numbers == [number for number in range(TinyClip().frames) if number not in (0, 1, 5)]
    shown = [shot.number for shot in scene.shown(60)]
    assert len(shown) == 60 and set(shown) == set(numbers)


def test_what_is_posed_is_what_is_rasterized(tmp_path: Path) -> None:
    avatar = save_speaking_avatar(tmp_path)
    renderer, facts = AvatarRenderer(avatar, "cpu"), avatar.manifest
    for frames in (1, 3):
        front, mouth = renderer.posed([DrivenFrame(3, np.zeros(LOWER_CODES, np.float32))] * frames)
        assert (len(front), len(mouth)) == (facts.face + facts.body, facts.mouth)


@pytest.mark.parametrize(("backend", "threads"), [("auto", (1, 2)), ("torch", (1, 2))])
def test_the_rasterizer_is_measured_on_the_processor(
    backend: Backend, threads: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(talkinghead.benchmark, "run_benchmark", lambda config: asked.append(config) or iter("ab"))
    job, events = measure_rasterizer(backend, "cpu"), []
    with pytest.raises(StopIteration) as end:
        while True:
            events.append(next(job))
    assert end.value.value == ["a", "b"] and [event.done for event in events] == [0, 1, 2]
    assert (asked[0].backend, asked[0].device, asked[0].threads) == (backend, "cpu", threads)


def test_on_a_gpu_threads_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("render.rasterize.why_gsplat_is_unusable", lambda: None)
    monkeypatch.setattr("render.gsplat_kernels.are_compiled", lambda: True)
    monkeypatch.setattr(talkinghead.benchmark, "run_benchmark", lambda config: asked.append(config) or iter(()))
    for backend in ("auto", "gsplat", "numba"):
        list(measure_rasterizer(backend, "auto"))
    assert [(config.device, config.threads) for config in asked] == [("cuda", (1,)), ("cuda", (1,)), ("cpu", (1, 2))]


def test_a_rasterizer_that_cannot_run_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("render.rasterize.why_gsplat_is_unusable", lambda: "nvcc is missing; install it")
    with pytest.raises(BackendUnavailableError, match="nvcc is missing"):
        list(measure_rasterizer("gsplat", "auto"))


def test_the_machine_is_described() -> None:
    machine = this_machine()
    assert all(asdict(machine).values())
    assert machine.cores <= os.cpu_count()
    assert machine.ffmpeg[0].isalnum() and "\n" not in machine.ffmpeg
    assert render.benchmark.torch.__version__ == machine.torch
