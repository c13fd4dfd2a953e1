"""What a measurement was made on."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

import torch

from tools.ffmpeg_process import ffmpeg_executable

NOT_INSTALLED = "not installed"


@dataclass(frozen=True)
class Machine:
    """Hardware and software that figures depend on."""

    date: str
    """Of the measurement, UTC."""
    processor: str
    cores: int
    """That this process may use."""
    memory_gib: float | None
    """None where the system does not say."""
    gpu: str
    system: str
    python: str
    torch: str
    numba: str
    gsplat: str
    ffmpeg: str


def this_machine() -> Machine:
    """The machine that this process runs on.

    Raises:
        FfmpegMissingError: there is no ffmpeg.
    """
    memory = memory_gib()
    return Machine(
        date=datetime.now(timezone.utc).isoformat(timespec="minutes"),
        processor=_processor(),
        cores=usable_cores(),
        memory_gib=None if memory is None else round(memory, 1),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        system=platform.platform(),
        python=platform.python_version(),
        torch=torch.__version__,
        numba=_release("numba"),
        gsplat=_release("gsplat"),
        ffmpeg=_ffmpeg(),
    )


def usable_cores() -> int:
    """Cores that this process may use: on Linux it may be kept to some of them."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def memory_gib() -> float | None:
    """Memory of the machine; None where the system does not say."""
    if not hasattr(os, "sysconf"):
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _release(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return NOT_INSTALLED


def _ffmpeg() -> str:
    command = [ffmpeg_executable(), "-version"]
    shown = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout
    return shown.partition("\n")[0].removeprefix("ffmpeg version ").partition(" Copyright")[0]
