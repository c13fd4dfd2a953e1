"""Which outputs are there, complete, and of which job: a finished job is never done again.

In the output folder `.dub/` holds, for each output, its record (JSON), its lock while it is made, and then also the
folder it is made in. A record is written before the output takes its name: a run that is killed between the two leaves
a record without its file, and the job is done again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from talkinghead.dubbing.job import JobResult
from talkinghead.file_lock import FileLock
from talkinghead.file_record import FileRecord
from talkinghead.scratch_folder import scratch_folder
from talkinghead.terminal import write_text
from tools.errors import OutputError

LEDGER_NAME = ".dub"
ID_DIGITS = 16
_RECORD, _LOCK, _WORK = ".json", ".lock", ".work"


@dataclass(frozen=True)
class LedgerEntry:
    """An output, and the job that made it."""

    key: str
    """Of the job."""
    output: str
    """Name in the output folder."""
    file: FileRecord
    seconds: float
    result: JobResult


class Ledger:
    """The records of an output folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ledger = folder / LEDGER_NAME

    def lock_path(self, output: Path) -> Path:
        """What a process holds while it makes an output."""
        return self._beside(output, _LOCK)

    def knows(self, output: Path) -> bool:
        """Whether an output was made, or is about to be replaced, by a job of this folder."""
        return self._read(output) is not None

    def finished(self, output: Path, key: str) -> LedgerEntry | None:
        """The record of an output that this very job made and nobody changed since."""
        entry = self._read(output)
        if entry is None or entry.key != key:
            return None
        try:
            is_whole = output.stat().st_size == entry.file.size and FileRecord.of(output) == entry.file
        except OSError:
            return None
        return entry if is_whole else None

    @contextmanager
    def workspace(self, output: Path) -> Iterator[Path]:
        """An empty folder on the same disk in which an output is made; removed in the end. Hold the lock.

        Raises:
            OutputError: the disk is full or the folder may not be written.
        """
        with scratch_folder(self._beside(output, _WORK)) as work:
            yield work

    def publish(self, made: Path, output: Path, key: str, seconds: float, result: JobResult) -> LedgerEntry:
        """Records an output and gives it its name. Hold the lock. Raises as `workspace`."""
        name = output.relative_to(self._folder).as_posix()
        with _writing(output):
            entry = LedgerEntry(key, name, FileRecord.of(made), seconds, result)
            _flush(made)
            write_text(self._beside(output, _RECORD), json.dumps(asdict(entry), default=str, indent=2))
            output.parent.mkdir(parents=True, exist_ok=True)
            made.replace(output)
        return entry

    def sweep(self) -> None:
        """Removes what killed processes left half-made."""
        for work in self._ledger.glob(f"*{_WORK}"):
            lock = FileLock.take(work.with_suffix(_LOCK))
            if lock is not None:
                shutil.rmtree(work, ignore_errors=True)
                lock.release()

    def _beside(self, output: Path, suffix: str) -> Path:
        name = output.relative_to(self._folder).as_posix()
        return self._ledger / f"{hashlib.sha256(name.encode()).hexdigest()[:ID_DIGITS]}{suffix}"

    def _read(self, output: Path) -> LedgerEntry | None:
        """None also for a record that is damaged: the job is then done again."""
        try:
            content = json.loads(self._beside(output, _RECORD).read_bytes())
            result = content["result"]
            avatar = None if result["avatar"] is None else Path(result["avatar"])
            done = JobResult(int(result["frames"]), tuple(map(str, result["notes"])), avatar)
            file = FileRecord(int(content["file"]["size"]), str(content["file"]["sha256"]))
            return LedgerEntry(str(content["key"]), str(content["output"]), file, float(content["seconds"]), done)
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None


@contextmanager
def _writing(output: Path) -> Iterator[None]:
    """Says which output a disk did not take."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {output}: {error.strerror or error}") from error


def _flush(path: Path) -> None:
    """To the disk, so that a record never outlives the content it describes."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
