"""What --device means, and that kernels are compiled before the work and in the user's sight."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from demo_clip_track import demo_clip
from media_samples import write_sound
from tiny_avatar import save_tiny_avatar

from render import gsplat_kernels
from talkinghead.config import Device, EvaluateConfig, FitConfig, SpeakConfig
from talkinghead.devices import COMPILING, device_for, ready_device
from talkinghead.doctor import Finding, diagnose
from talkinghead.errors import DeviceUnavailableError
from talkinghead.evaluate import evaluate
from talkinghead.fit import fit
from talkinghead.progress import Progress
from talkinghead.speak import speak


class FakeKernels:
    """gsplat on a machine with a GPU: usable, and compiled when asked to."""

    def __init__(self, compiled: bool) -> None:
        self.compiled = compiled
        self.compilations = 0

    def are_compiled(self) -> bool:
        return self.compiled

    def compile_kernels(self) -> None:
        self.compilations += 1
        self.compiled = True


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> FakeKernels:
    fake = FakeKernels(compiled=False)
    monkeypatch.setattr("render.rasterize.why_gsplat_is_unusable", lambda: None)
    monkeypatch.setattr(gsplat_kernels, "are_compiled", fake.are_compiled)
    monkeypatch.setattr(gsplat_kernels, "compile_kernels", fake.compile_kernels)
    return fake


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("render.rasterize.why_gsplat_is_unusable", lambda: "nvcc is missing; install it")


def outcome(job: Generator[Progress, None, torch.device]) -> tuple[list[Progress], torch.device]:
    events = []
    while True:
        try:
            events.append(next(job))
        except StopIteration as end:
            return events, end.value


def finding() -> Finding:
    return next(finding for finding in diagnose() if finding.name == "--device cuda")


@pytest.mark.parametrize(("device", "meant"), [("auto", "cuda"), ("cuda", "cuda"), ("cpu", "cpu")])
def test_with_a_gpu(device: Device, meant: str, kernels: FakeKernels) -> None:
    assert device_for(device) == torch.device(meant)
    assert finding().ok


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_without_a_gpu(device: Device, no_gpu: None) -> None:
    assert device_for(device) == torch.device("cpu")
    assert outcome(ready_device(device)) == ([], torch.device("cpu"))


def test_a_missing_gpu_is_told_with_reason_and_remedy(no_gpu: None) -> None:
    message = "--device cuda cannot work here: nvcc is missing; install it; or use --device cpu"
    with pytest.raises(DeviceUnavailableError) as error:
        device_for("cuda")
    assert str(error.value) == message
    assert finding().detail == message and not finding().ok and finding().optional


def test_kernels_are_compiled_once_and_shown(kernels: FakeKernels) -> None:
    assert outcome(ready_device("cpu")) == ([], torch.device("cpu"))
    assert kernels.compilations == 0
    events = [Progress(COMPILING, 0, 1), Progress(COMPILING, 1, 1)]
    assert outcome(ready_device("auto")) == (events, torch.device("cuda"))
    assert outcome(ready_device("cuda")) == ([], torch.device("cuda"))
    assert kernels.compilations == 1


def jobs(folder: Path) -> Iterator[Generator[Progress, None, object]]:
    avatar = save_tiny_avatar(folder)
    speech = write_sound(folder / "speech.wav", np.zeros(16_000, np.float32), 16_000)
    yield fit(demo_clip().path, folder / "new.avatar", FitConfig())
    yield speak(avatar, speech, folder / "new.mp4", SpeakConfig())
    yield evaluate(folder / "tiny.avatar", EvaluateConfig())


def test_every_job_compiles_before_it_works(tmp_path: Path, kernels: FakeKernels) -> None:
    for job in jobs(tmp_path):
        assert next(job) == Progress(COMPILING, 0, 1)
        job.close()
    assert not {path.name for path in tmp_path.iterdir()} & {"new.avatar", ".new.avatar.work", "new.mp4"}
