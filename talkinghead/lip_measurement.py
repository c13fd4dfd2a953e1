"""What a video shows of the lips beside its sound, as `encoders` learns lip priors and articulatory targets from it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from encoders.av_offset import estimate_offset
from encoders.features import SpeechFeatureTrack, speech_features
from encoders.lip_prior import LipPrior
from encoders.measured_lips import MeasuredLips
from encoders.speech import SpeechEncoder
from tools.audio import read_audio
from tools.errors import NoAudioError, UnusableClipError
from tools.face_topology import FaceTopology
from tools.landmarks import landmark_detector
from tools.metrics import mouth_opening
from tools.video import probe, read_frames


def measure_lips(video: Path, encoder: SpeechEncoder, share: float = 1.0) -> MeasuredLips:
    """Sound and lips of the largest face in a video.

    Args:
        share: of the video, from its start, in (0, 1]. Priors that ship leave out what `evaluate` holds out.

    Raises:
        UserError: the video cannot be read, has no sound or no face.
        SpeechInputError: a face is seen too briefly.
    """
    info = probe(video)
    if not info.has_audio:
        raise NoAudioError(f"{video} has no sound: lips are compared with it")
    count = round(share * info.frame_count)
    with landmark_detector("mediapipe", max_faces=1) as detector:
        topology = detector.topology
        landmarks = np.full((count, topology.count, 3), np.nan, np.float32)
        for index, frame in enumerate(read_frames(info, 0, count)):
            for face in detector.detect(frame)[:1]:
                landmarks[index] = face
    found = np.flatnonzero(np.isfinite(landmarks[:, 0, 0]))
    if not len(found):
        raise UnusableClipError(f"no face is seen in {video}; give a video of somebody talking")
    speech = speech_features(read_audio(video).samples, encoder, info.fps, info.frame_count)
    fitted = SpeechFeatureTrack(speech.features[:count], info.fps)
    return lips_of_landmarks(fitted, landmarks, landmarks[found[0]], topology)


def lips_of_landmarks(
    speech: SpeechFeatureTrack, landmarks: np.ndarray, shape: np.ndarray, topology: FaceTopology
) -> MeasuredLips:
    """Sound and lips of a face whose landmarks are known.

    Args:
        speech: T frames.
        landmarks: [T, K, 3] px; NaN where no face was found.
        shape: [K, 3] landmarks of the same head, any unit and axes.
    """
    left, right = topology.inner_lips[0], topology.inner_lips[len(topology.inner_lips) // 2]
    width = _distance(landmarks, left, right)
    eyes = _distance(landmarks, topology.left_outer_eye_corner, topology.right_outer_eye_corner)
    return MeasuredLips(speech, mouth_opening(landmarks, shape, topology), width / eyes)


def in_step(people: Iterable[MeasuredLips], prior: LipPrior | None = None) -> list[MeasuredLips]:
    """The same with pictures that are reliably out of step with the sound by more than a frame moved to it."""
    moved = []
    for lips in people:
        offset = estimate_offset(lips.speech, lips.opening, lips.width, prior)
        moved.append(lips.in_step(offset.correction) if offset.correction else lips)
    return moved


def _distance(landmarks: np.ndarray, a: int, b: int) -> np.ndarray:
    """[T] px, in the picture."""
    return np.linalg.norm(landmarks[:, a, :2] - landmarks[:, b, :2], axis=1)
