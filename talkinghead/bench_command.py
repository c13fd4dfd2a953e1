"""The command that measures this machine."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from talkinghead.arguments import JsonFile, OptionalAvatar
from talkinghead.config import BenchConfig
from talkinghead.progress import Progress
from talkinghead.terminal import print_table, show, write_text
from tools.errors import UserError

if TYPE_CHECKING:
    from render.benchmark import BenchmarkRow
    from talkinghead.benchmark import Figure


@dataclass(frozen=True)
class Bench:
    """Measure this machine: the stages of speaking with an avatar, and the rasterizer against its torch reference."""

    avatar: OptionalAvatar = None
    """Folder that `talkinghead fit` made; without one only the rasterizer is measured."""
    json: JsonFile = None
    """Also write the figures to this file."""
    overwrite: bool = False
    """Replace a JSON file that is there already."""
    bench: BenchConfig = field(default_factory=BenchConfig)

    def run(self) -> None:
        from talkinghead.outputs import check_new_file

        if self.json is not None:
            check_new_file(self.json, self.overwrite, [] if self.avatar is None else [self.avatar])
        if self.avatar is None and self.bench.skip_rasterizer:
            raise UserError("nothing is left to measure: give an avatar, or leave --skip-rasterizer away")
        from talkinghead.machine import this_machine

        machine = asdict(this_machine())
        figures, rows = show(_measured(self.avatar, self.bench))
        print_table([(name.replace("_", " "), str(value)) for name, value in machine.items()])
        _print_figures(figures)
        _print_rasterizer(rows)
        if self.json is not None:
            content = {
                "machine": machine,
                "avatar": [asdict(figure) for figure in figures],
                "rasterizer": [asdict(row) for row in rows],
            }
            write_text(self.json, json.dumps(content, indent=2))


def _measured(
    path: Path | None, config: BenchConfig
) -> Generator[Progress, None, tuple[Sequence[Figure], Sequence[BenchmarkRow]]]:
    from talkinghead.avatar import load_avatar, speech_feature_of
    from talkinghead.benchmark import measure_avatar, measure_rasterizer
    from talkinghead.speech_choice import fetch_weights

    figures: Sequence[Figure] = ()
    if path is not None:
        yield from fetch_weights(speech_feature_of(path))
        figures = yield from measure_avatar(load_avatar(path), config.seconds, config.device)
    rows = [] if config.skip_rasterizer else (yield from measure_rasterizer(config.backend, config.device))
    return figures, rows


def _print_figures(figures: Sequence[Figure]) -> None:
    if figures:
        lines = [(figure.stage, _rounded(figure.value), figure.unit, figure.picture) for figure in figures]
        print()
        print_table([("stage", "", "", "picture, px"), *lines])


def _rounded(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _print_rasterizer(rows: Sequence[BenchmarkRow]) -> None:
    if rows:
        table = [asdict(row) for row in rows]
        print()
        print_table([tuple(table[0]), *(tuple(f"{value:g}" for value in row.values()) for row in table)])
