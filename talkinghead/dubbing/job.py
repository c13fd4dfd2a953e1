"""What a job is, whatever it makes. `job_kinds` lists the kinds."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from talkinghead import __version__
from talkinghead.config import ALPHA, DubOptions
from talkinghead.fingerprint import fingerprint
from talkinghead.outputs import VIDEO_SUFFIX, check_video_name
from talkinghead.progress import Progress

if TYPE_CHECKING:
    from talkinghead.dubbing.avatar_store import AvatarStore

DEVICE = "device"
"""The option that belongs to the machine and not to the job."""


@dataclass(frozen=True)
class JobResult:
    """What a job that is done has to say."""

    frames: int
    notes: tuple[str, ...] = ()
    avatar: Path | None = None
    """That was used or made."""


@dataclass(frozen=True, kw_only=True)
class Job(ABC):
    """One video to make. Paths are absolute."""

    row: int
    """Of the job list."""
    video: Path
    """Footage of a person, or an avatar."""
    output: Path
    options: DubOptions

    COLUMNS: ClassVar[tuple[str, ...]] = ()
    """What a job of this kind reads besides: columns of the job list, and fields with their paths."""

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Files and folders on whose content the output depends."""
        return (self.video, *(getattr(self, column) for column in self.COLUMNS), *self.options.files)

    def key(self) -> str:
        """Equal for jobs whose outputs are alike: of one kind, release, content of all inputs, and options.

        Raises:
            OSError: an input cannot be read.
        """
        contents = {str(path): fingerprint(path) for path in self.inputs}
        options = {name: str(value) for name, value in asdict(self.options).items() if name != DEVICE}
        options |= {name: contents[value] for name, value in options.items() if value in contents}
        facts = [type(self).__name__, __version__, list(contents.values()), options]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def locks(self, avatars: AvatarStore) -> tuple[Path, ...]:
        """Locks that the job would have to wait for if they were held, other than that of its output."""
        return ()

    @classmethod
    def suffix(cls, video: Path, options: DubOptions) -> str:
        """What the output's name ends in if the job list does not say."""
        return ".mov" if options.background == ALPHA else VIDEO_SUFFIX

    @classmethod
    def check_name(cls, output: Path, options: DubOptions) -> None:
        """
        Raises:
            OutputError: the output's name does not end in a format that the job can write.
        """
        check_video_name(output, options.background == ALPHA)

    @abstractmethod
    def problems(self) -> Iterator[str]:
        """What is wrong with the inputs, as far as that can be told without the work: each with its remedy."""

    @abstractmethod
    def run(self, output: Path, avatars: AvatarStore) -> Generator[Progress, None, JobResult]:
        """Makes the video under the name `output`, which has the ending of `self.output`.

        Raises:
            Exception: whatever goes wrong; the line that a user is told comes from `talkinghead.complaints`.
        """
