"""Locks among processes: one holder at a time, freed by the system when the holder is killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from talkinghead.file_lock import FileLock, hold, is_locked
from tools.errors import OutputError

HOLDER = """
import sys, time, pathlib
from talkinghead.file_lock import FileLock
lock = FileLock.take(pathlib.Path(sys.argv[1]))
print(lock is not None, flush=True)
time.sleep(600)
"""


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.lock"
    assert not is_locked(path) and not path.exists(), "asking makes no file"
    first = FileLock.take(path)
    assert first is not None and FileLock.take(path) is None and is_locked(path)
    waiting = FileLock.wait(path, "waiting for the other")
    assert next(waiting).stage == next(waiting).stage == "waiting for the other"
    first.release()
    with pytest.raises(StopIteration) as finished:
        next(waiting)
    assert is_locked(path)
    finished.value.value.release()
    assert not is_locked(path)


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "True\n"
    assert is_locked(path) and FileLock.take(path) is None
    holder.kill()
    holder.communicate()
    lock = FileLock.take(path)
    assert lock is not None
    lock.release()


def test_a_lock_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="choose another folder with --out"):
        FileLock.take(tmp_path / "file" / "a.lock")


def test_a_held_file_is_free_when_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        hold(file.fileno())
        assert is_locked(path)
    assert not is_locked(path)
