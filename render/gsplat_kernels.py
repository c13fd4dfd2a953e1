"""gsplat's CUDA kernels, which its wheel does not carry: they are compiled on the machine where they are first used."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import torch

from render._rasterize_gsplat import wheel_has_kernels
from render.benchmark import head_like_scene
from render.rasterize import BackendUnavailableError, rasterize

_EXTENSION = "gsplat_cuda"
"""What gsplat 1.5.3 calls them, in the folder that torch keeps for compiled extensions."""


def are_compiled() -> bool:
    """Whether gsplat will load kernels, of a wheel that has them or of an earlier run, instead of compiling them."""
    if wheel_has_kernels():
        return True
    from torch.utils.cpp_extension import _get_build_directory  # where gsplat asks too; warns without a GPU

    folder = Path(_get_build_directory(_EXTENSION, verbose=False))
    return any((folder / f"{_EXTENSION}{suffix}").exists() for suffix in (".so", ".lib"))


def compile_kernels(device: torch.device | str = "cuda") -> None:
    """Has gsplat compile its kernels, which takes minutes, by splatting a small scene; quick when it has them.

    Raises:
        BackendUnavailableError: gsplat cannot run here, or the compiler failed; says what it complained about.
        torch.OutOfMemoryError: the GPU's memory is full.
    """
    gaussians, camera = head_like_scene(100, 32, str(device))
    try:
        with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):  # gsplat prints how it gets on
            rasterize(gaussians, camera, "gsplat").rgb.sum().item()  # waits for the GPU
    except (BackendUnavailableError, torch.OutOfMemoryError):
        raise
    except (RuntimeError, OSError) as error:
        raise BackendUnavailableError(
            f"gsplat could not compile or run its kernels ({_first_complaint(str(error))}): see that nvcc is of the "
            f"CUDA version of torch, {torch.version.cuda}, and has a compiler that it takes, or work on the processor"
        ) from error


def _first_complaint(text: str) -> str:
    """The first line that tells of an error; a compiler's output is long."""
    lines = text.strip().splitlines() or ["no reason given"]
    return next((line.strip() for line in lines if "error:" in line), lines[0])
