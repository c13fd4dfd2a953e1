"""Videos to what the contrastive encoders learn from: the lower face in every frame, held still, and the sound.

Wav2Lip (Prajwal et al. 2020), which SE4Lip follows, cuts the face detector's box and takes its lower half; the box
trembles and follows the jaw. Here every frame is brought onto the clip's median face by the similarity transform of
the points that do not move with speech, and the lower half of that one face's box is cut.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from encoders.contrastive.lip_clips import LIP_HEIGHT, LIP_WIDTH, LipClip
from talkinghead.config import LandmarkBackend
from talkinghead.file_record import FileRecord
from talkinghead.progress import Progress
from tools.audio import read_audio
from tools.errors import NoAudioError, UnusableClipError
from tools.face_topology import FaceTopology
from tools.landmarks import landmark_detector
from tools.video import VideoInfo, probe, read_frames

CHIN_MARGIN = 0.1
"""Room below the median chin, in heights of the lower face, for the open jaw."""
MINIMUM_SEEN = 25
"""Frames with a face that a clip must have."""


def read_lip_clip(video: Path, landmarks: LandmarkBackend = "mediapipe") -> Generator[Progress, None, LipClip]:
    """Cuts the mouth of the largest face out of a video.

    The pictures are read twice, as streams. What grows with the length of the video is the clip itself, 1.2 GB an hour
    at 25 frames per second, and the positions of some fifty landmarks (0.4 kB a frame).

    Yields:
        Progress.

    Returns:
        The clip (the generator's value).

    Raises:
        UnusableClipError: hardly a face is seen.
        UserError: other subclasses; the video cannot be read, or has no sound.
    """
    info = probe(video)
    if not info.has_audio:
        raise NoAudioError(f"{video} has no sound: a speech encoder learns from sound and lips together")
    with landmark_detector(landmarks, max_faces=1) as detector:
        rigid, outline = list(detector.topology.stable), list(detector.topology.face_oval)
        points = np.full((info.frame_count, len(rigid) + len(outline), 2), np.nan, np.float32)
        for index, frame in enumerate(read_frames(info)):
            for face in detector.detect(frame)[:1]:
                points[index] = face[rigid + outline, :2]
            yield Progress(f"faces in {video.name}", index + 1, info.frame_count)
    transforms = _mouth_transforms(points[:, : len(rigid)], points[:, len(rigid) :], info)
    return _clip(info, read_frames(info), transforms)


def lip_clip_of_track(
    info: VideoInfo, crops: Iterable[np.ndarray], landmarks: np.ndarray, topology: FaceTopology
) -> LipClip:
    """The same for a clip that was tracked already.

    Args:
        crops: the T pictures that the landmarks belong to.
        landmarks: [T, K, 3] px; NaN where no face was found.

    Raises: as `read_lip_clip`.
    """
    return _clip(info, crops, landmark_transforms(landmarks, topology, info))


def landmark_transforms(landmarks: np.ndarray, topology: FaceTopology, info: VideoInfo) -> np.ndarray:
    """Affine maps [T, 2, 3] from px of a tracked clip's pictures to px of the lower face; NaN where there is no face.

    Raises:
        UnusableClipError: hardly a face is seen.
    """
    points = landmarks[..., :2]
    return _mouth_transforms(points[:, list(topology.stable)], points[:, list(topology.face_oval)], info)


def _clip(info: VideoInfo, frames: Iterable[np.ndarray], transforms: np.ndarray) -> LipClip:
    seen = np.isfinite(transforms).all(axis=(1, 2))
    mouths = np.zeros((len(transforms), LIP_HEIGHT, LIP_WIDTH, 3), np.uint8)
    for index, mouth in _warped(frames, transforms, seen):
        mouths[index] = mouth
    return LipClip(
        name=info.path.name,
        sha256=FileRecord.of(info.path).sha256,
        fps=info.fps,
        samples=read_audio(info.path).samples,
        mouths=mouths,
        seen=seen,
    )


def _warped(frames: Iterable[np.ndarray], transforms: np.ndarray, seen: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """The mouths of frames with a face, by their numbers."""
    for index, (frame, transform) in enumerate(zip(frames, transforms, strict=False)):
        if seen[index]:
            yield index, small_mouth(frame, transform)


def small_mouth(frame: np.ndarray, transform: np.ndarray) -> np.ndarray:
    """uint8 [LIP_HEIGHT, LIP_WIDTH, 3]: the lower face as encoders and experts see it; two sizes up while warping and
    then averaged, so that fine detail does not flicker. Arguments as for `mouth_picture`."""
    return cv2.resize(mouth_picture(frame, transform, 2), (LIP_WIDTH, LIP_HEIGHT), interpolation=cv2.INTER_AREA)


def mouth_picture(frame: np.ndarray, transform: np.ndarray, size: int) -> np.ndarray:
    """uint8 [size * LIP_HEIGHT, size * LIP_WIDTH, 3]: the lower face of a frame, `size` times as large as it is used.

    Args:
        transform: [2, 3] of `landmark_transforms`.
    """
    shape = (size * LIP_WIDTH, size * LIP_HEIGHT)
    return cv2.warpAffine(frame, float(size) * transform, shape, borderMode=cv2.BORDER_REPLICATE)


def _mouth_transforms(rigid: np.ndarray, outline: np.ndarray, info: VideoInfo) -> np.ndarray:
    """Affine maps [T, 2, 3] from picture px to px of the lower face; NaN where there is no face.

    Args:
        rigid: [T, R, 2] points that do not move with speech.
        outline: [T, O, 2] ring around the face.
    """
    seen = np.isfinite(rigid).all(axis=(1, 2))
    if seen.sum() < MINIMUM_SEEN:
        raise UnusableClipError(
            f"a face is seen in {int(seen.sum())} frames of {info.path}, expected {MINIMUM_SEEN} or more: "
            "leave this video out"
        )
    reference = rigid[seen][0]
    for _ in range(2):  # the second time onto the median face instead of the first
        onto = np.full((len(rigid), 2, 3), np.nan)
        for index in np.flatnonzero(seen):
            onto[index] = _similarity(rigid[index], reference)
        reference = np.median(_applied(onto[seen], rigid[seen]), axis=0)
    face = np.median(_applied(onto[seen], outline[seen]), axis=0)
    return _lower_half(face) @ np.concatenate([onto, np.broadcast_to([[[0.0, 0.0, 1.0]]], (len(onto), 1, 3))], axis=1)


def _similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Rotation, uniform scale and shift [2, 3] from points [N, 2] to others in least squares (Umeyama 1991)."""
    middle, aim = source.mean(axis=0), target.mean(axis=0)
    a, b = (points @ np.array([1, 1j]) for points in (source - middle, target - aim))  # the plane as complex numbers
    turn = np.vdot(a, b) / np.vdot(a, a).real
    rotation = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
    return np.concatenate([rotation, (aim - rotation @ middle)[:, None]], axis=1)


def _applied(transforms: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points [T, N, 2] moved by transforms [T, 2, 3]."""
    return points @ transforms[:, :, :2].transpose(0, 2, 1) + transforms[:, None, :, 2]


def _lower_half(face: np.ndarray) -> np.ndarray:
    """Map [2, 3] from the median face's px to those of the lower half of its box, stretched to the crop as in Wav2Lip.

    Args:
        face: [O, 2] ring around the median face.
    """
    (left, top), (right, bottom) = face.min(axis=0), face.max(axis=0)
    middle = (top + bottom) / 2
    scale = np.array([LIP_WIDTH / (right - left), LIP_HEIGHT / ((bottom - middle) * (1 + CHIN_MARGIN))])
    return np.concatenate([np.diag(scale), (-scale * [left, middle])[:, None]], axis=1)
