"""Mouths cut out of videos: held still, the lower half of the face, with the sound that belongs to them."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from dataclasses import replace
from typing import TypeVar

import numpy as np
import pytest

from encoders.contrastive.lip_clips import LIP_HEIGHT, LIP_WIDTH, LipClip
from talkinghead.demo_clip.truth import ASSETS, CLIP_NAME, load_truth
from talkinghead.lip_clips import CHIN_MARGIN, lip_clip_of_track, read_lip_clip
from talkinghead.progress import Progress
from tools.errors import UnusableClipError
from tools.face_topology import MEDIAPIPE_478
from tools.video import probe

DEMO = ASSETS / CLIP_NAME
FACE_WIDTH, FACE_HEIGHT, SIDE = 120.0, 160.0, 256
T = TypeVar("T")


def _value(job: Generator[Progress, None, T]) -> T:
    while True:
        try:
            next(job)
        except StopIteration as finished:
            return finished.value


def _moving_face(frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures [T, SIDE, SIDE, 3] and landmarks [T, 478, 3] of a face that turns, nears and sways.

    Red says how far right a point of the face lies, green how far down: 55 to 200 over its width and its height.
    """
    random = np.random.default_rng(0)
    around = np.linspace(0, 2 * np.pi, len(MEDIAPIPE_478.face_oval), endpoint=False)
    face = random.uniform(-0.4, 0.4, (478, 2)) * [FACE_WIDTH, FACE_HEIGHT]
    oval = np.stack([np.sin(around) * FACE_WIDTH, -np.cos(around) * FACE_HEIGHT], axis=1) / 2
    face[list(MEDIAPIPE_478.face_oval)] = oval
    pictures, landmarks = [], []
    pixels = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE)), axis=-1)
    for phase in np.linspace(0, 2 * np.pi, frames, endpoint=False):
        angle, scale = 0.2 * np.sin(phase), 1 + 0.15 * np.sin(2 * phase)
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        middle = SIDE / 2 + 20 * np.array([np.cos(phase), np.sin(3 * phase)])
        canonical = (pixels - middle) @ np.linalg.inv(turn).T / [FACE_WIDTH, FACE_HEIGHT] + 0.5
        picture = np.full((SIDE, SIDE, 3), 90.0)
        picture[..., :2] = np.clip(55 + 145 * canonical, 0, 255)
        pictures.append(picture.astype(np.uint8))
        landmarks.append(np.concatenate([face @ turn.T + middle, np.zeros((478, 1))], axis=1))
    return np.stack(pictures), np.stack(landmarks).astype(np.float32)


@pytest.fixture(scope="module")
def moving() -> LipClip:
    pictures, landmarks = _moving_face(40)
    landmarks[7] = np.nan
    return lip_clip_of_track(probe(DEMO), pictures, landmarks, MEDIAPIPE_478)


def test_the_head_is_held_still(moving: LipClip) -> None:
    mouths = moving.mouths[moving.seen].astype(float)
    assert mouths.std(axis=0).max() < 1.5
    assert not moving.seen[7] and not moving.mouths[7].any()
    assert moving.seen.sum() == 39


def test_the_crop_is_the_lower_half_of_the_face(moving: LipClip) -> None:
    """Colours give the place: the crop spans the face's width, and from its middle to a margin below the chin."""
    red, green = (moving.mouths[0, ..., channel].astype(float) for channel in (0, 1))
    columns, rows = (red.mean(axis=0) - 55) / 145, (green.mean(axis=1) - 55) / 145
    np.testing.assert_allclose(columns, (np.arange(LIP_WIDTH) + 0.25) / LIP_WIDTH, atol=0.02)
    reach = 0.5 * (1 + CHIN_MARGIN)
    np.testing.assert_allclose(rows, 0.5 + reach * (np.arange(LIP_HEIGHT) + 0.25) / LIP_HEIGHT, atol=0.02)


def test_too_few_faces_are_named() -> None:
    pictures, landmarks = _moving_face(30)
    landmarks[10:] = np.nan
    with pytest.raises(UnusableClipError, match="seen in 10 frames"):
        lip_clip_of_track(probe(DEMO), pictures, landmarks, MEDIAPIPE_478)


def test_the_demo_clip() -> None:
    """The mouth's middle darkens as the exact lips part."""
    clip = _value(read_lip_clip(DEMO))
    info, truth = probe(DEMO), load_truth()
    assert (clip.name, clip.fps, len(clip)) == (CLIP_NAME, info.fps, info.frame_count)
    assert clip.seen.all()
    assert clip.sha256 == hashlib.sha256(DEMO.read_bytes()).hexdigest()
    assert abs(len(clip.samples) / 16_000 - clip.duration_s) < 0.1
    between_the_lips = clip.mouths[:, 20:32, 36:60].mean(axis=(1, 2, 3))
    assert np.corrcoef(between_the_lips, truth.mouth_opening)[0, 1] < -0.9


def test_a_part_has_its_own_sound(moving: LipClip) -> None:
    part = replace(moving, samples=np.arange(40 * 640, dtype=np.float32)).part(10, 20)
    assert part.samples[0] == 6400 and len(part.samples) == 6400
