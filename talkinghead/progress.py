"""The events that long jobs emit: `fit`, `speak` and `evaluate` are generators of `Progress`; the CLI shows them."""

from __future__ import annotations

from dataclasses import dataclass


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
