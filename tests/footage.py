"""Footage put together from clips of people, so that its cuts, its faces and what covers them are exactly known."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from demo_clip_track import demo_clip

from tools.video import EncodeSettings, VideoInfo, VideoWriter, probe, read_frames

SIDE = 256
LOOKS_LIKE_CAMERA = EncodeSettings(crf=20)


def pictures(info: VideoInfo, start: int, count: int, side: int = SIDE) -> list[np.ndarray]:
    """Frames of a clip as squares, uint8 [side, side, 3]."""
    square = min(info.width, info.height)
    left, top = (info.width - square) // 2, (info.height - square) // 2
    cut = (frame[top : top + square, left : left + square] for frame in read_frames(info, start, count))
    return [cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA) for frame in cut]


def demo_pictures(start: int, count: int, side: int = SIDE) -> list[np.ndarray]:
    """Frames of the demo clip."""
    return pictures(demo_clip(), start, count, side)


def close_up(picture: np.ndarray) -> np.ndarray:
    """The same person from nearer, as a second camera sees him."""
    side = len(picture)
    part = picture[side // 8 : side * 6 // 8, side // 5 : side * 33 // 40]
    return cv2.resize(part, (side, side), interpolation=cv2.INTER_CUBIC)


def written(
    path: Path, frames: Iterable[np.ndarray], audio: Path | None = None, settings: EncodeSettings = LOOKS_LIKE_CAMERA
) -> VideoInfo:
    """A video of 25 frames/s of these pictures."""
    frames = iter(frames)
    first = next(frames)
    with VideoWriter(path, first.shape[1], first.shape[0], Fraction(25), audio, settings) as writer:
        writer.write(first)
        for frame in frames:
            writer.write(frame)
    return probe(path)
