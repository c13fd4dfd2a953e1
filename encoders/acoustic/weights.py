"""Weights of pretrained networks: fetched from their official address on first use, checked by SHA-256, kept.

They lie in the user's cache folder ($XDG_CACHE_HOME or ~/.cache, then talkinghead/weights). Where the publisher states
no SHA-256 (torchaudio, Mozilla), trust is on first use: the hash of the file that is used first is written beside it,
as `sha256sum` writes it, and every later load must agree. Who knows the right hash can put that file there beforehand.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import secrets
import urllib.request
from collections.abc import Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from encoders.errors import EncoderWeightsError

_BLOCK_BYTES = 1 << 20
_TIMEOUT_S = 30.0


def weights_folder() -> Path:
    """Where fetched weights are kept; it need not exist."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "talkinghead" / "weights"


@dataclass(frozen=True)
class WeightsFile:
    """A file that someone else publishes."""

    name: str  # in `weights_folder`
    url: str  # of the file or, when `archived`, of an archive that holds it
    licence: str
    megabytes: int = 0  # about; 0: not known
    sha256: str | None = None  # stated by the publisher; None: trust on first use
    archived: bool = False  # the user unpacks it: the archive holds far more

    @property
    def path(self) -> Path:
        """Where it is, or belongs."""
        return weights_folder() / self.name

    @property
    def is_present(self) -> bool:
        """Whether it is there; says nothing of its content."""
        return self.path.is_file()

    @property
    def remedy(self) -> str:
        """What to do by hand when it is missing."""
        if self.archived:
            return f"unpack {self.path.name} from {self.url} to {self.path}"
        return f"download {self.url} ({self.megabytes} MB) with any machine and put it at {self.path}"

    def unusable(self, reason: str) -> EncoderWeightsError:
        """The error for a file that is there, and what to do about it."""
        return EncoderWeightsError(f"{self.path} {reason}: delete it and {self.remedy}")


@dataclass(frozen=True)
class FetchProgress:
    """How far a download is."""

    done: int  # bytes
    total: int | None


def fetch(file: WeightsFile, patience_s: float = _TIMEOUT_S) -> Generator[FetchProgress, None, None]:
    """Downloads the file unless it is there. Nothing half-written is left, whatever happens.

    Args:
        patience_s: seconds without an answer after which the download is given up.

    Raises:
        EncoderWeightsError: no connection, not the file that was expected, no space; or only the user can fetch it.
    """
    if file.is_present:
        return
    if file.archived:
        raise EncoderWeightsError(f"{file.path} is missing: {file.remedy}")
    temporary = file.path.with_name(f".{file.path.name}.{secrets.token_hex(6)}.part")
    try:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(file.url, timeout=patience_s) as response, temporary.open("xb") as target:
            yield from _copy(response, target)
            digest = _digest(temporary)
        if file.sha256 not in (None, digest):
            raise EncoderWeightsError(
                f"{file.url} has SHA-256 {digest}, expected {file.sha256}: something between here and there changes "
                f"downloads; {file.remedy}"
            )
        temporary.replace(file.path)
    except (OSError, http.client.HTTPException) as error:
        raise EncoderWeightsError(f"{file.url} cannot be fetched ({error}): {file.remedy}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _copy(response: http.client.HTTPResponse, target: BinaryIO) -> Generator[FetchProgress, None, None]:
    stated = response.headers.get("Content-Length")
    total = int(stated) if stated else None
    done = 0
    while block := response.read(_BLOCK_BYTES):
        target.write(block)
        done += len(block)
        yield FetchProgress(done, total)
    target.flush()
    os.fsync(target.fileno())
    if total not in (None, done):
        raise OSError(f"the connection ended after {done} of {total} bytes")


def verify(file: WeightsFile) -> str:
    """SHA-256 of a file that is there and is what it must be.

    Raises:
        EncoderWeightsError: the file is missing, or has another hash than its publisher states or it had at first.
    """
    note = file.path.with_name(f"{file.path.name}.sha256")
    try:
        digest = _digest(file.path)
        expected = file.sha256 or _noted(note)
        if expected is None:
            note.write_text(f"{digest}  {file.path.name}\n", encoding="utf-8")
    except OSError as error:
        raise EncoderWeightsError(f"{error.filename} cannot be used ({error.strerror}): {file.remedy}") from error
    if expected not in (None, digest):
        source = "its publisher states" if file.sha256 else f"{note.name} beside it (delete that to trust anew) states"
        raise file.unusable(f"has SHA-256 {digest}, and {source} {expected}")
    return digest


def _noted(note: Path) -> str | None:
    """The hash in a file that `sha256sum` could have written; None where there is no such file."""
    if not note.exists():
        return None
    words = note.read_text(encoding="utf-8", errors="replace").split()
    if not words or len(words[0]) != 64:
        raise EncoderWeightsError(f"{note} holds no SHA-256: delete it, or write 'HASH  {note.stem}' into it")
    return words[0].lower()


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as opened:
        while block := opened.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def load_checkpoint(file: WeightsFile) -> Mapping[str, Any]:
    """The content of a PyTorch checkpoint whose hash is right.

    Its publishers offer these networks in no other format than PyTorch's own, which is a pickle. This is the only place
    that reads one, and `weights_only` makes the unpickler build tensors and plain containers, never call code.

    Raises:
        EncoderWeightsError: see `verify`; or it is no such checkpoint.
    """
    verify(file)
    try:
        return torch.load(file.path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen unrelated types for damaged files
        raise file.unusable(f"is no PyTorch checkpoint ({error})") from error


def load_state(model: nn.Module, state: Mapping[str, Tensor], file: WeightsFile) -> None:
    """`load_state_dict` whose error names the file.

    Raises:
        EncoderWeightsError: the tensors are not those of the model.
    """
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise file.unusable(f"does not hold the weights of {type(model).__name__} ({error})") from error
