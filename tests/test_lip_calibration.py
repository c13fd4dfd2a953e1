"""Stacking, amplitude and the closed mouth, on predictions whose quality is known."""

from __future__ import annotations

import numpy as np
import pytest

from encoders.lip_calibration import PRIOR_FRAMES, PRIOR_SHARES, closed_mouth, opening_gain, stacking_shares

FPS = 25.0
CODES = 3


def _series(seed: int, frames: int = 1000) -> np.ndarray:
    series = np.random.default_rng(seed).standard_normal((frames, CODES))
    return series - series.mean(axis=0)


def test_a_part_that_predicts_gets_a_large_share_and_noise_a_small_one() -> None:
    heard, noise = _series(0, 4000), _series(1, 4000)
    codes = heard + 0.5 * _series(2, 4000)
    assert (stacking_shares(heard, heard + noise, codes, FPS) > [[0.9], [-0.1]]).all()
    assert (stacking_shares(heard, heard + noise, codes, FPS)[1] < 0.05).all()
    assert (stacking_shares(noise, noise + heard, codes, FPS)[1] > 0.9).all()


def test_shares_are_the_ridge_regression_towards_the_prior_shares() -> None:
    generic, personal, codes = _series(0), _series(1), _series(2)
    codes = codes + 0.6 * generic + 0.3 * personal
    shares = stacking_shares(generic, generic + personal, codes, FPS)

    def loss(candidate: np.ndarray, k: int) -> float:
        kernel = np.ones(51) / 51
        parts = []
        for series in (generic[:, k], personal[:, k], codes[:, k]):
            parts.append(series - np.convolve(np.pad(series, 25, "edge"), kernel, "valid"))
        error = np.sum((parts[2] - candidate[0] * parts[0] - candidate[1] * parts[1]) ** 2)
        pull = [np.sum(parts[j] ** 2) * (PRIOR_FRAMES / 1000) * (candidate[j] - PRIOR_SHARES[j]) ** 2 for j in (0, 1)]
        return float(error + sum(pull))

    for k in range(CODES):
        for step in np.array([[0.01, 0.0], [0.0, 0.01]]):
            assert loss(shares[:, k], k) <= min(loss(shares[:, k] + step, k), loss(shares[:, k] - step, k))


def test_posture_does_not_sway_the_shares() -> None:
    heard = _series(0)
    codes = heard + 0.5 * _series(2)
    smile = 20.0 * np.sin(np.linspace(0, 6, len(codes)))[:, None]
    plain = stacking_shares(heard, heard, codes, FPS)
    np.testing.assert_allclose(stacking_shares(heard, heard, codes + smile, FPS), plain, atol=0.1)


def test_without_evidence_the_prior_shares_hold() -> None:
    still = np.zeros((50, CODES))
    shares = stacking_shares(still, still, still, FPS)
    assert np.isfinite(shares).all()
    few = _series(3, 10)
    shares = stacking_shares(few, 2 * few, few, FPS)
    assert (np.abs(shares - np.array(PRIOR_SHARES)[:, None]) < 0.3).all()


def test_the_gain_brings_the_opening_to_the_wanted_spread_and_leaves_the_rest() -> None:
    codes = _series(0)
    opening = codes[:, 0]
    predicted = 0.4 * codes
    gain = opening_gain(predicted, codes, opening, amplitude=0.9, maximum=3.0)
    raised = predicted @ gain
    assert raised[:, 0].std() == pytest.approx(0.9 * opening.std(), rel=1e-3)
    change = raised - predicted
    along = change @ (codes.T @ opening) / np.linalg.norm(codes.T @ opening) ** 2
    np.testing.assert_allclose(change, np.outer(along, codes.T @ opening), atol=1e-9)


@pytest.mark.parametrize(("amplitude", "maximum", "factor"), [(0.1, 3.0, 1.0), (5.0, 2.0, 2.0)])
def test_the_gain_is_limited(amplitude: float, maximum: float, factor: float) -> None:
    codes = _series(0)
    predicted = 0.4 * codes
    raised = predicted @ opening_gain(predicted, codes, codes[:, 0], amplitude, maximum)
    assert raised[:, 0].std() == pytest.approx(factor * predicted[:, 0].std(), rel=1e-3)


def test_what_is_not_heard_is_not_raised() -> None:
    codes = _series(0)
    np.testing.assert_array_equal(opening_gain(0.4 * _series(1), codes, codes[:, 0], 1.0, 3.0), np.eye(CODES))


def test_the_closed_mouth_of_a_still_face_is_the_mean_face() -> None:
    np.testing.assert_array_equal(closed_mouth(_series(0), np.ones(1000)), np.zeros(CODES))


def test_the_closed_mouth_shows_the_smallest_openings() -> None:
    codes = _series(0)
    opening = 2.0 * codes[:, 1] + 7.0
    closed = closed_mouth(codes, opening)
    assert 2.0 * closed[1] + 7.0 == pytest.approx(np.sort(opening)[:50].mean(), abs=0.02)
