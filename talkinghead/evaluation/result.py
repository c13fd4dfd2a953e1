"""The figures of an evaluation, as a table and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from talkinghead.evaluation.instruments import Measure

Figures = dict[str, float]
"""By the names of measures; infinite where pictures are identical, NaN where a measure is undefined."""


@dataclass(frozen=True)
class Evaluation:
    """All rows, what their columns mean, and how they were measured."""

    protocol: dict[str, str | int | float]
    measures: tuple[Measure, ...]
    rows: dict[str, Figures]
    notes: tuple[str, ...] = ()
    """A sentence for everything that could not be measured, and what to do about it."""

    def to_json(self) -> str:
        """The result as JSON; infinite and undefined values become null."""
        content = {
            "protocol": self.protocol,
            "measures": {measure.name: measure.definition for measure in self.measures},
            "rows": {name: finite(row) for name, row in self.rows.items()},
            "notes": self.notes,
        }
        return json.dumps(content, indent=2, allow_nan=False)

    def to_table(self) -> list[tuple[str, ...]]:
        """A heading and a line per measure, for the terminal; an undefined value is a dash."""
        lines = [(measure.name, *(cell(row[measure.name]) for row in self.rows.values())) for measure in self.measures]
        return [("", *self.rows), *lines]


def cell(value: float) -> str:
    """A figure for the terminal."""
    return "-" if math.isnan(value) else f"{value:.4g}"


def finite(figures: Figures) -> dict[str, float | None]:
    """Figures for JSON, which knows neither infinite nor undefined ones."""
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}


def restored(figures: Mapping[str, float | None]) -> Figures:
    """Figures from JSON; those that `finite` left out are undefined."""
    return {name: math.nan if value is None else value for name, value in figures.items()}
