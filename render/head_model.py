"""The head model: Gaussians in three branches, moved by an expression code, placed by two bones, fused by alpha.

As in TalkingGaussian (arXiv 2404.15264, Sec. 3.4) the face and the inside of the mouth are separate branches, rendered
apart, and the mouth lies under the face. A third branch holds hair, neck and torso, so that nothing of the source
picture need be pasted around the face. The inside of the mouth may also be a continuous function instead of Gaussians,
see `render.implicit_mouth`. Every Gaussian hangs on two bones, head and torso, and what two rigid bones
cannot do (hair that hangs, a neck that twists, a collar) the third branch learns as a motion of its own that follows
the pose of the head on the torso, so that it is defined for poses never seen.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from render.cameras import Camera
from render.gaussians import Gaussians
from render.implicit_mouth import MIDDLE, ImplicitMouth, PosedSheet
from render.motion import MotionField, MotionFieldConfig, PositionTerms
from render.rasterize import Backend, RenderOutput, choose_backend, rasterize
from render.side_by_side import Part, side_by_side

PER_GAUSSIAN = ("means", "quats", "log_scales", "opacity_logits", "color_logits", "skinning_logits")
FIELD_PER_GAUSSIAN = ("basis", "reach", "mobility")
NECK_CODES = 6
"""Rotation vector (radians) and translation (head units) of the head on the torso."""
LEAST_NECK_SPREAD = 0.02
"""Less motion than that is noise of the tracker, and nothing to learn from."""
LARGEST_NECK_CODE = 3.0
"""Standard deviations: where the head is turned further, the body's own motion stays as it is there."""
_LEFT_FACTOR = torch.tensor([[0, 1, 2, 3], [1, 0, 3, 2], [2, 3, 0, 1], [3, 2, 1, 0]])
_LEFT_SIGN = torch.tensor([[1.0, -1, -1, -1], [1, 1, -1, 1], [1, 1, 1, -1], [1, -1, 1, 1]])
"""Component of a quaternion, and its sign, in each entry of the matrix that multiplies by it from the left."""


@dataclass(frozen=True)
class BonePose:
    """Where the two bones are in one frame: x_camera = rotation @ x + translation, OpenCV axes, head units.

    For `HeadModel.posed` and what it is part of, a leading dimension of all tensors makes them those of B frames.
    """

    head_rotation: Tensor  # [3, 3]
    head_translation: Tensor  # [3]
    torso_rotation: Tensor  # [3, 3]
    torso_translation: Tensor  # [3]

    def moved(self, head_turn: Tensor, head_shift: Tensor, torso_turn: Tensor, torso_shift: Tensor) -> BonePose:
        """Each bone turned about its origin by an axis-angle vector [3], then shifted [3], in the camera's axes."""
        return BonePose(
            small_rotation(head_turn) @ self.head_rotation,
            self.head_translation + head_shift,
            small_rotation(torso_turn) @ self.torso_rotation,
            self.torso_translation + torso_shift,
        )


@dataclass(frozen=True)
class Intrinsics:
    """Focal length and picture size of the square crop that a head model is fitted in, px."""

    focal: float
    resolution: int

    def camera(self, resolution: int | None = None, device: torch.device | str = "cpu") -> Camera:
        """The camera of a crop rendered at any resolution. World space is camera space: the bones place the head."""
        side = resolution or self.resolution
        focal = self.focal * side / self.resolution
        return Camera(torch.eye(4, device=device), focal, focal, side / 2, side / 2, side, side)


@dataclass(frozen=True)
class CanonicalGaussians:
    """Unactivated Gaussians in the head's frame, to start a branch from."""

    means: Tensor  # [N, 3] head units
    log_scales: Tensor  # [N, 3]
    color_logits: Tensor  # [N, 3]
    skinning_logits: Tensor  # [N] head (negative) to torso (positive)


class Branch(nn.Module):
    """Gaussians that share a motion field."""

    def __init__(self, start: CanonicalGaussians, field: MotionField, keeps_order: bool = False) -> None:
        """
        Args:
            keeps_order: draw in the order of the canonical depth whatever the head's pose. Teeth and tongue are layers
                so thin that a turned head would reorder them, which shows as dots and flicker.
        """
        super().__init__()
        count = len(start.means)
        self.means = nn.Parameter(start.means.clone())
        self.quats = nn.Parameter(functional.pad(torch.ones(count, 1), (0, 3)))  # no rotation
        self.log_scales = nn.Parameter(start.log_scales.clone())
        self.opacity_logits = nn.Parameter(torch.zeros(count))
        self.color_logits = nn.Parameter(start.color_logits.clone())
        self.skinning_logits = nn.Parameter(start.skinning_logits.clone())
        self.field = field
        self.keeps_order = keeps_order
        self._baked: PositionTerms | None = None

    def __len__(self) -> int:
        return len(self.means)

    def part(self, chosen: Tensor) -> Branch:
        """The chosen Gaussians [N], which stay as they are, moved by this branch's own networks."""
        part = copy.deepcopy(self)
        part.unbake()
        for name in PER_GAUSSIAN:
            setattr(part, name, nn.Parameter(getattr(self, name).detach()[chosen], requires_grad=False))
        for name in FIELD_PER_GAUSSIAN:
            setattr(part.field, name, getattr(self.field, name)[chosen])
        for name, network in self.field.named_children():
            setattr(part.field, name, network)
        return part

    def position_terms(self) -> PositionTerms:
        """What the motion field makes of where the Gaussians are; kept from `bake` to `unbake`."""
        # Where a Gaussian is decides how it moves, but motion must not drag the canonical position along.
        return self._baked or self.field.position_terms(self.means.detach())

    def bake(self) -> None:
        """Keep what depends on the positions alone, for rendering many frames of a model that does not change."""
        self.unbake()
        with torch.no_grad():
            self._baked = self.position_terms()

    def unbake(self) -> None:
        """Forget it: the model is going to change."""
        self._baked = None

    def pose(self, bones: BonePose, code: Tensor) -> Gaussians:
        """Gaussians in camera space for one expression code [C] and one pose of the bones."""
        float32 = self.means.dtype == bones.head_rotation.dtype == torch.float32
        if float32 and choose_backend(self.means.device).name == "numba":
            from render._fused_pose import fused_pose

            return fused_pose(self, self.position_terms(), bones, code)
        return self.reference_pose(bones, code)

    def reference_pose(self, bones: BonePose, code: Tensor) -> Gaussians:
        """`pose` in plain torch: what the fused pass is tested against, and what runs on a GPU or in float64."""
        deltas = self.field(self.position_terms(), code)
        means = self.means + deltas.means
        quats, log_scales, color_logits = (
            canonical if change is None else canonical + change
            for canonical, change in (
                (self.quats, deltas.quats),
                (self.log_scales, deltas.log_scales),
                (self.color_logits, deltas.color_logits),
            )
        )
        torso = torch.sigmoid(self.skinning_logits)[:, None]
        head_means = means @ bones.head_rotation.T + bones.head_translation
        if self.keeps_order:
            depth = bones.head_translation[2] + self.means[:, 2:]
            head_means = head_means * (depth / head_means[:, 2:])
        torso_means = means @ bones.torso_rotation.T + bones.torso_translation
        quats = functional.normalize(quats, dim=-1)
        # The product of quaternions is linear in each, so blending the turned ones blends the bones' rotations.
        head_quats = quats @ left_multiplication(bones.head_rotation).T
        torso_quats = quats @ left_multiplication(bones.torso_rotation).T
        return Gaussians(
            torch.lerp(head_means, torso_means, torso),
            torch.lerp(head_quats, torso_quats, torso),
            torch.exp(log_scales),
            torch.sigmoid(self.opacity_logits),
            torch.sigmoid(color_logits),
        )

    def layer(
        self, posed: Gaussians, front: RenderOutput, camera: Camera, backend: Backend, corners: torch.Generator | None
    ) -> RenderOutput:
        """The branch alone; what an `ImplicitMouth` is asked in the same words."""
        return rasterize(posed, camera, backend)


class HeadModel(nn.Module):
    """Face, body (hair, neck, torso) and inside of the mouth of one person."""

    def __init__(self, face: Branch, body: Branch, mouth: Branch | ImplicitMouth, intrinsics: Intrinsics) -> None:
        super().__init__()
        self.face, self.body, self.mouth = face, body, mouth
        self.intrinsics = intrinsics
        self.register_buffer("neck_mean", torch.zeros(NECK_CODES))
        self.register_buffer("neck_spread", torch.ones(NECK_CODES))

    def __len__(self) -> int:
        return sum(map(len, self.branches.values()))

    @property
    def branches(self) -> dict[str, Branch]:
        """The parts that are made of Gaussians."""
        parts = {"face": self.face, "body": self.body, "mouth": self.mouth}
        return {name: part for name, part in parts.items() if isinstance(part, Branch)}

    @property
    def code_size(self) -> int:
        """Length of the expression code."""
        return self.face.field.basis.shape[2]

    def bake(self) -> None:
        """Prepare for rendering only, until `unbake`: call after the last change."""
        for branch in self.branches.values():
            branch.bake()

    def unbake(self) -> None:
        """Prepare for changes again."""
        for branch in self.branches.values():
            branch.unbake()

    def learn_neck_range(self, poses: Iterable[BonePose]) -> None:
        """What is usual of the head's pose on the torso: the unit of the code that the body's motion follows."""
        with torch.no_grad():
            relative = torch.stack([relative_pose(bones) for bones in poses])
            self.neck_mean.copy_(relative.mean(0))
            self.neck_spread.copy_(relative.std(0, correction=0).clamp_min(LEAST_NECK_SPREAD))

    def neck_code(self, bones: BonePose) -> Tensor:
        """[NECK_CODES]: the head's pose on the torso in standard deviations, held at what was nearly seen."""
        code = (relative_pose(bones) - self.neck_mean) / self.neck_spread
        return code.clamp(-LARGEST_NECK_CODE, LARGEST_NECK_CODE)

    def posed(
        self, bones: BonePose, code: Tensor, time: float | Tensor = MIDDLE
    ) -> tuple[Gaussians, Gaussians | PosedSheet]:
        """Face with body, in this order, and inside of the mouth, in camera space.

        Args:
            code: [C] for one frame; with [B, C] and B poses of the bones a batch of frames, in plain torch.
            time: stamp in [0, 1] of the frame, or of each [B], see `render.implicit_mouth.time_stamps`; Gaussians
                know no time.
        """
        inputs = (bones.head_rotation, bones.head_translation, bones.torso_rotation, bones.torso_translation, code)
        is_batch = code.dim() == 2
        pose = Branch.reference_pose if is_batch else Branch.pose

        def part(branch: Branch) -> Part:
            def posed(*tensors: Tensor) -> tuple[Tensor, ...]:
                bones = BonePose(*tensors[:4])
                code = self.neck_code(bones) if branch is self.body else tensors[4]
                return tuple(vars(pose(branch, bones, code)).values())

            return posed

        parts = [part(branch) for branch in (self.body, self.face, self.mouth) if isinstance(branch, Branch)]
        results = [torch.vmap(each)(*inputs) for each in parts] if is_batch else side_by_side(parts, inputs)
        body, face, *mouth = (Gaussians(*tensors) for tensors in results)
        front = concatenate(face, body)
        if mouth:
            return front, mouth[0]
        stamps = torch.as_tensor(time).to(code).expand(code.shape[:-1])
        return front, PosedSheet(bones.head_rotation, bones.head_translation, code, stamps)

    def layers(
        self,
        front: Gaussians,
        mouth: Gaussians | PosedSheet,
        camera: Camera,
        backend: Backend = "auto",
        corners: torch.Generator | None = None,
    ) -> tuple[RenderOutput, RenderOutput]:
        """What was `posed`, drawn: face with body, and inside of the mouth, each alone.

        corners: what an implicit mouth draws its samples with while it learns, see `ImplicitMouth.layer`.
        """
        face = rasterize(front, camera, backend)
        return face, self.mouth.layer(mouth, face, camera, backend, corners)

    def render_branches(
        self,
        bones: BonePose,
        code: Tensor,
        camera: Camera,
        backend: Backend = "auto",
        time: float | Tensor = MIDDLE,
        corners: torch.Generator | None = None,
    ) -> tuple[RenderOutput, RenderOutput]:
        """`layers` of what is `posed`. code: [C], or [B, C]."""
        return self.layers(*self.posed(bones, code, time), camera, backend, corners)

    def render(
        self,
        bones: BonePose,
        code: Tensor,
        camera: Camera,
        backend: Backend = "auto",
        time: float | Tensor = MIDDLE,
    ) -> RenderOutput:
        """The person with nothing behind: the mouth fused under the face (TalkingGaussian Eq. 9)."""
        return fuse(*self.render_branches(bones, code, camera, backend, time))


def fuse(front: RenderOutput, behind: RenderOutput) -> RenderOutput:
    """Alpha compositing of two premultiplied pictures."""
    through = 1 - front.alpha
    return RenderOutput(front.rgb + through.unsqueeze(-3) * behind.rgb, front.alpha + through * behind.alpha)


def concatenate(first: Gaussians, second: Gaussians) -> Gaussians:
    """All Gaussians of both, of one frame or of as many frames."""
    pairs = zip(vars(first).values(), vars(second).values(), strict=True)
    return Gaussians(*(torch.cat(pair, dim=int(first.is_batch)) for pair in pairs))


def relative_pose(bones: BonePose) -> Tensor:
    """Rotation vector and translation [NECK_CODES] of the head in the torso's frame."""
    to_torso = bones.torso_rotation.T
    return torch.cat(
        [
            rotation_vector(to_torso @ bones.head_rotation),
            to_torso @ (bones.head_translation - bones.torso_translation),
        ]
    )


def small_rotation(axis_angle: Tensor) -> Tensor:
    """Rotation matrix [3, 3] of an axis-angle vector [3], radians, smooth at zero (matrix exponential)."""
    x, y, z = axis_angle
    zero = torch.zeros_like(x)
    return torch.linalg.matrix_exp(torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).view(3, 3))


def rotation_vector(rotation: Tensor) -> Tensor:
    """Twice the vector part [3] of a rotation's quaternion: the axis-angle vector for small angles, smooth to 180
    degrees."""
    return 2 * left_multiplication(rotation)[1:, 0]


def left_multiplication(rotation: Tensor) -> Tensor:
    """The matrix [4, 4] that turns quaternions (w, x, y, z) by a rotation matrix [3, 3] of less than 180 degrees."""
    w = torch.sqrt((1 + rotation.diagonal().sum()).clamp_min(1e-8)) / 2
    axis = (rotation - rotation.T).flatten()[[7, 2, 3]] / (4 * w)
    return torch.cat([w[None], axis])[_LEFT_FACTOR.to(w.device)] * _LEFT_SIGN.to(w)


def empty_head_model(
    face: int, body: int, mouth: int | None, codes: int, intrinsics: Intrinsics, config: MotionFieldConfig
) -> HeadModel:
    """A model of the given sizes whose tensors wait to be loaded. mouth: its Gaussians, or None for an implicit one."""

    def start(count: int) -> CanonicalGaussians:
        return CanonicalGaussians(*(torch.zeros(count, 3),) * 3, torch.zeros(count))

    def field(count: int) -> MotionField:
        return MotionField(torch.zeros(count, 3, codes), torch.zeros(count, codes), 1.0, config)

    def inside() -> Branch | ImplicitMouth:
        if mouth is None:
            return ImplicitMouth(torch.zeros(3), torch.ones(2), torch.zeros(codes))
        return Branch(start(mouth), field(mouth), keeps_order=True)

    return HeadModel(
        Branch(start(face), field(face)),
        Branch(start(body), neck_field(body, 1.0, config)),
        inside(),
        intrinsics,
    )


def neck_field(count: int, extent: float, config: MotionFieldConfig) -> MotionField:
    """The motion of `count` body Gaussians with the head's pose on the torso: any code may move any of them."""
    still, everywhere = torch.zeros(count, 3, NECK_CODES), torch.ones(count, NECK_CODES)
    return MotionField(still, everywhere, extent, config, rigid=True)
