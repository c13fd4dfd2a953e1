"""From checked jobs to those that are still to be done."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from talkinghead.dubbing.job import Job
from talkinghead.dubbing.job_checks import JobFolder
from talkinghead.dubbing.ledger import Ledger
from talkinghead.dubbing.task import Outcome, Task
from talkinghead.progress import Progress


def open_tasks(
    jobs: Sequence[Job], folder: JobFolder
) -> Generator[Progress, None, tuple[list[Task], dict[int, Outcome]]]:
    """What is still to be done, and the outcomes of the other jobs by their rows: finished by an earlier run, with the
    same inputs and options, or with an input that is gone since it was checked."""
    ledger = Ledger(folder.path)
    ledger.sweep()
    tasks: list[Task] = []
    outcomes: dict[int, Outcome] = {}
    for done, job in enumerate(jobs, 1):
        try:
            key = job.key()
        except OSError as error:
            outcomes[job.row] = Outcome("failed", error=f"{error.filename} cannot be read ({error.strerror})")
            continue
        entry = ledger.finished(job.output, key)
        if entry is None:
            tasks.append(Task(job, key, folder.path, folder.avatars))
        else:
            outcomes[job.row] = Outcome.of("already done", entry)
        yield Progress("looking for finished jobs", done, len(jobs))
    return tasks, outcomes
