"""Iterators that work ahead in threads: what they call (ffmpeg, torch, numba, OpenCV) releases the interpreter lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

_END = object()


def prefetched(items: Iterator[Item], depth: int) -> Iterator[Item]:
    """The same items, made in a thread of their own; up to `depth` of them wait.

    What the source raises is raised here, in its place. Closing this iterator stops the source within one item.
    """
    with _workers(1) as pool:
        pending = deque(pool.submit(next, items, _END) for _ in range(depth))
        while (item := pending.popleft().result()) is not _END:
            pending.append(pool.submit(next, items, _END))
            yield item


def mapped(function: Callable[[Item], Result], items: Iterator[Item], workers: int) -> Iterator[Result]:
    """`map` on several threads, in order; up to two items per worker are taken ahead.

    What `function` raises is raised here, in its place. Closing this iterator ends the work within one item per worker.
    """
    with _workers(workers) as pool:
        pending: deque[Future[Result]] = deque()
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


@contextmanager
def _workers(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads in which torch uses no further ones: items are the parallel work, and threads that wait for one another
    while other processes hold the cores are many times slower than one alone."""
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # what the workers set is also the default for threads to come
