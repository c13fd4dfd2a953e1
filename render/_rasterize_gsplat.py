"""The rasterizer on an NVIDIA GPU: gsplat's CUDA kernels."""

from __future__ import annotations

import shutil
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import torch
from torch import Tensor

from render._constants import EPS2D, FAR_PLANE, GSPLAT_VERSION, NEAR_PLANE
from render.cameras import Camera
from render.gaussians import Gaussians


@cache
def why_gsplat_is_unusable() -> str | None:
    """The reason and the remedy, or None when gsplat can run here. Compiles nothing."""
    install = f"install it with: pip install gsplat=={GSPLAT_VERSION}"
    try:
        found = version("gsplat")
    except PackageNotFoundError:
        return f"gsplat is not installed; {install}"
    if found.split("+")[0] != GSPLAT_VERSION:
        return (
            f"gsplat {found} may blend differently from the {GSPLAT_VERSION} that the other back ends follow; {install}"
        )
    if not torch.cuda.is_available():
        return "torch sees no CUDA device; install an NVIDIA driver, and torch for its CUDA version"
    from torch.utils.cpp_extension import CUDA_HOME  # warns when it is imported without a GPU

    if wheel_has_kernels():
        return None
    if CUDA_HOME is None and shutil.which("nvcc") is None:
        return "gsplat compiles its kernels at first use and nvcc is missing; install the CUDA toolkit that torch names"
    if shutil.which("ninja") is None:  # needed to load them, too
        return "gsplat loads its kernels with ninja, which is not on the PATH; activate the environment that it is in"
    return None


def wheel_has_kernels() -> bool:
    """Whether the installed gsplat brings its kernels along; the wheel on PyPI does not."""
    return find_spec("gsplat.csrc") is not None


def rasterize_gsplat(gaussians: Gaussians, camera: Camera) -> tuple[Tensor, Tensor]:
    """Premultiplied rgb [3, H, W] and alpha [H, W]; see `render.rasterize.rasterize` for the meaning.

    The frames of a batch are rasterized in one launch: rgb [B, 3, H, W] and alpha [B, H, W].
    The first call on a machine may compile gsplat's kernels, which takes minutes; see `render.gsplat_kernels`.

    Raises:
        ValueError: tensors that are not float32.
    """
    if gaussians.means.dtype != torch.float32:
        raise ValueError(f"the gsplat back end takes float32 tensors, got {gaussians.means.dtype}")
    import gsplat  # loads its compiled extension

    visible = _without_invalid(gaussians)
    batch = visible.means.shape[:-2]  # gsplat's leading dimensions; each of their elements has one camera
    rgb, alpha, _ = gsplat.rasterization(
        means=visible.means,
        quats=visible.quats,
        scales=visible.scales,
        opacities=visible.opacities,
        colors=visible.colors,
        viewmats=camera.world_to_camera.expand(*batch, 1, 4, 4),
        Ks=camera.intrinsic_matrix.expand(*batch, 1, 3, 3),
        width=camera.width,
        height=camera.height,
        near_plane=NEAR_PLANE,
        far_plane=FAR_PLANE,
        eps2d=EPS2D,
        packed=False,
        rasterize_mode="classic",
    )
    return rgb[..., 0, :, :, :].movedim(-1, -3), alpha[..., 0, :, :, 0]


def _without_invalid(gaussians: Gaussians) -> Gaussians:
    """Gaussians with a value that is not finite, made harmless and transparent: gsplat's kernels do not look for them.

    Replaced rather than dropped, since counting what is left would make the processor wait for the GPU.
    """
    parts = (gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities[..., None], gaussians.colors)
    valid = torch.isfinite(torch.cat(parts, dim=-1)).all(dim=-1) & (gaussians.quats != 0).any(dim=-1)
    column = valid[..., None]
    return Gaussians(
        means=torch.where(column, gaussians.means, 0.0),
        quats=torch.where(column, gaussians.quats, 1.0),
        scales=torch.where(column, gaussians.scales, 1.0),
        opacities=torch.where(valid, gaussians.opacities, 0.0),
        colors=torch.where(column, gaussians.colors, 0.0),
    )
