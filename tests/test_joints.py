"""Nothing is carried over a joint: a clip glued together is tracked as its parts are, each alone."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from demo_clip_track import demo_track, finish
from footage import demo_pictures, written

from tools.expression import encode_expression, fit_expression_basis, head_displacements
from tools.face_topology import MEDIAPIPE_478
from tools.head_pose import HeadPoseTrack, solve_head_poses
from tools.joints import interpolated, segments
from tools.landmarks import landmark_detector
from tools.torso import TorsoTracker, torso_poses
from tools.tracked_clip import TrackedClip
from tools.tracking import TrackingConfig, track_clip

JOINT = 40
FRAMES = 80


def test_segments_lie_between_the_joints() -> None:
    assert list(segments(10, ())) == [slice(0, 10)]
    assert list(segments(10, (3, 7))) == [slice(0, 3), slice(3, 7), slice(7, 10)]


def test_what_is_missing_is_filled_from_its_own_side_of_a_joint() -> None:
    known = np.array([0, 2, 5, 7])
    values = np.array([[0.0], [2], [50], [70]])
    assert interpolated(values, known, 9)[:, 0].tolist() == pytest.approx([0, 1, 2, 18, 34, 50, 60, 70, 70])
    assert interpolated(values, known, 9, (4,))[:, 0].tolist() == pytest.approx([0, 1, 2, 2, 50, 50, 60, 70, 70])
    assert interpolated(values, known, 9, (3, 4))[3, 0] == pytest.approx(18)  # nothing known between the two
    with pytest.raises(ValueError, match="at least one"):
        interpolated(values[:0], known[:0], 9)


# --- each part of tracking ---


def parts() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Two shots of the demo person, who has moved meanwhile."""
    moved = np.float32([[1, 0, 14], [0, 1, -9]])
    later = [cv2.warpAffine(picture, moved, (256, 256), borderMode=1) for picture in demo_pictures(200, FRAMES - JOINT)]
    return demo_pictures(0, JOINT), later


def test_landmarks_after_a_restart_are_those_of_a_new_detector() -> None:
    first, second = parts()
    with landmark_detector("mediapipe", max_faces=1) as detector:
        for picture in first:
            detector.detect(picture)
        detector.restart()
        glued = [detector.detect(picture)[0] for picture in second]
    with landmark_detector("mediapipe", max_faces=1) as detector:
        alone = [detector.detect(picture)[0] for picture in second]
    assert np.array_equal(glued, alone)


def test_poses_on_either_side_of_a_joint_are_those_of_each_side_alone() -> None:
    track = demo_track()
    later = track.landmarks[200 : 200 + FRAMES - JOINT] + np.float32([40, -25, 0])
    landmarks = np.concatenate([track.landmarks[:JOINT], later])
    landmarks[JOINT - 2 : JOINT + 2] = np.nan

    def solved(points: np.ndarray, fitted: int, joints: tuple[int, ...] = ()) -> HeadPoseTrack:
        return solve_head_poses(points, track.shape, 512, fitted, joints)

    glued = solved(landmarks, FRAMES, (JOINT,))
    alone = [solved(landmarks[:JOINT], JOINT), solved(landmarks[JOINT:], FRAMES - JOINT)]
    for name in ("rotations", "translations"):
        expected = np.concatenate([getattr(part, name) for part in alone])
        assert np.array_equal(getattr(glued, name), expected)
    across = solved(landmarks, FRAMES)
    assert np.abs(across.translations[JOINT - 2 : JOINT] - glued.translations[JOINT - 2 : JOINT]).max() > 0.01


def test_a_face_that_was_away_for_long_is_not_smoothed_towards_where_it_left() -> None:
    track = demo_track()
    landmarks = track.landmarks[:FRAMES].copy()
    landmarks[30:50] = np.nan
    landmarks[50:] += np.float32([120, 0, 0])
    whole = solve_head_poses(landmarks, track.shape, 512, FRAMES)
    alone = solve_head_poses(landmarks[50:], track.shape, 512, FRAMES - 50)
    assert np.array_equal(whole.translations[50:], alone.translations)


def test_expression_is_not_filled_in_across_a_joint() -> None:
    track = demo_track()
    lower, upper = np.array(MEDIAPIPE_478.lower_face), np.array(MEDIAPIPE_478.upper_face)
    moved = head_displacements(track.landmarks, track.shape, track.head)
    basis = fit_expression_basis(moved, lower, upper)
    moved[JOINT - 3 : JOINT] = np.nan
    codes = encode_expression(moved[:FRAMES], basis, lower, upper, (JOINT,)).codes
    assert np.array_equal(codes[JOINT - 3 : JOINT], np.repeat(codes[JOINT - 4 : JOINT - 3], 3, axis=0))


def test_the_torso_is_smoothed_on_either_side_of_a_joint_alone() -> None:
    head = demo_track().head
    shifts = np.concatenate([np.zeros(JOINT), np.full(FRAMES - JOINT, 30.0)]) + np.random.default_rng(0).normal(size=80)
    moves: list[np.ndarray | None] = [np.array([[1.0, 0, x], [0, 1, 0]]) for x in shifts]
    moves[JOINT - 2] = moves[JOINT] = None
    glued = torso_poses(moves, head, 5, (JOINT,)).translations
    alone = np.concatenate([torso_poses(part, head, 5).translations for part in (moves[:JOINT], moves[JOINT:])])
    assert np.array_equal(glued, alone)
    assert not np.allclose(torso_poses(moves, head, 5).translations, alone, atol=1e-3)


def test_a_restarted_torso_is_looked_for_where_the_reference_has_it() -> None:
    texture = cv2.GaussianBlur(np.random.default_rng(0).uniform(0, 255, (256, 256)).astype(np.float32), (0, 0), 2)
    picture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)[..., None].repeat(3, axis=2)
    tracker = TorsoTracker(picture, np.ones((256, 256), bool))
    for shift in range(0, 90, 6):
        assert tracker.follow(np.roll(picture, shift, axis=1)) is not None
    assert tracker.follow(picture) is None  # 84 px in one step
    tracker.restart()
    assert np.abs(tracker.follow(picture) - [[1, 0, 0], [0, 1, 0]]).max() < 0.01


# --- the whole ---


@pytest.fixture(scope="module")
def glued(tmp_path_factory: pytest.TempPathFactory) -> TrackedClip:
    first, second = parts()
    info = written(tmp_path_factory.mktemp("glued") / "clip.mp4", [*first, *second])
    return finish(track_clip(info, TrackingConfig(resolution=256), FRAMES, (JOINT,)))


@pytest.mark.parametrize("side", [0, 1])
def test_a_clip_of_two_shots_is_tracked_as_each_of_them(glued: TrackedClip, side: int, tmp_path: Path) -> None:
    """But for what the encoder makes of the pictures."""
    info = written(tmp_path / "clip.mp4", parts()[side] * 2)
    alone = finish(track_clip(info, TrackingConfig(resolution=256), FRAMES, (JOINT,)))
    part = slice(side * JOINT, (side + 1) * JOINT)
    assert glued.found.all() and glued.crop == alone.crop
    apart = np.abs(glued.landmarks[part] - alone.landmarks[part])[..., :2]
    assert np.median(apart) < 0.25 and np.percentile(apart, 99) < 1.5


def test_the_jump_at_a_joint_is_not_smoothed(glued: TrackedClip) -> None:
    jump = np.linalg.norm(np.diff(glued.head.translations, axis=0), axis=1)
    assert int(np.argmax(jump)) == JOINT - 1
    assert np.delete(jump, JOINT - 1).max() < 0.5 * jump[JOINT - 1]
