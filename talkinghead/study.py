"""`talkinghead study`: a blind rating of videos by people, as in the user studies of Speech2Lip (arXiv 2309.04814, Sec.
5.2), SE4Lip (arXiv 2504.05803, Sec. 5.2) and TalkLip (arXiv 2303.17480, Sec. 4.3).

A study is a folder: what participants get (a page and the videos, under random names, so that neither a name nor an
order says which method made a video) and, beside it, the key that says so.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from talkinghead.errors import OutputExistsError, StudyError
from talkinghead.folder_swap import replaced_folder
from talkinghead.outputs import check_writable
from talkinghead.progress import Progress
from tools.errors import OutputError
from tools.video import probe
from tools.video_writer import stream_copy

PAGE_FOLDER, PAGE_NAME, KEY_NAME = "participants", "index.html", "key.json"
VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".webm", ".mkv")
PLAYABLE_CODECS = ("h264", "vp9", "av1")
"""What browsers play."""
_TEMPLATE = Path(__file__).parent / "assets" / "study.html"
_PLACE = "{/*study*/}"


@dataclass(frozen=True)
class Question:
    """What is rated from 1 to 5."""

    key: str  # column of the answers
    title: str
    text: str


QUESTIONS = (
    Question("lip_sync", "Lip-sync accuracy", "How well do the lips match what is heard?"),
    Question("image_quality", "Image quality", "How sharp and free of faults is the picture?"),
    Question("realness", "Video realness", "How much does it look like a recording of a real person?"),
)
"""The aspects of SE4Lip's Table 5: those of Speech2Lip's Table 3 and, but for intelligibility, TalkLip's Table 2."""


@dataclass(frozen=True)
class StudyClip:
    """A video of a study."""

    name: str
    """Under which participants get it."""
    method: str
    video: str
    """Under which the study's maker gave it."""


@dataclass(frozen=True)
class StudyKey:
    """Which method made which video; not for participants."""

    study: str
    """Random, so that answers to another study are told apart."""
    methods: tuple[str, ...]
    clips: tuple[StudyClip, ...]


def collect_methods(entries: Sequence[str]) -> dict[str, list[Path]]:
    """The videos of each method, from what the user gives: a folder of videos or a video, named after it unless it is
    given as NAME=PATH; a NAME may come again, with another video.

    Raises:
        StudyError: two things of one name, a folder without videos, or methods with different numbers of videos.
    """
    methods: dict[str, list[Path]] = {}
    unnamed: set[str] = set()
    for entry in entries:
        name, separator, rest = entry.partition("=")
        is_named = bool(separator and name) and not Path(entry).exists()
        path = Path(rest if is_named else entry)
        if not is_named:
            name = path.resolve().name if path.is_dir() else path.stem
            if name in methods:
                raise StudyError(f"two methods are called {name}: tell them apart as NAME={path}")
            unnamed.add(name)
        elif name in unnamed:
            raise StudyError(f"two methods are called {name}: give {entry} another name")
        methods.setdefault(name, []).extend(_videos(path))
    counts = {name: len(videos) for name, videos in methods.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise StudyError(f"methods must have as many videos each, of the same sentences: {listed}")
    return methods


def check_new_study(output: Path, overwrite: bool) -> None:
    """Whether a study may be written.

    Raises:
        OutputError: the folder holds something else, or cannot be written.
        OutputExistsError: there is a study, and it is not to be replaced: its answers need its key.
    """
    check_writable(output)
    if output.exists() and not output.is_dir():
        raise OutputError(f"cannot write {output}: it is a file, and a study is a folder; choose another name with -o")
    if (output / KEY_NAME).exists():
        if not overwrite:
            raise OutputExistsError(
                f"{output} holds a study: answers to it can be read with its key only; choose another name with -o, or "
                "add --overwrite"
            )
    elif output.exists() and any(output.iterdir()):
        raise OutputError(f"cannot write {output}: the folder holds other files; choose another name with -o")


def write_study(methods: Mapping[str, Sequence[Path]], output: Path) -> Generator[Progress, None, StudyKey]:
    """Writes a study's folder; a study that was there is replaced, other files beside it (answers) stay.

    Raises:
        StudyError: a video is silent, or in a format that browsers do not play.
        UserError: a video cannot be read, or the folder not written.
    """
    given = [(method, video) for method, videos in methods.items() for video in videos]
    for _, video in given:
        _check_video(video)
    secrets.SystemRandom().shuffle(given)  # neither order nor time of the copies says anything
    names = sorted(f"{secrets.token_hex(6)}.mp4" for _ in given)
    clips = tuple(StudyClip(name, method, video.name) for name, (method, video) in zip(names, given, strict=True))
    key = StudyKey(secrets.token_hex(6), tuple(methods), clips)
    with replaced_folder(output) as folder:
        page = folder / PAGE_FOLDER
        page.mkdir()
        for place, (name, (_, video)) in enumerate(zip(names, given, strict=True)):
            stream_copy(video, page / name)  # which leaves titles and other metadata out
            yield Progress("copying videos", place + 1, len(given))
        (page / PAGE_NAME).write_text(_page(key), encoding="utf-8")
        (folder / KEY_NAME).write_text(json.dumps(asdict(key), indent=2), encoding="utf-8")
    return key


def load_key(path: Path) -> StudyKey:
    """Reads the key of a study.

    Raises:
        StudyError: it is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        clips = tuple(StudyClip(**clip) for clip in content["clips"])
        return StudyKey(content["study"], tuple(content["methods"]), clips)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StudyError(
            f"{path} is not the key of a study ({error}): give the {KEY_NAME} that 'talkinghead study' wrote"
        ) from error


def _page(key: StudyKey) -> str:
    content = {
        "id": key.study,
        "clips": [clip.name for clip in key.clips],
        "questions": [asdict(question) for question in QUESTIONS],
    }
    return _TEMPLATE.read_text(encoding="utf-8").replace(_PLACE, json.dumps(content))


def _videos(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    videos = sorted(entry for entry in path.iterdir() if entry.suffix.lower() in VIDEO_SUFFIXES)
    if not videos:
        raise StudyError(f"{path} holds no video ({', '.join(VIDEO_SUFFIXES)}): give a folder with videos of a method")
    return videos


def _check_video(video: Path) -> None:
    info = probe(video)
    if not info.has_audio:
        raise StudyError(f"{video} has no sound, so nobody can say how well its lips fit: give it sound")
    if info.codec not in PLAYABLE_CODECS:
        raise StudyError(
            f"{video} is in {info.codec}, which browsers do not play: convert it to one of {', '.join(PLAYABLE_CODECS)}"
        )
