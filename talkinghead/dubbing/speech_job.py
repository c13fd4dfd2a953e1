"""A person says a whole recording: what `fit` and `speak` do, one after the other."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from encoders.errors import EncoderWeightsError
from talkinghead.avatar import check_folder, load_avatar, speech_feature_of
from talkinghead.dubbing.avatar_store import AvatarStore
from talkinghead.dubbing.job import Job, JobResult
from talkinghead.progress import Progress
from talkinghead.speak import speak
from talkinghead.speech_choice import fetch_weights
from tools.audio import frame_count, read_audio_blocks
from tools.errors import UserError
from tools.preflight import check_clip
from tools.video import probe

SOUND_LOOKED_AT_S = 1.0
NO_CONSENT_NOTE = "the avatar holds no statement that the person agreed; the column consent records one"


@dataclass(frozen=True, kw_only=True)
class SpeechJob(Job):
    """`video` says `audio`, for as long as that lasts."""

    audio: Path

    COLUMNS: ClassVar[tuple[str, ...]] = ("audio",)

    def problems(self) -> Iterator[str]:
        if self.options.keep_original_sound:
            yield "keep_original_sound is for films with subtitles: leave it away"
        fps, problem = _checked_person(self.video, _last_change(self.video))
        if problem:
            yield problem
        length_s, problem = _checked_sound(self.audio, _last_change(self.audio))
        if problem:
            yield problem
        elif fps and not frame_count(length_s, fps):
            yield f"{self.audio} lasts less than half a frame: give longer speech"

    def locks(self, avatars: AvatarStore) -> tuple[Path, ...]:
        if self.video.is_dir() or avatars.place(self.video, self.options.fit).exists():
            return ()
        return (avatars.lock_path(self.video, self.options.fit),)

    def run(self, output: Path, avatars: AvatarStore) -> Generator[Progress, None, JobResult]:
        folder, findings = self.video, ()
        if not self.video.is_dir():
            folder = yield from avatars.avatar_for(self.video, self.options.fit)
            facts = check_folder(folder)
            findings = facts.findings if facts.consent else (*facts.findings, NO_CONSENT_NOTE)
        yield from fetch_weights(speech_feature_of(folder))
        avatar = load_avatar(folder)
        notes = yield from speak(avatar, self.audio, output, self.options)
        return JobResult(probe(output).frame_count, (*findings, *notes), folder)


@lru_cache(maxsize=1000)
def _checked_person(video: Path, last_change_ns: int) -> tuple[Fraction | None, str]:
    """The frame rate of a video or avatar, or what is wrong with it; asked once for all jobs of a person."""
    try:
        if video.is_dir():
            avatar = load_avatar(video)
            avatar.source_video()
            return avatar.manifest.fps, ""
        info = probe(video)
        check_clip(info)
        return info.fps, ""
    except (UserError, EncoderWeightsError) as error:
        return None, str(error)


@lru_cache(maxsize=1000)
def _checked_sound(audio: Path, last_change_ns: int) -> tuple[Fraction, str]:
    """How long a recording's first block is, seconds, or what is wrong with it; asked once for all jobs that say it."""
    try:
        return next(read_audio_blocks(audio, SOUND_LOOKED_AT_S)).duration_s, ""
    except UserError as error:
        return Fraction(0), str(error)


def _last_change(path: Path) -> int:
    """Of a file, or of a folder and the files in it; nanoseconds, 0 if there is nothing."""
    if not path.exists():
        return 0
    return max(one.lstat().st_mtime_ns for one in (path, *(path.iterdir() if path.is_dir() else ())))
