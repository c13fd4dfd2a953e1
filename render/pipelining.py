"""Iterators that work ahead in threads: what they call (ffmpeg, torch, numba, OpenCV) releases the interpreter lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

import cv2
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


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """So many consecutive items at a time, in order; fewer at the end. None is taken before it is needed."""
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch


@contextmanager
def _workers(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads in which torch and OpenCV use no further ones: items are the parallel work, and threads that spin while
    they wait for one another are many times slower than one alone when other processes hold the cores."""
    torch_threads, opencv_threads = torch.get_num_threads(), cv2.getNumThreads()
    cv2.setNumThreads(1)  # of the whole process; torch's is the calling thread's, and the default for threads to come
    pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(torch_threads)
        cv2.setNumThreads(opencv_threads)
