"""Shape, focal length and poses from the demo clip's exact landmarks, against the poses it was rendered with."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from demo_clip_track import RIGID, demo_truth, exact_landmarks, fitted_frames
from scipy.spatial.transform import Rotation

from tools import head_pose
from tools.head_pose import (
    HeadPoseTrack,
    HeadShape,
    align_rigidly,
    axis_angle_to_matrix,
    estimate_head_shape,
    project_points,
    solve_head_poses,
)

SIDE = 512
FOCAL_GUESS_PX = 1024.0


@cache
def solved(rigid: bool) -> tuple[HeadShape, HeadPoseTrack]:
    landmarks = exact_landmarks(rigid)
    shape = estimate_head_shape(landmarks[: fitted_frames()], SIDE, FOCAL_GUESS_PX)
    return shape, solve_head_poses(landmarks, shape, SIDE, fitted_frames())


def true_shape() -> HeadShape:
    """The demo head in head units (1: its farthest vertex)."""
    vertices = demo_truth().canonical_vertices
    points = (vertices / np.abs(vertices).max()).astype(np.float32)
    return HeadShape(points, np.ones(len(points), np.float32), demo_truth().facts.focal)


def degrees_between(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Angle of the rotation from one to the other, [T]."""
    return np.degrees(Rotation.from_matrix(first.transpose(0, 2, 1) @ second).magnitude())


def degrees_of_error(track: HeadPoseTrack) -> np.ndarray:
    """Angle between found and true rotation, each frame. The found head's axes are its own: they are matched first."""
    difference = Rotation.from_matrix(demo_truth().world_to_camera[:, :3, :3].transpose(0, 2, 1) @ track.rotations)
    return np.degrees((difference.mean().inv() * difference).magnitude())


def second_difference(track: HeadPoseTrack) -> np.ndarray:
    return np.linalg.norm(np.diff(Rotation.from_matrix(track.rotations).as_rotvec(), n=2, axis=0), axis=1)


# --- building blocks ---


def test_axis_angles_are_those_of_scipy() -> None:
    vectors = np.random.default_rng(0).normal(size=(20, 3))
    found = axis_angle_to_matrix(torch.tensor(vectors, dtype=torch.float32))
    assert np.abs(found.numpy() - Rotation.from_rotvec(vectors).as_matrix()).max() < 1e-5


def test_axis_angle_is_differentiable_at_zero() -> None:
    vector = torch.zeros(3, requires_grad=True)
    axis_angle_to_matrix(vector)[2, 1].backward()
    assert torch.allclose(vector.grad, torch.tensor([1.0, 0.0, 0.0]), atol=1e-4)


def test_similarity_is_recovered_and_weights_leave_outliers_out() -> None:
    random = np.random.default_rng(0)
    points, weights = random.normal(size=(30, 3)), random.uniform(0.5, 2, 30)
    rotation = Rotation.from_rotvec([0.3, -0.5, 0.2]).as_matrix()
    moved = 1.7 * points @ rotation.T + [4, 5, 6]
    moved[:5], weights[:5] = 1000, 0
    found, scale, translation = align_rigidly(points, moved, weights)
    assert np.allclose(found, rotation) and scale == pytest.approx(1.7) and np.allclose(translation, [4, 5, 6])


def test_a_mirrored_cloud_is_still_aligned_by_a_rotation() -> None:
    points = np.random.default_rng(0).normal(size=(30, 3))
    rotation, _, _ = align_rigidly(points, points * [-1, 1, 1], np.ones(30))
    assert np.linalg.det(rotation) == pytest.approx(1)


# --- against the truth ---


def test_rotations_of_a_known_head_are_recovered() -> None:
    track = solve_head_poses(exact_landmarks(rigid=True), true_shape(), SIDE, fitted_frames())
    truth = demo_truth().world_to_camera
    error = degrees_between(truth[:, :3, :3], track.rotations)
    assert np.median(error) < 0.03 and np.percentile(error, 95) < 0.1
    assert error.max() < 0.25  # where the head turns back at once, the prior against jitter rounds the corner
    unit = np.abs(demo_truth().canonical_vertices).max()
    relative = np.abs(track.translations * unit - truth[:, :3, 3]) / truth[:, 2:3, 3]
    assert relative.max() < 2e-3


@pytest.mark.parametrize("rigid", [True, False], ids=["still face", "speaking face"])
def test_shape_and_poses_are_recovered_from_landmarks_alone(rigid: bool) -> None:
    shape, track = solved(rigid)
    turns = demo_truth().world_to_camera[:, :3, :3]
    assert degrees_between(turns[:1], turns).max() > 5  # there is something to recover
    error = degrees_of_error(track)
    assert error.mean() < 0.1 and np.percentile(error, 95) < 0.12 and error.max() < 0.25
    distance = np.linalg.norm(project_points(shape.points, track) - exact_landmarks(rigid)[..., :2], axis=2)
    assert np.median(distance[:, RIGID]) < 0.1
    assert shape.focal_px == pytest.approx(demo_truth().facts.focal, rel=0.1)


def test_the_shape_is_that_of_the_head() -> None:
    shape, _ = solved(rigid=True)
    vertices = demo_truth().canonical_vertices
    rotation, scale, translation = align_rigidly(shape.points, vertices, np.ones(478))
    distance = np.linalg.norm(scale * shape.points @ rotation.T + translation - vertices, axis=1)
    size = np.ptp(vertices[:, 1])
    assert np.median(distance) < 0.01 * size and distance.max() < 0.05 * size


def test_what_speaks_is_trusted_less() -> None:
    shape, _ = solved(rigid=False)
    assert shape.weights.mean() == pytest.approx(1, abs=1e-5)
    lips = [13, 14, 17, 87, 317]
    assert shape.weights[lips].max() < 0.3 * shape.weights[list(RIGID)].min()


def test_noise_is_smoothed_out() -> None:
    landmarks = exact_landmarks(rigid=True)
    noise = np.random.default_rng(0).normal(scale=1.0, size=landmarks.shape)
    shape = true_shape()
    quiet, noisy = (solve_head_poses(points, shape, SIDE, 293) for points in (landmarks, landmarks + noise))
    assert np.median(degrees_between(quiet.rotations, noisy.rotations)) < 0.1
    assert second_difference(noisy).mean() < 1.5 * second_difference(quiet).mean()


def test_a_single_bad_detection_does_not_throw_the_pose_off() -> None:
    landmarks, shape = exact_landmarks(rigid=True)[:60], true_shape()
    quiet = solve_head_poses(landmarks, shape, SIDE, 60)
    landmarks = landmarks.copy()
    landmarks[30, :40, :2] += 30
    assert degrees_between(quiet.rotations, solve_head_poses(landmarks, shape, SIDE, 60).rotations).max() < 0.3


# --- frames without a face, held-out frames, long clips ---


def test_frames_without_a_face_get_poses_between_their_neighbours() -> None:
    landmarks = exact_landmarks(rigid=True)[:80].copy()
    landmarks[[0, 40, 41, 42, 79]] = np.nan
    track = solve_head_poses(landmarks, true_shape(), SIDE, 80)
    assert np.isfinite(track.rotations).all() and np.isfinite(track.translations).all()
    shares = np.array([0.25, 0.5, 0.75])[:, None]
    between = (1 - shares) * track.translations[39] + shares * track.translations[43]
    assert np.abs(track.translations[40:43] - between).max() < 1e-5
    assert np.array_equal(track.rotations[0], track.rotations[1])
    assert np.array_equal(track.translations[79], track.translations[78])
    assert np.abs(np.linalg.det(track.rotations) - 1).max() < 1e-5


def test_no_face_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one frame with a face"):
        solve_head_poses(np.full((5, 478, 3), np.nan, np.float32), true_shape(), SIDE, 5)


def test_held_out_frames_leave_the_fitted_poses_as_they_are() -> None:
    landmarks, shape = exact_landmarks(rigid=True)[:90], true_shape()
    changed = landmarks.copy()
    changed[60:] = changed[60:] * [0.8, 1.1, 1] + [40, -20, 0]
    first, second = (solve_head_poses(points.astype(np.float32), shape, SIDE, 60) for points in (landmarks, changed))
    assert np.array_equal(first.rotations[:60], second.rotations[:60])
    assert np.array_equal(first.translations[:60], second.translations[:60])
    assert degrees_between(first.rotations[60:], second.rotations[60:]).min() > 0.5


def test_chunks_of_a_long_clip_join_without_a_jump(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).normal(scale=1.0, size=(90, 478, 3))
    landmarks, shape = (exact_landmarks(rigid=True)[:90] + noise).astype(np.float32), true_shape()
    whole = solve_head_poses(landmarks, shape, SIDE, 90)
    monkeypatch.setattr(head_pose, "POSE_CHUNK_FRAMES", 30)
    pieces = solve_head_poses(landmarks, shape, SIDE, 90)
    at_joints = second_difference(pieces)[[28, 29, 58, 59]]
    assert at_joints.mean() < second_difference(whole).max()  # pieces solved alone are over twice as rough there
    assert degrees_between(whole.rotations, pieces.rotations).max() < 0.2


def test_shape_costs_no_more_for_a_longer_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only SHAPE_FRAMES frames, spread over the clip, are looked at: the others may hold anything."""
    monkeypatch.setattr(head_pose, "SHAPE_FRAMES", 20)
    landmarks = exact_landmarks(rigid=True)
    seen = np.linspace(0, len(landmarks) - 1, 20).round().astype(int)
    spoilt = np.full_like(landmarks, 1e4)
    spoilt[seen] = landmarks[seen]
    first, second = (estimate_head_shape(points, SIDE, FOCAL_GUESS_PX) for points in (landmarks, spoilt))
    assert np.array_equal(first.points, second.points) and first.focal_px == second.focal_px


def test_one_frame_is_enough_for_a_shape() -> None:
    landmarks = exact_landmarks(rigid=True)[:1]
    shape = estimate_head_shape(landmarks, SIDE, FOCAL_GUESS_PX)
    track = solve_head_poses(landmarks, shape, SIDE, 1)
    assert np.abs(project_points(shape.points, track) - landmarks[..., :2]).max() < 1
