"""The same jobs as tasks of a Ray cluster, whose nodes share the folders. Needs the package `ray` (extra `ray`)."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from talkinghead import __version__
from talkinghead.dubbing.scheduling import Death, End, Step
from talkinghead.dubbing.task import Outcome, Task
from talkinghead.errors import ClusterError
from talkinghead.progress import Progress
from talkinghead.start_up import start_up, use_threads

POLL_S = 0.2
PATIENCE_S = 20.0
"""How long running tasks may take to end in order."""


class RayWorkers:
    """See `talkinghead.dubbing.scheduling.Workers`. Ray itself repeats nothing: that is the scheduler's."""

    def __init__(self, address: str, count: int | None) -> None:
        """
        Args:
            address: of the cluster; "auto" on one of its nodes, "local" for one on this machine and for this run.
            count: jobs at a time; None for one on each node.

        Raises:
            ClusterError: the package is missing, or there is no such cluster.
        """
        self._ray = _connected(address)
        nodes = [node["Resources"].get("CPU", 0) for node in self._ray.nodes() if node["Alive"]]
        able = [int(cores) for cores in nodes if cores >= 1]
        if not able:
            raise ClusterError(f"the Ray cluster at {address} has no node with a processor: start nodes first")
        self.count = count or len(able)
        self._cores = max(1, min(min(able), sum(able) // self.count))
        # max_calls: a process of its own for every job, as on one machine.
        self._function = self._ray.remote(num_cpus=self._cores, max_retries=0, max_calls=1)(_perform)
        self._running: dict[Any, Task] = {}

    def start(self, task: Task) -> None:
        self._running[self._function.remote(task, __version__, self._cores)] = task

    def poll(self) -> Sequence[Step | End | Death]:
        if not self._running:
            time.sleep(POLL_S)
            return []
        ended, _ = self._ray.wait(list(self._running), num_returns=1, timeout=POLL_S)
        return [self._result(reference, self._running.pop(reference)) for reference in ended] or [
            Step(task, Progress("on the cluster", 0, None)) for task in self._running.values()
        ]

    def stop(self) -> None:
        for reference in self._running:
            self._ray.cancel(reference)  # raises KeyboardInterrupt there
        if self._running:
            self._ray.wait(list(self._running), num_returns=len(self._running), timeout=PATIENCE_S)
        self._ray.shutdown()

    def _result(self, reference: Any, task: Task) -> End | Death:
        try:
            return End(task, self._ray.get(reference))
        except self._ray.exceptions.RayError as error:
            return Death(task, f"its worker died on the cluster ({str(error).splitlines()[0]})")


def _connected(address: str) -> Any:
    try:
        import ray
    except ImportError as error:
        raise ClusterError("--ray needs the package ray: pip install 'talkinghead[ray]'") from error
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster that is started here reports to nobody
    try:
        ray.init(address, log_to_driver=False, logging_level="error")
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ClusterError(f"no Ray cluster at {address} ({error}): start one with 'ray start --head'") from error
    return ray


def _perform(task: Task, version: str, cores: int) -> Outcome:
    """On a node: does a job to its end."""
    if version != __version__:
        return Outcome("failed", error=f"a node has talkinghead {__version__}, expected {version}: install that there")
    if not Path(task.folder).is_dir():
        return Outcome("failed", error=f"a node does not see {task.folder}: share the folder among all nodes")
    start_up()
    use_threads(cores)
    steps = task.perform()
    try:
        while True:
            next(steps)
    except StopIteration as finished:
        return finished.value
    finally:
        steps.close()
