"""Where a video comes from, said in the video itself: a signed C2PA manifest and IPTC's digital source type.

`Finisher` does it for whoever writes videos, between the last frame and the video's name, and keeps the avatar's log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from talkinghead import __version__
from talkinghead.avatar import Avatar
from talkinghead.avatar_log import LOG_NAME, LogEntry, append_to_log
from talkinghead.certificates import Credentials, credentials
from talkinghead.config import SpeakConfig
from talkinghead.content_credentials import sign_picture, sign_video, try_signing
from talkinghead.errors import MarkError
from talkinghead.file_record import FileRecord
from tools.bmff import BoxError, is_bmff
from tools.matroska import MatroskaError
from tools.source_type import SOURCE_TYPES, SourceType, is_png, put_in_matroska, put_in_png, xmp_box

GENERATOR = "talkinghead"
FACTS_LABEL = "talkinghead.provenance"
"""Of the assertion with `Provenance`'s facts in the C2PA manifest."""
COMPOSITE, GENERATED = "compositeWithTrainedAlgorithmicMedia", "trainedAlgorithmicMedia"
"""IPTC's names: footage in which something was exchanged, and pictures that are generated as a whole."""
UNSIGNED_SUFFIXES = {".webm": "WebM", ".mkv": "Matroska"}


@dataclass(frozen=True)
class Recording:
    """Sound that was given to be said."""

    name: str
    """File name, without its folder."""
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Recording:
        """Reads the file once, in constant memory."""
        return cls(path.name, FileRecord.of(path).sha256)


@dataclass(frozen=True)
class Provenance:
    """What is said of a video."""

    is_composite: bool
    """Whether it is footage in which the mouth was exchanged; else the whole person is generated."""
    source_sha256: str
    """Of the clip that the person was learned from."""
    recordings: tuple[Recording, ...]
    consent: str
    """The statement that the avatar holds; empty if it holds none."""
    created: str
    """ISO 8601, UTC."""

    @property
    def source_type(self) -> SourceType:
        """IPTC's."""
        name = COMPOSITE if self.is_composite else GENERATED
        return SourceType(name, f"{GENERATOR} {__version__}", self.created)

    def definition(self) -> Mapping[str, Any]:
        """The C2PA manifest, as the library's JSON has it, but for what binds it to a file."""
        agent = {"name": GENERATOR, "version": __version__}
        names = [f"recording{number}" for number in range(len(self.recordings))]
        made = {
            "action": "c2pa.edited" if self.is_composite else "c2pa.created",
            "when": self.created,
            "softwareAgent": agent,
            "digitalSourceType": SOURCE_TYPES + self.source_type.name,
            "description": "The person's lips follow other speech than was filmed",
            "parameters": {"ingredientIds": names if self.is_composite else ["source", *names]},
        }
        opened = {"action": "c2pa.opened", "when": self.created, "parameters": {"ingredientIds": ["source"]}}
        source_role = "parentOf" if self.is_composite else "inputTo"
        facts = {
            "consent": self.consent,
            "source": {"sha256": self.source_sha256},
            "recordings": [{"name": item.name, "sha256": item.sha256} for item in self.recordings],
        }
        return {
            "claim_generator_info": [agent],
            "ingredients": [
                _ingredient("source", "clip of the person", source_role, self.source_sha256),
                *(
                    _ingredient(label, item.name, "inputTo", item.sha256)
                    for label, item in zip(names, self.recordings, strict=True)
                ),
            ],
            "assertions": [
                {
                    "label": "c2pa.actions.v2",
                    "created": True,
                    "data": {"actions": [opened, made] if self.is_composite else [made]},
                },
                {"label": FACTS_LABEL, "created": True, "data": facts},
            ],
        }


def _ingredient(label: str, title: str, relationship: str, sha256: str) -> Mapping[str, str]:
    return {"label": label, "title": title, "relationship": relationship, "description": f"SHA-256 {sha256}"}


def mark_video(path: Path, provenance: Provenance, signer: Credentials) -> None:
    """Marks a finished MP4, QuickTime, Matroska or WebM file, or a folder of PNG files, as made by AI.

    Pictures and sound stay as they are, byte for byte. Matroska and WebM get IPTC's mark alone.

    Raises:
        MarkError: it cannot be marked; the file may be half marked and must not be used.
    """
    try:
        if path.is_dir():
            for picture in sorted(path.iterdir()):
                mark_video(picture, provenance, signer)
        elif is_bmff(path):
            sign_video(path, provenance.definition(), signer, (xmp_box(provenance.source_type),))
        elif is_png(path):
            put_in_png(path, provenance.source_type)
            sign_picture(path, provenance.definition(), signer)
        else:
            put_in_matroska(path, provenance.source_type)
    except (OSError, BoxError, MatroskaError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise MarkError(f"the video cannot be marked as made by AI, so it is not written: {reason}") from error


class Finisher:
    """What happens to a video between its last frame and its name: it is marked, and the avatar's log gets a line.

    A video without a mark is written only if the log can say so. Make one before the work, call it with the finished
    temporary file (or folder of PNG files), then ask for its `notes`.

    Args:
        avatar: a saved one.
        recordings: files with what is said.
        output: the name that the video will have.

    Raises:
        CertificateError: see `talkinghead.certificates.credentials`.
        MarkError: the C2PA library does not take the certificate, or there shall be no mark and no log can be written.
    """

    def __init__(self, avatar: Avatar, recordings: Sequence[Path], output: Path, config: SpeakConfig) -> None:
        self._avatar, self._recordings, self._output, self._config = avatar, recordings, output, config
        self._signer: Credentials | None = None
        self._log_note = ""
        if config.mark:
            self._signer = credentials(config.certificate, config.key)
            try_signing(self._provenance(()).definition(), self._signer)
        else:
            self._log(None)

    def __call__(self, path: Path) -> None:
        """Marks a finished file and writes the log.

        Raises:
            MarkError: it cannot be marked; it shall not be, and the log cannot be written; a recording is gone.
        """
        try:
            provenance = self._provenance([Recording.of(recording) for recording in self._recordings])
        except OSError as error:
            raise MarkError(f"the video is not written, because {error.filename} cannot be read any more") from error
        if self._signer is not None:
            mark_video(path, provenance, self._signer)
        said = tuple(recording.sha256 for recording in provenance.recordings)
        self._log(LogEntry(provenance.created, said, self._output.name, self._config.mark))

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know."""
        if self._signer is None:
            return tuple(filter(None, [self._log_note]))
        container = UNSIGNED_SUFFIXES.get(self._output.suffix.lower())
        unsigned = f"{container} has no place for a C2PA manifest: the video bears IPTC's digital source type alone"
        return tuple(filter(None, [unsigned if container else self._signer.note, self._log_note]))

    def _provenance(self, recordings: Sequence[Recording]) -> Provenance:
        facts = self._avatar.manifest
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return Provenance(self._config.is_in_place, facts.source_sha256, tuple(recordings), facts.consent, now)

    def _log(self, entry: LogEntry | None) -> None:
        assert self._avatar.path is not None, "save the avatar first"
        try:
            append_to_log(self._avatar.path, entry)
        except OSError as error:
            reason = f"{self._avatar.path / LOG_NAME} cannot be written: {error.strerror}"
            if not self._config.mark:
                raise MarkError(f"--no-mark has to be recorded, and {reason}; leave --no-mark away") from error
            self._log_note = f"the avatar's log lacks this video, because {reason}"
