"""Closures and openings of made-up mouths whose scores are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tools import lip_closures


def test_closure_scores_of_a_hand_made_pair() -> None:
    truth = np.full(30, 0.5)
    truth[[5, 15, 25]] = 0.0
    predicted = np.full(30, 0.5)
    predicted[[6, 20, 25]] = 0.0  # one frame late, false, exact
    scores = lip_closures.closure_scores(predicted, truth, threshold=0.1)
    assert scores == lip_closures.ClosureScores(
        3, precision=pytest.approx(2 / 3), recall=pytest.approx(2 / 3), chance=0.3
    )
    assert math.isnan(lip_closures.closure_scores(np.full(30, 0.5), truth, threshold=0.1).precision)
    assert math.isnan(lip_closures.closure_scores(truth, np.full(30, 0.5), threshold=0.1).recall)
    assert lip_closures.closure_scores(truth, truth, threshold=0.1).precision == 1.0


def test_lips_that_never_open_meet_every_closure_with_the_precision_of_chance() -> None:
    truth = np.full(40, 0.5)
    truth[[8, 9, 10, 30]] = 0.0, 0.01, 0.0, 0.0  # closed for a while: its noise has minima of its own
    shut = 0.01 * np.random.default_rng(0).random(40)
    scores = lip_closures.closure_scores(shut, truth, threshold=0.1)
    assert scores.recall == 1.0 and scores.chance == 8 / 40
    assert lip_closures.closure_scores(truth, shut, threshold=0.1).recall == pytest.approx(scores.precision)
    assert abs(scores.precision - scores.chance) < 0.2


def test_a_closure_that_cannot_be_seen_in_both_does_not_count() -> None:
    truth, predicted = np.full(30, 0.5), np.full(30, 0.5)
    truth[[5, 15]] = predicted[5] = 0.0
    predicted[14:17] = np.nan
    assert lip_closures.closure_scores(predicted, truth, threshold=0.1).recall == 1.0


def test_range_threshold_and_mean_of_an_opening() -> None:
    real = np.concatenate([np.linspace(0.1, 0.5, 101), [np.nan]])
    assert lip_closures.opening_range(real) == pytest.approx((0.12, 0.48))
    assert lip_closures.closure_threshold(real) == pytest.approx(0.12 + lip_closures.CLOSURE_GAP)
    mumbled = 0.1 + (real - 0.1) / 100  # a quarter of its range is less than the gap
    low, high = lip_closures.opening_range(mumbled)
    assert lip_closures.closure_threshold(mumbled) == pytest.approx(low + 0.25 * (high - low))
    for opening, share in ((0.12, 0.0), (0.3, 0.5), (0.48, 1.0), (0.03, -0.25)):
        assert lip_closures.mean_opening(np.array([opening, np.nan, opening]), real) == pytest.approx(share)
    assert math.isnan(lip_closures.mean_opening(real, np.full(20, 0.3)))
    assert math.isnan(lip_closures.mean_opening(np.full(20, np.nan), real))
    assert all(math.isnan(value) for value in lip_closures.opening_range(np.full(3, np.nan)))
