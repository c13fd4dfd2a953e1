"""What became of all jobs: a table for people and a file for programs."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from talkinghead.dubbing.job import Job
from talkinghead.dubbing.ledger import LEDGER_NAME
from talkinghead.dubbing.task import Outcome
from talkinghead.file_lock import POLL_S, FileLock
from talkinghead.terminal import write_text

REPORT_NAME, REPORT_LOCK_NAME = "report.jsonl", "report.lock"


def write_report(folder: Path, jobs: Sequence[Job], outcomes: Mapping[int, Outcome]) -> Path:
    """Writes report.jsonl, a line of JSON for each job.

    Args:
        outcomes: by the jobs' rows; jobs without one were not done.
    """
    lines = [json.dumps(_facts(job, outcomes.get(job.row, Outcome("not done"))), ensure_ascii=False) for job in jobs]
    path = folder / REPORT_NAME
    while (lock := FileLock.take(folder / LEDGER_NAME / REPORT_LOCK_NAME)) is None:  # another run that ends too
        time.sleep(POLL_S)
    try:
        write_text(path, "\n".join(lines))
    finally:
        lock.release()
    return path


def summary_table(folder: Path, jobs: Sequence[Job], outcomes: Mapping[int, Outcome]) -> list[tuple[str, ...]]:
    """A heading and a line per job: row, status, frames, seconds, output and, of a failed job, why."""
    rows = [("row", "status", "frames", "s", "output")]
    for job in jobs:
        outcome = outcomes.get(job.row, Outcome("not done"))
        frames = "-" if outcome.result is None else str(outcome.result.frames)
        told = _name(folder, job) + (f": {' '.join(outcome.error.split())}" if outcome.error else "")
        rows.append((str(job.row), outcome.status, frames, f"{outcome.seconds:.1f}", told))
    return rows


def total(jobs: Sequence[Job], outcomes: Mapping[int, Outcome]) -> str:
    """One line: how many jobs ended how."""
    counts = Counter(outcomes.get(job.row, Outcome("not done")).status for job in jobs)
    noun = "job" if len(jobs) == 1 else "jobs"
    return f"{len(jobs)} {noun}: " + ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))


def _name(folder: Path, job: Job) -> str:
    return repr(name)[1:-1] if not (name := job.output.relative_to(folder).as_posix()).isprintable() else name


def _facts(job: Job, outcome: Outcome) -> dict[str, object]:
    result = outcome.result
    facts: dict[str, object] = {
        "row": job.row,
        "status": outcome.status,
        "video": str(job.video),
        **{column: str(getattr(job, column)) for column in job.COLUMNS},
        "output": str(job.output),
        "seconds": round(outcome.seconds, 1),
        "frames": result and result.frames,
        "notes": list(result.notes) if result else [],
        "avatar": str(result.avatar) if result and result.avatar else None,
        "error": outcome.error or None,
    }
    return facts | ({"traceback": outcome.traceback} if outcome.traceback else {})
