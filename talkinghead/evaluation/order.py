"""Whether measures of lips can tell lips apart: the rows that ought to be the nearer to the truth, are they?

A measure that finds another sentence's lips as good as the right ones says nothing about a system, however its figures
look; the same figures must rank rows whose order is known.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

from talkinghead.evaluation.drives import AUDIO, SHUFFLED, TRACKED, TRUTH
from talkinghead.evaluation.instruments import Measure

ORDER = (TRUTH, TRACKED, AUDIO, SHUFFLED)
"""From the nearest to the truth to the farthest from it."""


def broken_orders(measures: Sequence[Measure], rows: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """By the names of the lip measures that rank two neighbours of `ORDER` the wrong way round: which, and by what.

    Equal figures are in order; what is undefined, and a row that is not there, is left out.
    """
    shown = [name for name in ORDER if name in rows]
    broken = {}
    for measure in (measure for measure in measures if measure.is_of_lips):
        sign = 1 if measure.best == "high" else -1
        ranked = [(name, rows[name][measure.name]) for name in shown if not math.isnan(rows[name][measure.name])]
        wrong = [
            f"{worse} {theirs:.4g} before {better} {ours:.4g}"
            for (better, ours), (worse, theirs) in itertools.pairwise(ranked)
            if sign * theirs > sign * ours
        ]
        if wrong:
            broken[measure.name] = ", ".join(wrong)
    return broken


def order_notes(measures: Sequence[Measure], rows: Mapping[str, Mapping[str, float]]) -> tuple[str, ...]:
    """What to tell the user about `broken_orders`: at most one sentence."""
    broken = broken_orders(measures, rows)
    if not broken:
        return ()
    which = "; ".join(f"{name} ({why})" for name, why in broken.items())
    return (f"on this clip these lip measures rank rows the wrong way round, believe them less: {which}",)
