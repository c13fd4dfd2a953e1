"""What the commands say on the terminal: results on standard output, progress and errors on standard error."""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TypeVar

from talkinghead.progress import Progress

Result = TypeVar("Result")


def show(job: Generator[Progress, None, Result]) -> Result:
    """Runs a job to its end behind a bar per stage, and returns its value; stops it in order when interrupted."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    try:
        event = next(job)  # what is wrong from the beginning is said without a bar
    except StopIteration as finished:
        return finished.value
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, TextColumn("{task.fields[detail]}"), console=Console(stderr=True)) as bars:
        bar: TaskID | None = None
        stage = ""
        try:
            while True:
                if bar is None or event.stage != stage:
                    if bar is not None:  # a stage that is left is done, however coarsely it counted
                        bars.update(bar, completed=bars.tasks[bar].total)
                    stage = event.stage
                    bar = bars.add_task(stage, total=event.total, completed=event.done, detail=event.detail)
                bars.update(bar, total=event.total, completed=event.done, detail=event.detail)
                event = next(job)
        except StopIteration as finished:
            return finished.value
        finally:
            job.close()


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their longest entry, but the last."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(entry.ljust(width) for entry, width in zip(row, widths, strict=True)).rstrip())


def write_text(path: Path, text: str) -> None:
    """Under a temporary name first, so that a file that was there stays whole."""
    temporary = path.with_name(f".{path.name}.unfinished")
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(path)


def complain(message: str) -> None:
    """One line on standard error."""
    print(f"talkinghead: {' '.join(message.split())}", file=sys.stderr)
