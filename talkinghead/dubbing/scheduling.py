"""Which job is done when: so many at a time, none by two, and one whose worker dies once more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from talkinghead.dubbing.task import WAITING, Outcome, Task
from talkinghead.file_lock import is_locked
from talkinghead.progress import Progress

MOST_ATTEMPTS = 2


@dataclass(frozen=True)
class Step:
    """How far a job is."""

    task: Task
    progress: Progress


@dataclass(frozen=True)
class End:
    """A job has ended."""

    task: Task
    outcome: Outcome


@dataclass(frozen=True)
class Death:
    """The process that did a job is gone without a word."""

    task: Task
    reason: str


class Workers(Protocol):
    """Processes on this machine or elsewhere, each of which does one job."""

    count: int
    """Jobs at a time."""

    def start(self, task: Task) -> None:
        """Begins a job."""

    def poll(self) -> Sequence[Step | End | Death]:
        """What has happened since; waits a moment if nothing has."""

    def stop(self) -> None:
        """Ends all jobs in order; nothing half-made stays."""


def run_tasks(tasks: Sequence[Task], workers: Workers) -> Generator[Step | End, None, None]:
    """Does all jobs; each ends once. When the generator is closed or anything is raised, running jobs are ended.

    A job that needs what another is just making (the avatar of the same person), or that another run is doing, comes
    later, so that no worker waits while there is other work.
    """
    pending = list(tasks)
    held: dict[int, tuple[Path, ...]] = {}  # by the number of the job that runs: what it will lock
    attempts: Counter[int] = Counter()
    try:
        while pending or held:
            while len(held) < workers.count and (task := _next(pending, held)) is not None:
                pending.remove(task)
                attempts[task.job.row] += 1
                held[task.job.row] = task.locks()
                workers.start(task)
                yield Step(task, Progress("starting", 0, None))
            if not held:
                yield Step(pending[0], Progress(WAITING, 0, None))
            for event in workers.poll():
                if isinstance(event, Step):
                    yield event
                    continue
                del held[event.task.job.row]
                if isinstance(event, End):
                    yield event
                elif attempts[event.task.job.row] < MOST_ATTEMPTS:
                    pending.insert(0, event.task)
                else:
                    yield End(event.task, Outcome("failed", error=f"{event.reason}, {MOST_ATTEMPTS} times"))
    finally:
        workers.stop()


def _next(pending: Sequence[Task], held: dict[int, tuple[Path, ...]]) -> Task | None:
    """The first task that would not have to wait."""
    taken = {lock for locks in held.values() for lock in locks}
    for task in pending:
        locks = task.locks()
        if taken.isdisjoint(locks) and not any(map(is_locked, locks)):
            return task
    return None
