"""How the sample person moves: head pose, jaw, lips and eyelids of every frame, in closed form.

Canonical space is the head's own frame with OpenCV's axes (x right, y down, z away from the viewer). Its unit is one
portrait pixel at the head's distance, and at the reference pose the camera sees the portrait itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from talkinghead.demo_clip.portrait import CHIN_LANDMARK, FACE_SIDE_LANDMARKS, SIZE, UPPER_INNER_LIP, Portrait
from talkinghead.demo_clip.speech import MouthTrajectory

FOCAL = 1100.0
"""Focal length, px: a portrait lens. The reference distance of the head is the same number of units."""
PRINCIPAL_POINT = np.array([SIZE / 2, SIZE / 2])
REFERENCE_TRANSLATION = np.array([0.0, 0.0, FOCAL])

MOUTH_CORNERS = (78, 308)
NOSE_BASE_LANDMARK = 2
UPPER_LIDS = ((246, 161, 160, 159, 158, 157, 173), (466, 388, 387, 386, 385, 384, 398))
LOWER_LIDS = ((7, 163, 144, 145, 153, 154, 155), (249, 390, 373, 374, 380, 381, 382))

WIDEST_JAW_RADIANS = 0.17
"""Jaw angle at an opening of 1."""
LIP_LIFT = 4.0
"""How far the upper lip rises at an opening of 1, units."""
BLINK_S = 0.32


@dataclass(frozen=True)
class FrameState:
    """What the person does in one frame."""

    head_to_camera: np.ndarray
    """float64 [4, 4], OpenCV axes."""
    torso_to_camera: np.ndarray
    """float64 [4, 4]."""
    opening: float
    """0 closed, 1 the widest vowel."""
    width: float
    """-1 rounded, 1 spread."""
    blink: float
    """0 open, 1 closed."""


def animate(mouth: MouthTrajectory, times: np.ndarray, seed: int, pivot: np.ndarray) -> tuple[FrameState, ...]:
    """The states at `times` [T], seconds: the given mouth, and head motion and blinks drawn from `seed`.

    The head turns about `pivot` [3] (canonical), where the neck begins.
    """
    random = np.random.default_rng(seed)
    yaw, pitch, roll = (_wander(random, times) for _ in range(3))
    angles = np.radians(np.stack([4.5 * yaw, 2.4 * pitch + 0.8 * mouth.opening, 1.9 * roll], axis=1))
    shift = np.stack([_wander(random, times) for _ in range(3)], axis=1) * [2.0, 1.2, 12.0]
    sway = np.stack([_wander(random, times) for _ in range(2)], axis=1) * [0.5, 0.4]
    blink = _blinks(random, times)
    states = []
    for i, rotation in enumerate(Rotation.from_euler("yxz", angles).as_matrix()):
        head, torso = np.eye(4), np.eye(4)
        head[:3, :3] = rotation
        head[:3, 3] = pivot - rotation @ pivot + shift[i] + REFERENCE_TRANSLATION
        torso[:3, 3] = REFERENCE_TRANSLATION + np.append(sway[i], 0)
        states.append(FrameState(head, torso, float(mouth.opening[i]), float(mouth.width[i]), float(blink[i])))
    return tuple(states)


def _wander(random: np.random.Generator, times: np.ndarray) -> np.ndarray:
    """Smooth random motion [T] of about unit amplitude."""
    frequencies = random.uniform([0.09, 0.2, 0.4], [0.15, 0.32, 0.6])
    phases = random.uniform(0, 2 * np.pi, 3)
    return np.sin(2 * np.pi * times[:, None] * frequencies + phases) @ [0.65, 0.35, 0.12]


def _blinks(random: np.random.Generator, times: np.ndarray) -> np.ndarray:
    """Lid closure [T] in [0, 1]: a blink every two to four seconds."""
    closure, blink_at = np.zeros(len(times)), random.uniform(0.8, 2.0)
    while blink_at < times[-1]:
        closure += np.clip(1.4 * np.cos(np.pi * np.clip((times - blink_at) / BLINK_S, -0.5, 0.5)), 0, 1)
        blink_at += random.uniform(2.0, 4.0)
    return closure


def project(points: np.ndarray) -> np.ndarray:
    """Pixels [N, 2] of points [N, 3] in camera space."""
    return FOCAL * points[:, :2] / points[:, 2:] + PRINCIPAL_POINT


def unproject(points: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Canonical positions [N, 3] of portrait points [N, 2] px with relative depth [N] px."""
    distance = depth + REFERENCE_TRANSLATION[2]
    return np.column_stack([(points - PRINCIPAL_POINT) * distance[:, None] / FOCAL, depth])


def lower_lids(points: np.ndarray, blink: float) -> np.ndarray:
    """Landmarks [478, 2] of the portrait with the upper lids brought down to the lower ones by the share `blink`."""
    moved = points.copy()
    for upper, lower in zip(UPPER_LIDS, LOWER_LIDS, strict=True):
        moved[list(upper)] += blink * (points[list(lower)] - points[list(upper)])
    return moved


class FaceRig:
    """Moves points of the portrait. A point is its place in the portrait, px, and the side of the lips it is on."""

    def __init__(self, portrait: Portrait) -> None:
        marks = portrait.landmarks
        line = marks[list(UPPER_INNER_LIP)]
        self._line_x, self._line_y = line[:, 0], line[:, 1]
        self.mouth_centre = line[[0, -1], :2].mean(axis=0)
        self.mouth_half_width = (line[-1, 0] - line[0, 0]) / 2
        self._nose_y, self._chin_y = marks[NOSE_BASE_LANDMARK, 1], marks[CHIN_LANDMARK, 1]
        sides = marks[list(FACE_SIDE_LANDMARKS)]
        self._face_half_width = (sides[1, 0] - sides[0, 0]) / 2
        self._hinge = unproject(sides[:, :2], sides[:, 2]).mean(axis=0)
        self.pivot = unproject(np.array([[self.mouth_centre[0], self._chin_y + 15]]), sides[:1, 2])[0]

    def lip_line(self, x: np.ndarray) -> np.ndarray:
        """Height of the closed lips' line at abscissae x [N], px; held beyond the corners of the mouth."""
        return np.interp(x, self._line_x, self._line_y)

    def is_below_lips(self, points: np.ndarray) -> np.ndarray:
        """Which of the portrait's points [N, 2] lie under the line of the lips."""
        return points[:, 1] > self.lip_line(points[:, 0])

    def head_weight(self, points: np.ndarray) -> np.ndarray:
        """Share of the head's motion [N] at portrait points [N, 2]: 1 on the head, 0 on the torso."""
        aside = np.abs(points[:, 0] - self.mouth_centre[0]) / self._face_half_width
        top = self._chin_y + 12 - 45 * _ramp(aside, 0.45, 1.0)
        return 1 - _ramp(points[:, 1], top, top + 70)

    def move_with_jaw(self, canonical: np.ndarray, opening: float) -> np.ndarray:
        """Canonical points [N, 3] after a rigid turn of the jaw about its hinge."""
        turn = Rotation.from_euler("x", WIDEST_JAW_RADIANS * opening)
        return turn.apply(canonical - self._hinge) + self._hinge

    def deform(self, points: np.ndarray, below: np.ndarray, canonical: np.ndarray, state: FrameState) -> np.ndarray:
        """Canonical positions [N, 3] of the portrait's points [N, 2] with the mouth of `state`.

        `below` [N] tells which points hang on the lower lip, `canonical` [N, 3] is where they are at rest.
        """
        offset = points - self.mouth_centre
        jaw, parting = self._jaw_weight(points, below, state.width)
        moved = canonical + jaw[:, None] * (self.move_with_jaw(canonical, state.opening) - canonical)
        above_lips = np.clip((points[:, 1] - self._nose_y) / (self.mouth_centre[1] - self._nose_y), 0, 1)
        moved[:, 1] -= np.where(below, 0, LIP_LIFT * state.opening * parting * above_lips**2)
        around = np.exp(-((offset / self.mouth_half_width / [1.5, 0.9]) ** 2).sum(axis=1))
        stretch = 0.11 * state.width if state.width > 0 else 0.24 * state.width
        moved[:, 0] += stretch * around * offset[:, 0]
        moved[:, 2] += 6.0 * min(state.width, 0.0) * around
        return moved

    def place(self, points: np.ndarray, below: np.ndarray, canonical: np.ndarray, state: FrameState) -> np.ndarray:
        """Camera-space positions [N, 3] of the same points: deformed, then carried by head and torso."""
        deformed = self.deform(points, below, canonical, state)
        head, torso = (
            deformed @ pose[:3, :3].T + pose[:3, 3] for pose in (state.head_to_camera, state.torso_to_camera)
        )
        return torso + self.head_weight(points)[:, None] * (head - torso)

    def _jaw_weight(self, points: np.ndarray, below: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray]:
        """Share of the jaw's turn, and how far the lips part at this abscissa; each [N] in [0, 1].

        Along the line of the lips the share is 1 below and 0 above in the middle, and one value at the corners, so
        that the skin opens along the lips and nowhere else. Away from the line the profile gets wider and smoother.
        """
        x, y = points.T
        aside = np.abs(x - self.mouth_centre[0])
        chin = _ramp(y, self._nose_y, self._chin_y) * (1 - _ramp(y, self._chin_y + 6, self._chin_y + 60))
        skin = chin * (1 - _ramp(aside, 1.1 * self.mouth_half_width, self._face_half_width))
        sealed = 1 - 0.35 * max(-width, 0.0)
        distance = np.abs(y - self.lip_line(x))
        reach = self.mouth_half_width * (sealed + (1.25 - sealed) * _ramp(distance, 4, 30))
        parting = np.clip(1 - (aside / reach) ** 2, 0, 1) ** (0.8 + 1.2 * _ramp(distance, 2, 20))
        at_line = _ramp(np.full(len(x), self.mouth_centre[1]), self._nose_y, self._chin_y)
        lower = skin + np.where(y < self._chin_y, (1 - np.maximum(chin, at_line)) * parting, 0)
        return np.where(below, lower, skin * (1 - parting)), parting


def _ramp(value: np.ndarray, start: float | np.ndarray, end: float | np.ndarray) -> np.ndarray:
    """Smooth step from 0 at `start` to 1 at `end`."""
    t = np.clip((value - start) / (end - start), 0, 1)
    return t * t * (3 - 2 * t)
