"""The rasterizer on a processor: Numba kernels, threads and the gradient's place in autograd.

Each kernel releases the interpreter lock and works on its own share of Gaussians or tiles, so plain Python threads
run them side by side; they share nothing that more than one writes. All buffers belong to one call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from render._numba_binning import TileLists, bin_into_tiles, sort_by_depth, tile_grid
from render._numba_blending import ImageArrays, blend
from render._numba_blending_backward import blend_backward
from render._numba_projection import (
    ROW,
    CameraArrays,
    GaussianArrays,
    SplatArrays,
    project,
    slope_limits,
)
from render._numba_projection_backward import SPLAT_GRADIENT, project_backward
from render._numba_simd import LANES
from render._workers import on_threads, worker_limit
from render.cameras import Camera
from render.gaussians import Gaussians

MIN_GAUSSIANS_PER_WORKER = 2048
"""Handing work to another thread costs as much as projecting about this many Gaussians."""


@dataclass(frozen=True)
class _Rendering:
    """A rendered image and what its gradient needs, all of it arrays."""

    gaussians: GaussianArrays
    camera: CameraArrays
    splats: SplatArrays
    lists: TileLists
    image: ImageArrays


def rasterize_numba(gaussians: Gaussians, camera: Camera) -> tuple[Tensor, Tensor]:
    """Premultiplied rgb [3, H, W] and alpha [H, W]; see `render.rasterize.rasterize` for the meaning.

    Raises:
        ValueError: tensors that are not float32, or not in main memory.
    """
    for name, tensor in (("gaussians", gaussians.means), ("camera.world_to_camera", camera.world_to_camera)):
        if tensor.device.type != "cpu" or tensor.dtype != torch.float32:
            raise ValueError(
                f"the numba back end takes float32 on the cpu, got {tensor.dtype} on {tensor.device} as {name}; "
                "convert them or choose backend='torch'"
            )
    tensors = (gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.colors)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (*tensors, camera.world_to_camera)):
        return _Rasterize.apply(*tensors, camera.world_to_camera, camera)
    rgb, alpha, _ = _render(_gaussian_arrays(tensors), camera.world_to_camera, camera)
    return rgb, alpha


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, *inputs: Tensor | Camera) -> tuple[Tensor, Tensor]:
        *tensors, world_to_camera, camera = inputs
        rgb, alpha, ctx.rendering = _render(_gaussian_arrays(tensors), world_to_camera, camera)
        # The rendering's arrays are these, read again in backward; autograd notices if they are changed in between.
        ctx.save_for_backward(*tensors, world_to_camera, rgb, alpha)
        return rgb, alpha

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, rgb_gradient: Tensor, alpha_gradient: Tensor) -> tuple[Tensor | None, ...]:
        _ = ctx.saved_tensors  # raises if one of them has changed
        return (*_gradients(ctx.rendering, rgb_gradient, alpha_gradient), None)


def _flat(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().numpy()).reshape(-1)


def _empty(*shape: int) -> np.ndarray:
    """Uninitialised float32 memory, from torch because it aligns to cache lines, which the splat table relies on."""
    return torch.empty(shape).numpy()


def _gaussian_arrays(tensors: tuple[Tensor, ...]) -> GaussianArrays:
    return GaussianArrays(*(_flat(tensor) for tensor in tensors))


def _camera_arrays(world_to_camera: Tensor, camera: Camera) -> CameraArrays:
    return CameraArrays(
        _flat(world_to_camera),
        np.float32(camera.fx),
        np.float32(camera.fy),
        np.float32(camera.cx),
        np.float32(camera.cy),
        camera.width,
        camera.height,
        (*slope_limits(camera.fx, camera.cx, camera.width), *slope_limits(camera.fy, camera.cy, camera.height)),
    )


def _on_workers(workers: int, task: Callable[[int], None]) -> None:
    """Runs task(0) ... task(workers - 1)."""
    on_threads([partial(task, worker) for worker in range(workers)])


def _shares(count: int) -> list[tuple[int, int]]:
    """`count` Gaussians split between the workers, at multiples of LANES."""
    workers = max(1, min(worker_limit(), count // MIN_GAUSSIANS_PER_WORKER))
    blocks = -(-count // LANES)
    edges = [blocks * worker // workers * LANES for worker in range(workers)]
    return list(zip(edges, [*edges[1:], count], strict=True))


def _render(gaussians: GaussianArrays, world_to_camera: Tensor, camera: Camera) -> tuple[Tensor, Tensor, _Rendering]:
    count = gaussians.opacities.size
    padded = -(-count // LANES) * LANES
    view = _camera_arrays(world_to_camera, camera)
    splats = SplatArrays(_empty(padded * ROW), _empty(padded), _empty(padded * 4))
    shares = _shares(count)
    counts = np.zeros((len(shares), *tile_grid(camera.width, camera.height)), np.int32)
    _on_workers(len(shares), lambda worker: project(gaussians, view, splats, counts[worker], *shares[worker]))
    lists = bin_into_tiles(sort_by_depth(splats.depths), splats.tile_rects, counts)

    pixels, tiles = camera.height * camera.width, counts[0].size
    image = ImageArrays(_empty(3 * pixels), _empty(pixels), np.empty(tiles, np.int32), camera.width, camera.height)
    workers = min(worker_limit(), tiles)
    _on_workers(workers, lambda worker: blend(splats.rows, lists, image, worker, workers))
    rgb = torch.from_numpy(image.rgb).view(3, camera.height, camera.width)
    alpha = torch.from_numpy(image.alpha).view(camera.height, camera.width)
    return rgb, alpha, _Rendering(gaussians, view, splats, lists, image)


def _gradients(rendering: _Rendering, rgb_gradient: Tensor, alpha_gradient: Tensor) -> tuple[Tensor, ...]:
    """Gradients of means, quats, scales, opacities, colors and world_to_camera."""
    gaussians, splats, lists, image = rendering.gaussians, rendering.splats, rendering.lists, rendering.image
    count, padded = gaussians.opacities.size, splats.depths.size
    workers = min(worker_limit(), lists.busiest_first.size)
    tables = _empty(workers, padded * SPLAT_GRADIENT)
    planes = _flat(rgb_gradient), _flat(alpha_gradient)
    _on_workers(
        workers, lambda worker: blend_backward(splats.rows, lists, image, *planes, tables[worker], worker, workers)
    )

    shapes = (padded, 3), (padded, 4), (padded, 3), (padded,), (padded, 3)
    outputs = [np.empty(shape, np.float32) for shape in shapes]
    gradients = GaussianArrays(*(output.reshape(-1) for output in outputs))
    shares = _shares(count)
    # A view that is not finite drew nothing, and must not turn the gradients from zero to NaN.
    view = rendering.camera.world_to_camera
    camera = rendering.camera._replace(world_to_camera=np.where(np.isfinite(view), view, np.float32(0.0)))
    view_gradients = np.empty((len(shares), LANES), np.float32)
    _on_workers(
        len(shares),
        lambda worker: project_backward(
            gaussians, camera, splats.depths, tables, gradients, view_gradients[worker], *shares[worker]
        ),
    )
    world_to_camera_gradient = torch.from_numpy(view_gradients.sum(axis=0).reshape(4, 4))
    return (*(torch.from_numpy(output[:count]) for output in outputs), world_to_camera_gradient)
