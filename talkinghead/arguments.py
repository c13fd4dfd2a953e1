"""Arguments that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

Output = Annotated[Path, tyro.conf.arg(aliases=("-o",), metavar="PATH")]
OptionalOutput = Annotated[Path | None, tyro.conf.arg(aliases=("-o",), metavar="PATH")]
JsonFile = Annotated[Path | None, tyro.conf.arg(metavar="FILE")]
Video = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="VIDEO")]
AvatarFolder = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="AVATAR")]
OptionalAvatar = Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="AVATAR")]
Audio = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="AUDIO")]
VideoOrAvatar = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="VIDEO_OR_AVATAR")]
OptionalVideos = Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="VIDEOS")]
Videos = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="VIDEOS")]
StudyVideos = Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="[NAME=]PATH ...")]


def check_sound(audio: Path) -> None:
    """Says what is wrong with it before anything slow is loaded."""
    from tools.media import first_sound_track

    first_sound_track(audio)
