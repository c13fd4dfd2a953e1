"""What the preflight refuses and what it warns about, on pictures put together from the demo clip's frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from demo_clip_track import demo_clip
from media_samples import write_clip

from tools.errors import UnusableClipError
from tools.face_topology import MEDIAPIPE_478
from tools.landmarks import landmark_detector
from tools.preflight import SAMPLES, FaceChoice, check_clip, choose_face, findings
from tools.video import probe, read_frames

LEFT_X, RIGHT_X = 256, 256 + 512
GREY = np.full((512, 512, 3), 110, np.uint8)


@cache
def portrait() -> np.ndarray:
    return next(read_frames(demo_clip(), 0, 1))


def shrunk(share: float) -> np.ndarray:
    """The portrait, smaller, in the middle of a grey picture of 512 px."""
    side = round(512 * share) // 2 * 2
    picture, start = GREY.copy(), 256 - side // 2
    small = cv2.resize(portrait(), (side, side), interpolation=cv2.INTER_AREA)
    picture[start : start + side, start : start + side] = small
    return picture


def beside(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.concatenate([left, right], axis=1)


def choose(folder: Path, pictures: Sequence[np.ndarray], face: int = 1) -> FaceChoice:
    """What is chosen in a clip of these pictures, each of which is looked at."""
    assert len(pictures) <= SAMPLES
    clip = write_clip(folder / "clip.mp4", [Fraction(k, 25) for k in range(len(pictures))], pictures=pictures)
    with landmark_detector("mediapipe", still=True) as detector:
        return choose_face(probe(clip), detector, face)


# --- length ---


@pytest.mark.parametrize("seconds", [0.04, 1.0, 2.96])
def test_a_short_clip_is_refused(seconds: float) -> None:
    with pytest.raises(UnusableClipError, match=rf"is {seconds:.1f} s long .* at least 3 s"):
        check_clip(replace(demo_clip(), duration_s=seconds, frame_count=round(25 * seconds)))


def test_three_seconds_are_enough() -> None:
    check_clip(replace(demo_clip(), duration_s=3.0, frame_count=75))


# --- which face ---


def test_no_face_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableClipError, match=r"no face found in .*clip\.mp4: give a clip"):
        choose(tmp_path, [GREY] * 3)


def test_the_only_face_is_chosen_though_it_is_missing_at_first(tmp_path: Path) -> None:
    choice = choose(tmp_path, [GREY, GREY, portrait(), portrait()])
    assert choice.faces == 1
    assert np.abs(choice.centre - (256, 215)).max() < 40 and 120 < choice.height < 260


@pytest.mark.parametrize(("face", "x"), [(1, RIGHT_X), (2, LEFT_X)])
def test_two_faces_are_numbered_by_size(tmp_path: Path, face: int, x: int) -> None:
    choice = choose(tmp_path, [beside(shrunk(0.7), portrait())] * 2, face)
    assert choice.faces == 2 and abs(choice.centre[0] - x) < 40


def test_a_face_that_is_not_there_cannot_be_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UnusableClipError, match=r"shows 1 face\(s\), --face 2 asked for: give 1 to 1"):
        choose(tmp_path, [portrait()] * 2, face=2)


def test_a_larger_face_that_only_passes_by_is_not_chosen(tmp_path: Path) -> None:
    steady, visited = beside(shrunk(0.7), GREY), beside(shrunk(0.7), portrait())
    choice = choose(tmp_path, [visited, steady, steady, steady])
    assert abs(choice.centre[0] - LEFT_X) < 40 and choice.height < 180
    assert choice.faces == 2


def test_a_face_that_wanders_is_chosen_all_the_same(tmp_path: Path) -> None:
    choice = choose(tmp_path, [beside(shrunk(0.6), GREY), beside(GREY, shrunk(0.6))] + [beside(GREY, GREY)] * 3)
    assert choice.faces == 1


def test_a_face_too_small_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableClipError, match=r"is \d\d px high: give a closer view, at least 48 px"):
        choose(tmp_path, [shrunk(0.18)] * 2)


# --- findings ---

FRAMES = 300


def steady_landmarks() -> np.ndarray:
    points = np.random.default_rng(0).uniform(200, 300, (1, MEDIAPIPE_478.count, 3))
    return np.repeat(points, FRAMES, axis=0).astype(np.float32)


def found(
    landmarks: np.ndarray | None = None,
    choice: FaceChoice | None = None,
    **facts: object,
) -> tuple[str, ...]:
    info = replace(demo_clip(), **{"duration_s": FRAMES / 25, "frame_count": FRAMES, **facts})
    landmarks = steady_landmarks() if landmarks is None else landmarks
    return findings(info, choice or FaceChoice(np.array([250.0, 250.0]), 200.0, 1), landmarks)


def test_a_good_clip_gives_no_findings() -> None:
    assert found() == ()


def test_frames_without_a_face_are_counted() -> None:
    landmarks = steady_landmarks()
    landmarks[10:17] = np.nan
    assert found(landmarks) == ("no face in 7 of 300 frames: they are skipped",)


def test_several_and_small_faces_short_and_uneven_clips_are_told() -> None:
    (line,) = found(choice=FaceChoice(np.zeros(2), 200.0, 3))
    assert line.startswith("3 faces in the picture") and "--face" in line
    (line,) = found(choice=FaceChoice(np.zeros(2), 80.0, 1))
    assert "only 80 px high" in line
    (line,) = found(duration_s=5.0)
    assert "5.0 s long" in line
    (line,) = found(is_variable_rate=True)
    assert "25.00 frames/s" in line
