"""A small avatar with random parameters, for tests of everything around the fit. Nothing in it looks like a person."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from media_samples import write_clip

from encoders.bundle import DEFAULT_BUNDLE
from encoders.features import speech_features
from encoders.lip_motion import LipMotionPredictor
from render.head_model import HeadModel, Intrinsics, empty_head_model
from render.motion import MotionFieldConfig
from talkinghead.avatar import FORMAT_VERSION, Avatar, AvatarManifest, SourceTracks
from tools.face_topology import MEDIAPIPE_478
from tools.tracked_clip import CropBox

FPS = Fraction(25)
FRAMES, LOWER, UPPER, COUNTS = 40, 4, 2, (30, 20, 10)
WIDTH, HEIGHT, CROP = 64, 48, CropBox(left=10, top=2, side=40, resolution=32)
FIELD = MotionFieldConfig(plane_resolution=8, plane_channels=2, hidden=4)


def sample_clip(path: Path) -> Path:
    """FRAMES numbered pictures of WIDTH x HEIGHT px with a tone."""
    tone = (0.3 * np.sin(np.arange(round(float(FRAMES / FPS) * 16_000)) / 5)).astype(np.float32)
    return write_clip(path, [k / FPS for k in range(FRAMES)], sound=(tone, 16_000, Fraction(0)))


def random_model(seed: int) -> HeadModel:
    """Every parameter and buffer random, so that no two can be mistaken for each other."""
    model = empty_head_model(*COUNTS, LOWER + UPPER, 1.5, Intrinsics(70.5, CROP.resolution), FIELD)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
    return model


def sample_avatar(seed: int = 0) -> Avatar:
    """An avatar of `sample_clip`, not yet saved."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=(FRAMES, *shape)).astype(np.float32)

    encoder = DEFAULT_BUNDLE.load()
    speech = speech_features(0.1 * normal(640).ravel(), encoder, FPS, FRAMES)
    lower, landmarks = normal(LOWER), normal(MEDIAPIPE_478.count, 2)
    landmarks[3] = np.nan
    return Avatar(
        manifest=sample_manifest(seed),
        model=random_model(seed),
        lips=LipMotionPredictor.fit(speech, lower, lower[:, 0]),
        encoder=encoder,
        tracks=SourceTracks(
            normal(3, 3), normal(3), normal(3, 3), normal(3), lower, normal(UPPER), landmarks, np.arange(FRAMES) != 3
        ),
        background=rng.integers(0, 256, (CROP.resolution, CROP.resolution, 3), dtype=np.uint8),
    )


def sample_manifest(seed: int = 0) -> AvatarManifest:
    """The facts that go with `sample_clip` and `random_model`."""
    face, body, mouth = COUNTS
    return AvatarManifest(
        format_version=FORMAT_VERSION,
        talkinghead_version="0.0.1",
        created="2025-01-02T03:04:05+00:00",
        source_name="Zoë's clip.mp4",
        source_sha256="0" * 64,
        fps=FPS,
        width=WIDTH,
        height=HEIGHT,
        frame_count=FRAMES,
        fitted_frames=FRAMES - 8,
        crop=CROP,
        focal_px=70.5,
        topology=MEDIAPIPE_478.name,
        speech_encoder=DEFAULT_BUNDLE.name,
        preset="fast",
        seed=seed,
        face=face,
        body=body,
        mouth=mouth,
        codes=LOWER + UPPER,
        extent=1.5,
        field=FIELD,
        findings=("the clip is short: 20 s or more give better lips",),
    )
