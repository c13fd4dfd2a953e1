"""The events that long jobs emit: `fit`, `speak` and `evaluate` are generators of `Progress`; the CLI shows them."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

Event = TypeVar("Event")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Progress:
    """How far a stage of a job is. Stages follow one another; within one, `done` grows up to `total`."""

    stage: str
    """What is being done, in words for the user; a new name begins a new stage."""
    done: int
    """Steps or frames finished in this stage."""
    total: int | None
    """Steps or frames of this stage; None while the number is not known."""
    detail: str = ""
    """What else may be said at this point, such as the loss."""


def relayed(
    job: Generator[Event, None, Result], told: Callable[[Event], Progress]
) -> Generator[Progress, None, Result]:
    """A job of another package as one of this: its events as `told`, its value as it is."""
    while True:
        try:
            event = next(job)
        except StopIteration as finished:
            return finished.value
        yield told(event)
