"""The one public rasterizer: a meaning, three back ends, and the choice between them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor
from typing_extensions import assert_never

from render._constants import GSPLAT_VERSION
from render._rasterize_gsplat import rasterize_gsplat, why_gsplat_is_unusable
from render._rasterize_torch import rasterize_torch
from render.cameras import Camera
from render.gaussians import Gaussians

Backend = Literal["auto", "torch", "numba", "gsplat"]


class BackendUnavailableError(RuntimeError):
    """A back end was asked for by name and cannot run here; the message carries the reason and the remedy."""


@dataclass(frozen=True)
class BackendStatus:
    """Whether a back end can run on this machine, and a printable reason."""

    name: Literal["torch", "numba", "gsplat"]
    usable: bool
    reason: str


@dataclass(frozen=True)
class RenderOutput:
    """A rendered image with nothing behind it.

    `rgb` is premultiplied: it already carries the weight of `alpha`, the share of each pixel that the Gaussians cover.
    """

    rgb: Tensor  # [3, H, W], or [B, 3, H, W] for B frames
    alpha: Tensor  # [H, W] or [B, H, W], in [0, 1)

    def over(self, background: Tensor) -> Tensor:
        """The image on a background, as `rgb`, from an image [3, H, W] or one color [3].

        Raises:
            ValueError: a background of another shape.
        """
        if background.shape == (3,):
            background = background[:, None, None]
        elif background.shape != self.rgb.shape[-3:]:
            raise ValueError(
                f"background must have shape (3,) or {tuple(self.rgb.shape[-3:])}, got {tuple(background.shape)}"
            )
        return self.rgb + (1 - self.alpha).unsqueeze(-3) * background


def rasterize(gaussians: Gaussians, camera: Camera, backend: Backend = "auto") -> RenderOutput:
    """Splats Gaussians into an image (Kerbl et al. 2023), differentiably in all of them and in `world_to_camera`.

    Each Gaussian is projected with the perspective linearised at its mean (EWA splatting, Zwicker et al. 2001), widened
    by a low-pass filter and blended front to back by the depth of its mean, at equal depth in the given order. The
    thresholds are those of gsplat's classic mode, see `render._constants`. A Gaussian whose projection, color or
    opacity is not finite is skipped and its gradient is zero. Colors are not clamped.

    Args:
        gaussians: on one device with `camera.world_to_camera`; those of a batch of frames become a batch of images,
            which gsplat draws in one launch and the other back ends one by one.
        camera: the view, of all frames; its size is that of the image.
        backend: "auto" takes the fastest that can run where the tensors are, see `choose_backend`.

    Raises:
        BackendUnavailableError: `backend` names one that cannot run here.
        ValueError: tensors that the back end cannot take, or on two devices.
    """
    device = gaussians.means.device
    if camera.world_to_camera.device != device:
        raise ValueError(
            f"the camera must lie on the device of the Gaussians ({device}), got {camera.world_to_camera.device}"
        )
    name = choose_backend(device).name if backend == "auto" else backend
    if gaussians.is_batch and name != "gsplat":
        images = [vars(rasterize(frame, camera, name)).values() for frame in gaussians.frames()]
        return RenderOutput(*map(torch.stack, zip(*images, strict=True)))
    if name == "torch":
        rgb, alpha = rasterize_torch(gaussians, camera)
    elif name == "numba":
        _require(_numba_status())
        from render._rasterize_numba import rasterize_numba

        rgb, alpha = rasterize_numba(gaussians, camera)
    elif name == "gsplat":
        _require(_gsplat_status())
        rgb, alpha = rasterize_gsplat(gaussians, camera)
    else:
        assert_never(name)
    return RenderOutput(rgb=rgb, alpha=alpha)


def available_backends() -> tuple[BackendStatus, ...]:
    """Every back end with whether it can run on this machine, the fastest first."""
    return _gsplat_status(), _numba_status(), _torch_status("the reference: slow, runs everywhere")


def choose_backend(device: torch.device) -> BackendStatus:
    """What "auto" means for tensors on `device`; the reason says why it was chosen."""
    if device.type == "cuda":
        gsplat = _gsplat_status()
        return gsplat if gsplat.usable else _torch_status(f"gsplat cannot run: {gsplat.reason}")
    if device.type == "cpu":
        numba = _numba_status()
        return numba if numba.usable else _torch_status(f"numba cannot run: {numba.reason}")
    return _torch_status(f"no other back end takes tensors on {device.type}")


def _require(status: BackendStatus) -> None:
    if not status.usable:
        raise BackendUnavailableError(f"the {status.name} rasterizer cannot run here: {status.reason}")


def _torch_status(reason: str) -> BackendStatus:
    return BackendStatus("torch", True, reason)


def _gsplat_status() -> BackendStatus:
    problem = why_gsplat_is_unusable()
    return BackendStatus("gsplat", problem is None, problem or f"CUDA kernels of gsplat {GSPLAT_VERSION}")


@cache
def _numba_status() -> BackendStatus:
    try:
        import render._rasterize_numba  # noqa: F401  half a second, and only needed on the processor
    except ImportError as error:
        return BackendStatus("numba", False, f"{error}; install it with: pip install numba")
    except RuntimeError as error:  # numba found no folder in which to keep what it compiles
        return BackendStatus("numba", False, f"{error}; set NUMBA_CACHE_DIR to a folder that can be written")
    return BackendStatus("numba", True, f"kernels for this processor on {torch.get_num_threads()} threads")
