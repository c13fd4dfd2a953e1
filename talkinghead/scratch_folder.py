"""A folder for what is needed only while something is made, and which no killed run leaves behind for good."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.errors import OutputError


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """An empty folder at `path`, removed in the end.

    Its name is always the same, so that one that was left by a process that was killed is found, and removed, by the
    next. No two processes may use it at a time.

    Raises:
        OutputError: the disk is full or the folder may not be written.
    """
    shutil.rmtree(path, ignore_errors=True)
    try:
        path.mkdir(parents=True, exist_ok=True)  # it is still there if an ffmpeg that was left behind just wrote to it
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
