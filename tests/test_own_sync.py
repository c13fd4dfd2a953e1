"""Our own measure of lip sync, on mouths whose sync is known."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from encoders.features import EXTRA_COLUMNS, SpeechFeatureTrack
from encoders.own_sync import UNKNOWN, own_sync

FPS = Fraction(25)


def heard(opening: np.ndarray, width: np.ndarray, fps: Fraction = FPS) -> SpeechFeatureTrack:
    """Features that tell of these articulations, and of nothing else."""
    features = np.zeros((len(opening), EXTRA_COLUMNS), np.float32)
    track = SpeechFeatureTrack(features, fps)
    track.articulation[:, 0], track.articulation[:, 1] = opening, width
    return track


@pytest.fixture
def motion() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    smooth = np.hanning(7) / np.hanning(7).sum()
    opening, width = (np.convolve(random.normal(size=206), smooth, "valid") for _ in range(2))
    return opening, width


def test_lips_that_move_as_heard_are_at_no_distance_whatever_their_unit(motion: tuple[np.ndarray, np.ndarray]) -> None:
    opening, width = motion
    sync = own_sync(heard(opening, width), 0.3 + 0.1 * opening, 5 - 2 + 7 * width)
    assert sync.distance == pytest.approx(0, abs=1e-6) and sync.offset_s == 0


@pytest.mark.parametrize(("late", "fps"), [(5, FPS), (-4, FPS), (12, Fraction(50))])
def test_the_offset_is_found_in_seconds(motion: tuple[np.ndarray, np.ndarray], late: int, fps: Fraction) -> None:
    opening, width = motion
    sync = own_sync(heard(opening, width, fps), np.roll(opening, late), np.roll(width, late))
    assert sync.offset_s == pytest.approx(late / float(fps)) and sync.distance < 0.05


def test_the_distance_is_one_less_the_mean_correlation(motion: tuple[np.ndarray, np.ndarray]) -> None:
    opening, _ = motion
    still = np.ones_like(opening)
    assert own_sync(heard(opening, opening), opening, still).distance == pytest.approx(0.5, abs=1e-6)
    assert own_sync(heard(opening, opening), still, still).distance == 1


def test_other_lips_are_far_away(motion: tuple[np.ndarray, np.ndarray]) -> None:
    opening, width = motion
    assert own_sync(heard(opening, width), np.roll(opening, 70), np.roll(width, 70)).distance > 0.6


def test_some_frames_without_a_face_do_not_matter_but_most_do(motion: tuple[np.ndarray, np.ndarray]) -> None:
    opening, width = motion
    gaps = opening.copy()
    gaps[[10, 50, 51, 120]] = np.nan
    assert own_sync(heard(opening, width), gaps, width).distance < 0.05
    gaps[: len(gaps) // 2 + 1] = np.nan
    assert own_sync(heard(opening, width), gaps, width) is UNKNOWN and math.isnan(UNKNOWN.distance)


def test_less_than_two_seconds_say_nothing(motion: tuple[np.ndarray, np.ndarray]) -> None:
    opening, width = motion
    assert own_sync(heard(opening[:49], width[:49]), opening[:49], width[:49]) is UNKNOWN
    assert own_sync(heard(opening[:50], width[:50]), opening[:50], width[:50]).distance < 1e-6
