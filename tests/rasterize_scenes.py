"""Scenes and comparisons that the rasterizer's tests share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from render.cameras import Camera
from render.gaussians import Gaussians
from render.rasterize import Backend, RenderOutput, rasterize

PARAMETERS = ("means", "quats", "scales", "opacities", "colors", "world_to_camera")


@dataclass(frozen=True)
class Scene:
    """A scene as leaves: what a rasterizer is given and differentiated by."""

    parameters: dict[str, Tensor]
    width: int
    height: int
    focal: float

    @property
    def gaussians(self) -> Gaussians:
        return Gaussians(**{name: self.parameters[name] for name in PARAMETERS[:5]})

    @property
    def camera(self) -> Camera:
        # The principal point is off the middle, and the focal lengths differ.
        center = 0.45 * self.width, 0.55 * self.height
        return Camera(
            self.parameters["world_to_camera"], self.focal, 1.1 * self.focal, *center, self.width, self.height
        )

    def leaves(self, dtype: torch.dtype = torch.float32) -> Scene:
        """The same scene with fresh parameters that ask for gradients."""
        parameters = {name: value.detach().to(dtype).requires_grad_() for name, value in self.parameters.items()}
        return Scene(parameters, self.width, self.height, self.focal)

    def replaced(self, **parameters: Tensor) -> Scene:
        return Scene({**self.parameters, **parameters}, self.width, self.height, self.focal)


def ball(count: int, width: int, height: int, seed: int = 0, size: float = 0.08, distance: float = 3.0) -> Scene:
    """Gaussians in the unit ball around the origin, seen from `distance` by a slightly turned camera."""
    generator = torch.Generator().manual_seed(seed)
    direction = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=1)
    turn = torch.tensor([[0.96, 0.0, 0.28], [0.0, 1.0, 0.0], [-0.28, 0.0, 0.96]])
    view = torch.eye(4)
    view[:3, :3] = turn
    view[:3, 3] = torch.tensor([0.1, -0.05, distance])
    parameters = {
        "means": direction * torch.rand(count, 1, generator=generator) ** (1 / 3),
        "quats": torch.randn(count, 4, generator=generator),
        "scales": size * torch.exp(0.5 * torch.randn(count, 3, generator=generator)),
        "opacities": torch.rand(count, generator=generator),
        "colors": torch.rand(count, 3, generator=generator),
        "world_to_camera": view,
    }
    return Scene(parameters, width, height, focal=1.2 * max(width, height))


def render_with_gradients(
    scene: Scene, backend: Backend, dtype: torch.dtype = torch.float32
) -> tuple[RenderOutput, dict[str, Tensor]]:
    """The image, and the gradients of a fixed random weighting of rgb and alpha."""
    leaves = scene.leaves(dtype)
    output = rasterize(leaves.gaussians, leaves.camera, backend)
    generator = torch.Generator().manual_seed(1)
    rgb_weights = torch.randn(output.rgb.shape, generator=generator).to(output.rgb)
    alpha_weights = torch.randn(output.alpha.shape, generator=generator).to(output.rgb)
    ((output.rgb * rgb_weights).sum() + (output.alpha * alpha_weights).sum()).backward()
    return output, {name: leaves.parameters[name].grad for name in PARAMETERS}


def stacked(frames: list[Gaussians]) -> Gaussians:
    """A batch of frames."""
    return Gaussians(*map(torch.stack, zip(*(vars(frame).values() for frame in frames), strict=True)))


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """|actual - expected| / |expected|, and 0 when both are zero."""
    difference, norm = (actual.double() - expected.double()).norm(), expected.double().norm()
    return float(difference / norm) if difference > 0 else 0.0
