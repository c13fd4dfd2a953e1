"""What a video shows of the lips beside its sound, as `encoders` learns lip priors and articulatory targets from it."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from encoders.av_offset import estimate_offset
from encoders.bundle import EncoderBundle
from encoders.features import SpeechFeatureTrack, speech_features
from encoders.lip_figures import agreement
from encoders.lip_prior import LipPrior, fit_lip_prior
from encoders.measured_lips import MeasuredLips
from encoders.speech import SpeechEncoder
from talkinghead.manifest import FileRecord
from talkinghead.progress import Progress
from tools.audio import read_audio
from tools.errors import NoAudioError, UnusableClipError
from tools.face_topology import FaceTopology
from tools.landmarks import landmark_detector
from tools.metrics import mouth_opening
from tools.video import probe, read_frames

FITTED_SHARE = 0.8
"""Share of every clip that a prior is learned on; `evaluate` holds out the rest by default."""


@dataclass(frozen=True)
class LearnedPrior:
    """A lip prior and what is said of it in its file."""

    prior: LipPrior
    provenance: Mapping[str, str]


def learn_lip_prior(videos: Sequence[Path], bundle: EncoderBundle) -> Generator[Progress, None, LearnedPrior]:
    """Learns a lip prior for an encoder from videos of people talking, one person each.

    Yields:
        Progress.

    Returns:
        The prior of all of them, with its agreement on people left out (the generator's value).

    Raises:
        UserError: a video cannot be read, has no sound or no face.
        SpeechInputError: a face is seen too briefly.
        LipMotionFitError: there is no video.
    """
    encoder = bundle.load()
    measured = []
    for index, video in enumerate(videos):
        yield Progress("lips and sound", index, len(videos), video.name)
        measured.append(measure_lips(video, encoder, FITTED_SHARE))
    people = in_step(measured)
    yield Progress("lips and sound", len(videos), len(videos))
    return LearnedPrior(fit_lip_prior(people), _provenance(people, bundle))


def _provenance(people: Sequence[MeasuredLips], bundle: EncoderBundle) -> dict[str, str]:
    seconds = sum(len(lips.opening) / lips.fps for lips in people)
    facts = {
        "recipe": "ridge regression of lip opening and width on phone, viseme and articulation columns (lip_prior.py)",
        "clips": f"{len(people)} clips, {seconds:.0f} s in all; neither their pictures nor their sound are stored",
        "encoder": bundle.name,
        "encoder_sha256": FileRecord.of(bundle.weights).sha256,
        "licence": bundle.licence,
    }
    if len(people) > 1:
        left_out = [
            agreement(fit_lip_prior([*people[:index], *people[index + 1 :]]).predict(lips.speech), lips)
            for index, lips in enumerate(people)
        ]
        opening, width = (np.mean([getattr(found, name) for found in left_out]) for name in ("opening", "width"))
        facts["figures"] = f"r of opening {opening:.3f}, of width {width:.3f}, means over people left out"
    return facts


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
        moved.append(lips.in_step(offset.frames) if offset.is_reliable and abs(offset.frames) > 1 else lips)
    return moved


def _distance(landmarks: np.ndarray, a: int, b: int) -> np.ndarray:
    """[T] px, in the picture."""
    return np.linalg.norm(landmarks[:, a, :2] - landmarks[:, b, :2], axis=1)
