"""A film as numbered PNG files with transparency, in a folder of their own that appears when it is complete."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from tools.errors import OutputError
from tools.video_writer import Finish

PNG_SUFFIX = ".png"
COMPRESSION = 3
"""zlib's level: higher ones take several times as long for a few per cent."""
_NUMBER = re.compile(r"%(?:0(\d+))?d")


class PngSequenceWriter:
    """Writes frames to `folder`/NAME%06d.png, counted from 0; use it as a context manager.

    They are written into a temporary folder beside `folder`, which takes its name when the block ends well; on any
    exception, Ctrl-C included, it is removed. A folder that stood there is replaced if it holds nothing but files that
    the pattern makes.

    Args:
        pattern: path whose name holds the number as %d or %0Nd and ends in .png.
        finish: called with the folder of finished files before that takes its name; may change them, or raise.

    Raises:
        OutputError: see `check_png_pattern`; the disk is full.
    """

    def __init__(self, pattern: Path, finish: Finish | None = None) -> None:
        check_png_pattern(pattern)
        self._finish_folder = finish
        self._pattern = pattern
        self._folder = pattern.absolute().parent
        self._temporary = self._folder.parent / f".unfinished-{secrets.token_hex(6)}"
        self._count = 0

    def __enter__(self) -> PngSequenceWriter:
        self._temporary.mkdir()
        return self

    def write(self, frame: np.ndarray) -> None:
        """Appends a frame: uint8 [H, W, 4], RGB and straight alpha.

        Raises:
            ValueError: another shape or type.
            OutputError: the disk is full.
        """
        if frame.ndim != 3 or frame.shape[2] != 4 or frame.dtype != np.uint8:
            raise ValueError(f"expected a uint8 frame of shape (H, W, 4), got {frame.dtype} {frame.shape}")
        picture = cv2.cvtColor(frame, cv2.COLOR_RGBA2BGRA)
        _, png = cv2.imencode(PNG_SUFFIX, picture, [cv2.IMWRITE_PNG_COMPRESSION, COMPRESSION])
        try:
            (self._temporary / (self._pattern.name % self._count)).write_bytes(png.data)
        except OSError as error:
            raise _output_error(self._pattern, error.strerror) from error
        self._count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _finish(self) -> None:
        if not self._count:
            raise _output_error(self._pattern, "not one frame came; is the audio shorter than a frame?")
        if self._finish_folder is not None:
            self._finish_folder(self._temporary)
        try:
            if self._folder.exists():
                self._folder.replace(self._temporary / "old")
            self._temporary.replace(self._folder)
            shutil.rmtree(self._folder / "old", ignore_errors=True)
        except OSError as error:
            raise _output_error(self._pattern, error.strerror) from error


def check_png_pattern(pattern: Path) -> None:
    """Whether a sequence may be written.

    Raises:
        OutputError: the name has no number or more than one, the folder's parent is missing or may not be written, or
            the folder holds other files.
    """
    if pattern.suffix != PNG_SUFFIX or len(_NUMBER.findall(pattern.name)) != 1 or pattern.name.count("%") != 1:
        raise OutputError(f"cannot write {pattern}: give a name with a number in it, such as frames/%06d{PNG_SUFFIX}")
    folder = pattern.absolute().parent
    if not folder.parent.is_dir():
        raise OutputError(f"cannot write {pattern}: {folder.parent} is not a folder; create it first")
    if not os.access(folder.parent, os.W_OK):
        raise OutputError(f"cannot write {pattern}: no permission to write in {folder.parent}")
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"cannot write {pattern}: {folder} is a file; give another folder")
    if other := next((path for path in _files(folder) if not _is_of(pattern, path)), None):
        raise OutputError(
            f"cannot write {pattern}: {folder} holds other files ({other.name}), and it is replaced as a whole; "
            "name a new folder"
        )


def sequence_exists(pattern: Path) -> bool:
    """Whether the folder of a pattern holds anything."""
    return any(_files(pattern.absolute().parent))


def _files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _is_of(pattern: Path, path: Path) -> bool:
    before, after = _NUMBER.sub("%", pattern.name).split("%")
    return re.fullmatch(re.escape(before) + r"\d+" + re.escape(after), path.name) is not None


def _output_error(pattern: Path, reason: str) -> OutputError:
    return OutputError(f"cannot write {pattern}: {reason}")
