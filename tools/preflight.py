"""What is wrong with a clip, in plain words, before any long work."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from tools.errors import NoAudioError, UnusableClipError
from tools.landmarks import LandmarkDetector
from tools.occlusion import landmark_colours
from tools.people import SAME_LOOK, Face, gather_people, look_difference, look_of, person_height
from tools.video import VideoInfo, read_frames

MINIMUM_SECONDS = 3.0
MINIMUM_FACE_PX = 48
SMALL_FACE_PX = 120
"""Faces (height, source px) under the first are refused, under the second warned about."""
SAMPLES = 8
OTHER_SHARE = 0.6
"""A face is somebody else's whom it resembles more: the difference from the other is less than this share."""


@dataclass(frozen=True)
class FaceChoice:
    """Which face of a clip is meant."""

    centre: np.ndarray  # [2] source px, in the first sample it was seen in
    height: float  # source px, median
    faces: int  # most faces seen in one frame
    look: np.ndarray | None = None  # [C, 3] median colours of its landmarks
    others: tuple[np.ndarray, ...] = ()  # [C, 3] of every other steady face

    def which(self, faces: Sequence[Face], near: np.ndarray) -> Face | None:
        """Which of a frame's faces is meant; None if none is.

        The face stays near where it was; one that left may come back anywhere, and people may cross: then the look
        decides, where there are several people.

        Args:
            near: [2] source px, where it was last.
        """
        if len(faces) == self.faces == 1:
            return faces[0]
        costs = [(self._cost(face, near), number) for number, face in enumerate(faces)]
        cost, number = min(costs, default=(np.inf, 0))
        return faces[number] if np.isfinite(cost) else None

    def _cost(self, face: Face, near: np.ndarray) -> float:
        away = float(np.linalg.norm(face.centre - near)) / self.height
        if self.look is None or not self.others:
            return away if away < 1 else np.inf
        unlike = look_difference(face.look, self.look)
        rival = min(look_difference(face.look, other) for other in self.others)
        is_another = rival < OTHER_SHARE * unlike
        is_back = unlike < min(rival, SAME_LOOK)
        return min(away, 1) + unlike / SAME_LOOK if not is_another and (away < 1 or is_back) else np.inf


def check_clip(info: VideoInfo) -> None:
    """What a glance at the file tells.

    Raises:
        NoAudioError: there is no sound to learn the lips from.
        UnusableClipError: too short to learn a face from.
    """
    if not info.has_audio:
        raise NoAudioError(f"{info.path} has no sound: the avatar learns its lips from the person's own speech")
    check_length(info)


def check_length(info: VideoInfo) -> None:
    """
    Raises:
        UnusableClipError: too short to learn a face from.
    """
    if info.duration_s < MINIMUM_SECONDS:
        raise UnusableClipError(
            f"{info.path} is {info.duration_s:.1f} s long ({info.frame_count} frames): "
            f"give a clip of at least {MINIMUM_SECONDS:.0f} s, 20 s or more for good lips"
        )


def choose_face(info: VideoInfo, detector: LandmarkDetector, face: int) -> FaceChoice:
    """The `face`-th largest steady face (1: the largest), from a few frames spread over the clip.

    A face is steady when it is near one place in half of them; when none is, all count.

    Args:
        detector: a still-image detector for several faces.

    Raises:
        UnusableClipError: no face, fewer faces than asked for, or a face too small.
    """
    places = np.linspace(0, info.frame_count - 1, min(SAMPLES, info.frame_count)).astype(int)
    with ThreadPoolExecutor(2) as pool:  # each place is a decoder of its own, which mostly has to be waited for
        frames = pool.map(lambda place: next(read_frames(info, int(place), 1)), places)
        sightings = [faces_in(frame, detector, number) for number, frame in enumerate(frames)]
    people = gather_people(sightings)
    if not people:
        raise UnusableClipError(f"no face found in {info.path}: give a clip in which one person faces the camera")
    if len(people) < face:
        count = len(people)
        raise UnusableClipError(f"{info.path} shows {count} face(s), --face {face} asked for: give 1 to {count}")
    chosen = people[face - 1]
    height = person_height(chosen)
    if height < MINIMUM_FACE_PX:
        raise UnusableClipError(
            f"the face in {info.path} is {height:.0f} px high: give a closer view, at least {MINIMUM_FACE_PX} px"
        )
    others = tuple(look_of(person) for person in people if person is not chosen)
    return FaceChoice(chosen[0].centre, height, max(map(len, sightings)), look_of(chosen), others)


def faces_in(frame: np.ndarray, detector: LandmarkDetector, number: int = 0) -> list[Face]:
    """The faces of a uint8 RGB frame [H, W, 3], the `number`-th of several, with their looks."""
    found = detector.detect(frame)
    return [Face(number, points, landmark_colours(frame, points, detector.topology)) for points in found]


def findings(info: VideoInfo, choice: FaceChoice, landmarks: np.ndarray) -> tuple[str, ...]:
    """Plain sentences about what may harm the result.

    Args:
        landmarks: [F, K, 3] source px, NaN where the face is missing.
    """
    found = np.isfinite(landmarks[:, 0, 0])
    lines = []
    if choice.faces > 1:
        lines.append(f"{choice.faces} faces in the picture: the avatar is made from one of them (see --face)")
    if choice.height < SMALL_FACE_PX:
        lines.append(f"the face is only {choice.height:.0f} px high: expect a soft result, a closer view is better")
    if not found.all():
        lines.append(f"no face in {int((~found).sum())} of {len(found)} frames: they are skipped")
    if info.duration_s < 8:
        lines.append(f"the clip is {info.duration_s:.1f} s long: 20 s or more give better lips")
    if info.is_variable_rate:
        lines.append(f"the frame rate varies: the clip is treated as {float(info.fps):.2f} frames/s")
    return tuple(lines)

