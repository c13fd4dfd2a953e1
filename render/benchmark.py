"""Speed of the rasterizer on this machine, measured against the torch reference in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from render.cameras import Camera
from render.gaussians import Gaussians
from render.rasterize import Backend, rasterize


@dataclass(frozen=True)
class BenchmarkConfig:
    """What is measured: every combination of the three lists."""

    gaussians: tuple[int, ...] = (20_000, 50_000)
    """Numbers of Gaussians."""
    sizes: tuple[int, ...] = (256, 512)
    """Sides of the square image, px."""
    threads: tuple[int, ...] = (1, 2)
    """Threads that torch is allowed, which is what the numba back end follows."""
    backend: Backend = "auto"
    """The back end that is measured."""
    repeats: int = 15
    """Timed calls, of which the median counts; one more comes first to compile and warm up."""
    reference_repeats: int = 1
    """Timed calls of the torch reference, which takes seconds each."""
    device: str = "cpu"
    """Where the Gaussians lie."""


@dataclass(frozen=True)
class BenchmarkRow:
    """One measured combination. Times are medians of wall time."""

    gaussians: int
    size: int  # px
    threads: int
    forward_ms: float  # without gradients
    forward_backward_ms: float
    forward_speedup: float  # reference time / time
    forward_backward_speedup: float


def run_benchmark(config: BenchmarkConfig) -> Iterator[BenchmarkRow]:
    """Measures row by row; torch's number of threads is put back at the end."""
    threads_before = torch.get_num_threads()
    try:
        for count in config.gaussians:
            for size in config.sizes:
                leaves, camera = head_like_scene(count, size, config.device)
                for threads in config.threads:
                    torch.set_num_threads(threads)
                    yield _measure(leaves, camera, config)
    finally:
        torch.set_num_threads(threads_before)


def head_like_scene(count: int, size: int, device: str = "cpu") -> tuple[Gaussians, Camera]:
    """Gaussians like those of a fitted head, as leaves that ask for gradients, and a camera before them.

    Three quarters lie on an ellipsoid, the rest inside of it; it covers 60 % of the image, and standard deviations are
    1.5 to 4 px in an image of 512 px.
    """
    generator = torch.Generator().manual_seed(0)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    distance = 5.0
    focal_512 = 0.95 * 512 * distance / 2.04  # the ellipsoid's height fills 95 % of the image
    on_shell = uniform(count, 1) < 0.75
    radius = torch.where(on_shell, 1 + 0.02 * normal(count, 1), uniform(count, 1) ** (1 / 3))
    direction = torch.nn.functional.normalize(normal(count, 3), dim=1)
    sigma_px = 1.5 * (4 / 1.5) ** uniform(count, 1) * torch.exp(0.35 * normal(count, 3))
    tensors = (
        direction * radius * torch.tensor([0.80, 0.98, 0.85]),
        torch.nn.functional.normalize(normal(count, 4), dim=1),
        sigma_px.clamp(0.9, 5.2) * distance / focal_512,
        0.1 + 0.85 * uniform(count),
        uniform(count, 3),
    )
    world_to_camera = torch.eye(4, device=device)
    world_to_camera[2, 3] = distance
    focal = focal_512 * size / 512
    camera = Camera(world_to_camera.requires_grad_(), focal, focal, size / 2, size / 2, size, size)
    return Gaussians(*(tensor.to(device).requires_grad_() for tensor in tensors)), camera


def _measure(gaussians: Gaussians, camera: Camera, config: BenchmarkConfig) -> BenchmarkRow:
    leaves = (
        gaussians.means,
        gaussians.quats,
        gaussians.scales,
        gaussians.opacities,
        gaussians.colors,
        camera.world_to_camera,
    )
    gradient = torch.ones(4, camera.height, camera.width, device=gaussians.means.device)

    def forward(backend: Backend) -> None:
        with torch.no_grad():
            rasterize(gaussians, camera, backend)

    def forward_backward(backend: Backend) -> tuple[Tensor, ...]:
        output = rasterize(gaussians, camera, backend)
        return torch.autograd.grad((output.rgb, output.alpha), leaves, (gradient[:3], gradient[3]))

    times = {task: median_ms(lambda t=task: t(config.backend), config.repeats) for task in (forward, forward_backward)}
    # The reference compiles nothing, and is too slow to run once in vain.
    reference = {task: median_ms(lambda t=task: t("torch"), config.reference_repeats, 0) for task in times}
    return BenchmarkRow(
        gaussians=len(gaussians),
        size=camera.width,
        threads=torch.get_num_threads(),
        forward_ms=times[forward],
        forward_backward_ms=times[forward_backward],
        forward_speedup=reference[forward] / times[forward],
        forward_backward_speedup=reference[forward_backward] / times[forward_backward],
    )


def median_ms(task: Callable[[], object], repeats: int, warm_up: int = 1) -> float:
    """Median of the wall times of calls, the GPU's work included, after some that are not counted."""
    times = []
    for _ in range(warm_up + repeats):
        start = time.perf_counter()
        task()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - start))
    return median(times[warm_up:])
