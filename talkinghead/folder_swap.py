"""Writing a folder as a whole: whatever happens, its name shows the old folder complete or the new one complete."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tools.errors import OutputError


@contextmanager
def replaced_folder(destination: Path, spent: Sequence[Path] = ()) -> Iterator[Path]:
    """Yields an empty folder beside `destination` that takes its name when the block ends well and is removed when not.

    A folder that stood there is set aside, and removed once the new one is in its place; what it holds under names that
    the new one lacks (a user's notes) moves over. Everything is on the disk before any name changes.

    Args:
        spent: files that nobody needs once the folder is there. They are removed just before that, since nobody would
            come back for them if the process were killed just after.

    Raises:
        OutputError: the disk is full or the folder may not be written.
    """
    destination = destination.resolve()
    restore_interrupted_swap(destination)
    temporary = destination.with_name(f".{destination.name}.unfinished")
    try:
        shutil.rmtree(temporary, ignore_errors=True)  # of a run that was killed
        temporary.mkdir()
        yield temporary
        _flush_to_disk(temporary)
        for path in spent:
            path.unlink(missing_ok=True)
        _swap(temporary, destination)
    except OSError as error:
        raise OutputError(f"cannot write {destination}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def restore_interrupted_swap(destination: Path) -> None:
    """Puts the old folder back if a run was killed after it was set aside and before the new one took its place."""
    previous = _set_aside_name(destination)
    if previous.is_dir() and not destination.exists():
        previous.rename(destination)


def _set_aside_name(destination: Path) -> Path:
    return destination.with_name(f".{destination.name}.previous")


def _swap(temporary: Path, destination: Path) -> None:
    previous = _set_aside_name(destination)
    if destination.exists():
        _retire(previous, destination)  # of a run that was killed after its swap
        destination.rename(previous)
    try:
        temporary.rename(destination)
    except BaseException:
        restore_interrupted_swap(destination)
        raise
    _flush_entry(destination.parent)
    _retire(previous, destination)


def _retire(previous: Path, current: Path) -> None:
    """Removes a folder that was replaced, after moving over what only it holds."""
    if previous.is_dir():
        for entry in previous.iterdir():
            if not (current / entry.name).exists():
                entry.rename(current / entry.name)
        shutil.rmtree(previous)


def _flush_to_disk(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
    _flush_entry(folder)


def _flush_entry(folder: Path) -> None:
    """Flushes the names in a folder, on systems where a folder can be opened."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
