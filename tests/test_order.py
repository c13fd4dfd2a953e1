"""The order of rows that every measure of lips must keep."""

from __future__ import annotations

import math

from talkinghead.evaluation.instruments import Measure
from talkinghead.evaluation.order import broken_orders, order_notes

DISTANCE = Measure("distance", "an error", best="low", is_of_lips=True)
CORRELATION = Measure("correlation", "a likeness", best="high", is_of_lips=True)
SHARPNESS = Measure("sharpness", "no measure of lips", best="high")


def rows(**values: tuple[float, float]) -> dict[str, dict[str, float]]:
    return {name: {"distance": low, "correlation": high, "sharpness": 0.0} for name, (low, high) in values.items()}


def test_nothing_is_said_of_measures_that_keep_the_order_or_tie() -> None:
    kept = rows(audio=(2, 0.7), tracked=(1, 0.7), shuffled=(3, -0.1), silence=(0, 1), ground_truth=(0, 1))
    assert broken_orders([DISTANCE, CORRELATION, SHARPNESS], kept) == {}
    assert order_notes([DISTANCE, CORRELATION, SHARPNESS], kept) == ()


def test_neighbours_the_wrong_way_round_are_named() -> None:
    wrong = rows(audio=(2, 0.2), tracked=(2.5, 0.9), shuffled=(1.75, 0.3), ground_truth=(0, 1))
    assert broken_orders([DISTANCE, CORRELATION, SHARPNESS], wrong) == {
        "distance": "audio 2 before tracked 2.5, shuffled 1.75 before audio 2",
        "correlation": "shuffled 0.3 before audio 0.2",
    }
    (note,) = order_notes([DISTANCE, CORRELATION, SHARPNESS], wrong)
    assert note.endswith("correlation (shuffled 0.3 before audio 0.2)") and "distance (audio 2 before" in note


def test_rows_and_figures_that_are_missing_are_left_out() -> None:
    without = rows(audio=(math.nan, 0.5), tracked=(1, 0.8), shuffled=(2, 0.1))
    assert broken_orders([DISTANCE, CORRELATION], without) == {}
    assert set(broken_orders([DISTANCE], rows(tracked=(3, 0), shuffled=(2, 0)))) == {"distance"}
