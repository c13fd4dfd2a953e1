"""How many threads the rasterizer on a processor may use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

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
