"""Which face is followed: one that leaves and comes back, people who cross, sides that change at a cut."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from demo_clip_track import finish
from footage import demo_pictures, pictures, written

from tools import preflight
from tools.landmarks import landmark_detector
from tools.tracking import _find_landmarks
from tools.video import VideoInfo, probe

FRAMES = 60
GREY = 110


@pytest.fixture(scope="module")
def people(shared: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """A recorded person, whose face is larger, and the demo person."""
    anchor = probe(shared / "clips" / "anchor_512_25fps_20s.mp4")
    return pictures(anchor, 0, FRAMES), demo_pictures(0, FRAMES)


def followed(info: VideoInfo, face: int, joints: tuple[int, ...] = ()) -> np.ndarray:
    """Centres [F, 2] of the face that tracking follows, NaN where it sees none."""
    with landmark_detector("mediapipe", still=True) as detector:
        choice = preflight.choose_face(info, detector, face)
    with landmark_detector("mediapipe", max_faces=choice.faces) as detector:
        return finish(_find_landmarks(info, detector, choice, joints))[0][..., :2].mean(1)


def shown_at(scene: np.ndarray, picture: np.ndarray, left: int) -> None:
    """Pastes the part of a picture that lies inside the scene."""
    first, last = max(0, left), min(scene.shape[1], left + picture.shape[1])
    if first < last:
        scene[:, first:last] = picture[:, first - left : last - left]


def scenes(places: list[tuple[int, int]], people: tuple[list[np.ndarray], list[np.ndarray]]) -> Iterator[np.ndarray]:
    """Both people, the middle of their pictures cut out, at (left, left) in a scene; the first in front."""
    for one, other, (left, other_left) in zip(*people, places, strict=True):
        scene = np.full((256, 640, 3), GREY, np.uint8)
        shown_at(scene, other[:, 40:216], other_left)
        shown_at(scene, one[:, 40:216], left)
        yield scene


def moving(*stops: tuple[int, float]) -> list[int]:
    """Positions of all frames, from (frame, position) to the next at an even pace."""
    frames, positions = zip(*stops, strict=True)
    return np.interp(np.arange(FRAMES), frames, positions).round().astype(int).tolist()


Case = tuple[list[int], list[int]]
STILL_LEFT, STILL_RIGHT = [20] * FRAMES, [420] * FRAMES
CROSSING = (moving((10, 20), (50, 420)), moving((10, 420), (50, 20)))
LEAVING = (moving((10, 420), (20, 660), (38, 660), (48, 380)), STILL_LEFT)


@pytest.mark.parametrize("face", [1, 2])
@pytest.mark.parametrize("case", [(STILL_LEFT, STILL_RIGHT), CROSSING, LEAVING], ids=["still", "crossing", "leaving"])
def test_the_chosen_face_is_followed(
    case: Case, face: int, people: tuple[list[np.ndarray], list[np.ndarray]], tmp_path: Path
) -> None:
    info = written(tmp_path / "clip.mp4", scenes(list(zip(*case, strict=True)), people))
    truth = np.array(case[face - 1]) + 88
    centres = followed(info, face)
    seen = np.isfinite(centres[:, 0])
    assert np.abs(centres[seen, 0] - truth[seen]).max() < 45
    apart = np.abs(np.subtract(*case))
    is_whole = (np.array(case[face - 1]) <= 464) & (apart > 200)
    assert seen[is_whole].mean() > 0.9
    assert not seen[np.array(case[face - 1]) > 600].any()


@pytest.mark.parametrize("face", [1, 2])
def test_sides_that_change_at_a_cut_do_not_change_the_person(
    face: int, people: tuple[list[np.ndarray], list[np.ndarray]], tmp_path: Path
) -> None:
    half = FRAMES // 2
    first, second = people
    left, right = [*first[:half], *second[half:]], [*second[:half], *first[half:]]
    info = written(tmp_path / "clip.mp4", map(np.hstack, zip(left, right, strict=True)))
    centres = followed(info, face, (half,))[:, 0]
    assert np.isfinite(centres).all()
    before, after = (centres[:half], centres[half:]) if face == 1 else (centres[half:], centres[:half])
    assert before.max() < 256 < after.min()


def test_people_who_stay_keep_their_place(people: tuple[list[np.ndarray], list[np.ndarray]], tmp_path: Path) -> None:
    """Steps of a still face are small: it is never taken for the other in between."""
    info = written(tmp_path / "clip.mp4", map(np.hstack, zip(*people, strict=True)))
    for face in (1, 2):
        centres = followed(info, face)
        assert max(np.linalg.norm(b - a) for a, b in pairwise(centres)) < 10
