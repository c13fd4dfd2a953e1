"""The frames that a head model is fitted to: which ones, and how they are held."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.ndimage import median_filter
from scipy.spatial.transform import Rotation

from render.fitting import TrainingFrame
from talkinghead.picture_file import PictureFile
from talkinghead.progress import Progress
from tools.metrics import face_hull_mask
from tools.segmentation import PersonSegmenter, inner_mouth_mask
from tools.tracked_clip import TrackedClip
from tools.video import VideoInfo, read_frames

RARE_SHARE = 0.3
"""Share of them that is chosen for a rare pose or expression; the others are spread evenly over the clip."""
TURN_UNIT = 0.1
"""Radians of rotation that count as much as a standard deviation of the strongest expression code..."""
SHIFT_UNIT = 0.3
"""...and so much translation, head units."""


@dataclass(frozen=True)
class TrainingFrames:
    """Crops and mattes as uint8; masks are drawn from the landmarks when a frame is asked for."""

    indices: np.ndarray  # [N] frame numbers in the clip
    images: Sequence[np.ndarray]  # [R, R, 3] RGB
    mattes: Sequence[np.ndarray]  # [R, R], 255 where the person is
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


def choose_frames(clip: TrackedClip, most: int) -> np.ndarray:
    """Numbers [N] of the fitted frames with a face, in order, or of `most` of them.

    Most are spread evenly, so that what is often seen is often learned and the average error is that of the clip. An
    even choice misses what is rare, and a renderer fails first where an expression or a pose is far from all that it
    was fitted to: the others are therefore chosen one by one, each farthest from all chosen before (Gonzalez 1985,
    "Clustering to minimize the maximum intercluster distance": the largest distance that is left is at most twice the
    smallest possible). Unlike the frames farthest from the mean, they are not many times the same grimace.
    """
    candidates = np.flatnonzero(clip.found[: clip.fitted_frames])
    if len(candidates) <= most:
        return candidates
    evenly = np.linspace(0, len(candidates) - 1, round((1 - RARE_SHARE) * most)).round().astype(int)
    return candidates[np.sort(_farthest_points(_appearance(clip)[candidates], evenly, most))]


def _appearance(clip: TrackedClip) -> np.ndarray:
    """What makes frames look different, [F, D]: pose and expression, in units that count alike.

    Codes have unit variance however little they move, so each is weighted by how far it moves the face, relative to the
    strongest of its half of the face: or noise would be what is rare, and a blink small beside a jaw. Medians of three
    frames: an expression lasts longer than a frame, a failed detection does not, and farthest points would all be
    failed detections.
    """
    turns = Rotation.from_matrix(clip.head.rotations).as_rotvec() / TURN_UNIT
    lower, upper = clip.expression.lower, clip.expression.upper
    reach = np.linalg.norm(clip.basis.motion, axis=(1, 2))
    of_lower, of_upper = reach[: lower.shape[1]], reach[lower.shape[1] :]
    codes = (lower * (of_lower / of_lower.max()), upper * (of_upper / of_upper.max()))
    columns = np.concatenate([turns, clip.head.translations / SHIFT_UNIT, *codes], axis=1)
    return median_filter(columns.astype(np.float32), size=(3, 1), mode="nearest")


def _farthest_points(points: np.ndarray, start: np.ndarray, count: int) -> np.ndarray:
    """`count` indices of points [N, D]: those given, then always the point farthest from its nearest chosen one."""
    nearest = np.full(len(points), np.inf, np.float32)  # squared distances
    chosen = start.tolist()
    for place in range(count - 1):
        nearest = np.minimum(nearest, np.square(points - points[chosen[place]]).sum(axis=1))
        if place >= len(start) - 1:
            chosen.append(int(np.argmax(nearest)))
    return np.array(chosen)


def load_training_frames(
    info: VideoInfo, clip: TrackedClip, most: int, folder: Path
) -> Generator[Progress, None, TrainingFrames]:
    """Reads `most` frames in one pass; the generator's value has them in a file in `folder` that needs no care.

    Raises:
        OutputError: there is no room for it.
    """
    indices, side = choose_frames(clip, most), clip.crop.resolution
    wanted = set(indices.tolist())
    images, mattes = PictureFile(folder, (side, side, 3)), PictureFile(folder, (side, side))
    with PersonSegmenter() as segmenter:
        for number, frame in enumerate(read_frames(info, 0, int(indices[-1]) + 1)):
            if number in wanted:
                image = clip.crop.cut(frame)
                images.append(image)
                mattes.append(np.round(255 * segmenter.person_matte(image)).astype(np.uint8))
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
