"""Takes: the shots of a film in which one camera set-up shows one face.

Films cut to and fro between cameras. What one camera sees of a person in all of its shots looks alike and is learned
together; what another sees does not. Two shots are of one set-up when in some picture of one the face has the place and
size that it has in some picture of the other, before the same background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, product

import cv2
import numpy as np

from tools.landmarks import LandmarkDetector
from tools.people import Face, Person, gather_people
from tools.preflight import MINIMUM_FACE_PX, MINIMUM_SECONDS
from tools.shots import Shot
from tools.video import VideoInfo, read_frames

FEWEST_SAMPLES, MOST_SAMPLES = 3, 8
"""Pictures of a shot that are looked at: about one a second."""
SAME_PLACE = 0.75
"""A face is where another was when their centres are nearer than this, face heights..."""
SAME_SIZE = 1.3
"""...and of the same size when neither is more than so many times the other."""
NAMED_SHOTS = 5
"""More are counted only."""
THUMBNAIL = (64, 64)
SAME_BACKGROUND = 12.0
"""The background is the same if no colour channel of half of its pixels differs by more grey levels than this: 4 within
six clips of people talking, 60 and more between them."""
LEAST_BACKGROUND = 0.1
"""A close-up that shows less of it, as a share of the picture, is compared as a whole."""
HEAD_BESIDE, HEAD_ABOVE, CHIN, TORSO_BESIDE = 0.7, 0.9, 0.5, 1.5
"""No background, face heights from the middle of the face: what is within the first beside it, down from the second
above it to the chin; below the chin, what is within the last beside it."""


@dataclass(frozen=True)
class Take:
    """The shots of one set-up, in order, and where the face is in them."""

    shots: tuple[Shot, ...]
    centre: tuple[float, float]  # of the face, source px, median
    height: float  # of the face, source px, median
    seen_frames: int  # in which the face is seen, estimated from a picture a second

    def __len__(self) -> int:
        return sum(map(len, self.shots))

    @property
    def joints(self) -> tuple[int, ...]:
        """Where its second shot begins, its third, ..., counted in frames of the take."""
        return tuple(accumulate(map(len, self.shots[:-1])))

    def where(self, fps: Fraction) -> str:
        """Its shots' times, in words."""
        shots = [f"{float(shot.start / fps):.1f} to {float(shot.stop / fps):.1f} s" for shot in self.shots]
        more = f" and {len(shots) - NAMED_SHOTS} more" if len(shots) > NAMED_SHOTS else ""
        return ", ".join(shots[:NAMED_SHOTS]) + more

    def is_usable(self, fps: Fraction) -> bool:
        """Whether an avatar can be made from it."""
        return self.seen_frames >= MINIMUM_SECONDS * fps and self.height >= MINIMUM_FACE_PX


@dataclass(frozen=True)
class _Sighting:
    """A face before its background."""

    centre: np.ndarray  # [2] source px
    height: float  # source px
    thumbnail: np.ndarray  # [h, w, 3] uint8, the whole picture
    background: np.ndarray  # [h, w] bool


@dataclass
class _Setup:
    """The shots of one take while they are gathered."""

    shots: list[Shot]
    sightings: list[_Sighting]
    seen_frames: float

    def shows(self, person: Sequence[_Sighting]) -> bool:
        return any(_is_same_setup(seen, known) for seen, known in product(person, self.sightings))

    def take(self) -> Take:
        x, y = np.median([seen.centre for seen in self.sightings], axis=0)
        height = float(np.median([seen.height for seen in self.sightings]))
        return Take(tuple(self.shots), (float(x), float(y)), height, round(self.seen_frames))


def group_takes(info: VideoInfo, shots: Sequence[Shot], detector: LandmarkDetector, face: int = 1) -> tuple[Take, ...]:
    """Shots by camera set-up, the take in which the face is seen longest first; shots without a face are in none.

    Args:
        detector: a still-image detector for several faces.
        face: which face is meant in each set-up, 1 the largest.
    """
    setups: list[_Setup] = []
    for shot in shots:
        people, looks = _people_in(info, shot, detector)
        known = ((setup, person) for setup in setups for person in people if setup.shows(person))
        setup, person = next(known, (None, people[face - 1] if len(people) >= face else ()))
        if not person:
            continue
        if setup is None:
            setups.append(setup := _Setup([], [], 0))
        setup.shots.append(shot)
        setup.sightings.extend(person)
        setup.seen_frames += len(shot) * len(person) / looks
    return tuple(sorted((setup.take() for setup in setups), key=lambda take: -take.seen_frames))


def left_out(takes: Sequence[Take], fps: Fraction) -> tuple[str, ...]:
    """A sentence about each take from which no avatar can be made."""
    lines = []
    for take in takes:
        if take.is_usable(fps):
            continue
        if take.height < MINIMUM_FACE_PX:
            reason = f"the face is {take.height:.0f} px high, at least {MINIMUM_FACE_PX} px are needed"
        else:
            seen_s = float(take.seen_frames / fps)
            reason = f"the face is seen for {seen_s:.1f} s, at least {MINIMUM_SECONDS:.0f} s are needed"
        lines.append(f"{take.where(fps)}: {reason}: left as it was")
    return tuple(lines)


def _people_in(info: VideoInfo, shot: Shot, detector: LandmarkDetector) -> tuple[list[list[_Sighting]], int]:
    """The sightings of each steady person, the largest face first, and how many pictures were looked at."""
    looks = min(len(shot), int(np.clip(len(shot) / info.fps, FEWEST_SAMPLES, MOST_SAMPLES)))
    margin = min(len(shot) - 1, round(info.fps / 10)) // 2  # a cut may leave traces in the pictures beside it
    places = np.linspace(shot.start + margin, shot.stop - 1 - margin, looks).astype(int)
    sightings, thumbnails = [], []
    for number, place in enumerate(places):
        frame = next(read_frames(info, int(place), 1))
        sightings.append([Face(number, landmarks) for landmarks in detector.detect(frame)])
        thumbnails.append(cv2.resize(frame, THUMBNAIL, interpolation=cv2.INTER_AREA))
    return [_sightings(person, thumbnails, info) for person in gather_people(sightings)], looks


def _sightings(person: Person, thumbnails: Sequence[np.ndarray], info: VideoInfo) -> list[_Sighting]:
    columns, rows = (np.arange(side) + 0.5 for side in THUMBNAIL)
    columns, rows = columns * info.width / THUMBNAIL[0], rows[:, None] * info.height / THUMBNAIL[1]
    seen = []
    for face in person:
        across, down = np.abs(columns - face.centre[0]) / face.height, (rows - face.centre[1]) / face.height
        background = (across > np.where(down < CHIN, HEAD_BESIDE, TORSO_BESIDE)) | (down < -HEAD_ABOVE)
        seen.append(_Sighting(face.centre, face.height, thumbnails[face.picture], background))
    return seen


def _is_same_setup(first: _Sighting, second: _Sighting) -> bool:
    if np.linalg.norm(first.centre - second.centre) > SAME_PLACE * min(first.height, second.height):
        return False
    if not 1 / SAME_SIZE < first.height / second.height < SAME_SIZE:
        return False
    background = first.background & second.background
    change = cv2.absdiff(first.thumbnail, second.thumbnail).max(axis=2)
    compared = change[background] if background.mean() > LEAST_BACKGROUND else change
    return float(np.median(compared)) <= SAME_BACKGROUND
