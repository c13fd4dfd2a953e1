"""Torso poses from pictures that are moved by a known similarity transform."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tools.head_pose import HeadPoseTrack
from tools.torso import TORSO_DEPTH, TorsoTracker, torso_poses

SIDE = 256
FOCAL_PX = 500.0
WHOLE = np.ones((SIDE, SIDE), bool)


def cloth(seed: int = 0) -> np.ndarray:
    """A picture with texture of a few pixels in size, uint8 RGB."""
    noise = np.random.default_rng(seed).uniform(size=(SIDE, SIDE)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.5)
    grey = np.uint8(255 * (smooth - smooth.min()) / np.ptp(smooth))
    return np.repeat(grey[..., None], 3, axis=2)


def similarity(degrees: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    """[2, 3]: a turn about the picture's centre, then a shift, px."""
    transform = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), -degrees, scale)
    transform[:, 2] += shift
    return transform


def moved(picture: np.ndarray, transform: np.ndarray) -> np.ndarray:
    return cv2.warpAffine(picture, transform, (SIDE, SIDE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def error_px(found: np.ndarray, expected: np.ndarray) -> float:
    corners = np.array([[60, 60, 1], [196, 60, 1], [60, 196, 1], [196, 196, 1]], float)
    return float(np.abs(corners @ (found - expected).T).max())


def still_head(frames: int) -> HeadPoseTrack:
    """A head turned by some degrees that keeps its pose."""
    rotation = Rotation.from_euler("yxz", [12, -5, 3], degrees=True).as_matrix().astype(np.float32)
    translation = np.array([0.2, -0.3, 4.0], np.float32)
    return HeadPoseTrack(np.tile(rotation, (frames, 1, 1)), np.tile(translation, (frames, 1)), FOCAL_PX, SIDE)


# --- the picture ---


@pytest.mark.parametrize(
    "transform",
    [similarity(0, 1, (0, 0)), similarity(0, 1, (6.3, -4.6)), similarity(5, 1, (2, 3)), similarity(-3, 1.05, (-4, 2))],
    ids=["still", "shifted", "turned", "nearer"],
)
def test_a_known_motion_of_the_picture_is_found(transform: np.ndarray) -> None:
    tracker = TorsoTracker(cloth(), WHOLE)
    found = tracker.follow(moved(cloth(), transform))
    assert error_px(found, transform) < 0.15


def test_a_large_motion_is_followed_frame_by_frame() -> None:
    tracker = TorsoTracker(cloth(), WHOLE)
    for step in range(1, 13):
        transform = similarity(0.7 * step, 1 + 0.004 * step, (3.0 * step, -2.0 * step))
        assert error_px(tracker.follow(moved(cloth(), transform)), transform) < 0.3


def test_a_hand_before_the_torso_is_left_out() -> None:
    transform = similarity(2, 1, (4, 3))
    frame = moved(cloth(), transform)
    frame[90:160, 40:130] = cloth(seed=1)[90:160, 40:130]
    tracker = TorsoTracker(cloth(), WHOLE)
    assert error_px(tracker.follow(frame), transform) < 0.3


def test_only_the_region_is_followed() -> None:
    lower = WHOLE & (np.arange(SIDE)[:, None] > 128)
    transform = similarity(0, 1, (0, 5))
    frame = moved(cloth(), transform)
    frame[:120] = cloth()[:120]  # the head, say, stays where it is
    assert error_px(TorsoTracker(cloth(), lower).follow(frame), transform) < 0.3


def test_where_nothing_can_be_followed_there_is_no_transform() -> None:
    plain = np.full((SIDE, SIDE, 3), 120, np.uint8)
    assert TorsoTracker(plain, WHOLE).follow(plain) is None
    assert TorsoTracker(cloth(), np.zeros_like(WHOLE)).follow(cloth()) is None
    tracker = TorsoTracker(cloth(), WHOLE)
    assert tracker.follow(plain) is None
    transform = similarity(0, 1, (2, 1))
    assert error_px(tracker.follow(moved(cloth(), transform)), transform) < 0.15  # and it is found again


# --- the pose ---


@pytest.mark.parametrize(
    "transform", [similarity(0, 1, (7, -9)), similarity(8, 1, (0, 0)), similarity(-6, 1.2, (15, 4))]
)
def test_the_pose_moves_points_of_the_torso_as_the_picture(transform: np.ndarray) -> None:
    head = still_head(9)
    torso = torso_poses([transform] * 9, head, reference_frame=3)
    depth = head.translations[3, 2] + TORSO_DEPTH
    pixels = np.random.default_rng(0).uniform(0, SIDE, (20, 2))
    in_camera = np.column_stack([(pixels - SIDE / 2) * depth / FOCAL_PX, np.full(20, depth)])
    points = (in_camera - head.translations[3]) @ head.rotations[3]
    again = points @ torso.rotations[5].T + torso.translations[5]
    found = again[:, :2] / again[:, 2:] * FOCAL_PX + SIDE / 2
    assert np.abs(found - (pixels @ transform[:, :2].T + transform[:, 2])).max() < 1e-2
    assert np.allclose(np.linalg.det(torso.rotations), 1, atol=1e-5)


def test_without_motion_the_torso_keeps_the_heads_reference_pose() -> None:
    head = still_head(8)
    head.rotations[5] = np.eye(3)  # the head moves, the torso does not
    for transforms in ([similarity(0, 1, (0, 0))] * 8, [None] * 8):
        torso = torso_poses(transforms, head, reference_frame=2)
        assert np.abs(torso.rotations - head.rotations[2]).max() < 1e-6
        assert np.abs(torso.translations - head.translations[2]).max() < 1e-6


def test_unseen_frames_are_interpolated_and_single_wrong_ones_smoothed_away() -> None:
    steady = [similarity(0, 1, (float(step), 0)) for step in range(40)]
    expected = torso_poses(steady, still_head(40), 0)
    gaps: list[np.ndarray | None] = list(steady)
    gaps[10] = gaps[11] = None
    assert np.abs(torso_poses(gaps, still_head(40), 0).translations - expected.translations).max() < 1e-5
    gaps[25] = similarity(20, 1.5, (90, -50))
    found = torso_poses(gaps, still_head(40), 0)
    assert np.abs(found.translations - expected.translations).max() < 1.5 * 4.25 / FOCAL_PX  # about a pixel
    assert np.abs(found.rotations - expected.rotations).max() < 0.01
