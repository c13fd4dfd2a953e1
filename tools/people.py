"""Who is who: faces of several pictures, gathered by person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Face:
    """A face seen in one of several pictures."""

    picture: int
    landmarks: np.ndarray  # [K, 3] px of the picture
    look: np.ndarray | None = None  # [C, 3] colours of its landmarks

    @property
    def centre(self) -> np.ndarray:
        """[2] px."""
        return face_centre(self.landmarks)

    @property
    def height(self) -> float:
        """px."""
        return face_height(self.landmarks)


SAME_LOOK = 15.0
"""A face looks as it did when the colours of its landmarks differ by less than this (see `look_difference`)."""
Person = list[Face]
"""The same face in some of the pictures, in order."""


def face_centre(landmarks: np.ndarray) -> np.ndarray:
    """[2] px, of landmarks [K, 3]."""
    return landmarks[:, :2].mean(0)


def face_height(landmarks: np.ndarray) -> float:
    """px, of landmarks [K, 3]."""
    return float(np.ptp(landmarks[:, 1]))


def person_height(person: Person) -> float:
    """Median height of a person's face, px."""
    return float(np.median([face.height for face in person]))


def look_of(person: Person) -> np.ndarray:
    """Median colours [C, 3] of a person's landmarks."""
    return np.median([face.look for face in person], axis=0)


def look_difference(first: np.ndarray, second: np.ndarray) -> float:
    """How differently two faces look, grey levels: the median over landmarks, some of which may be covered.

    Over a clip, 1 to 7 from its median (a twentieth of the frames: up to 13); 12 to 70 between seven people.
    """
    return float(np.median(np.abs(first - second).mean(axis=1)))


def gather_people(sightings: Sequence[Sequence[Face]]) -> list[Person]:
    """The steady people in pictures, whose faces are seen near one place in half of them, or all if nobody is steady.

    Args:
        sightings: the faces of each picture. A face belongs to whom it looks like; where looks are not known, to whom
            it is within a face height of. The nearest counts.

    Returns:
        Those with the largest face first.
    """
    people: list[Person] = []
    for faces in sightings:
        absent = list(people)
        for face in faces:
            costs = [_cost(face, person) for person in absent]
            if costs and min(costs) < np.inf:
                absent.pop(int(np.argmin(costs))).append(face)
            else:
                people.append([face])
    steady = [person for person in people if len(person) >= len(sightings) / 2] or people
    return sorted(steady, key=person_height, reverse=True)


def _cost(face: Face, person: Person) -> float:
    """How far a face is from where a person was last, face heights; infinite when it cannot be the same."""
    away = float(np.linalg.norm(face.centre - person[-1].centre)) / face.height
    if face.look is None:
        return away if away < 1 else np.inf
    return away if look_difference(face.look, look_of(person)) < SAME_LOOK else np.inf
