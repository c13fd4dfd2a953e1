"""Metrics against hand-computed values and properties of their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tools import metrics
from tools.face_topology import IBUG_68, MEDIAPIPE_478


def test_hull_mask_is_the_convex_hull_less_its_rim() -> None:
    corners = np.array([[10, 10], [29, 10], [29, 39], [10, 39], [20, 20], [15, 30]], np.float32)
    expected = np.zeros((50, 40), bool)
    expected[11:39, 11:29] = True
    np.testing.assert_array_equal(metrics.face_hull_mask(corners, 50, 40), expected)
    assert metrics.face_hull_mask(corners, 50, 40, erosion_px=3).sum() == (20 - 6) * (30 - 6)


def test_landmark_distance_of_a_known_displacement() -> None:
    truth = np.random.default_rng(0).random((5, 7, 3))
    predicted = truth + np.array([3.0, 4.0, 100.0])  # depth does not count
    assert metrics.landmark_distance(predicted, truth, [1, 4, 6]) == pytest.approx(5.0)
    assert metrics.centred_landmark_distance(predicted, truth, [1, 4, 6]) == pytest.approx(0.0, abs=1e-9)
    predicted = truth.copy()
    predicted[:, 1, 0] += 3.0  # one of three landmarks: after centring it is off by 2 and the others by 1
    assert metrics.landmark_distance(predicted, truth, [1, 4, 6]) == pytest.approx(1.0)
    assert metrics.centred_landmark_distance(predicted, truth, [1, 4, 6]) == pytest.approx(4 / 3)


def test_frames_without_a_face_are_left_out() -> None:
    truth = np.zeros((4, 3, 2))
    predicted = np.ones((4, 3, 2)) * np.array([1.0, 0.0])
    predicted[1] = np.nan
    truth[2] = np.nan
    assert metrics.landmark_distance(predicted, truth, [0, 1, 2]) == pytest.approx(1.0)
    missing = np.full_like(truth, np.nan)
    for measure in (metrics.landmark_distance, metrics.centred_landmark_distance):
        assert math.isnan(measure(missing, truth, [0]))


def test_mouth_opening_does_not_see_the_head_pose() -> None:
    """A 68-point head with known openings, turned, scaled and moved at random: eye corners 2 apart."""
    face = IBUG_68
    shape = np.random.default_rng(1).standard_normal((face.count, 3))
    shape[face.left_outer_eye_corner], shape[face.right_outer_eye_corner] = [1.0, -1.0, 0.0], [-1.0, -1.0, 0.0]
    shape[face.upper_inner_lip] = [0.0, 1.0, 0.3]
    openings = np.array([0.0, 0.1, 0.4, 0.2, 0.6])
    frames = np.repeat(shape[None], len(openings), axis=0)
    frames[:, face.lower_inner_lip] = shape[face.upper_inner_lip] + openings[:, None] * np.array([0.0, 0.8, 0.6])
    turns = Rotation.from_euler("xyz", np.random.default_rng(2).uniform(-0.6, 0.6, (len(openings), 3)))
    scales = np.array([1.0, 50.0, 80.0, 120.0, 200.0])
    frames = scales[:, None, None] * np.einsum("tij,tkj->tki", turns.as_matrix(), frames) + 300.0
    frames = np.concatenate([frames, np.full((1, face.count, 3), np.nan)])
    measured = metrics.mouth_opening(frames, shape, face)
    np.testing.assert_allclose(measured[:-1], openings / 2.0, atol=1e-6)
    assert np.isnan(measured[-1])
    assert np.isnan(metrics.mouth_opening(frames, np.full_like(shape, np.nan), face)).all()


def test_mouth_width_is_the_distance_of_the_corners_in_the_head_s_own_size() -> None:
    face = IBUG_68
    shape = np.random.default_rng(1).standard_normal((face.count, 3))
    shape[face.left_outer_eye_corner], shape[face.right_outer_eye_corner] = [1.0, -1.0, 0.0], [-1.0, -1.0, 0.0]
    widths = np.array([0.4, 0.9, 1.3])
    frames = np.repeat(shape[None], 3, axis=0)
    frames[:, 54] = frames[:, 48] + widths[:, None] * np.array([0.6, 0.0, 0.8])
    turns = Rotation.from_euler("xyz", np.random.default_rng(2).uniform(-0.6, 0.6, (3, 3))).as_matrix()
    frames = 70.0 * np.einsum("tij,tkj->tki", turns, frames) - 20.0
    np.testing.assert_allclose(metrics.mouth_width(frames, shape, face), widths / 2.0, atol=1e-6)


def test_the_mouth_of_the_68_point_mark_up_has_its_counterparts_in_the_face_mesh() -> None:
    """In order: from the right corner over the upper lip to the left one and back below, outer then inner lips."""
    mesh = MEDIAPIPE_478
    assert IBUG_68.mouth_68 == (*IBUG_68.outer_lips, *IBUG_68.inner_lips)
    for points, ring, count in ((mesh.mouth_68[:12], mesh.outer_lips, 12), (mesh.mouth_68[12:], mesh.inner_lips, 8)):
        places = [ring.index(point) for point in points]
        assert len(set(places)) == count and places[0] == 0 and places[count // 2] == len(ring) // 2
        assert places[1:] == sorted(places[1:], reverse=True)  # the mesh's rings go below first
    assert (mesh.mouth_68[14], mesh.mouth_68[18]) == (mesh.upper_inner_lip, mesh.lower_inner_lip)


def test_landmark_distance_of_the_mouth_by_hand() -> None:
    truth = np.zeros((4, 68, 3))
    moved = truth.copy()
    moved[:2, 48:58, :2] = [3.0, 4.0]  # 5 px, half of the points of half of the frames
    moved[:, :48] = 99.0
    assert metrics.landmark_distance(moved, truth, IBUG_68.mouth_68) == pytest.approx(1.25)
    assert metrics.landmark_distance(truth, truth, IBUG_68.mouth_68) == 0.0


def test_pearson_against_its_definition() -> None:
    a = np.array([1.0, 2.0, 4.0, np.nan, 3.0])
    b = np.array([2.0, 1.0, 5.0, 9.0, 4.0])
    assert metrics.pearson(a, b) == pytest.approx(6.0 / math.sqrt(5.0 * 10.0))
    assert metrics.pearson(a, -b) == pytest.approx(-metrics.pearson(a, b))
    assert metrics.pearson(np.ones(5), b) == 0.0
    assert math.isnan(metrics.pearson(np.full(5, np.nan), b))


@pytest.mark.parametrize("lag", [-4, 0, 1, 3])
def test_best_lag_finds_a_known_shift(lag: int) -> None:
    reference = np.random.default_rng(3).standard_normal(120)
    series = np.roll(reference, lag)
    assert metrics.best_lag(series, reference, max_lag=5) == lag
    assert math.isnan(metrics.best_lag(np.full(120, np.nan), reference, max_lag=5))


def test_best_lag_refuses_a_series_shorter_than_the_search() -> None:
    with pytest.raises(ValueError, match="one length above"):
        metrics.best_lag(np.zeros(5), np.zeros(5), max_lag=5)


def test_amplitude_ratio() -> None:
    reference = np.random.default_rng(4).standard_normal(50)
    assert metrics.amplitude_ratio(3.0 * reference + 7.0, reference) == pytest.approx(3.0)
    assert math.isnan(metrics.amplitude_ratio(reference, np.ones(50)))


def test_head_jitter_is_zero_at_constant_speed_and_known_for_a_zigzag() -> None:
    frames = np.arange(9)
    steady = np.stack([3.0 * frames, -frames, 0 * frames], axis=-1)[:, None].repeat(4, axis=1)
    assert metrics.head_jitter(steady, [0, 2]) == pytest.approx(0.0)
    shaken = steady.copy()
    shaken[:, :, 1] += 0.5 * (-1.0) ** frames[:, None]
    assert metrics.head_jitter(shaken, [0, 2]) == pytest.approx(2.0)
    shaken[4] = np.nan
    assert metrics.head_jitter(shaken, [0, 2]) == pytest.approx(2.0)
    assert math.isnan(metrics.head_jitter(steady[:2], [0]))


def test_a_box_has_a_margin_and_stays_in_the_picture() -> None:
    points = np.array([[40.0, 30.0, 9.0], [60.0, 34.0, -9.0]])
    assert metrics.bounding_box(points, 100, 100) == (slice(28, 36), slice(38, 62))
    assert metrics.bounding_box(points - [50, 50, 0], 100, 100) == (slice(0, 1), slice(0, 12))
    assert metrics.bounding_box(points + 500, 100, 90) == (slice(99, 100), slice(89, 90))
