"""Slopes of a loss on rendered mouths, by backpropagation through the rasterizer and by finite differences."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from tiny_head import INTRINSICS, bones, painted_head, targets
from torch import Tensor

from encoders.contrastive.lip_clips import LIP_HEIGHT, LIP_WIDTH
from render.head_model import BonePose, HeadModel
from render.mouth_view import MouthView, mouth_camera, render_mouths

STEP = 1e-8
"""Small: where a Gaussian's edge crosses a pixel the rasterizer cuts it off, which is a jump..."""
DIRECTIONS = 3
"""...and the median of a few directions does not see one."""
Loss = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class DrivenScene:
    """A tiny head in float64 whose mouth is seen in some consecutive frames."""

    model: HeadModel
    views: tuple[MouthView, ...]
    codes: Tensor  # [T, C]

    def mouths(self) -> Tensor:
        """[T, 3, LIP_HEIGHT, LIP_WIDTH], with gradients to the motion fields."""
        return render_mouths(self.model, self.views, self.codes, "torch")

    def parameters(self) -> list[Tensor]:
        """Of the motion fields of face and mouth."""
        moving = (self.model.face.field, self.model.mouth.field)
        return [parameter for field in moving for parameter in field.parameters()]


def driven_scene(frames: int = 5) -> DrivenScene:
    """The tiny head of `tiny_head`, its lower face in `frames` frames."""
    model = painted_head().double()
    generator = torch.Generator().manual_seed(0)
    for branch in (model.face, model.mouth):
        for parameter in branch.field.parameters():  # a fresh field's last layer is zero, and hides all before it
            parameter.requires_grad_(True)
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    model.face.opacity_logits.data -= 3  # the inside of the mouth is seen through it
    scale = torch.tensor([[1.6, 0.0], [0.0, 1.4]], dtype=torch.float64).numpy()
    shift = [LIP_WIDTH / 2, LIP_HEIGHT / 2] - scale @ [32, 42]
    transform = torch.tensor([*zip(*scale.T.tolist(), shift.tolist(), strict=True)]).double().numpy()
    camera = mouth_camera(INTRINSICS, transform, (LIP_HEIGHT, LIP_WIDTH), torch.device("cpu"))
    camera = replace(camera, world_to_camera=camera.world_to_camera.double())
    behind = torch.full((3, camera.height, camera.width), 0.4, dtype=torch.float64)
    places = [index % 6 for index in range(frames)]

    def pose(index: int) -> BonePose:
        return BonePose(*(getattr(bones(index), item.name).double() for item in fields(BonePose)))

    views = tuple(MouthView(pose(index), camera, behind) for index in places)
    return DrivenScene(model, views, torch.from_numpy(targets().codes[places]).double())


def slope_errors(scene: DrivenScene, loss: Loss) -> float:
    """The median over a few random directions of the relative difference between the two slopes of `loss(mouths)` along
    all parameters of the motion fields."""
    parameters = scene.parameters()
    for parameter in parameters:
        parameter.grad = None
    loss(scene.mouths()).backward()  # the branches' graphs are apart (`side_by_side`): torch.autograd.grad misses them
    gradients = [parameter.grad for parameter in parameters]
    generator = torch.Generator().manual_seed(1)
    errors = []
    for _ in range(DIRECTIONS):
        way = [torch.randn(each.shape, generator=generator, dtype=torch.float64) for each in parameters]
        told = sum(float((g * w).sum()) for g, w in zip(gradients, way, strict=True) if g is not None)
        ahead, behind = _shifted(scene, loss, way, STEP), _shifted(scene, loss, way, -STEP)
        found = (ahead - behind) / (2 * STEP)
        errors.append(abs(told - found) / max(abs(found), 1e-9))
    return statistics.median(errors)


@torch.no_grad()
def _shifted(scene: DrivenScene, loss: Loss, way: list[Tensor], step: float) -> float:
    for parameter, direction in zip(scene.parameters(), way, strict=True):
        parameter += step * direction
    value = float(loss(scene.mouths()))
    for parameter, direction in zip(scene.parameters(), way, strict=True):
        parameter -= step * direction
    return value
