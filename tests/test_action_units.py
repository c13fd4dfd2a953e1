"""Landmark-based action units: each moves with what its definition names, no other does, and none with the head."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tools.action_units import LOWER_UNITS, UPPER_UNITS, action_unit_error, action_units
from tools.face_topology import IBUG_68

FACE = IBUG_68
UNITS = (*UPPER_UNITS, *LOWER_UNITS)
STEP = 0.05
"""Displacement, in inter-ocular distances: five hundredths."""
DIAGONAL = 5 / math.sqrt(2)


def mean_face() -> np.ndarray:
    """[68, 3]: x to the subject's left, y down, outer eye corners at -1 and 1, so that inter-ocular is 2."""
    face = np.zeros((FACE.count, 3))
    for side, brow, eye in ((-1, FACE.right_brow, range(36, 42)), (1, FACE.left_brow[::-1], (45, 44, 43, 42, 47, 46))):
        face[list(brow)] = [[side * x, -0.5, 0.0] for x in (1.0, 0.8, 0.6, 0.4, 0.2)]
        lids = ((1.0, 0.0), (0.8, -0.1), (0.6, -0.1), (0.4, 0.0), (0.6, 0.1), (0.8, 0.1))
        face[list(eye)] = [[side * x, y, 0.0] for x, y in lids]
    face[27:31] = [[0.0, y, z] for y, z in ((0.0, -0.1), (0.2, -0.3), (0.4, -0.4), (0.6, -0.5))]
    angles = np.pi - np.arange(12) / 12 * 2 * np.pi
    face[48:60] = np.stack([0.5 * np.cos(angles), 1.2 - 0.25 * np.sin(angles), 0 * angles], axis=1)
    angles = np.pi - np.arange(8) / 8 * 2 * np.pi
    face[60:68] = np.stack([0.4 * np.cos(angles), 1.2 - 0.05 * np.sin(angles), 0 * angles], axis=1)
    face[0], face[16], face[FACE.chin] = [-1.2, 0.0, 0.5], [1.2, 0.0, 0.5], [0.0, 2.0, 0.0]
    return face


def moved(points: tuple[int, ...], by: tuple[float, float]) -> np.ndarray:
    """Both sides' landmarks moved outwards and down, in inter-ocular distances."""
    face = mean_face()
    outwards = np.sign(face[list(points), 0])
    face[list(points), 0] += 2 * by[0] * outwards
    face[list(points), 1] += 2 * by[1]
    return face


@pytest.mark.parametrize(
    ("points", "by", "expected"),
    [
        ((21, 22), (0, -STEP), {"AU1": 5}),
        ((17, 26), (0, -STEP), {"AU2": 5}),
        ((21, 22), (-STEP, 0), {"AU4": 10}),
        ((37, 38, 43, 44), (0, -STEP), {"AU5": 5, "AU45": -5}),
        ((40, 41, 46, 47), (0, -STEP), {"AU7": 5, "AU45": 5}),
        ((51,), (0, -STEP), {"AU10": 5}),
        ((48, 54), (STEP, 0), {"AU12": DIAGONAL, "AU20": 10}),
        ((48, 54), (0, STEP), {"AU12": -DIAGONAL, "AU15": 5}),
        ((57,), (0, -STEP), {"AU17": 5}),
        ((66,), (0, STEP), {"AU25": 5}),
        ((8,), (0, STEP), {"AU17": 5, "AU26": 5}),
    ],
)
def test_a_unit_is_the_movement_that_it_is_named_after(
    points: tuple[int, ...], by: tuple[float, float], expected: dict[str, float]
) -> None:
    rest, acting = action_units(np.stack([mean_face(), moved(points, by)]), mean_face(), FACE)
    np.testing.assert_allclose(acting - rest, [expected.get(name, 0.0) for name in UNITS], atol=1e-9)


def test_neither_the_head_s_pose_nor_the_axes_of_the_shape_are_seen() -> None:
    frames = np.stack([mean_face(), moved((66,), (0, STEP)), moved((48, 54), (STEP, 0))])
    expected = action_units(frames, mean_face(), FACE)
    turns = Rotation.from_euler("xyz", [[0.3, -0.4, 0.2], [-0.2, 0.5, 0.1], [0.1, 0.1, -0.6]]).as_matrix()
    scales = np.array([1.0, 60.0, 150.0])[:, None, None]
    turned = scales * np.einsum("tij,tkj->tki", turns, frames) + 200.0
    np.testing.assert_allclose(action_units(turned, mean_face(), FACE), expected, atol=1e-6)
    shape = 40.0 * mean_face() @ turns[2].T - 7.0
    np.testing.assert_allclose(action_units(turned, shape, FACE), expected, atol=1e-6)


def test_the_error_is_summed_over_units_and_averaged_over_frames_with_a_face() -> None:
    missing = np.full((1, FACE.count, 3), np.nan)
    truth = action_units(np.concatenate([np.stack([mean_face()] * 3), missing]), mean_face(), FACE)
    row = np.stack([mean_face(), moved((48, 54), (STEP, 0)), np.full_like(mean_face(), np.nan), mean_face()])
    upper, lower = action_unit_error(action_units(row, mean_face(), FACE), truth)
    assert upper == pytest.approx(0, abs=1e-9)
    assert lower == pytest.approx((0 + DIAGONAL**2 + 10**2) / 2)  # two frames with a face in both
    raised = action_units(np.stack([moved((21, 22), (0, -STEP))] * 4), mean_face(), FACE)
    assert action_unit_error(raised, truth) == (pytest.approx(25), pytest.approx(0, abs=1e-9))
    assert action_unit_error(truth[:3], truth[:3]) == (0, 0)


def test_without_a_shape_or_a_face_nothing_is_measured() -> None:
    unknown = np.full_like(mean_face(), np.nan)
    units = action_units(np.stack([mean_face()]), unknown, FACE)
    assert units.shape == (1, len(UNITS)) and np.isnan(units).all()
    assert all(math.isnan(error) for error in action_unit_error(units, units))
