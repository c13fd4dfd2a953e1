"""A folder of videos, some of which may be unusable: a data set of strangers' clips always has a few."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from encoders.errors import SpeechInputError
from talkinghead.progress import Progress
from tools.errors import LandmarkBackendError, MissingFileError, UserError

Found = TypeVar("Found")
VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg"})


def find_videos(folder: Path) -> tuple[Path, ...]:
    """The videos in a folder and the folders in it, in the order of their names.

    Raises:
        MissingFileError: there is no such folder, or no video in it.
    """
    videos = tuple(sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES))
    if not videos:
        kinds = " ".join(sorted(VIDEO_SUFFIXES))
        raise MissingFileError(f"expected a folder with videos ({kinds}), found none in {folder}")
    return videos


@dataclass(frozen=True)
class ReadFolder(Generic[Found]):
    """What a folder of videos holds."""

    found: tuple[Found, ...]  # in the order of their names
    refused: tuple[str, ...]  # why a video was left out, a line each


def read_folder(
    folder: Path, read: Callable[[Path], Generator[Progress, None, Found]]
) -> Generator[Progress, None, ReadFolder[Found]]:
    """Reads every video of a folder and the folders in it. One that cannot be used is left out and named.

    Args:
        read: reads a video, and raises UserError or SpeechInputError when it cannot be used.

    Returns:
        What was read (the generator's value).

    Raises:
        MissingFileError: no video can be used.
        LandmarkBackendError: the landmark back end cannot run.
    """
    found, refused = [], []
    for video in find_videos(folder):
        try:
            found.append((yield from read(video)))
        except LandmarkBackendError:
            raise
        except (UserError, SpeechInputError) as error:
            refused.append(str(error))
    if not found:
        raise MissingFileError(f"expected videos of talking people in {folder}, none can be used: {'; '.join(refused)}")
    return ReadFolder(tuple(found), tuple(refused))
