"""A file's size and SHA-256: whether it is still what it was."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class FileRecord:
    """What a file was when it was recorded."""

    size: int  # bytes
    sha256: str

    @classmethod
    def of(cls, path: Path) -> FileRecord:
        """Reads the file once, in constant memory."""
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
        return cls(path.stat().st_size, digest.hexdigest())
