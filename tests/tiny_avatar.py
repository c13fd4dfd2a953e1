"""A complete avatar of 64x64 px that takes no fitting: a few Gaussians, a random lip-motion predictor, drawn frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from media_samples import write_sound

from encoders.bundle import DEFAULT_BUNDLE
from encoders.features import EXTRA_COLUMNS, SpeechFeatureTrack
from encoders.lip_motion import LipMotionPredictor
from render.head_model import HeadModel, Intrinsics, empty_head_model
from render.motion import MotionFieldConfig
from talkinghead.avatar import FORMAT_VERSION, Avatar, AvatarManifest, SourceTracks, save_avatar
from tools.face_topology import MEDIAPIPE_478, FaceTopology
from tools.tracked_clip import CropBox
from tools.video import EncodeSettings, VideoWriter

SIDE = 64
FOCAL_PX = 128.0
DISTANCE = 4.0  # head units: the head, about 2 units high, then fills the crop
LOWER_CODES, UPPER_CODES = 3, 2
FIELD = MotionFieldConfig(plane_resolution=4, plane_channels=2, hidden=4)
WHOLE_FRAME = CropBox(left=0, top=0, side=SIDE, resolution=SIDE)


@dataclass(frozen=True)
class TinyClip:
    """What the footage of a tiny avatar is like."""

    frames: int = 20
    fps: Fraction = Fraction(25)
    width: int = SIDE
    height: int = SIDE
    crop: CropBox = WHOLE_FRAME
    missing: Sequence[int] = ()  # frames without a face


def face_points(topology: FaceTopology = MEDIAPIPE_478) -> np.ndarray:
    """Landmarks [K, 3] of a schematic head: an oval around the origin with eyes, brows and lips, head units."""
    points = np.zeros((topology.count, 3))
    _place_ring(points, topology.face_oval, centre=(0.0, 0.0), radii=(0.55, 0.8), first_degrees=-90)
    _place_ring(points, topology.left_eye, centre=(0.22, -0.2), radii=(0.1, 0.05))
    _place_ring(points, topology.right_eye, centre=(-0.22, -0.2), radii=(0.1, 0.05))
    _place_ring(points, topology.outer_lips, centre=(0.0, 0.42), radii=(0.2, 0.1))
    _place_ring(points, topology.inner_lips, centre=(0.0, 0.42), radii=(0.15, 0.04))
    points[topology.left_outer_eye_corner, :2] = 0.32, -0.2
    points[topology.right_outer_eye_corner, :2] = -0.32, -0.2
    points[topology.chin, :2] = 0.0, 0.8
    points[:, 2] = 0.5 * np.square(points[:, :2]).sum(axis=1)  # a convex face: its rim lies behind
    return points


def _place_ring(
    points: np.ndarray,
    ring: Sequence[int],
    centre: tuple[float, float],
    radii: tuple[float, float],
    first_degrees: float = 0.0,
) -> None:
    angles = np.radians(first_degrees) + 2 * np.pi * np.arange(len(ring)) / len(ring)
    points[list(ring), 0] = centre[0] + radii[0] * np.cos(angles)
    points[list(ring), 1] = centre[1] + radii[1] * np.sin(angles)


def turned(degrees: float) -> np.ndarray:
    """Rotation [3, 3] about the vertical axis."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])


def in_picture(
    points: np.ndarray, rotation: np.ndarray, translation: np.ndarray, focal_px: float, side: int
) -> np.ndarray:
    """Pinhole projection of points [K, 3] into a crop, px [K, 2]."""
    in_camera = points @ rotation.T + translation
    return in_camera[:, :2] / in_camera[:, 2:] * focal_px + side / 2


def tiny_avatar(clip: TinyClip | None = None) -> Avatar:
    """An avatar that is not saved; the head turns to and fro by 10 degrees."""
    clip = clip or TinyClip()
    torch.manual_seed(0)
    encoder = DEFAULT_BUNDLE.load()
    columns = encoder.embedding_size + EXTRA_COLUMNS
    rng = np.random.default_rng(0)
    speech = SpeechFeatureTrack(rng.random((60, columns), np.float32), clip.fps)
    lips = LipMotionPredictor.fit(speech, rng.normal(size=(60, LOWER_CODES)).astype(np.float32), rng.random(60))
    model = _tiny_model(clip.crop.resolution)
    return Avatar(
        manifest=_manifest(clip, model),
        model=model,
        lips=lips,
        encoder=encoder,
        tracks=_tracks(clip),
        background=np.full((clip.crop.resolution, clip.crop.resolution, 3), (30, 60, 90), np.uint8),
    )


def save_tiny_avatar(folder: Path, clip: TinyClip | None = None) -> Avatar:
    """The avatar in `folder`/tiny.avatar with footage whose frames all differ."""
    clip = clip or TinyClip()
    source = folder / "tiny-source.mp4"
    with VideoWriter(source, clip.width, clip.height, clip.fps, settings=EncodeSettings(crf=4)) as writer:
        for index in range(clip.frames):
            writer.write(source_picture(clip, index))
    return save_avatar(tiny_avatar(clip), source, folder / "tiny.avatar")


def save_speaking_avatar(folder: Path) -> Avatar:
    """As `save_tiny_avatar`, of footage with sound."""
    avatar = save_tiny_avatar(folder)
    tone = np.sin(np.arange(16_000) / 8).astype(np.float32) / 4
    sound = write_sound(folder / "tone.wav", tone, 16_000)
    source = folder / "tiny-spoken.mp4"
    with VideoWriter(source, SIDE, SIDE, avatar.manifest.fps, sound) as writer:
        for index in range(avatar.manifest.frame_count):
            writer.write(source_picture(TinyClip(), index))
    return save_avatar(avatar, source, folder / "tiny.avatar")


def source_picture(clip: TinyClip, index: int) -> np.ndarray:
    """uint8 [H, W, 3]: a gradient, and in the top rows a grey that tells the index: 10 levels per frame."""
    rows, columns = np.mgrid[: clip.height, : clip.width]
    picture = np.stack([rows, columns, rows + columns], axis=-1) * 255.0 / (clip.height + clip.width)
    picture[: clip.height // 8] = 10 * index % 250
    return picture.astype(np.uint8)


def _tiny_model(resolution: int) -> HeadModel:
    focal_px = FOCAL_PX * resolution / SIDE
    codes = LOWER_CODES + UPPER_CODES
    model = empty_head_model(40, 40, 10, codes, Intrinsics(focal_px, resolution), FIELD)
    with torch.no_grad():
        for branch, depth in ((model.face, 0.0), (model.body, 0.1), (model.mouth, 0.05)):
            branch.means.uniform_(-0.7, 0.7)
            branch.means[:, 2] = depth
            branch.log_scales.fill_(-2.0)
            branch.color_logits.normal_()
            branch.opacity_logits.fill_(3.0)
            branch.skinning_logits.uniform_(-4.0, 4.0)
            branch.field.basis.normal_(std=0.05)
            branch.field.reach.fill_(1.0)
    return model


def _manifest(clip: TinyClip, model: HeadModel) -> AvatarManifest:
    return AvatarManifest(
        format_version=FORMAT_VERSION,
        talkinghead_version="0.1.0",
        created="2025-01-01T00:00:00+00:00",
        source_name="tiny.mp4",
        source_sha256="0" * 64,
        fps=clip.fps,
        width=clip.width,
        height=clip.height,
        frame_count=clip.frames,
        fitted_frames=clip.frames,
        crop=clip.crop,
        focal_px=model.intrinsics.focal,
        topology=MEDIAPIPE_478.name,
        speech_encoder=DEFAULT_BUNDLE.name,
        preset="fast",
        seed=0,
        face=len(model.face),
        body=len(model.body),
        mouth=len(model.mouth),
        codes=LOWER_CODES + UPPER_CODES,
        field=FIELD,
        findings=(),
    )


def _tracks(clip: TinyClip) -> SourceTracks:
    side = clip.crop.resolution
    rng = np.random.default_rng(1)
    rotations = np.stack([turned(10 * np.sin(index / 3)) for index in range(clip.frames)])
    translations = np.tile([0.0, 0.0, DISTANCE], (clip.frames, 1))
    poses = zip(rotations, translations, strict=True)
    landmarks = np.stack([in_picture(face_points(), *pose, FOCAL_PX * side / SIDE, side) for pose in poses])
    found = np.ones(clip.frames, bool)
    found[list(clip.missing)] = False
    landmarks[~found] = np.nan
    single = np.float32
    return SourceTracks(
        head_rotations=rotations.astype(single),
        head_translations=translations.astype(single),
        torso_rotations=np.tile(np.eye(3, dtype=single), (clip.frames, 1, 1)),
        torso_translations=translations.astype(single),
        lower=rng.normal(size=(clip.frames, LOWER_CODES)).astype(single),
        upper=rng.normal(size=(clip.frames, UPPER_CODES)).astype(single),
        landmarks=landmarks.astype(single),
        found=found,
    )
