"""A head of a few Gaussians on the demo clip's face, and pictures of another such head to fit it to."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from demo_clip_track import demo_truth
from scipy.spatial.transform import Rotation

from render.fitting import FittingConfig, HeadFitter, MotionTargets, Stage, TrainingFrame
from render.head_model import BonePose, HeadModel, Intrinsics, fuse
from render.implicit_mouth import time_stamps
from render.losses import LossWeights
from render.motion import MotionFieldConfig
from render.seeding import FaceMesh, ReferenceView, SeedingConfig, paint, seed_head_model
from tools.face_topology import MEDIAPIPE_478

SIDE = 64
INTRINSICS = Intrinsics(focal=130.0, resolution=SIDE)
SIZES = SeedingConfig(face=120, body=120, mouth=30)
FIELD = MotionFieldConfig(plane_resolution=8, plane_channels=2, hidden=8)
LOWER_CODES, CODES = 2, 3
FRAMES = 6
CONFIG = FittingConfig(
    steps=40,
    stages=(Stage(0.25, 0.5, 1), Stage(0.5, 1.0, 1, registered=True), Stage(0.25, 1.0, 0, registered=True)),
    loss=LossWeights(window=24),
    cap=300,
)


def face_mesh() -> FaceMesh:
    """The demo clip's face; two lower codes stretch it down and sideways, the upper one lifts it."""
    vertices = demo_truth().canonical_vertices
    vertices = (vertices / np.abs(vertices).max()).astype(np.float64)
    motion = np.zeros((CODES, len(vertices), 3))
    lower, upper = np.array(MEDIAPIPE_478.lower_face), np.array(MEDIAPIPE_478.upper_face)
    motion[0, :, 1] = 0.3 * (vertices[:, 1] - vertices[MEDIAPIPE_478.upper_inner_lip, 1])
    motion[1, :, 0] = 0.1 * vertices[:, 0]
    motion[2, :, 1] = -0.03
    return FaceMesh(
        vertices=vertices,
        motion=motion,
        lower_codes=LOWER_CODES,
        lower_vertices=lower,
        upper_vertices=upper,
        inner_lips=np.array(MEDIAPIPE_478.inner_lips),
        upper_inner_lip=MEDIAPIPE_478.upper_inner_lip,
        lower_inner_lip=MEDIAPIPE_478.lower_inner_lip,
    )


def targets() -> MotionTargets:
    """The head turns and speaks, the torso stands still."""
    time = np.arange(FRAMES)
    angles = np.stack([0.15 * np.sin(time), 0.05 * np.cos(time), 0.02 * time], 1)
    rotations = Rotation.from_rotvec(angles).as_matrix().astype(np.float32)
    translations = np.tile(np.float32([0, 0, 4]), (FRAMES, 1))
    codes = np.random.default_rng(0).normal(size=(FRAMES, CODES)).astype(np.float32)
    still, stamps = np.tile(np.eye(3, dtype=np.float32), (FRAMES, 1, 1)), time_stamps(time, FRAMES)
    return MotionTargets(rotations, translations, still, translations, codes, stamps)


def projected(points: np.ndarray, side: int = SIDE) -> np.ndarray:
    """Pixels [K, 2] of head points in the reference view."""
    return points[:, :2] / (points[:, 2:] + 4) * INTRINSICS.focal * side / SIDE + side / 2


def reference_view() -> ReferenceView:
    """Frontal; the person fills the lower half of the picture and an oval above."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    person = ((columns - 32) / 30) ** 2 + ((rows - 32) / 40) ** 2 < 1
    chin_y = float(projected(face_mesh().vertices)[MEDIAPIPE_478.chin, 1])
    return ReferenceView(np.eye(3), np.array([0, 0, 4.0]), person.astype(np.float32), chin_y)


def tiny_head(seed: int = 0) -> HeadModel:
    """A seeded model with grey Gaussians."""
    return seed_head_model(face_mesh(), reference_view(), INTRINSICS, SIZES, FIELD, seed)


def painted_head() -> HeadModel:
    """Another seeding, more opaque, coloured by position: what the pictures show."""
    model = tiny_head(seed=7)
    branches = (model.face, model.body, model.mouth)
    paint(model, *(0.5 + 0.4 * np.sin(4 * branch.means.detach().numpy()) for branch in branches))
    for branch in branches:
        branch.opacity_logits.data += 2
    return model.requires_grad_(False)


def bones(index: int) -> BonePose:
    """The pose of one frame."""
    names = ("head_rotations", "head_translations", "torso_rotations", "torso_translations")
    return BonePose(*(torch.from_numpy(getattr(targets(), name)[index]) for name in names))


@dataclass(frozen=True)
class RenderedFrames:
    """Pictures of the painted head."""

    frames: tuple[TrainingFrame, ...]

    def __len__(self) -> int:
        return len(self.frames)

    def load(self, index: int, resolution: int) -> TrainingFrame:
        """See `render.fitting.FrameSource.load`."""
        size = (resolution, resolution)
        frame = self.frames[index]
        return TrainingFrame(*(cv2.resize(part, size, interpolation=cv2.INTER_AREA) for part in vars(frame).values()))


def background() -> np.ndarray:
    """[SIDE, SIDE, 3] uint8."""
    return np.full((SIDE, SIDE, 3), (40, 90, 60), np.uint8)


def rendered_frames() -> RenderedFrames:
    """A picture for every pose and code."""
    model, behind = painted_head(), torch.from_numpy(background()).permute(2, 0, 1) / 255
    codes = torch.from_numpy(targets().codes)
    oval = projected(face_mesh().vertices)[list(MEDIAPIPE_478.face_oval)]
    face = cv2.fillPoly(np.zeros((SIDE, SIDE), np.uint8), [oval.round().astype(np.int32)], 1)
    lips = projected(face_mesh().vertices)[list(MEDIAPIPE_478.inner_lips)]
    mouth = cv2.fillPoly(np.zeros((SIDE, SIDE), np.uint8), [lips.round().astype(np.int32)], 1)
    frames = []
    for index in range(FRAMES):
        person = fuse(*model.render_branches(bones(index), codes[index], INTRINSICS.camera()))
        picture = (255 * person.over(behind)).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
        frames.append(TrainingFrame(picture, (255 * person.alpha).round().to(torch.uint8).numpy(), face, mouth))
    return RenderedFrames(tuple(frames))


def fitter(frames: RenderedFrames, seed: int = 0, model_seed: int = 0, **changes: object) -> HeadFitter:
    """A fit of the grey head to the pictures; `changes` to the recipe."""
    return HeadFitter(tiny_head(model_seed), targets(), frames, background(), replace(CONFIG, **changes), seed)
