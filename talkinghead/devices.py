"""Where the work is done: on an NVIDIA GPU or on the processor."""

from __future__ import annotations

from collections.abc import Generator

import torch

from render import gsplat_kernels
from render.rasterize import available_backends
from talkinghead.config import Device
from talkinghead.errors import DeviceUnavailableError
from talkinghead.progress import Progress

COMPILING = "compiling the GPU rasterizer (once, about eight minutes)"


def device_for(device: Device) -> torch.device:
    """The device that a user's choice means here. The rasterizer follows from where the tensors are.

    Raises:
        DeviceUnavailableError: the GPU is asked for, and gsplat cannot run on one here.
    """
    gsplat = next(status for status in available_backends() if status.name == "gsplat")
    if device == "cuda" and not gsplat.usable:
        raise DeviceUnavailableError(f"--device cuda cannot work here: {gsplat.reason}; or use --device cpu")
    return torch.device("cpu" if device == "cpu" or not gsplat.usable else "cuda")


def ready_device(device: Device) -> Generator[Progress, None, torch.device]:
    """As `device_for`, with the GPU's kernels compiled; says so only where that is still to be done.

    Raises:
        DeviceUnavailableError: see `device_for`.
        render.rasterize.BackendUnavailableError: the kernels cannot be compiled.
    """
    chosen = device_for(device)
    if chosen.type == "cuda" and not gsplat_kernels.are_compiled():
        yield Progress(COMPILING, 0, 1)
        gsplat_kernels.compile_kernels()
        yield Progress(COMPILING, 1, 1)
    return chosen
