"""Whether what a job reads is what it was: the content of files and folders as one string."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path

from talkinghead.file_record import FileRecord
from talkinghead.outputs import MANIFEST_NAME


def fingerprint(path: Path) -> str:
    """SHA-256 of a file; of an avatar that of its manifest, which holds those of all its files; of another folder that
    of the names and contents of the files right in it. Files are not read again while size and time stay the same.

    Raises:
        OSError: it cannot be read.
    """
    if not path.is_dir():
        return _file_sha256(path)
    if (path / MANIFEST_NAME).is_file():
        return _file_sha256(path / MANIFEST_NAME)
    files = {file.name: _file_sha256(file) for file in sorted(path.iterdir()) if file.is_file()}
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def _file_sha256(path: Path) -> str:
    facts = path.stat()
    return _sha256(path, facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=100_000)
def _sha256(path: Path, size: int, modified_ns: int) -> str:
    return FileRecord.of(path).sha256
