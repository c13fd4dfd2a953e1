"""The frames that a head model is fitted to: which ones, and how they are held."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import cv2
import numpy as np

from render.fitting import TrainingFrame
from talkinghead.progress import Progress
from tools.metrics import face_hull_mask
from tools.segmentation import PersonSegmenter, inner_mouth_mask
from tools.tracked_clip import TrackedClip
from tools.video import VideoInfo, read_frames

MOST_FRAMES = 600
"""Frames held at once, about 1 MB each: memory does not grow with the clip beyond them."""
RARE_SHARE = 0.3
"""Share of them that is chosen for a rare expression when the clip has more; the others are spread evenly."""


@dataclass(frozen=True)
class TrainingFrames:
    """Crops and mattes as uint8; masks are drawn from the landmarks when a frame is asked for."""

    indices: np.ndarray  # [N] frame numbers in the clip
    images: list[np.ndarray]  # [R, R, 3] RGB
    mattes: list[np.ndarray]  # [R, R], 255 where the person is
    clip: TrackedClip

    def __len__(self) -> int:
        return len(self.indices)

    def load(self, index: int, resolution: int) -> TrainingFrame:
        """See `render.fitting.FrameSource.load`."""
        image, matte = self.images[index], self.mattes[index]
        full = self.clip.crop.resolution
        if resolution != full:
            image = cv2.resize(image, (resolution, resolution), interpolation=cv2.INTER_AREA)
            matte = cv2.resize(matte, (resolution, resolution), interpolation=cv2.INTER_AREA)
        points = self.clip.landmarks[self.indices[index]] * (resolution / full)
        face = face_hull_mask(points, resolution, resolution).astype(np.uint8)
        return TrainingFrame(image, matte, face, inner_mouth_mask(points, self.clip.topology, (resolution, resolution)))


def choose_frames(clip: TrackedClip) -> np.ndarray:
    """Numbers of the fitted frames with a face, thinned to MOST_FRAMES."""
    candidates = np.flatnonzero(clip.found[: clip.fitted_frames])
    if len(candidates) <= MOST_FRAMES:
        return candidates
    evenly = candidates[np.linspace(0, len(candidates) - 1, round((1 - RARE_SHARE) * MOST_FRAMES)).round().astype(int)]
    others = np.setdiff1d(candidates, evenly)
    codes = np.concatenate([clip.expression.lower[others], clip.expression.upper[others]], 1)
    rarest = others[np.argsort(-np.square(codes).sum(1))[: MOST_FRAMES - len(evenly)]]
    return np.union1d(evenly, rarest)


def load_training_frames(info: VideoInfo, clip: TrackedClip) -> Generator[Progress, None, TrainingFrames]:
    """Reads the chosen frames in one pass; the generator's value holds them."""
    indices = choose_frames(clip)
    wanted = set(indices.tolist())
    images, mattes = [], []
    with PersonSegmenter() as segmenter:
        for number, frame in enumerate(read_frames(info, 0, int(indices[-1]) + 1)):
            if number in wanted:
                images.append(clip.crop.cut(frame))
                mattes.append(np.round(255 * segmenter.person_matte(images[-1])).astype(np.uint8))
                yield Progress("frames", len(images), len(indices))
    return TrainingFrames(indices, images, mattes, clip)


def mean_colors(frames: TrainingFrames, points: np.ndarray) -> np.ndarray:
    """Average colour [N, 3] in [0, 1] that head points [N, 3] project to, over some frames: what a Gaussian starts
    with."""
    head = frames.clip.head
    sampled = np.linspace(0, len(frames) - 1, min(20, len(frames))).astype(int)
    total = np.zeros((len(points), 3))
    for place in sampled:
        number = frames.indices[place]
        camera = points @ head.rotations[number].T + head.translations[number]
        pixels = camera[:, :2] / camera[:, 2:] * head.focal_px + head.resolution / 2
        columns, rows = pixels.astype(int).clip(0, head.resolution - 1).T
        total += frames.images[place][rows, columns] / 255
    return total / len(sampled)
