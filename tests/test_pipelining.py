"""Working ahead in threads must not change what comes out, nor hide what goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import cv2
import pytest
import torch

from render.pipelining import batches, mapped, prefetched


class Source:
    """Counts to 100, remembers how far it was read, and may fail on the way."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.read = 0
        self._fails_at = fails_at

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        if self.read == self._fails_at:
            raise OSError("the disk is full")
        if self.read == 100:
            raise StopIteration
        self.read += 1
        return self.read - 1


def test_prefetching_keeps_order_and_bound() -> None:
    source = Source()
    for expected, item in enumerate(prefetched(source, depth=5)):
        assert item == expected
        assert source.read <= expected + 1 + 5 + 1  # the item, those waiting, one being made
    assert source.read == 100


def test_prefetching_passes_errors_on_in_their_place() -> None:
    items = prefetched(Source(fails_at=7), depth=3)
    assert [next(items) for _ in range(7)] == list(range(7))
    with pytest.raises(OSError, match="the disk is full"):
        next(items)


def test_prefetching_works_ahead() -> None:
    """The source waits for something that happens only after the first item was taken: no item is needed to go on."""
    released = threading.Event()

    def slow() -> Iterator[int]:
        yield 0
        assert released.wait(timeout=60)
        yield 1

    items = prefetched(slow(), depth=2)
    assert next(items) == 0
    released.set()
    assert list(items) == [1]


def test_closing_stops_source_and_workers() -> None:
    source, threads = Source(), threading.active_count()
    squares = mapped(lambda number: number**2, prefetched(source, depth=4), workers=2)
    assert next(squares) == 0
    squares.close()
    assert threading.active_count() == threads
    assert source.read < 30


def test_mapping_runs_side_by_side_in_order() -> None:
    both = threading.Barrier(2, timeout=60)  # broken if there were no two at the same time

    def square(number: int) -> int:
        both.wait()
        return number**2

    assert list(mapped(square, iter(range(100)), workers=2)) == [number**2 for number in range(100)]


def test_mapping_passes_errors_on_in_their_place() -> None:
    def reciprocal(number: int) -> float:
        return 1 / (number - 3)

    results = mapped(reciprocal, iter(range(100)), workers=2)
    assert [next(results) for _ in range(3)] == [-1 / 3, -1 / 2, -1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_batches_keep_order_and_take_no_item_early() -> None:
    source = Source()
    first, *_, last = taken = list(batches(source, 16))
    assert [item for batch in taken for item in batch] == list(range(100))
    assert len(first) == 16 and len(last) == 4
    source = Source(fails_at=20)
    items = batches(source, 16)
    assert next(items) == list(range(16)) and source.read == 16
    with pytest.raises(OSError, match="the disk is full"):
        next(items)


def test_libraries_use_one_thread_inside_and_as_many_as_before_outside() -> None:
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(3)
    cv2.setNumThreads(3)
    try:
        inside = mapped(lambda _: (torch.get_num_threads(), cv2.getNumThreads()), iter(range(8)), workers=2)
        assert set(inside) == {(1, 1)}
        assert (torch.get_num_threads(), cv2.getNumThreads()) == (3, 3)
        started_later: list[int] = []
        thread = threading.Thread(target=lambda: started_later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert started_later == [3]
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
