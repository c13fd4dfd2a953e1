"""A lock among processes that the system frees when its holder ends, however it ends."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import IO

from talkinghead.progress import Progress
from tools.errors import OutputError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

POLL_S = 0.2


class FileLock:
    """Holds a lock file until `release`, or until the process ends.

    The file is made when it is not there, holds nothing, and stays: to remove it would let two processes lock two files
    of one name. On a network file system locks hold among machines where the system makes them so (NFS 4 does).
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    @classmethod
    def take(cls, path: Path) -> FileLock | None:
        """The lock, or None while another holds it.

        Raises:
            OutputError: the file cannot be made, or its file system has no locks.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("ab")
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}; choose another folder with --out") from error
        try:
            if sys.platform == "win32":
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # the latter on Windows
            file.close()
            return None
        except OSError as error:
            file.close()
            raise OutputError(f"cannot lock {path} ({error.strerror}): put --out on a disk that has locks") from error
        return cls(file)

    @classmethod
    def wait(cls, path: Path, reason: str) -> Generator[Progress, None, FileLock]:
        """The lock, as soon as it is free; `reason` is what the user is told until then. Raises as `take`."""
        while (lock := cls.take(path)) is None:
            yield Progress(reason, 0, None)
            time.sleep(POLL_S)
        return lock

    def release(self) -> None:
        """Lets others have it."""
        self._file.close()


def hold(descriptor: int) -> None:
    """Waits until no other process holds an open file, and holds it until it is closed.

    Raises:
        OSError: its file system has no locks.
    """
    if sys.platform == "win32":
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock at this moment."""
    if not path.exists():
        return False
    lock = FileLock.take(path)
    if lock is not None:
        lock.release()
    return lock is None
