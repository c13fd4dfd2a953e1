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

    @property
    def centre(self) -> np.ndarray:
        """[2] px."""
        return face_centre(self.landmarks)

    @property
    def height(self) -> float:
        """px."""
        return face_height(self.landmarks)


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


def gather_people(sightings: Sequence[Sequence[np.ndarray]]) -> list[Person]:
    """The steady people in pictures, whose faces are seen near one place in half of them, or all if nobody is steady.

    Args:
        sightings: landmarks [K, 3] of the faces of each picture. A face belongs to whom it is within a face height of.

    Returns:
        Those with the largest face first.
    """
    people: list[Person] = []
    for number, faces in enumerate(sightings):
        absent = list(people)
        for face in (Face(number, landmarks) for landmarks in faces):
            distances = [np.linalg.norm(face.centre - person[-1].centre) for person in absent]
            if distances and min(distances) < face.height:
                absent.pop(int(np.argmin(distances))).append(face)
            else:
                people.append([face])
    steady = [person for person in people if len(person) >= len(sightings) / 2] or people
    return sorted(steady, key=person_height, reverse=True)
