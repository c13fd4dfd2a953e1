"""Head and torso: idle motion with the person's own statistics, within the person's range, without end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from acting_person import FPS, TORSO_LAW, acting_person, wandering
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from talkinghead.head_motion import BodyMotion, Bone, IdleMotion, fit_linear_law, motion_range, source_pose, within
from talkinghead.source_tracks import SourceTracks

SPREADS = (0.05, 0.08, 0.02, 0.06, 0.04, 0.1)
"""Of a made-up head's motion: radians and head units."""


@pytest.fixture(scope="module")
def motion() -> np.ndarray:
    return wandering(np.random.default_rng(0), 750, SPREADS, width=12.0)


@pytest.fixture(scope="module")
def tracks(motion: np.ndarray) -> SourceTracks:
    """A head that moves so around a turned rest, and a torso that follows by a law."""
    rest = Rotation.from_euler("YXZ", (0.2, 0.1, 0.0))
    smooth = BodyMotion(bent(rest, motion, motion), np.arange(len(motion)), FPS)._low_passed(motion)
    return bent(rest, motion, smooth @ TORSO_LAW)


def bent(rest: Rotation, head: np.ndarray, torso: np.ndarray) -> SourceTracks:
    def poses(motion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rotations = (Rotation.from_rotvec(motion[:, :3]) * rest).as_matrix()
        return rotations.astype(np.float32), (motion[:, 3:] + (0.1, -0.2, 6.0)).astype(np.float32)

    made = acting_person(len(head)).avatar.tracks
    (head_rotations, head_places), (torso_rotations, torso_places) = poses(head), poses(torso)
    return replace(
        made,
        head_rotations=head_rotations,
        head_translations=head_places,
        torso_rotations=torso_rotations,
        torso_translations=torso_places,
    )


def body_of(tracks: SourceTracks) -> BodyMotion:
    return BodyMotion(tracks, np.arange(len(tracks)), FPS)


def test_a_bone_gives_back_the_poses_it_was_made_of(tracks: SourceTracks) -> None:
    bone = Bone.of(tracks.head_rotations, tracks.head_translations)
    for frame in (0, 100, 700):
        rotation, translation = bone.at(bone.motion[frame])
        assert np.allclose(rotation, tracks.head_rotations[frame], atol=1e-5)
        assert np.allclose(translation, tracks.head_translations[frame], atol=1e-5)


def test_idle_motion_has_the_spread_and_the_speed_of_the_clip(motion: np.ndarray) -> None:
    idle = IdleMotion(motion, FPS, seed=0)(np.arange(20_000))
    assert np.allclose(idle.std(axis=0), motion.std(axis=0), rtol=0.2)
    ours, theirs = (np.abs(np.diff(track, axis=0)).mean(axis=0) for track in (idle, motion))
    assert np.allclose(ours, theirs, rtol=0.2)
    ours, theirs = np.corrcoef(idle.T), np.corrcoef(motion.T)
    assert np.abs(ours - theirs).max() < 0.2, "what moves together goes on to"


@pytest.mark.parametrize("start", [0, 10**6, 10**9])
def test_idle_motion_never_leaves_the_range_and_never_jumps(motion: np.ndarray, start: int) -> None:
    idle = IdleMotion(motion, FPS, seed=1)(start + np.arange(20_000))
    lowest, highest = motion_range(motion)
    assert (idle >= lowest).all() and (idle <= highest).all()
    steps = np.diff(idle, axis=0)
    assert (np.abs(steps).max(axis=0) < 7 * np.abs(steps).mean(axis=0)).all(), "as of a normal distribution"
    assert (np.abs(np.diff(steps, axis=0)).max(axis=0) < np.abs(steps).max(axis=0) / 2).all(), "smooth"


def test_idle_motion_follows_from_seed_and_frame_number(motion: np.ndarray) -> None:
    idle = IdleMotion(motion, FPS, seed=2)
    assert np.allclose(idle(np.arange(500))[[3, 7, 400]], idle(np.array([3, 7, 400])))
    assert np.array_equal(IdleMotion(motion, FPS, seed=2)(np.arange(50)), idle(np.arange(50)))
    assert not np.allclose(IdleMotion(motion, FPS, seed=3)(np.arange(50)), idle(np.arange(50)))


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_idle_motion_of_a_head_that_hardly_moves(frames: int) -> None:
    assert np.allclose(IdleMotion(np.zeros((frames, 6)), FPS, seed=0)(np.arange(10)), 0)


def test_the_torsos_law_is_found(tracks: SourceTracks, motion: np.ndarray) -> None:
    body = body_of(tracks)
    free = 0.4 * np.minimum(*np.abs(motion_range(motion)))  # where nothing is compressed
    for axis in range(6):
        held = np.zeros(6)
        held[axis] = free[axis]
        pose = body.pose(lambda frames, held=held: np.tile(held, (len(frames), 1)), 0)
        rotation, translation = body.torso.at(held @ TORSO_LAW)
        reached = np.abs(pose.torso_rotation.numpy() - rotation).max() + np.abs(
            pose.torso_translation.numpy() - translation
        ).max()
        assert reached < 0.05 * free[axis]


def test_the_torso_moves_less_quickly_than_the_head(tracks: SourceTracks) -> None:
    body = body_of(tracks)
    nod = lambda frames: np.where(frames[:, None] == 50, 0.05, 0.0) * np.eye(6)[3]  # noqa: E731
    head = [body.pose(nod, frame).head_translation.numpy()[0] for frame in range(40, 61)]
    torso = [body.pose(nod, frame).torso_translation.numpy()[0] for frame in range(40, 61)]
    assert np.ptp(head) == pytest.approx(0.05, rel=1e-3)
    assert 0 < np.ptp(torso) < 0.1 * np.ptp(head)


def test_a_law_is_linear_regression() -> None:
    rng = np.random.default_rng(0)
    scale, law = np.array([1, 10, 0.1, 0]), rng.normal(size=(4, 3))
    causes = rng.normal(size=(2000, 4)) * scale
    found = fit_linear_law(causes, causes @ law)
    error = (found - law) * scale[:, None]
    assert np.abs(error).max() < 0.02 * np.abs(law * scale[:, None]).max(), "but for the ridge"
    assert np.array_equal(found[3], np.zeros(3)), "what never moved has no effect"


def test_still_is_the_frame_nearest_to_rest(tracks: SourceTracks) -> None:
    frame = body_of(tracks).still_frame()
    body = body_of(tracks)
    away = np.abs(body.head.motion) / body.head.motion.std(axis=0)
    assert away[frame].max() < np.median(away.max(axis=1))
    few = BodyMotion(tracks, np.arange(100, 120), FPS)
    assert 100 <= few.still_frame() < 120, "an index of the footage"


def test_source_poses_are_those_of_the_footage(tracks: SourceTracks) -> None:
    pose = source_pose(tracks, 7)
    assert np.array_equal(pose.head_rotation.numpy(), tracks.head_rotations[7])
    assert np.array_equal(pose.torso_translation.numpy(), tracks.torso_translations[7])


@given(st.floats(-100, 100), st.floats(-5, 0), st.floats(0, 5))
def test_limits_hold_and_leave_the_middle_alone(value: float, lowest: float, highest: float) -> None:
    limits = np.array([[lowest], [highest]])
    kept = within(np.array([value]), limits)[0]
    assert lowest <= kept <= highest
    if lowest / 2 <= value <= highest / 2:
        assert kept == value
    assert within(np.array([value + 0.1]), limits)[0] >= kept
