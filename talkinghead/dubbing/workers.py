"""A process of its own for every job on this machine: what kills one harms no other."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import FrameType

from talkinghead.dubbing.scheduling import Death, End, Step
from talkinghead.dubbing.task import Outcome, Task
from talkinghead.progress import Progress
from talkinghead.start_up import start_up, use_threads

POLL_S = 0.2
TOLD_EVERY_S = 0.1
PATIENCE_S = 20.0
"""How long a process may take to end in order."""


class ProcessWorkers:
    """See `talkinghead.dubbing.scheduling.Workers`."""

    def __init__(self, count: int) -> None:
        from talkinghead.machine import usable_cores  # loads torch, which a worker may not need

        self.count = count
        self._threads = max(1, usable_cores() // count)
        self._running: dict[Connection, tuple[SpawnProcess, Task]] = {}

    def start(self, task: Task) -> None:
        context = get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(sender, task, self._threads))
        with _ctrl_c_held_back():
            process.start()
        sender.close()  # the worker's end is then the only one, and its death closes it
        self._running[receiver] = process, task

    def poll(self) -> Sequence[Step | End | Death]:
        if not self._running:
            time.sleep(POLL_S)
        return [self._receive(receiver) for receiver in connection.wait(list(self._running), POLL_S)]

    def stop(self) -> None:
        for process, _ in self._running.values():
            process.terminate()
        for receiver in list(self._running):
            self._part_with(receiver)

    def _receive(self, receiver: Connection) -> Step | End | Death:
        _, task = self._running[receiver]
        try:
            told = receiver.recv()
        except (EOFError, OSError):  # it ended without an outcome
            return Death(task, _cause_of_death(self._part_with(receiver)))
        if isinstance(told, Progress):
            return Step(task, told)
        self._part_with(receiver)
        return End(task, told)

    def _part_with(self, receiver: Connection) -> int | None:
        """Waits until a process has ended, and returns its exit code."""
        process, _ = self._running.pop(receiver)
        process.join(PATIENCE_S)
        if process.is_alive():
            process.kill()
            process.join()
        receiver.close()
        return process.exitcode


def _cause_of_death(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        hint = " (the system does this when memory runs out: try fewer --workers)" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{hint}"
    return f"its process ended with exit code {exit_code}"


@contextmanager
def _ctrl_c_held_back() -> Iterator[None]:
    """A process that starts meanwhile never sees Ctrl-C, which is for this one: it ends the others in order."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(sender: Connection, task: Task, threads: int) -> None:
    """The worker's life."""
    signal.signal(signal.SIGTERM, _interrupt)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    start_up()
    use_threads(threads)
    try:
        sender.send(_told(sender, task))
        sender.close()
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(1)


def _told(sender: Connection, task: Task) -> Outcome:
    """Does a job, telling now and then how far it is."""
    steps = task.perform()
    with closing(steps):
        stage, told = "", 0.0
        while True:
            try:
                progress = next(steps)
            except StopIteration as finished:
                return finished.value
            if progress.stage != stage or time.monotonic() - told > TOLD_EVERY_S:
                sender.send(progress)
                stage, told = progress.stage, time.monotonic()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    """A worker whose run was killed ends in order, since nobody would hear of what it does."""
    parent = parent_process()
    assert parent is not None, "a worker is started by a run"
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
