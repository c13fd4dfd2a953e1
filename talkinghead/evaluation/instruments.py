"""What looks at the pictures of a row: the interface that every kind of measure has.

An `Instrument` says what it measures and makes an `Observer` for each row, which sees the row's frames in order and is
asked for figures at the end. To add a measure, write an instrument and list it in `talkinghead.evaluation.available`.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol

import numpy as np

from talkinghead.evaluation.faces import RowFaces

Best = Literal["high", "low", "one"]


@dataclass(frozen=True)
class Measure:
    """A column of figures."""

    name: str
    definition: str
    """One sentence, with where it comes from: paper and equation."""
    unit: str = ""
    best: Best | None = None
    """What a perfect row has; None: it describes, and is neither good nor bad."""
    is_of_lips: bool = False
    """It must rank the truth before tracked lips, those before heard lips, and those before lips of other sound."""


@dataclass(frozen=True)
class Drive:
    """What moves the lips of a row, and what is heard with it."""

    name: str
    codes: np.ndarray  # [T, Kl] lower-face code of every measured frame
    samples: np.ndarray  # [N] float32 in [-1, 1] at 16 kHz, from the first measured frame on
    has_truth: bool = True
    """The clip shows how these lips ought to look; not so when something else is said."""
    delay_frames: float = 0.0
    """By which the sound comes too early for the lips, as in the clip."""


@dataclass(frozen=True)
class ObservedFrame:
    """One frame of a row. Pictures are the crop, uint8 [R, R, 3] RGB."""

    number: int  # in the clip
    source: np.ndarray
    in_place: np.ndarray  # as `speak` shows it in the footage
    free: np.ndarray  # the head alone over the background plate
    face: np.ndarray  # [R, R] bool, inside the convex hull of the source's face landmarks
    mouth: tuple[slice, slice]  # rows and columns around the source's lips
    faces: RowFaces  # what looks for the face in the row's pictures
    lower_face: np.ndarray = field(default_factory=lambda: np.full((2, 3), np.nan))
    """[2, 3] px of the pictures to px of the lower face, see `lip_clips.landmark_transforms`; NaN where unknown."""

    @cached_property
    def landmarks(self) -> np.ndarray:
        """[478, 3] MediaPipe's landmarks in `in_place`, px; NaN where no face is seen. Looked for when first asked."""
        return self.faces.in_place(self.in_place)

    @cached_property
    def free_landmarks(self) -> np.ndarray:
        """The same in `free`."""
        return self.landmarks if self.free is self.in_place else self.faces.free(self.free)


class Observer(Protocol):
    """Sees one row."""

    def see(self, frame: ObservedFrame) -> None:
        """Takes in the next frame. Called for frames in order, from one thread at a time."""

    def figures(self, truth: Observer) -> dict[str, float]:
        """A value for each of the instrument's measures; NaN where it is undefined.

        Args:
            truth: the same instrument's observer of the clip itself.

        Raises:
            UserError: it cannot be measured, for a reason that becomes a note.
        """


class Instrument(Protocol):
    """A kind of measure."""

    measures: tuple[Measure, ...]

    def observer(self, drive: Drive, stack: ExitStack) -> Observer:
        """An observer for a row; what it must close is registered in the stack."""
