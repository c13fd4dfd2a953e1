"""The figures of the lip benchmark on series whose agreement is known, and its table."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from encoders.av_offset import AudioVideoOffset
from encoders.features import EXTRA_COLUMNS, SpeechFeatureTrack
from encoders.lip_figures import agreement, blocked_predictions, closure_coincidence, personal_figures
from encoders.measured_lips import MeasuredLips
from talkinghead.lip_benchmark import ClipFigures, FitFigures, report

FPS = Fraction(25)
FRAMES = 500


def _speech(closure: np.ndarray) -> SpeechFeatureTrack:
    features = np.zeros((len(closure), 4 + EXTRA_COLUMNS), np.float32)
    features[:, -3] = closure
    return SpeechFeatureTrack(features, FPS)


def _lips(opening: np.ndarray, width: np.ndarray) -> MeasuredLips:
    return MeasuredLips(_speech(np.zeros(len(opening))), opening, width)


def test_agreement_is_found_at_its_lag_and_below_posture() -> None:
    random = np.random.default_rng(0)
    truth = random.standard_normal((FRAMES, 2))
    smile = 30.0 * np.sin(np.linspace(0, 4, FRAMES))
    late = np.roll(truth, [3, -2], axis=(0, 0))
    late = np.stack([np.roll(truth[:, 0], 3), np.roll(truth[:, 1], -2)], axis=1)
    found = agreement(truth, _lips(late[:, 0] + smile, late[:, 1] - smile))
    assert (found.lag_opening, found.lag_width) == (3, -2)
    assert found.opening > 0.95
    assert found.width > 0.95
    at_zero = agreement(truth, _lips(late[:, 0], late[:, 1]), 0)
    assert (at_zero.lag_opening, at_zero.lag_width) == (0, 0)
    assert abs(at_zero.opening) < 0.2


def test_closures_are_counted_by_hand() -> None:
    opening = np.full(40, 2.0) + 0.01 * np.arange(40)
    opening[[10, 20, 30]] = 0.0  # closed for a frame
    closure = np.zeros(40)
    closure[[11, 20, 25]] = 0.9  # a frame late, in time, not at all
    closure[5] = 0.4  # not certain enough
    found = closure_coincidence(_speech(closure), opening)
    assert (found.predicted, found.coinciding) == (3, 2)
    minima = [frame for frame in range(2, 38) if opening[frame] == opening[frame - 2 : frame + 3].min()]
    near = {frame + step for frame in minima for step in (-1, 0, 1)}
    assert found.chance == pytest.approx(len(near & set(range(40))) / 40)


def test_a_block_is_predicted_from_the_others_alone() -> None:
    targets = np.arange(100.0)[:, None]
    seen = []

    def remember(others: np.ndarray) -> np.ndarray:
        seen.append(np.flatnonzero(np.isfinite(others[:, 0])))
        return np.full_like(others, len(seen))

    predicted = blocked_predictions(targets, 25.0, remember)
    assert predicted[:, 0].tolist() == np.repeat(np.arange(1.0, 6.0), 20).tolist()
    for number, used in enumerate(seen):
        block = np.arange(20 * number, 20 * number + 20)
        assert np.abs(used[:, None] - block).min() == 7  # more than a quarter of a second away
    np.testing.assert_array_equal(targets[:, 0], np.arange(100.0))


def test_personal_figures_by_hand() -> None:
    truth = np.sin(np.arange(200) / 5)
    figures = personal_figures(np.stack([0.5 * truth, -truth], axis=1), truth, truth)
    assert figures.opening == pytest.approx(1.0)
    assert figures.width == pytest.approx(-1.0)
    assert figures.amplitude == pytest.approx(0.5)
    assert figures.error == pytest.approx(0.5 * np.sqrt(np.mean(truth**2)) / truth.std())


def test_the_table_holds_every_clip_and_the_totals() -> None:
    random = np.random.default_rng(0)
    truth = random.standard_normal((FRAMES, 2))
    lips = _lips(truth[:, 0], truth[:, 1])
    same = agreement(truth, lips)
    person = ClipFigures(
        "somebody",
        AudioVideoOffset(1.5, 0.2, 0.0),
        same,
        same,
        same,
        closure_coincidence(_speech(np.zeros(FRAMES)), truth[:, 0]),
        np.array([0.1, -0.4, 2.0, 0.0]),
        1,
    )
    personal = personal_figures(truth, truth[:, 0], truth[:, 1])
    text = report([person, person], FitFigures(personal, same, personal, personal, 1.5, 1.25))
    assert text.count("somebody") == 2
    assert "+1.50 ?" in text
    assert "shifts right to a frame: 75.0% of 8, flagged unreliable 2" in text
    assert "1.500 px" in text
