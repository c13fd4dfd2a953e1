"""What the commands say on the terminal: results on standard output, progress and errors on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TypeVar

from talkinghead.complaints import complaint
from talkinghead.progress import Progress
from tools.errors import OutputError

EXIT_USER, EXIT_INTERRUPTED = 2, 130
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


class JobBars:
    """A bar for all jobs and one for each that runs; a line for each that ends stays above them."""

    def __init__(self, jobs: int, done: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
        from rich.progress import Progress as Bars

        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        self._bars = Bars(*columns, console=Console(stderr=True, soft_wrap=True))
        self._all = self._bars.add_task("jobs", total=jobs, completed=done)
        self._running: dict[int, TaskID] = {}

    def __enter__(self) -> JobBars:
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        for bar in self._running.values():
            self._bars.remove_task(bar)
        self._bars.stop()

    def show(self, job: int, name: str, event: Progress) -> None:
        """How far a job is."""
        if job not in self._running:
            self._running[job] = self._bars.add_task(name, total=None)
        described = printable(" ".join(f"{name}: {event.stage}".split()))
        self._bars.update(self._running[job], description=described, total=event.total, completed=event.done)

    def end(self, job: int, line: str) -> None:
        """A job has ended; says how."""
        if job in self._running:
            self._bars.remove_task(self._running.pop(job))
        self._bars.console.print(printable(" ".join(line.split())), markup=False, highlight=False)
        self._bars.advance(self._all)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their longest entry, but the last."""
    rows = [[printable(entry) for entry in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(entry.ljust(width) for entry, width in zip(row, widths, strict=True)).rstrip())


def printable(text: str) -> str:
    """Text in one line: what would move the cursor or colour the terminal stands there as it is written in Python.
    Names of files, and what an avatar says of itself, may come from strangers."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def write_text(path: Path, text: str) -> None:
    """Under a temporary name first, so that a file that was there stays whole.

    Raises:
        OutputError: the disk is full or the folder may not be written.
    """
    temporary = path.with_name(f".{path.name}.unfinished")
    try:
        temporary.write_text(text + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def ask(question: str) -> str | None:
    """A line from the user, spaces at its ends taken off; None if there is nobody to ask."""
    if not (sys.stdin and sys.stdin.isatty()):
        return None
    print(question, end=" ", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip()


def complain(message: str) -> None:
    """One line on standard error."""
    print(f"talkinghead: {printable(' '.join(message.split()))}", file=sys.stderr)


def exit_code(run: Callable[[], int | None]) -> int:
    """What a command ends with: its own code, or where something went wrong that a user can mend a line that says what,
    and EXIT_USER."""
    try:
        return run() or 0
    except KeyboardInterrupt:
        complain("stopped; nothing half-written is left, and a fit or comparison that is started again goes on")
        return EXIT_INTERRUPTED
    except Exception as error:
        message = complaint(error)
        if message is None:
            raise
        complain(message)
        return EXIT_USER
