"""Some lines of a film are spoken anew."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from talkinghead.config import DubOptions
from talkinghead.dubbing.avatar_store import AvatarStore
from talkinghead.dubbing.film import dub_film
from talkinghead.dubbing.job import Job, JobResult
from talkinghead.dubbing.script import read_script
from talkinghead.dubbing.slots import slots
from talkinghead.errors import ScriptError
from talkinghead.progress import Progress
from tools.errors import UserError
from tools.film import probe_film
from tools.film_tracks import MUXERS, muxer_for

NOT_FOR_FILMS = ("background", "pose", "blink", "gaze", "expression", "seed", "audio_offset", "codec", "crf")
"""Options of `speak` that a film decides by itself."""


@dataclass(frozen=True, kw_only=True)
class FilmJob(Job):
    """`video` with the recordings in `audio_dir` at the times of `subtitles`."""

    subtitles: Path
    audio_dir: Path

    COLUMNS: ClassVar[tuple[str, ...]] = ("subtitles", "audio_dir")

    @classmethod
    def suffix(cls, video: Path, options: DubOptions) -> str:
        return video.suffix if video.suffix.lower() in MUXERS else ".mkv"

    @classmethod
    def check_name(cls, output: Path, options: DubOptions) -> None:
        muxer_for(output)

    def problems(self) -> Iterator[str]:
        unused = [name for name in NOT_FOR_FILMS if getattr(self.options, name) != getattr(DubOptions(), name)]
        if unused:
            yield f"a film is passed through as it is: leave {', '.join(unused)} away"
        if self.video.is_dir():
            yield f"{self.video} is an avatar: give the film itself, with subtitles and audio_dir"
            return
        try:
            video = probe_film(self.video).video
            slots(read_script(self.subtitles, self.audio_dir), video.frame_count / video.fps)
        except ScriptError as error:
            yield from (f"{self.subtitles}: {problem}" for problem in error.problems)
        except UserError as error:
            yield str(error)

    def run(self, output: Path, avatars: AvatarStore) -> Generator[Progress, None, JobResult]:
        film = yield from dub_film(self.video, self.subtitles, self.audio_dir, output, avatars, self.options)
        return JobResult(film.frames, (f"{film.redrawn} of {film.frames} pictures have a new mouth", *film.notes))
