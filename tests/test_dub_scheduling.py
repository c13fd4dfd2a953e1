"""Which job is begun when, on workers that do nothing but say what they are told to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from dub_fakes import FakeJob

from talkinghead.config import DubOptions
from talkinghead.dubbing.avatar_store import AvatarStore
from talkinghead.dubbing.job import JobResult
from talkinghead.dubbing.ledger import Ledger
from talkinghead.dubbing.scheduling import Death, End, Step, run_tasks
from talkinghead.dubbing.task import WAITING, Outcome, Task
from talkinghead.file_lock import FileLock

DONE = Outcome("done", JobResult(1))


@dataclass(frozen=True, kw_only=True)
class PersonJob(FakeJob):
    """Needs an avatar of `video`, which is there once its file is."""

    def locks(self, avatars: AvatarStore) -> tuple[Path, ...]:
        return () if self.video.exists() else (self.video.with_suffix(".lock"),)


class ScriptedWorkers:
    """Ends running jobs in the order of their start, one a poll; `deaths` of them die first."""

    def __init__(self, count: int, deaths: Sequence[int] = ()) -> None:
        self.count, self.deaths = count, list(deaths)
        self.running: list[Task] = []
        self.begun: list[int] = []
        self.stopped = False
        self.most = 0

    def start(self, task: Task) -> None:
        self.running.append(task)
        self.begun.append(task.job.row)
        self.most = max(self.most, len(self.running))

    def poll(self) -> Sequence[Step | End | Death]:
        if not self.running:
            return []
        task = self.running.pop(0)
        if task.job.row in self.deaths:
            self.deaths.remove(task.job.row)
            return [Death(task, "it died")]
        task.job.video.touch()  # the person's avatar is there from now on
        return [End(task, DONE)]

    def stop(self) -> None:
        self.stopped = True


def tasks(folder: Path, *people: str) -> list[Task]:
    jobs = [
        PersonJob(row=row, video=folder / person, audio=folder, output=folder / f"{row}.mp4", options=DubOptions())
        for row, person in enumerate(people, 1)
    ]
    return [Task(job, "key", folder, folder / "avatars") for job in jobs]


def outcomes(events: Sequence[Step | End]) -> dict[int, str]:
    return {event.task.job.row: event.outcome.status for event in events if isinstance(event, End)}


def test_so_many_at_a_time_and_each_once(tmp_path: Path) -> None:
    workers = ScriptedWorkers(3)
    events = list(run_tasks(tasks(tmp_path, *"abcdefg"), workers))
    assert workers.begun == [1, 2, 3, 4, 5, 6, 7] and workers.most == 3 and workers.stopped
    assert outcomes(events) == dict.fromkeys(range(1, 8), "done")


def test_no_two_workers_fit_one_person(tmp_path: Path) -> None:
    workers = ScriptedWorkers(2)
    list(run_tasks(tasks(tmp_path, "a", "a", "a", "b", "a"), workers))
    assert workers.begun == [1, 4, 2, 3, 5], "the second job of a person waits for the avatar, others go on"


def test_a_dead_worker_s_job_is_tried_once_more(tmp_path: Path) -> None:
    workers = ScriptedWorkers(1, deaths=[1, 2, 2])
    events = list(run_tasks(tasks(tmp_path, *"abc"), workers))
    assert workers.begun == [1, 1, 2, 2, 3]
    assert outcomes(events) == {1: "done", 2: "failed", 3: "done"}
    (failed,) = (event for event in events if isinstance(event, End) and event.outcome.status == "failed")
    assert failed.outcome.error == "it died, 2 times"


def test_what_another_run_does_comes_last(tmp_path: Path) -> None:
    first, second = tasks(tmp_path, "a", "b")
    workers, held = ScriptedWorkers(2), FileLock.take(Ledger(tmp_path).lock_path(first.job.output))
    told = []
    for event in run_tasks([first, second], workers):
        told.append((event.task.job.row, event.progress.stage if isinstance(event, Step) else event.outcome.status))
        if told.count((1, WAITING)) == 3:
            held.release()
    assert workers.begun == [2, 1]
    assert told == [(2, "starting"), (2, "done"), *[(1, WAITING)] * 3, (1, "starting"), (1, "done")]


@pytest.mark.parametrize("after", [1, 3])
def test_workers_are_stopped_when_nobody_listens(after: int, tmp_path: Path) -> None:
    workers = ScriptedWorkers(1)
    events = run_tasks(tasks(tmp_path, *"abc"), workers)
    for _ in range(after):
        next(events)
    events.close()
    assert workers.stopped
