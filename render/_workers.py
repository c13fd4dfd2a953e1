"""The threads of one frame on a processor, and how many of them the rasterizer may use."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch

# Starts no thread before the first task, and never more than there are tasks at a time; there torch is not to share its
# operations among further threads.
_threads = ThreadPoolExecutor(os.cpu_count(), "render", initializer=torch.set_num_threads, initargs=(1,))
_count: ContextVar[int | None] = ContextVar("rasterizer workers", default=None)


def worker_limit() -> int:
    """As many as torch may use, unless `torch_on_one_thread` says otherwise."""
    return _count.get() or torch.get_num_threads()


@contextmanager
def torch_on_one_thread() -> Iterator[None]:
    """Leaves all threads to the rasterizer.

    The operations of a fit are too short to be worth waking a second thread for: on two cores they are faster on one.
    The rasterizer's tasks are longer, and it shares them out itself.
    """
    threads = torch.get_num_threads()
    token = _count.set(threads)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        _count.reset(token)


def on_threads(jobs: Sequence[Callable[[], Any]]) -> list[Any]:
    """What the jobs return: the first runs on the calling thread, each other on one of its own. Raises what any raised.

    A job must not call this itself: it would hold a thread that the others wait for.
    """
    first, *others = jobs
    elsewhere = [_threads.submit(job) for job in others]
    try:
        result = first()
    finally:
        rest = [future.result() for future in elsewhere]
    return [result, *rest]
