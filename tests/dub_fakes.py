"""Jobs that take no rendering: what a job does is written in its audio file. Workers import this module."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from talkinghead.dubbing.avatar_store import AvatarStore
from talkinghead.dubbing.job import Job, JobResult
from talkinghead.progress import Progress
from tools.errors import UserError

FRAMES = 5
PATIENCE_S = 60.0


@dataclass(frozen=True, kw_only=True)
class FakeJob(Job):
    """Writes its audio's text into its output; every start is counted in a file beside the audio.

    The text: "fail" raises what a user can mend, "defect" what nobody can, "die" kills its process, "die once" only the
    first, "wait" goes on when there is a file GO beside the audio.
    """

    audio: Path

    COLUMNS: ClassVar[tuple[str, ...]] = ("audio",)

    def problems(self) -> Iterator[str]:
        if not self.audio.is_file():
            yield f"{self.audio} does not exist: check the name"

    def run(self, output: Path, avatars: AvatarStore) -> Generator[Progress, None, JobResult]:
        text = self.audio.read_text()
        with starts_file(self.audio).open("a") as file:
            file.write(f"{os.getpid()}\n")
        half = output.with_name(f".unfinished-{output.name}")
        try:
            for done in range(FRAMES):
                half.write_text(text[: done + 1])
                yield Progress("faking", done, FRAMES)
                if done == 2:
                    yield from self._act(text)
            if text == "change":
                self.audio.write_text("changed")
            half.write_text(text)
            half.rename(output)
        finally:
            half.unlink(missing_ok=True)
        return JobResult(FRAMES, ("a note",), self.video)

    def _act(self, text: str) -> Iterator[Progress]:
        if text == "fail":
            raise UserError("this cannot be done: give something else")
        if text == "defect":
            raise ZeroDivisionError("our own fault")
        if text == "die" or (text == "die once" and starts(self.audio) == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        started = time.monotonic()
        while text == "wait" and not self.audio.with_name("GO").exists():
            assert time.monotonic() - started < PATIENCE_S
            yield Progress("waiting", 0, None)
            time.sleep(0.02)


def starts_file(audio: Path) -> Path:
    """Where the starts of a job are counted."""
    return audio.with_suffix(".starts")


def starts(audio: Path) -> int:
    """How often a job was begun."""
    return len(starts_file(audio).read_text().split()) if starts_file(audio).exists() else 0


def write_list(folder: Path, **texts: str) -> Path:
    """A job list beside its audio files, one job for each name and text."""
    folder.mkdir(exist_ok=True)
    (folder / "person").mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text)
    rows = [f"person,{name}.txt,{name}.mp4" for name in texts]
    path = folder / "jobs.csv"
    path.write_text("\n".join(["video,audio,output", *rows]) + "\n")
    return path


def main() -> int:
    """`talkinghead`, whose jobs are these."""
    import talkinghead.dubbing.job_checks
    from talkinghead.cli import main as talkinghead_main

    talkinghead.dubbing.job_checks.KINDS = (FakeJob,)
    return talkinghead_main()


if __name__ == "__main__":
    from dub_fakes import main as main_by_name  # so that workers find the classes under the module's name

    sys.exit(main_by_name())
