"""Everything that only a machine with an NVIDIA GPU can show, in one call.

    python -m talkinghead.gpu_check VIDEO AUDIO -o FOLDER

Writes gpu_check.json into the folder and prints it as a table. A step that fails is reported, and the others go on; the
exit code is 0 when all passed, 1 when one failed, and 2 without a GPU. The CUDA tests need a checkout with `tests`.
"""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import zip_longest
from pathlib import Path

import numpy as np
import torch
import tyro

from render import gsplat_kernels
from render.rasterize import Backend
from talkinghead.arguments import Audio, Output, Video
from talkinghead.avatar import load_avatar
from talkinghead.benchmark import measure_avatar, measure_rasterizer
from talkinghead.config import PLATE, SOURCE, Device, FitConfig, MouthKind, Preset, SpeakConfig
from talkinghead.devices import device_for
from talkinghead.doctor import diagnose
from talkinghead.fit import fit
from talkinghead.machine import this_machine
from talkinghead.speak import speak
from talkinghead.terminal import complain, print_table, show, write_text
from tools.errors import UserError
from tools.picture_quality import psnr
from tools.video import probe, read_frames

TESTS = Path(__file__).parent.parent / "tests"
REPORT = "gpu_check.json"
LEAST_PSNR_DB = 45.0
"""Between what the two devices make of the same avatar and sound."""
MOST_PSNR_DB = 100.0
"""Written for identical videos, since JSON has no infinity."""
DEVICES: tuple[Device, ...] = ("cuda", "cpu")
RESOLUTIONS = (512, 1024)
MIB = 2**20

Facts = dict[str, object]
Step = Callable[[], Facts]


class CheckFailedError(RuntimeError):
    """What was checked is not as it should be."""


@dataclass(frozen=True)
class GpuCheck:
    """Measures and checks the GPU path on this machine."""

    video: Video
    """One person talking to the camera."""
    audio: Audio
    """What the person is made to say."""
    output: Output
    """Folder for the report, the avatars and the videos."""
    preset: Preset = "standard"
    """Recipe of the fits."""
    seconds: float = 20.0
    """Length of the speech that rates are measured with."""


@dataclass(frozen=True)
class Outcome:
    """How a step went."""

    step: str
    ok: bool
    seconds: float
    host_peak_mib: float | None
    """Most memory that the process held; None where the system does not say."""
    gpu_peak_mib: float | None
    """Most memory that torch's tensors took on the GPU; None without one."""
    facts: Facts
    """What was found."""
    error: str = ""


def steps(check: GpuCheck) -> list[tuple[str, Step]]:
    """What is checked, in order; later steps use the avatars of earlier ones."""
    avatars = {resolution: check.output / f"cuda-{resolution}.avatar" for resolution in RESOLUTIONS}
    implicit = check.output / "cuda-implicit.avatar"
    listed: list[tuple[str, Step]] = [("doctor", doctor), ("compile", compile_kernels), ("CUDA tests", cuda_tests)]
    for device, resolution in (("cuda", 512), ("cpu", 512), ("cuda", 1024)):
        avatar = check.output / f"{device}-{resolution}.avatar"
        listed.append((f"fit {resolution} on {device}", partial(fit_avatar, check, avatar, device, resolution)))
    listed.append(("fit an implicit mouth", partial(fit_avatar, check, implicit, "cuda", 512, "implicit")))
    for background in (SOURCE, PLATE):
        listed.append((f"parity, {background}", partial(parity, check, avatars[512], background)))
    listed.append(("parity, implicit mouth", partial(parity, check, implicit, SOURCE)))
    for resolution, avatar in avatars.items():
        for device in DEVICES:
            listed.append((f"speak {resolution} on {device}", partial(speaking_rates, avatar, check.seconds, device)))
    for backend, device in (("gsplat", "cuda"), ("numba", "cpu")):
        listed.append((f"rasterizer {backend}", partial(rasterizer_speed, backend, device)))
    return listed


def outcomes(listed: Sequence[tuple[str, Step]]) -> Iterator[Outcome]:
    """Takes the steps one after another, whatever becomes of each."""
    for name, step in listed:
        _reset_peaks()
        start, facts, error = time.perf_counter(), {}, ""
        try:
            facts = step()
        except Exception as failure:
            error = f"{type(failure).__name__}: {failure}"
        seconds = round(time.perf_counter() - start, 2)
        yield Outcome(name, not error, seconds, _host_peak_mib(), _gpu_peak_mib(), facts, error)


def doctor() -> Facts:
    """What this machine lacks, and all findings."""
    findings = diagnose()
    missing = [finding.name for finding in findings if not finding.ok]
    return {"missing": ", ".join(missing) or "nothing", "findings": [asdict(finding) for finding in findings]}


def compile_kernels() -> Facts:
    """How long gsplat takes to compile; a moment where it has done so before."""
    before, start = gsplat_kernels.are_compiled(), time.perf_counter()
    gsplat_kernels.compile_kernels()
    return {"compiled before": before, "compile_s": round(time.perf_counter() - start, 1)}


def cuda_tests() -> Facts:
    """The tests that need a GPU.

    Raises:
        CheckFailedError: one failed, or there are none.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-m", "cuda", str(TESTS)]
    run = subprocess.run(command, cwd=TESTS.parent, capture_output=True, text=True, check=False)
    if run.returncode:
        raise CheckFailedError(f"pytest ended with exit code {run.returncode}: {(run.stdout + run.stderr)[-4000:]}")
    return {"result": run.stdout.strip().splitlines()[-1]}


def fit_avatar(
    check: GpuCheck, avatar: Path, device: Device, resolution: int, mouth: MouthKind = "gaussians"
) -> Facts:
    """How long a fit takes, tracking included."""
    start = time.perf_counter()
    config = FitConfig(check.preset, resolution=resolution, mouth=mouth, device=device, restart=True)
    show(fit(check.video, avatar, config))
    fitted = load_avatar(avatar)
    return {
        "fit_s": round(time.perf_counter() - start, 1),
        "Gaussians": len(fitted.model),
        "crop_px": fitted.manifest.crop.resolution,
    }


def parity(check: GpuCheck, path: Path, background: str, devices: tuple[Device, Device] = ("cuda", "cpu")) -> Facts:
    """How alike the same avatar speaks on both devices; encoded without loss, so that only the pictures count.

    Raises:
        CheckFailedError: not alike enough.
    """
    config = SpeakConfig(background=background, crf=0, effort="ultrafast")
    videos = []
    for place, device in enumerate(devices):
        videos.append(check.output / f"parity-{background}-{path.stem}-{place}-{device}.mp4")
        show(speak(load_avatar(path), check.audio, videos[-1], replace(config, device=device)))
    pooled, worst = video_psnr(*videos)
    if pooled < LEAST_PSNR_DB:
        raise CheckFailedError(f"{pooled:.2f} dB between the devices (worst frame {worst:.2f}), not {LEAST_PSNR_DB}")
    return {"psnr_db": round(min(pooled, MOST_PSNR_DB), 2), "worst_frame_db": round(min(worst, MOST_PSNR_DB), 2)}


def video_psnr(first: Path, second: Path) -> tuple[float, float]:
    """PSNR in dB between two videos, of all pixels and of the worst frame; infinite for identical ones.

    Raises:
        CheckFailedError: they differ in size or in the number of frames.
    """
    errors = []
    for one, other in zip_longest(read_frames(probe(first)), read_frames(probe(second))):
        if one is None or other is None or one.shape != other.shape:
            raise CheckFailedError(f"{first} and {second} differ in size or length")
        errors.append(10 ** (-psnr(one, other) / 10))  # 0 for identical pictures
    return tuple(-10 * math.log10(error) if error else math.inf for error in (np.mean(errors), max(errors)))


def speaking_rates(avatar: Path, seconds: float, device: Device) -> Facts:
    """What `talkinghead bench` says of an avatar."""
    figures = show(measure_avatar(load_avatar(avatar), seconds, device))
    return {" ".join((figure.stage, figure.unit)).strip(): round(figure.value, 2) for figure in figures}


def rasterizer_speed(backend: Backend, device: Device) -> Facts:
    """What `talkinghead bench` says of a rasterizer."""
    rows = show(measure_rasterizer(backend, device))
    summary = {f"{row.gaussians} at {row.size} px, {row.threads} threads, ms": row.forward_ms for row in rows}
    return {name: round(time_ms, 2) for name, time_ms in summary.items()} | {"rows": [asdict(row) for row in rows]}


def table(found: Sequence[Outcome]) -> list[tuple[str, ...]]:
    """A heading and a line per step; long lists of facts are left to the file."""
    lines = []
    for outcome in found:
        told = ", ".join(f"{name} {value}" for name, value in outcome.facts.items() if not isinstance(value, list))
        reason = outcome.error.strip().partition("\n")[0]
        memory = ("-" if peak is None else f"{peak:.0f}" for peak in (outcome.host_peak_mib, outcome.gpu_peak_mib))
        verdict = "ok" if outcome.ok else "FAILED"
        lines.append((outcome.step, verdict, f"{outcome.seconds:.1f}", *memory, told or reason))
    return [("step", "", "s", "host MiB", "GPU MiB", "found"), *lines]


def main(arguments: list[str] | None = None) -> int:
    """Checks, writes the report and prints it; returns the exit code."""
    check = tyro.cli(GpuCheck, prog="python -m talkinghead.gpu_check", args=arguments)
    try:
        device_for("cuda")
        for path in (check.video, check.audio):
            if not path.is_file():
                raise UserError(f"{path} does not exist: give a video and a recording")
    except UserError as error:
        complain(str(error))
        return 2
    check.output.mkdir(parents=True, exist_ok=True)
    machine, found = asdict(this_machine()), []
    for outcome in outcomes(steps(check)):
        found.append(outcome)  # written at once: what comes next may end the process
        content = {"machine": machine, "steps": [asdict(outcome) for outcome in found]}
        write_text(check.output / REPORT, json.dumps(content, indent=2, allow_nan=False))
    print_table([(name, str(value)) for name, value in machine.items()])
    print_table(table(found))
    return 0 if all(outcome.ok for outcome in found) else 1


def _reset_peaks() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    peak = Path("/proc/self/clear_refs")
    if peak.exists():
        with contextlib.suppress(OSError):  # not allowed in some containers: the peak is then that of all steps so far
            peak.write_text("5")


def _host_peak_mib() -> float | None:
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    peaks = (int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
    return next((round(peak, 1) for peak in peaks), None)


def _gpu_peak_mib() -> float | None:
    return round(torch.cuda.max_memory_allocated() / MIB, 1) if torch.cuda.is_available() else None


if __name__ == "__main__":
    sys.exit(main())
