"""Avatars that are fitted once per person: found again by the content of the video and by how they were fitted."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Generator
from dataclasses import asdict, replace
from pathlib import Path

from talkinghead import __version__
from talkinghead.config import TRAINED_SPEECH_SUFFIX, FitConfig
from talkinghead.file_lock import FileLock
from talkinghead.fingerprint import fingerprint
from talkinghead.progress import Progress
from tools.errors import OutputError

KEY_DIGITS = 16
LONGEST_STEM = 40
"""Characters of the video's name in that of its avatar."""


class AvatarStore:
    """A folder of avatars that several processes, and machines that share it, may use at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def avatar_for(self, video: Path, config: FitConfig) -> Generator[Progress, None, Path]:
        """The avatar of a video, fitted if it is not there; a fit that was killed goes on.

        While another process fits it, this one waits, and fits it itself if the other is killed.

        Raises:
            OSError: the video cannot be read.
            OutputError: the folder cannot be written.
            Exception: see `talkinghead.fit.fit`.
        """
        path = self.place(video, config)
        if _is_sound(path):
            return path
        _make_folder(self.folder)
        lock = yield from FileLock.wait(self.lock_path(video, config), f"waiting for the fit of {video.name}")
        try:
            if not _is_sound(path):
                from talkinghead.fit import fit

                yield from fit(video, path, config)
        finally:
            lock.release()
        return path

    def place(self, video: Path, config: FitConfig) -> Path:
        """Where the avatar of a video is, or will be. Raises OSError: the video cannot be read."""
        key = _key(video, config)
        known = sorted(self.folder.glob(f"*-{key}.avatar"))  # of the same video under another name
        stem = re.sub(r"[^\w-]+", "_", video.stem)[:LONGEST_STEM]
        return known[0] if known else self.folder / f"{stem}-{key}.avatar"

    def lock_path(self, video: Path, config: FitConfig) -> Path:
        """What a process holds while it fits this avatar. Raises as `place`."""
        return self.folder / f".{_key(video, config)}.lock"


def _key(video: Path, config: FitConfig) -> str:
    """What an avatar follows from; neither where it is fitted nor whether it was begun anew."""
    trained = fingerprint(Path(config.speech)) if config.speech.endswith(TRAINED_SPEECH_SUFFIX) else config.speech
    facts = asdict(replace(config, device="auto", restart=False)) | {"speech": trained}
    content = json.dumps([fingerprint(video), __version__, facts])
    return hashlib.sha256(content.encode()).hexdigest()[:KEY_DIGITS]


def _is_sound(avatar: Path) -> bool:
    """Whether an avatar is there, of a format that this release reads, and no file of it has changed."""
    from talkinghead.avatar import check_folder
    from talkinghead.errors import DamagedAvatarError, NewerAvatarError, NotAnAvatarError, OlderAvatarError

    try:
        check_folder(avatar)
    except (DamagedAvatarError, NewerAvatarError, NotAnAvatarError, OlderAvatarError):
        return False
    return True


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot make the folder {folder} ({error.strerror}): choose another with --avatars"
        ) from error
