"""A job on its way: what a worker gets, does and answers."""

from __future__ import annotations

import time
import traceback
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from talkinghead.complaints import complaint
from talkinghead.dubbing.avatar_store import AvatarStore
from talkinghead.dubbing.job import Job, JobResult
from talkinghead.dubbing.ledger import Ledger, LedgerEntry
from talkinghead.file_lock import FileLock
from talkinghead.progress import Progress
from tools.errors import UserError

Status = Literal["done", "already done", "failed", "not done"]
WAITING = "waiting for another run"


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    status: Status
    result: JobResult | None = None
    """None if it is not done."""
    seconds: float = 0.0
    """That it took when it was done."""
    error: str = ""
    traceback: str = ""
    """Of a defect of ours."""

    @classmethod
    def of(cls, status: Status, entry: LedgerEntry) -> Outcome:
        """Of a job that is in the ledger."""
        return cls(status, entry.result, entry.seconds)


@dataclass(frozen=True)
class Task:
    """A job with what its worker must know; can be sent to other processes and machines."""

    job: Job
    key: str
    """The job's, when the inputs were checked."""
    folder: Path
    """Output folder, which the ledger is in."""
    avatars: Path

    def locks(self) -> tuple[Path, ...]:
        """Held by whoever does what this task needs to be done, or to do itself."""
        own = Ledger(self.folder).lock_path(self.job.output)
        try:
            return (own, *self.job.locks(AvatarStore(self.avatars)))
        except OSError:  # an input is gone: the job will say so
            return (own,)

    def perform(self) -> Generator[Progress, None, Outcome]:
        """Does the job, if nobody did it meanwhile. Raises nothing but what ends the process."""
        started = time.monotonic()
        try:
            status, entry = yield from self._perform(started)
            return Outcome.of(status, entry)
        except Exception as error:
            seconds, told = time.monotonic() - started, complaint(error)
            if told is None and isinstance(error, MemoryError | OSError):
                told = f"{type(error).__name__}: {error}"
            if told is None:
                told = f"a defect of talkinghead: {type(error).__name__}: {error}"
                return Outcome("failed", None, seconds, told, traceback.format_exc())
            return Outcome("failed", None, seconds, told)

    def _perform(self, started: float) -> Generator[Progress, None, tuple[Status, LedgerEntry]]:
        job, ledger = self.job, Ledger(self.folder)
        lock = yield from FileLock.wait(ledger.lock_path(job.output), WAITING)
        try:
            entry = ledger.finished(job.output, self.key)
            if entry is not None:
                return "already done", entry
            with ledger.workspace(job.output) as work:
                made = work / job.output.name
                result = yield from job.run(made, AvatarStore(self.avatars))
                if job.key() != self.key:
                    raise UserError(
                        "an input changed while it was read, or another release of talkinghead runs here: start again"
                    )
                seconds = round(time.monotonic() - started, 1)
                return "done", ledger.publish(made, job.output, self.key, seconds, result)
        finally:
            lock.release()
