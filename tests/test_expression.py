"""Expression codes: exactness, statistics and separation, on the demo clip's exact landmarks."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from demo_clip_track import demo_truth, exact_landmarks, fitted_frames

from tools.expression import (
    LOWER_COMPONENTS,
    UPPER_COMPONENTS,
    ExpressionBasis,
    encode_expression,
    fit_expression_basis,
    head_displacements,
)
from tools.face_topology import MEDIAPIPE_478
from tools.head_pose import HeadPoseTrack, HeadShape, estimate_head_shape, project_points, solve_head_poses

LOWER, UPPER = np.array(MEDIAPIPE_478.lower_face), np.array(MEDIAPIPE_478.upper_face)


@cache
def solved() -> tuple[HeadShape, HeadPoseTrack, np.ndarray]:
    """Shape, poses and displacements of the demo clip."""
    landmarks = exact_landmarks(rigid=False)
    shape = estimate_head_shape(landmarks[: fitted_frames()], 512, 1024)
    poses = solve_head_poses(landmarks, shape, 512, fitted_frames())
    return shape, poses, head_displacements(landmarks, shape, poses)


@cache
def fitted_basis() -> ExpressionBasis:
    return fit_expression_basis(solved()[2][: fitted_frames()], LOWER, UPPER)


def test_displacements_explain_the_reprojection_exactly() -> None:
    shape, poses, displacements = solved()
    observed = exact_landmarks(rigid=False)[..., :2]
    assert np.abs(project_points(shape.points, poses) - observed).max() > 5  # the mouth does move
    assert np.abs(project_points(shape.points + displacements, poses) - observed).max() < 2e-3


def test_displacements_leave_the_depth_as_it_is() -> None:
    _, poses, displacements = solved()
    towards_camera = np.einsum("fj,fkj->fk", poses.rotations[:, 2], displacements)
    assert np.abs(towards_camera).max() < 1e-5


def test_codes_of_fitted_frames_are_standardised() -> None:
    displacements = solved()[2][: fitted_frames()]
    track = encode_expression(displacements, fitted_basis(), LOWER, UPPER)
    assert track.lower.shape == (len(displacements), LOWER_COMPONENTS)
    assert track.upper.shape == (len(displacements), UPPER_COMPONENTS)
    for codes in (track.lower, track.upper):
        assert codes.dtype == np.float32
        assert np.abs(codes.mean(0)).max() < 1e-3
        assert np.abs(np.cov(codes.T, bias=True) - np.eye(codes.shape[1])).max() < 1e-2


def test_the_first_lower_code_is_the_jaw_and_the_first_upper_code_the_lids() -> None:
    track = encode_expression(solved()[2], fitted_basis(), LOWER, UPPER)
    assert abs(np.corrcoef(track.lower[:, 0], demo_truth().mouth_opening)[0, 1]) > 0.95
    assert abs(np.corrcoef(track.upper[:, 0], demo_truth().blink)[0, 1]) > 0.9


def test_codes_rebuild_the_motion_of_all_landmarks() -> None:
    displacements = solved()[2]
    track, basis = encode_expression(displacements, fitted_basis(), LOWER, UPPER), fitted_basis()
    codes = np.concatenate([track.lower, track.upper], 1)
    rebuilt = basis.mean + np.einsum("fc,ckd->fkd", codes, basis.motion)
    held_out = slice(fitted_frames(), None)
    left = np.square(rebuilt - displacements)[held_out].sum()
    assert left < 0.02 * np.square(displacements - basis.mean)[held_out].sum()


def test_codes_do_not_depend_on_the_other_frames() -> None:
    displacements = solved()[2]
    alone = encode_expression(displacements[250:260], fitted_basis(), LOWER, UPPER)
    together = encode_expression(displacements, fitted_basis(), LOWER, UPPER)
    assert np.allclose(alone.lower, together.lower[250:260], atol=1e-4)


def test_frames_without_a_face_get_codes_between_their_neighbours() -> None:
    displacements = solved()[2][:50].copy()
    displacements[[0, 20, 21, 49]] = np.nan
    track = encode_expression(displacements, fitted_basis(), LOWER, UPPER)
    for codes in (track.lower, track.upper):
        assert np.isfinite(codes).all() and codes.dtype == np.float32
        assert np.allclose(codes[20], (2 * codes[19] + codes[22]) / 3, atol=1e-5)
        assert np.array_equal(codes[0], codes[1]) and np.array_equal(codes[49], codes[48])


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_few_frames_give_as_many_components_as_they_hold(frames: int) -> None:
    displacements = np.random.default_rng(0).normal(size=(frames, 478, 3)).astype(np.float32)
    basis = fit_expression_basis(displacements, LOWER, UPPER)
    assert len(basis.lower_components) == len(basis.upper_components) == frames - 1
    assert basis.motion.shape == (2 * (frames - 1), 478, 3) and np.isfinite(basis.motion).all()
    track = encode_expression(displacements, basis, LOWER, UPPER)
    assert np.isfinite(track.lower).all() and track.lower.shape == (frames, frames - 1)


def test_a_face_that_never_moves_has_no_codes() -> None:
    basis = fit_expression_basis(np.ones((10, 478, 3), np.float32), LOWER, UPPER)
    assert len(basis.lower_components) == 0 and basis.motion.shape == (0, 478, 3)
    assert encode_expression(np.ones((10, 478, 3), np.float32), basis, LOWER, UPPER).lower.shape == (10, 0)
