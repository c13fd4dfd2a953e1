"""The background plate against scenes whose background is known."""

from __future__ import annotations

import numpy as np
import pytest

from tools.background import NEUTRAL_GREY, BackgroundPlate


def scene(height: int = 120, width: int = 200) -> np.ndarray:
    """A smooth colour gradient."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([columns * 255 // width, rows * 255 // height, np.full_like(rows, 90)], -1).astype(np.uint8)


def with_person(background: np.ndarray, left: int, width: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """A white box in front of the scene, with its exact matte."""
    matte = np.zeros(background.shape[:2], np.float32)
    matte[30:, left : left + width] = 1
    return np.where(matte[..., None] > 0, np.uint8(255), background), matte


def test_what_a_moving_person_uncovers_is_recovered_exactly() -> None:
    background, plate = scene(), BackgroundPlate()
    for left in (10, 120):
        plate.add(*with_person(background, left))
    assert np.array_equal(plate.finish(), background)


def test_noise_is_averaged_out() -> None:
    generator, background, plate = np.random.default_rng(0), np.full((60, 80, 3), 100.0), BackgroundPlate()
    for _ in range(64):
        plate.add(
            np.clip(background + generator.normal(0, 8, background.shape), 0, 255).astype(np.uint8),
            np.zeros((60, 80), np.float32),
        )
    assert np.abs(plate.finish() - background).mean() < 1.5


def test_what_is_never_seen_is_filled_from_around_it() -> None:
    background, plate = scene(), BackgroundPlate()
    frame, matte = with_person(background, 70)
    for _ in range(3):
        plate.add(frame, matte)
    result = plate.finish().astype(int)
    hidden = matte > 0
    assert np.array_equal(result[:, :50], background[:, :50])
    assert np.abs(result - background)[hidden].mean() < 25
    assert result[hidden][:, 2].max() < 120, "nothing of the white person is left: the scene's blue is 90 throughout"


def test_a_soft_edge_does_not_bleed_into_the_plate() -> None:
    background, plate = np.full((100, 100, 3), 50, np.uint8), BackgroundPlate()
    matte = np.zeros((100, 100), np.float32)
    matte[:, 40:] = 1
    frame = np.where(matte[..., None] > 0, np.uint8(250), background)
    frame[:, 38:40], matte[:, 38:40] = 150, 0.05  # hair that the matte overlooks
    plate.add(frame, matte)
    assert np.abs(plate.finish()[:, :60].astype(int) - 50).max() <= 3


def test_a_close_up_without_background_gives_grey() -> None:
    plate = BackgroundPlate()
    plate.add(np.zeros((20, 30, 3), np.uint8), np.ones((20, 30), np.float32))
    assert np.array_equal(plate.finish(), np.full((20, 30, 3), NEUTRAL_GREY))


def test_wrong_use_is_named() -> None:
    plate = BackgroundPlate()
    with pytest.raises(ValueError, match="at least one frame"):
        plate.finish()
    plate.add(np.zeros((20, 30, 3), np.uint8), np.zeros((20, 30), np.float32))
    with pytest.raises(ValueError, match=r"\(20, 30, 3\)"):
        plate.add(np.zeros((30, 20, 3), np.uint8), np.zeros((30, 20), np.float32))
