"""Registration of a fitted head model to a picture: the pose and expression in which its render looks most like it.

Lucas-Kanade alignment with the model's own motion as the warp (Baker and Matthews 2004, "Lucas-Kanade 20 Years On"):
every Gaussian knows how its pixel moves with each unknown, so one Gauss-Newton step costs a render and a small linear
system, no backward pass. The gradient is the mean of both pictures' (efficient second-order minimisation, Benhimane
and Malis 2004). Both are band-passed, so that shading and exposure do not count as motion.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from render._fused_votes import PicturePair, Voters, weighted_votes
from render.cameras import Camera
from render.head_model import BonePose, HeadModel
from render.losses import LUMA
from render.pipelining import mapped
from render.rasterize import Backend

_COARSER = 4
"""The coarse end of the band-pass is computed on a picture this much smaller."""
_SMALLEST_OPACITY = 0.3
"""More transparent Gaussians do not say where a surface is."""


@dataclass(frozen=True)
class RegistrationConfig:
    """How a frame is registered. The deviations are how far tracking is expected to be off."""

    scales: tuple[float, ...] = (0.5,) * 5
    """Resolution of the pictures in each Gauss-Newton step, as a share of the crop's."""
    overshoot: float = 1.4
    """Steps are longer by this factor: Gauss-Newton's own leave half of the way, for what a Gaussian hides or uncovers
    when it moves is in no derivative. Four such steps end as near to where forty lead as six plain ones."""
    settled: float = 0.5
    """A step that changes no unknown by more than this share of its expected deviation is the last of its scale. What
    it leaves is .1 deviations (root mean square over the unknowns of fitted frames; four steps of all leave .05)."""
    points: int = 12_000
    """Gaussians that vote."""
    fine_blur: float = 1 / 512
    """Standard deviation of the pictures' band-pass, shares of the picture's side: fine end..."""
    coarse_blur: float = 8 / 512
    """...and coarse end."""
    noise: float = 5.0
    """Difference of render and picture that is no motion, grey levels; twice as much counts half."""
    redundancy: float = 10.0
    """Neighbouring votes that are worth one."""
    head_turn: float = 0.02
    """Radians."""
    head_shift: float = 0.03
    """Head units."""
    torso_turn: float = 0.02
    """Radians."""
    torso_shift: float = 0.05
    """Head units."""
    code: float = 0.3
    """Standard deviations of the expression code."""


@dataclass(frozen=True)
class _View:
    """What a model is compared with at one resolution."""

    camera: Camera
    background: Tensor  # [H, W] luma


def _view(model: HeadModel, background: Tensor, scale: float) -> _View:
    side = round(scale * background.shape[-1])
    smaller = functional.interpolate(background[None], (side, side), mode="area")[0]
    return _View(model.intrinsics.camera(side, background.device), _luma(smaller))


class Registration:
    """Registers pictures of one person to a model that does not change meanwhile.

    Args:
        background: [3, R, R] in [0, 1], what lies behind the person, at the crop's resolution.
    """

    def __init__(
        self, model: HeadModel, background: Tensor, config: RegistrationConfig, backend: Backend = "auto"
    ) -> None:
        self._model, self._config, self._backend = model, config, backend
        self._views = {scale: _view(model, background, scale) for scale in config.scales}
        front = (model.face, model.body)
        opaque = torch.cat([torch.sigmoid(branch.opacity_logits.detach()) for branch in front]) > _SMALLEST_OPACITY
        chosen = torch.nonzero(opaque)[:, 0]
        every = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(0))[: config.points]
        self._points = chosen[every.to(chosen.device)].sort().values
        skinning = torch.cat([branch.skinning_logits.detach() for branch in front])[self._points]
        self._torso = torch.sigmoid(skinning)
        self._basis = model.face.field.basis[self._points[self._points < len(model.face)]]
        spread = [(3, config.head_turn), (3, config.head_shift), (3, config.torso_turn), (3, config.torso_shift)]
        spread.append((model.code_size, config.code))
        self._precision = torch.cat([torch.full((count,), value**-2.0) for count, value in spread]).to(background)

    @torch.no_grad()
    def register(self, pose: BonePose, code: Tensor, picture: np.ndarray) -> tuple[BonePose, Tensor]:
        """Pose and code [C] near the given ones that explain the picture best, uint8 [R, R, 3] RGB."""
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        change = torch.zeros_like(self._precision)
        for scale, rounds in groupby(self._config.scales):
            view = self._views[scale]
            smaller = cv2.resize(grey, (view.camera.width, view.camera.height), interpolation=cv2.INTER_AREA)
            wanted = self._band(smaller.astype(np.float32))
            for _ in rounds:
                step = self._config.overshoot * self._step(view, *_moved(pose, code, change), change, wanted)
                change = change + step
                if (step.abs() * self._precision.sqrt()).max() < self._config.settled:
                    break
        return _moved(pose, code, change)

    def register_all(self, frames: Iterator[tuple[BonePose, Tensor, np.ndarray]]) -> Iterator[tuple[BonePose, Tensor]]:
        """`register` for a stream of frames, several at a time, with the model baked meanwhile."""
        self._model.bake()
        try:
            yield from mapped(lambda frame: self.register(*frame), frames, workers=os.cpu_count() or 1)
        finally:
            self._model.unbake()

    def _step(self, view: _View, pose: BonePose, code: Tensor, change: Tensor, wanted: np.ndarray) -> Tensor:
        front, mouth = self._model.posed(pose, code)
        seen = view.background
        for layer in reversed(self._model.layers(front, mouth, view.camera, self._backend)):
            seen = _luma(layer.rgb) + (1 - layer.alpha) * seen
        matrix, right = self._normal_equations(view, pose, front.means, self._band(255 * seen.cpu().numpy()), wanted)
        redundancy = self._config.redundancy
        matrix = matrix / redundancy + torch.diag(self._precision)
        return torch.linalg.solve(matrix, right / redundancy - self._precision * change)

    def _normal_equations(
        self, view: _View, pose: BonePose, means: Tensor, seen: np.ndarray, wanted: np.ndarray
    ) -> tuple[Tensor, Tensor]:
        """Matrix [U, U] and right side [U] of a step that makes `seen` like `wanted`; every point's vote counts."""
        if means.device.type != "cpu":
            return self.reference_normal_equations(view, pose, means, seen, wanted)
        bones = torch.cat([pose.head_rotation.flatten(), pose.head_translation, pose.torso_translation])
        votes = torch.empty(len(self._points), len(self._precision) + 1)
        pictures = PicturePair(seen, wanted, view.camera.fx, self._config.noise)
        voters = Voters(*(tensor.numpy() for tensor in (self._points, self._torso, self._basis)))
        weighted_votes(pictures, voters, means.numpy(), bones.numpy(), votes.numpy())
        products = votes.T @ votes
        return products[:-1, :-1], products[:-1, -1]

    def reference_normal_equations(
        self, view: _View, pose: BonePose, means: Tensor, seen: np.ndarray, wanted: np.ndarray
    ) -> tuple[Tensor, Tensor]:
        """The same in plain torch: what the fused pass is tested against, and what runs on a GPU."""
        mean = (seen + wanted) / 2
        slopes = (cv2.Sobel(mean, cv2.CV_32F, *order, scale=1 / 8) for order in ((1, 0), (0, 1)))
        maps = np.stack([seen - wanted, *slopes])
        means = means[self._points]
        inverse_depth = 1 / means[:, 2:]
        slope = means[:, :2] * inverse_depth
        place = view.camera.fx * slope / (view.camera.width / 2)  # -1 to 1 over the picture
        samples = functional.grid_sample(torch.from_numpy(maps).to(means)[None], place[None, None], align_corners=False)
        difference, gradient = samples[0, 0, 0], samples[0, 1:, 0].T
        along = view.camera.fx * inverse_depth * gradient
        # How the grey level at a point's pixel changes when the point moves in space.
        covector = torch.cat([along, -(along * slope).sum(1, keepdim=True)], 1)
        head, torso = (1 - self._torso[:, None]) * covector, self._torso[:, None] * covector
        columns = [
            torch.linalg.cross(means - pose.head_translation, head), head,
            torch.linalg.cross(means - pose.torso_translation, torso), torso,
            functional.pad(
                torch.einsum("ni,nic->nc", (covector @ pose.head_rotation)[: len(self._basis)], self._basis),
                (0, 0, 0, len(means) - len(self._basis)),
            ),
        ]  # fmt: skip
        votes = torch.cat(columns, 1)
        noise = self._config.noise
        weights = 1 / (1 + (difference / (2 * noise)) ** 2) / noise**2
        weighted = votes * weights[:, None]
        return weighted.T @ votes, weighted.T @ difference

    def _band(self, grey: np.ndarray) -> np.ndarray:
        side = grey.shape[0]
        fine = cv2.GaussianBlur(grey, (0, 0), self._config.fine_blur * side)
        small = cv2.resize(grey, None, fx=1 / _COARSER, fy=1 / _COARSER, interpolation=cv2.INTER_AREA)
        small = cv2.GaussianBlur(small, (0, 0), self._config.coarse_blur * side / _COARSER)
        return fine - cv2.resize(small, (side, side), interpolation=cv2.INTER_LINEAR)


def _luma(picture: Tensor) -> Tensor:
    """[3, H, W] -> [H, W]. Linear, so layers may be blended after it as well as before, at a third of the cost."""
    return torch.tensordot(picture.new_tensor(LUMA), picture, 1)


def _moved(pose: BonePose, code: Tensor, change: Tensor) -> tuple[BonePose, Tensor]:
    return pose.moved(*change[:12].split(3)), code + change[12:]
