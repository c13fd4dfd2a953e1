"""Pictures that wait on disk until they are asked for, so that how many there are does not matter to memory."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tools.errors import OutputError


class PictureFile(Sequence[np.ndarray]):
    """Pictures of one size, raw in a file without a name: it goes with this object, or with the process.

    A picture of 512 px is read in less than a millisecond while the system has memory to spare, for then it keeps the
    file there; decoding a lossless picture format would take ten times as long.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...]) -> None:
        """
        Args:
            folder: where there is room for all pictures.
            shape: of every picture; uint8.

        Raises:
            OutputError: no file can be made there.
        """
        self._shape, self._folder, self._count = shape, folder, 0
        try:
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - open as long as this object
        except OSError as error:
            raise self._no_room(error) from error

    def append(self, picture: np.ndarray) -> None:
        """
        Raises:
            ValueError: the picture is not of the agreed shape or not of uint8.
            OutputError: the disk is full.
        """
        if picture.shape != self._shape or picture.dtype != np.uint8:
            raise ValueError(f"expected uint8 {list(self._shape)}, got {picture.dtype} {list(picture.shape)}")
        try:
            self._file.seek(self._count * picture.size)
            self._file.write(np.ascontiguousarray(picture).data)
            self._file.flush()
        except OSError as error:
            raise self._no_room(error) from error
        self._count += 1

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> np.ndarray:
        """A fresh copy of a picture."""
        place = range(self._count)[index]
        picture = np.empty(self._shape, np.uint8)
        self._file.seek(place * picture.size)
        self._file.readinto(picture.data)
        return picture

    def _no_room(self, error: OSError) -> OutputError:
        return OutputError(
            f"cannot keep the training frames in {self._folder} ({error.strerror}): make room there, "
            "or choose another place with -o"
        )
