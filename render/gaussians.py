"""The scene primitive: 3D Gaussians, activated and ready to splat."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

_TRAILING_SHAPES = {"means": (3,), "quats": (4,), "scales": (3,), "opacities": (), "colors": (3,)}


@dataclass(frozen=True)
class Gaussians:
    """N anisotropic Gaussians in world space (Kerbl et al. 2023, section 4), after their activations.

    With a leading dimension, [B, N, ...] instead of [N, ...], they are the N Gaussians in each of B frames.
    All tensors have one floating dtype (float32 outside of tests) and lie on one device. Quaternions need not be
    normalised: the rasterizer does that. Covariance is R diag(scales)^2 R^T, with R the rotation of the quaternion.

    Raises:
        ValueError: a tensor with another shape, dtype or device than its neighbours; the message names it.
    """

    means: Tensor  # [N, 3] world units
    quats: Tensor  # [N, 4] (w, x, y, z)
    scales: Tensor  # [N, 3] standard deviations, world units
    opacities: Tensor  # [N] in [0, 1]
    colors: Tensor  # [N, 3] RGB in [0, 1]

    def __post_init__(self) -> None:
        leading = tuple(self.means.shape[-3:-1]) or (0,)  # (N,) or (B, N)
        for name, trailing in _TRAILING_SHAPES.items():
            tensor: Tensor = getattr(self, name)
            if tuple(tensor.shape) != (*leading, *trailing):
                raise ValueError(f"{name} must have shape {(*leading, *trailing)}, got {tuple(tensor.shape)}")
            if tensor.dtype != self.means.dtype or not tensor.is_floating_point():
                raise ValueError(
                    f"{name} must share a floating dtype with means ({self.means.dtype}), got {tensor.dtype}"
                )
            if tensor.device != self.means.device:
                raise ValueError(f"{name} must lie on the device of means ({self.means.device}), got {tensor.device}")

    def __len__(self) -> int:
        return self.means.shape[-2]

    @property
    def is_batch(self) -> bool:
        """Whether they are those of several frames."""
        return self.means.dim() == 3

    def frames(self) -> Iterator[Gaussians]:
        """The Gaussians of one frame after another, of a batch."""
        return (Gaussians(*tensors) for tensors in zip(*map(Tensor.unbind, vars(self).values()), strict=True))
