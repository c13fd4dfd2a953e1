"""Small pictures of the mouth, rendered so that a loss on them reaches the motion fields.

Those who judge mouths see the lower face held still and stretched to a small picture: an affine map of the frame. A
pinhole camera that is turned about its axis and has other focal lengths takes that picture itself, so that nothing is
resampled and only what can be seen in it is drawn.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from render.cameras import Camera
from render.gaussians import Gaussians
from render.head_model import BonePose, Branch, HeadModel, Intrinsics
from render.implicit_mouth import MIDDLE
from render.rasterize import Backend

OVERSAMPLING = 2
"""Mouths are drawn so many times as large and averaged, as those of the footage are."""
REACH = 3.0
"""Standard deviations of a Gaussian that are looked at to decide whether it can be seen."""


@dataclass(frozen=True)
class MouthView:
    """The mouth in one frame."""

    bones: BonePose
    camera: Camera  # of OVERSAMPLING times the wanted size
    background: Tensor  # [3, H, W] in [0, 1] behind the person, of the camera's size
    time: float = MIDDLE  # see `render.implicit_mouth.time_stamps`


def mouth_camera(intrinsics: Intrinsics, transform: np.ndarray, size: tuple[int, int], device: torch.device) -> Camera:
    """The camera whose picture is an affine map of the crop's.

    Args:
        transform: [2, 3] from px of the crop to px of the wanted picture: any rotation, then a scale along each side of
            the picture, and a shift.
        size: height and width of the wanted picture, px; the camera's is OVERSAMPLING times as large.

    Raises:
        ValueError: the map shears or mirrors, which no camera does.
    """
    scales = np.linalg.norm(transform[:, :2], axis=1)
    turn = transform[:, :2] / scales[:, None]
    if not np.allclose(turn @ turn.T, np.eye(2), atol=1e-4) or np.linalg.det(turn) < 0:
        raise ValueError(f"expected a map that turns, scales along the picture's sides and shifts, got {transform}")
    middle = transform @ [intrinsics.resolution / 2, intrinsics.resolution / 2, 1]
    world_to_camera = torch.eye(4, device=device)
    world_to_camera[:2, :2] = torch.from_numpy(turn).to(world_to_camera)
    focal, principal = (OVERSAMPLING * np.stack([intrinsics.focal * scales, middle])).tolist()
    return Camera(world_to_camera, *focal, *principal, OVERSAMPLING * size[1], OVERSAMPLING * size[0])


def render_mouths(model: HeadModel, views: Sequence[MouthView], codes: Tensor, backend: Backend = "auto") -> Tensor:
    """The mouths [n, 3, H, W] in n frames with expression codes [n, C], differentiable in the codes and the model."""
    drawn = [
        model.render(view.bones, code, view.camera, backend, view.time).over(view.background)
        for view, code in zip(views, codes, strict=True)
    ]
    return functional.avg_pool2d(torch.stack(drawn), OVERSAMPLING)


def in_view(model: HeadModel, views: Iterable[MouthView], codes: Iterable[Tensor]) -> dict[str, Tensor]:
    """Which Gaussians can be seen in one of the views at least: bool [N] by branch."""
    branches = model.branches
    seen = [torch.zeros(len(branch), dtype=torch.bool, device=branch.means.device) for branch in branches.values()]
    with torch.no_grad():
        for view, code in zip(views, codes, strict=True):
            posed = [part for part in model.posed(view.bones, code) if isinstance(part, Gaussians)]
            inside = torch.cat([_in_view(gaussians, view.camera) for gaussians in posed])
            for found, part in zip(seen, inside.split([len(branch) for branch in branches.values()]), strict=True):
                found |= part
    return dict(zip(branches, seen, strict=True))


def part_of(model: HeadModel, chosen: Mapping[str, Tensor]) -> HeadModel:
    """The chosen Gaussians [N] of each branch; the networks that move them are the model's own, so that what is learned
    through the part is learned by the model."""
    parts = {name: branch.part(chosen[name]) for name, branch in model.branches.items()}
    mouth = parts.get("mouth", model.mouth)  # an implicit one is a network as a whole
    part = HeadModel(parts["face"], parts["body"], mouth, model.intrinsics).to(model.neck_mean.device)
    part.neck_mean.copy_(model.neck_mean)
    part.neck_spread.copy_(model.neck_spread)
    return part


class HeldMotion:
    """What Gaussians did before their networks learned on, held against what they do now.

    A motion field is one network for all places: what it learns of the mouth would move the forehead too, which no
    picture of the mouth shows.

    Args:
        branch: the Gaussians that are to go on as they did.
    """

    def __init__(self, branch: Branch) -> None:
        self._now, self._before = branch, copy.deepcopy(branch)
        self._before.bake()

    def change(self, code: Tensor) -> Tensor:
        """The mean squared difference for one code [C], in the units of `render.motion.UNITS`."""
        terms, then = self._now.position_terms(), self._before.position_terms()
        if not len(self._now):
            return code.new_zeros(())
        with torch.no_grad():
            before = self._before.field.outputs(then, code)
        return (terms.anywhere * (self._now.field.outputs(terms, code) - before)).square().mean()


def _in_view(gaussians: Gaussians, camera: Camera) -> Tensor:
    """bool [N]: those that reach into the picture."""
    means = gaussians.means @ camera.world_to_camera[:3, :3].T + camera.world_to_camera[:3, 3]
    reach = REACH * gaussians.scales.amax(1)
    across, down = camera.fx * means[:, 0] / means[:, 2] + camera.cx, camera.fy * means[:, 1] / means[:, 2] + camera.cy
    right, below = camera.fx * reach / means[:, 2], camera.fy * reach / means[:, 2]
    is_across = (across + right > 0) & (across - right < camera.width)
    return is_across & (down + below > 0) & (down - below < camera.height)
