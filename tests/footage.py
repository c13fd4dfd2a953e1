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


def microphone(picture: np.ndarray, head: tuple[float, float], size: float) -> np.ndarray:
    """A microphone held before a face: a dark grille whose middle is at `head` px, `size` px wide, on a grey handle."""
    layer, cover = picture.copy(), np.zeros(picture.shape[:2], np.float32)
    x, y = round(head[0]), round(head[1])
    half = round(size / 2)
    for canvas, grille, handle in ((layer, (38, 38, 42), (84, 84, 90)), (cover, 1.0, 1.0)):
        cv2.line(canvas, (x, y), (x + half, y + 8 * half), handle, max(1, half), cv2.LINE_AA)
        cv2.ellipse(canvas, (x, y), (half, round(1.3 * half)), 0, 0, 360, grille, -1, cv2.LINE_AA)
    rows, columns = np.mgrid[: len(picture), : picture.shape[1]]
    wires = 18 * np.sin(columns * 6.0 / max(1, half)) * np.sin(rows * 6.0 / max(1, half))
    return _over(picture, layer + wires[..., None], cover)


def hand(picture: np.ndarray, palm: tuple[float, float], size: float, skin: np.ndarray) -> np.ndarray:
    """A hand before a face: palm with its middle at `palm` px, `size` px wide, four fingers up to the left."""
    layer, cover = picture.astype(np.float32), np.zeros(picture.shape[:2], np.float32)
    x, y = palm
    half = size / 2
    limbs = [((x, y), (x + half, y + 6 * half), 1.3 * half)]
    for k in (-0.4, 0, 0.4, 0.8):
        limbs.append(((x + k * half, y), (x - 1.2 * half + k * half, y - 1.7 * half), 0.42 * half))
    for shade, (start, stop, width) in enumerate([*limbs, ((x, y), (x, y), 2 * half)]):
        places = tuple(round(value) for value in start), tuple(round(value) for value in stop)
        tone = tuple(float(value) for value in skin * (0.82 + 0.05 * (shade % 4)))
        cv2.line(layer, *places, tuple(0.7 * value for value in tone), round(1.15 * width), cv2.LINE_AA)
        cv2.line(layer, *places, tone, round(width), cv2.LINE_AA)
        cv2.line(cover, *places, 1.0, round(1.15 * width), cv2.LINE_AA)
    return _over(picture, layer, cover)


def _over(picture: np.ndarray, layer: np.ndarray, cover: np.ndarray) -> np.ndarray:
    """Something nearer to the camera than the face, out of focus by a pixel."""
    weight = cv2.GaussianBlur(cover, (0, 0), 1.0)[..., None]
    mixed = picture + weight * (cv2.GaussianBlur(np.asarray(layer, np.float32), (0, 0), 1.0) - picture)
    return np.uint8(np.clip(np.rint(mixed), 0, 255))
