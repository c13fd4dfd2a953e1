"""The avatar's log: a line for every video that it spoke. It says which of them bear no mark of being made by AI."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from dataclasses import asdict, dataclass
from pathlib import Path

from talkinghead.file_lock import hold

LOG_NAME = "log.jsonl"
"""In the avatar folder. It is none of the files that the avatar consists of, and stays when that is fitted anew."""


@dataclass(frozen=True)
class LogEntry:
    """A video that was made."""

    time: str
    """ISO 8601, UTC."""
    audio: tuple[str, ...]
    """SHA-256 of what was said."""
    output: str
    """File name, without its folder."""
    marked: bool


def append_to_log(avatar: Path, entry: LogEntry | None) -> None:
    """Appends a line, whole even beside other processes that do the same; None only tries whether it could be.

    The log is opened as what it should be, a file in the folder: an avatar may come from strangers.

    Raises:
        OSError: it cannot be written, or is a link, a pipe or a folder.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(avatar / LOG_NAME, flags, 0o644)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "it is no file")
        if entry is None:
            return
        with contextlib.suppress(OSError):  # on a file system without locks two lines may get an empty one between them
            hold(descriptor)
        line = json.dumps(asdict(entry), ensure_ascii=False) + "\n"
        if os.fstat(descriptor).st_size:
            os.lseek(descriptor, -1, os.SEEK_END)
            if os.read(descriptor, 1) != b"\n":  # a line cut off by a crash stays a line of its own
                line = "\n" + line
        os.write(descriptor, line.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
