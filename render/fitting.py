"""Fitting a head model to the frames of a clip, by gradient descent through the rasterizer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from render._workers import torch_on_one_thread
from render.densify import densify_and_prune
from render.head_model import PER_GAUSSIAN, BonePose, HeadModel
from render.losses import LossTarget, LossWeights, picture_loss
from render.rasterize import Backend
from render.registration import Registration, RegistrationConfig


@dataclass(frozen=True)
class TrainingFrame:
    """What one frame teaches, at the resolution asked for."""

    image: np.ndarray  # [H, W, 3] uint8 RGB
    matte: np.ndarray  # [H, W] uint8, 255 where the person is
    face: np.ndarray  # [H, W] uint8, 1 inside the face
    mouth: np.ndarray  # [H, W] uint8, 1 inside the lips


class FrameSource(Protocol):
    """Training frames by index, however they are stored."""

    def __len__(self) -> int: ...

    def load(self, index: int, resolution: int) -> TrainingFrame:
        """The frame, resampled to a square of `resolution` px."""


@dataclass(frozen=True)
class MotionTargets:
    """Tracked pose and expression of each training frame."""

    head_rotations: np.ndarray  # [F, 3, 3] head to camera
    head_translations: np.ndarray  # [F, 3] head units
    torso_rotations: np.ndarray  # [F, 3, 3]
    torso_translations: np.ndarray  # [F, 3]
    codes: np.ndarray  # [F, C]
    times: np.ndarray  # [F] in [0, 1], see `render.implicit_mouth.time_stamps`


@dataclass(frozen=True)
class Stage:
    """A part of the schedule."""

    share: float
    """Share of all steps."""
    scale: float
    """Resolution of the pictures, as a share of the crop's."""
    densifications: int
    """How often Gaussians are split and removed in it, at equal intervals."""
    registered: bool = False
    """Poses and expressions of the fitted frames are registered to the pictures before it. Not before the first stage,
    when there is nothing yet to compare them with."""


@dataclass(frozen=True)
class LearningRates:
    """Adam's step sizes."""

    means: float = 1.5e-3
    """Head units."""
    quats: float = 6e-3
    """Quaternion components."""
    log_scales: float = 1.5e-2
    """Natural logarithm."""
    opacity_logits: float = 9e-2
    """Logits."""
    color_logits: float = 2e-2
    """Logits."""
    skinning_logits: float = 6e-2
    """Logits."""
    field: float = 4e-3
    """Planes and layers of the motion fields, and of an implicit mouth."""
    pose_rotation: float = 1e-4
    """Radians."""
    pose_translation: float = 2e-4
    """Head units."""
    final: float = 0.05
    """Share of every step size that is left at the end."""


@dataclass(frozen=True)
class FittingConfig:
    """A whole fit."""

    steps: int = 1200
    """Optimisation steps, a frame each."""
    stages: tuple[Stage, ...] = (Stage(0.3, 0.5, 2), Stage(0.3, 1.0, 2, registered=True), Stage(0.4, 1.0, 0))
    """Coarse to fine."""
    loss: LossWeights = field(default_factory=LossWeights)
    """What is minimised."""
    rates: LearningRates = field(default_factory=LearningRates)
    """Step sizes."""
    cap: int = 34_000
    """Most Gaussians in all branches together."""
    growth: float = 0.2
    """Largest growth per densification."""
    body_motion: bool = True
    """Hair, neck and torso learn a motion of their own beside that of the two bones."""
    refine_poses: bool = True
    """Refine the tracked poses by the pictures in every step."""
    registration: RegistrationConfig | None = field(default_factory=RegistrationConfig)
    """How poses and expressions are registered to the pictures; None: not at all."""


@dataclass(frozen=True)
class FittingProgress:
    """After each step."""

    step: int
    steps: int
    loss: float
    gaussians: int


class FrameStates(nn.Module):
    """Pose and expression of frames: as tracked, with corrections that are learned."""

    def __init__(self, targets: MotionTargets) -> None:
        super().__init__()
        frames = len(targets.codes)
        for item in fields(MotionTargets):
            self.register_buffer(item.name, torch.tensor(getattr(targets, item.name), dtype=torch.float32))
        self.head_turn = nn.Parameter(torch.zeros(frames, 3))
        self.head_shift = nn.Parameter(torch.zeros(frames, 3))
        self.torso_turn = nn.Parameter(torch.zeros(frames, 3))
        self.torso_shift = nn.Parameter(torch.zeros(frames, 3))

    def pose(self, index: int) -> BonePose:
        """Corrected pose of one frame."""
        tracked = BonePose(*(getattr(self, f"{bone.name}s")[index] for bone in fields(BonePose)))
        return tracked.moved(
            self.head_turn[index], self.head_shift[index], self.torso_turn[index], self.torso_shift[index]
        )

    @torch.no_grad()
    def state(self, index: int) -> tuple[BonePose, Tensor]:
        """Corrected pose and expression code [C] of one frame."""
        return self.pose(index), self.codes[index].clone()

    @torch.no_grad()
    def poses(self) -> list[BonePose]:
        """Corrected poses of all frames."""
        return [self.pose(index) for index in range(len(self.codes))]

    @torch.no_grad()
    def replace(self, poses: Sequence[BonePose], codes: Sequence[Tensor]) -> None:
        """Takes new poses and codes for all frames; corrections begin at zero again."""
        for bone in fields(BonePose):
            getattr(self, f"{bone.name}s").copy_(torch.stack([getattr(pose, bone.name) for pose in poses]))
        self.codes.copy_(torch.stack(list(codes)))
        for correction in self.parameters():
            correction.zero_()


class HeadFitter:
    """Fits a seeded model; `run` is a stream of progress, so that the caller may show, save or stop it between steps.

    A fit is a function of its inputs and `seed`: everything random in a step is drawn from the seed and the step's
    number, so a fit that goes on from saved tensors takes the same steps.
    """

    def __init__(
        self,
        model: HeadModel,
        targets: MotionTargets,
        frames: FrameSource,
        background: np.ndarray,
        config: FittingConfig,
        seed: int,
        backend: Backend = "auto",
        device: torch.device | str = "cpu",
    ) -> None:
        """
        Args:
            background: [H, W, 3] uint8 at the crop's resolution.
            device: where the fit runs; the model is moved there.
        """
        self.model, self.frames, self.config, self.seed, self.backend = model.to(device), frames, config, seed, backend
        self.device = torch.device(device)
        self.states = FrameStates(targets).to(device)
        self.model.learn_neck_range(self.states.poses())
        self.background = torch.from_numpy(background).to(device).permute(2, 0, 1).float() / 255
        self._backgrounds = {self.background.shape[-1]: self.background}  # by resolution
        self.step = 0
        self._loss_before = math.nan
        self._pull = {name: torch.zeros(len(branch), device=device) for name, branch in model.branches.items()}
        self._pulled_steps = self._registered = 0
        self.optimizer = self._make_optimizer()

    def _make_optimizer(self) -> torch.optim.Adam:
        rates, groups = self.config.rates, []
        for name in PER_GAUSSIAN:
            parameters = [getattr(branch, name) for branch in self.model.branches.values()]
            groups.append({"params": parameters, "lr": getattr(rates, name)})
        moving = [self.model.face, self.model.mouth] + [self.model.body] * self.config.body_motion
        motion = [parameter for part in moving for parameter in part.field.parameters()]
        groups.append({"params": motion, "lr": rates.field})
        if self.config.refine_poses:
            groups.append({"params": [self.states.head_turn, self.states.torso_turn], "lr": rates.pose_rotation})
            groups.append({"params": [self.states.head_shift, self.states.torso_shift], "lr": rates.pose_translation})
        for group in groups:
            group["initial_lr"] = group["lr"]
        return torch.optim.Adam(groups, eps=1e-15, fused=True)

    def run(self) -> Iterator[FittingProgress]:
        """Takes the remaining steps."""
        while self.step < self.config.steps:
            stage, number, first, last = self._stage()
            if stage.registered and self._registered < number and self.config.registration is not None:
                yield from self._register(number)
            with torch_on_one_thread():
                loss = self._take_step(stage)
                self.step += 1
                parts = stage.densifications + 1
                if self.step - first in {(last - first) * part // parts for part in range(1, parts)}:
                    self._densify()
            self._loss_before = loss
            yield self._progress()

    def _progress(self) -> FittingProgress:
        return FittingProgress(self.step, self.config.steps, self._loss_before, len(self.model))

    def _stage(self) -> tuple[Stage, int, int, int]:
        """The stage of the next step, its number, its first step and the first one after it."""
        first = 0
        for number, stage in enumerate(self.config.stages):
            last = min(self.config.steps, first + round(stage.share * self.config.steps))
            if self.step < last or number == len(self.config.stages) - 1:
                return stage, number, first, last
            first = last
        raise AssertionError("a fit has at least one stage")

    def _register(self, stage: int) -> Iterator[FittingProgress]:
        """Registers all training frames to the model as it is; nothing changes before the last one is done."""
        assert self.config.registration is not None
        registration = Registration(self.model, self.background, self.config.registration, self.backend)
        side, every = self.model.intrinsics.resolution, range(len(self.frames))
        states = ((*self.states.state(index), self.frames.load(index, side).image) for index in every)
        found = []
        for state in registration.register_all(states):
            found.append(state)
            yield self._progress()
        self.states.replace(*zip(*found, strict=True))
        self.model.learn_neck_range(self.states.poses())
        for correction in self.states.parameters():
            self.optimizer.state.pop(correction, None)
        self._registered = stage

    def to_tensors(self) -> dict[str, Tensor]:
        """Everything that changes during a fit, for a safetensors file."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"states.{name}": tensor for name, tensor in self.states.state_dict().items()}
        tensors |= {f"pull.{name}": tensor for name, tensor in self._pull.items()}
        for index, parameter in enumerate(self._parameters()):
            for name, tensor in self.optimizer.state.get(parameter, {}).items():
                tensors[f"adam.{index}.{name}"] = tensor
        tensors["steps"] = torch.tensor([self.step, self._pulled_steps, self._registered])
        return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Goes on from `to_tensors` of a fit with the same inputs.

        Raises:
            KeyError: a tensor is missing: it belongs to another fit.
        """
        for prefix, module in (("model", self.model), ("states", self.states)):
            for name in module.state_dict():
                owner, _, attribute = name.rpartition(".")
                tensor = tensors[f"{prefix}.{name}"].to(self.device, copy=True)
                holder = module.get_submodule(owner)
                is_parameter = isinstance(getattr(holder, attribute), nn.Parameter)
                setattr(holder, attribute, nn.Parameter(tensor) if is_parameter else tensor)
        self._pull = {name: tensors[f"pull.{name}"].to(self.device, copy=True) for name in self._pull}
        self.step, self._pulled_steps, self._registered = (int(value) for value in tensors["steps"])
        self.optimizer = self._make_optimizer()
        for index, parameter in enumerate(self._parameters()):
            names = ("step", "exp_avg", "exp_avg_sq")
            saved = {name: tensors[f"adam.{index}.{name}"] for name in names if f"adam.{index}.{name}" in tensors}
            state = {name: tensor.to(self.device, copy=True) for name, tensor in saved.items()}
            if state:
                self.optimizer.state[parameter] = state

    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def _frame_index(self) -> int:
        """Every frame once an epoch, in an order of its own."""
        epoch, place = divmod(self.step, len(self.frames))
        return int(np.random.default_rng([self.seed, epoch]).permutation(len(self.frames))[place])

    def _take_step(self, stage: Stage) -> float:
        index = self._frame_index()
        resolution = round(stage.scale * self.model.intrinsics.resolution)
        self._set_learning_rates()
        self.optimizer.zero_grad()
        loss = self._loss(index, resolution)
        loss.backward()
        self.optimizer.step()
        for name, branch in self.model.branches.items():
            if branch.means.grad is not None:
                self._pull[name] += branch.means.grad.norm(dim=1)
        self._pulled_steps += 1
        return float(loss.detach())

    def _set_learning_rates(self) -> None:
        """Constant for the first half, then exponential decay."""
        progress = max(0.0, 2 * self.step / self.config.steps - 1)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self.config.rates.final**progress

    def _loss(self, index: int, resolution: int) -> Tensor:
        frame = self.frames.load(index, resolution)
        camera = self.model.intrinsics.camera(resolution, self.device)
        pose, code, time = self.states.pose(index), self.states.codes[index], self.states.times[index]
        corners = torch.Generator().manual_seed(hash((self.seed, 2, self.step)) % 2**31)
        front, mouth = self.model.render_branches(pose, code, camera, self.backend, time, corners)
        rows, columns = self._window(self._focus(frame))
        parts = (frame.image, frame.matte, frame.face, frame.mouth)
        masks = (torch.from_numpy(part).to(self.device) for part in parts)
        target = LossTarget(*masks, self._background_at(resolution), rows, columns)
        return picture_loss(front, mouth, target, self.config.loss)

    def _focus(self, frame: TrainingFrame) -> np.ndarray:
        """Where the window lies in this step: on the mouth, the face and the person in turn."""
        part = (frame.mouth, frame.face, frame.matte > 127)[self.step % 3]
        return part if part.any() else frame.face  # a closed mouth has no inside

    def _window(self, part: np.ndarray) -> tuple[slice, slice]:
        """The window of this step, somewhere on a part of the picture."""
        return random_window(part, self.config.loss.window, np.random.default_rng([self.seed, 1, self.step]))

    def _background_at(self, resolution: int) -> Tensor:
        if resolution not in self._backgrounds:
            smaller = nn.functional.interpolate(self.background[None], (resolution, resolution), mode="area")[0]
            self._backgrounds[resolution] = smaller
        return self._backgrounds[resolution]

    def _densify(self) -> None:
        generator = torch.Generator().manual_seed(hash((self.seed, self.step)) % 2**31)
        total = len(self.model)
        for name, branch in self.model.branches.items():
            cap = self.config.cap * len(branch) // total
            pull = self._pull[name] / max(1, self._pulled_steps)
            densify_and_prune(branch, self.optimizer, pull, cap, self.config.growth, generator)
            self._pull[name] = torch.zeros(len(branch), device=self.device)
        self._pulled_steps = 0


def random_window(part: np.ndarray, side: int, random: np.random.Generator) -> tuple[slice, slice]:
    """Rows and columns of a square of at most `side` px around a random point of a part [H, W] of a picture."""
    inside = np.flatnonzero(part)
    place = inside[random.integers(len(inside))] if len(inside) else part.size // 2
    middle = np.array(np.unravel_index(place, part.shape))
    side = min(side, *part.shape)
    first = np.clip(middle - side // 2, 0, np.array(part.shape) - side)
    return slice(int(first[0]), int(first[0]) + side), slice(int(first[1]), int(first[1]) + side)
