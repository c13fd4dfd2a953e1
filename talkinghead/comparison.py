"""The figures of several speech features for one person, as a table and as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass

from talkinghead.evaluation.instruments import Measure
from talkinghead.evaluation.result import Figures, cell, finite

COLUMNS = (
    "lmd_px",
    "lmd_centred_px",
    "mouth_opening_r",
    "closure_recall",
    "closure_precision",
    "hull_psnr",
    "own_sync_distance",
    "lse_c",
    "lse_d",
)
"""Measures of the table, those of SE4Lip's Table 3 among them; the JSON holds all."""


@dataclass(frozen=True)
class FeatureFigures:
    """What was measured of the lips that a feature drives."""

    name: str
    seconds: float
    """That the lips took to learn."""
    audio: Figures
    """Driven by the clip's own sound..."""
    shuffled: Figures
    """...and by that of another moment: a feature is worth what lies between."""


@dataclass(frozen=True)
class Comparison:
    """All features, what their columns mean, and how they were measured."""

    protocol: dict[str, str | int | float]
    measures: tuple[Measure, ...]
    tracked: Figures
    """Of the same head with the lips that were tracked: what no feature can surpass."""
    features: tuple[FeatureFigures, ...]
    notes: tuple[str, ...] = ()
    """A sentence for everything that could not be had, and what to do about it."""

    def to_json(self) -> str:
        """The result as JSON; infinite and undefined values become null."""
        content = {
            "protocol": self.protocol,
            "measures": {measure.name: measure.definition for measure in self.measures},
            "tracked": finite(self.tracked),
            "features": {
                one.name: {"seconds": one.seconds, "audio": finite(one.audio), "shuffled": finite(one.shuffled)}
                for one in self.features
            },
            "notes": self.notes,
        }
        return json.dumps(content, indent=2, allow_nan=False)

    def to_table(self) -> list[tuple[str, ...]]:
        """A heading, the tracked lips, and two lines per feature, for the terminal; an undefined value is a dash."""
        known = {measure.name for measure in self.measures}
        columns = [name for name in COLUMNS if name in known]
        lines = [("tracked", *(cell(self.tracked[name]) for name in columns), "")]
        for one in self.features:
            lines.append((one.name, *(cell(one.audio[name]) for name in columns), f"{one.seconds:.0f}"))
            lines.append((f"{one.name}, shuffled", *(cell(one.shuffled[name]) for name in columns), ""))
        return [("", *columns, "seconds"), *lines]
