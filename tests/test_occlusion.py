"""Frames with something in front of the mouth, which was put there; and none where nothing was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from demo_clip_track import finish
from footage import demo_pictures, hand, microphone, pictures, written

from tools.face_topology import IBUG_68, MEDIAPIPE_478
from tools.landmarks import landmark_detector
from tools.occlusion import colour_count, covered_frames, findings, landmark_colours
from tools.tracking import TrackingConfig, track_clip
from tools.video import probe, read_frames

FRAMES = 80
ENTERS, LEAVES, MOVES = 30, 60, 5
"""The thing is out of the picture until the first and from the second frame on; it moves in and out in so many."""
COLOURS = colour_count(MEDIAPIPE_478)
Cover = Callable[[np.ndarray, tuple[float, float], float], np.ndarray]


def with_hand(picture: np.ndarray, place: tuple[float, float], face: float) -> np.ndarray:
    return hand(picture, (place[0], place[1] + 0.1 * face), 0.36 * face, np.array([196.0, 146.0, 120.0]))


def with_microphone(picture: np.ndarray, place: tuple[float, float], face: float) -> np.ndarray:
    return microphone(picture, place, 0.28 * face)


def with_hand_on_chest(picture: np.ndarray, place: tuple[float, float], face: float) -> np.ndarray:
    return with_hand(picture, (place[0], place[1] + 0.9 * face), face)


@cache
def footage(cover: Cover) -> tuple[np.ndarray, ...]:
    """The demo person, before whose mouth something moves in from below, stays and moves out."""
    shown = []
    for number, picture in enumerate(demo_pictures(0, FRAMES)):
        near = np.clip(min(number - ENTERS, LEAVES - 1 - number) / MOVES, 0, 1)
        shown.append(cover(picture, (130.0, 133.0 + 180.0 * (1 - near)), 107.0) if near else picture)
    return tuple(shown)


def colours(shown: Sequence[np.ndarray] | Iterator[np.ndarray]) -> np.ndarray:
    with landmark_detector("mediapipe", max_faces=1) as detector:
        faces = ((picture, detector.detect(picture)) for picture in shown)
        nothing = np.full((COLOURS, 3), np.nan, np.float32)
        read = [landmark_colours(picture, found[0], MEDIAPIPE_478) if found else nothing for picture, found in faces]
    return np.array(read)


@pytest.mark.parametrize("cover", [with_hand, with_microphone])
def test_a_hand_or_a_microphone_is_found_while_it_hides_the_mouth(cover: Cover) -> None:
    covered = np.flatnonzero(covered_frames(colours(footage(cover)), FRAMES))
    assert covered.tolist() == list(range(covered[0], covered[-1] + 1))
    assert ENTERS <= covered[0] <= ENTERS + MOVES and LEAVES - MOVES - 2 <= covered[-1] < LEAVES + 1


def test_a_hand_that_stays_below_the_chin_covers_nothing() -> None:
    assert not covered_frames(colours(footage(with_hand_on_chest)), FRAMES).any()


def test_other_light_covers_nothing() -> None:
    """A cloud: a fifth less light for a second."""
    shown = [np.uint8(p * (1 - 0.2 * (30 <= k < 55))) for k, p in enumerate(demo_pictures(0, FRAMES))]
    assert not covered_frames(colours(shown), FRAMES).any()


@pytest.mark.parametrize("name", ["portrait_512_25fps_8s", "square_700_30fps_6s", "square_590_25fps_5s"])
def test_nothing_is_found_where_people_only_talk(shared: Path, name: str) -> None:
    """The three clips with the largest expressions; the other three were measured once and give smaller figures."""
    info = probe(shared / "clips" / f"{name}.mp4")
    assert not covered_frames(colours(read_frames(info)), info.frame_count).any()


def test_a_hand_before_a_real_face_is_found(shared: Path) -> None:
    shown = pictures(probe(shared / "clips" / "anchor_512_25fps_20s.mp4"), 0, FRAMES)
    for number in range(ENTERS, LEAVES):
        shown[number] = with_hand(shown[number], (134.0, 160.0), 126.0)
    covered = np.flatnonzero(covered_frames(colours(shown), FRAMES))
    assert covered.tolist() == list(range(ENTERS - 2, LEAVES + 2))


# --- the rule ---


def made_up(frames: int = 100) -> np.ndarray:
    """Colours with noise."""
    usual = np.random.default_rng(0).uniform(60, 200, (1, 50, 3))
    return (usual + np.random.default_rng(1).normal(0, 3, (frames, 50, 3))).astype(np.float32)


def test_frames_beside_covered_ones_and_lost_faces_between_them_count() -> None:
    colours = made_up()
    colours[40:50, :20] += 80
    colours[[38, 39, 50], :7] += 80  # 14 %: touched
    colours[44:46] = np.nan
    colours[70:73, :40] += 80  # too short
    assert np.flatnonzero(covered_frames(colours, 100)).tolist() == list(range(36, 53))


def test_usual_is_what_is_usual_in_the_fitted_frames() -> None:
    colours = made_up()
    colours[60:] += 90
    assert np.flatnonzero(covered_frames(colours, 60)).tolist() == list(range(58, 100))
    assert np.flatnonzero(covered_frames(colours[::-1], 30)).tolist() == list(range(38, 100))
    assert not covered_frames(np.full((20, 50, 3), np.nan, np.float32), 20).any()


def test_flickering_colours_need_more_to_be_unusual() -> None:
    colours = made_up()
    colours += np.where(np.arange(100) % 2, 25, -25)[:, None, None]
    colours[40:50] += 60
    assert not covered_frames(colours, 100).any()


def test_stretches_are_told_in_seconds() -> None:
    covered = np.zeros(100, bool)
    covered[10:20] = covered[50:100] = True
    first, second = findings(covered, Fraction(25))
    assert first == "something is in front of the mouth from 0.4 to 0.8 s: shown as it is"
    assert "2.0 to 4.0 s" in second and findings(covered & False, Fraction(25)) == ()


def test_colours_are_read_where_the_landmarks_are() -> None:
    rows, columns = np.mgrid[:200, :300]
    picture = np.stack([rows, columns // 2, np.full_like(rows, 77)], axis=2).astype(np.uint8)
    points = np.random.default_rng(0).uniform((60, 50), (140, 140), (MEDIAPIPE_478.count, 2)).astype(np.float32)
    read = landmark_colours(picture, points, MEDIAPIPE_478)
    assert read.shape == (COLOURS, 3)
    lower = np.array(sorted(set(MEDIAPIPE_478.lower_face) - {*MEDIAPIPE_478.face_oval, *MEDIAPIPE_478.inner_lips}))
    expected = np.column_stack([points[lower, 1] - 0.5, points[lower, 0] / 2 - 0.5, [77] * len(lower)])
    assert read[:-1] == pytest.approx(expected, abs=1.5)
    assert np.isnan(landmark_colours(picture, points + 900, MEDIAPIPE_478)).all()


def test_the_other_mark_up_has_places_too() -> None:
    assert 10 < colour_count(IBUG_68) < 68


def test_covered_frames_are_none_of_the_avatars(tmp_path: Path) -> None:
    info = written(tmp_path / "clip.mp4", footage(with_hand))
    clip = finish(track_clip(replace(info), TrackingConfig(resolution=256), FRAMES))
    assert not clip.found[ENTERS + MOVES : LEAVES - MOVES].any()
    assert clip.found[: ENTERS - 1].all() and clip.found[LEAVES + 2 :].all()
    (line,) = (line for line in clip.findings if "in front of the mouth" in line)
    assert "shown as it is" in line and not any("no face" in line for line in clip.findings)
