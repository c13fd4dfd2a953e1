"""What shall be said when: a subtitle file and a folder with one recording for each line.

A line's number is the one above its times, if every line has one, else its place in the file. The recording of line 7
is the sound file in whose name 7 is the only number (`7.wav`, `007.flac`, `line_7.mp3`), or that is named as the line's
WebVTT identifier (`intro.wav`).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from talkinghead.dubbing.subtitles import Cue, read_subtitles, whole_number
from talkinghead.errors import ScriptError
from tools.audio import probe_audio
from tools.errors import UserError

SOUND_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("aac", "ac3", "aif", "aifc", "aiff", "amr", "au", "caf", "eac3", "flac", "m4a", "m4b", "mka", "mp2", "mp3"),
        *("oga", "ogg", "opus", "rf64", "w64", "wav", "wave", "wma", "wv"),
    )
)
"""What a recording's name ends in. Not those of films, which often lie beside their recordings."""
MOST_FILES = 100_000
MOST_NAMES = 5
"""Names that one message lists."""


@dataclass(frozen=True)
class Line:
    """A line of dialogue."""

    number: int
    start: Fraction
    """Seconds on the film's time axis: 0 is its first picture."""
    end: Fraction
    text: str
    audio: Path | None
    """Its recording; None: the line stays as it was."""
    audio_s: Fraction
    """The recording's length, seconds; 0 without one."""


@dataclass(frozen=True)
class Script:
    """The lines in the order in which they start."""

    path: Path
    """The subtitles."""
    lines: tuple[Line, ...]
    warnings: tuple[str, ...]


def read_script(subtitles: Path, audio_folder: Path) -> Script:
    """Reads the lines and finds their recordings, each of which is decoded once, to know that it is whole and how long.

    Recordings lie in the folder itself; files that are no sound, and hidden ones, are passed over.

    Raises:
        ScriptError: with everything that is wrong: times that cannot be read or that end before they start, two lines
            with one number, two recordings of one line, names with several numbers, recordings that cannot be decoded,
            no line or no recording at all.
    """
    read = read_subtitles(subtitles)
    problems, warnings = list(read.problems), list(read.warnings)
    if not read.cues and not problems:
        problems.append("it holds no lines: give an .srt or .vtt file")
    numbers = _line_numbers(read.cues)
    problems += _bad_cues(numbers, read.cues)
    names = _named_lines(numbers, read.cues)
    recordings = _assigned(_sound_files(subtitles, audio_folder), set(numbers), names, problems, warnings)
    if read.cues and not recordings and not problems:
        problems.append(f"no file in {audio_folder} is the recording of a line: name them by the lines' numbers, 7.wav")
    lengths = _lengths(recordings, problems)
    if problems:
        raise ScriptError(subtitles, problems)
    lines = [
        Line(number, cue.start, cue.end, cue.text, recordings.get(number), lengths.get(number, Fraction(0)))
        for number, cue in zip(numbers, read.cues, strict=True)
    ]
    lines.sort(key=lambda line: (line.start, line.number))
    silent = [str(line.number) for line in lines if line.audio is None]
    if silent:
        warnings.append(f"{_counted('line', silent)} without a recording, which stay as they are")
    return Script(subtitles, tuple(lines), tuple(warnings))


def _line_numbers(cues: Sequence[Cue]) -> list[int]:
    numbers = [whole_number(cue.identifier) for cue in cues]
    return list(range(1, len(cues) + 1)) if None in numbers else numbers


def _named_lines(numbers: Sequence[int], cues: Sequence[Cue]) -> dict[str, int]:
    """Identifiers that are names, to the lines' numbers; those of several lines tell none."""
    named = [(cue.identifier.casefold(), number) for cue, number in zip(cues, numbers, strict=True)]
    named = [(name, number) for name, number in named if name and whole_number(name) is None]
    uses = Counter(name for name, _ in named)
    return {name: number for name, number in named if uses[name] == 1}


def _bad_cues(numbers: Sequence[int], cues: Sequence[Cue]) -> list[str]:
    problems = [f"{count} lines have the number {number}" for number, count in Counter(numbers).items() if count > 1]
    backwards = [number for number, cue in zip(numbers, cues, strict=True) if cue.end <= cue.start]
    return problems + [f"line {number} ends before it starts" for number in backwards]


def _sound_files(subtitles: Path, folder: Path) -> list[Path]:
    """
    Raises:
        ScriptError: the folder cannot be read, or is that of something else.
    """
    try:
        found = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        reason = f"the folder of recordings {folder} cannot be read ({error.strerror}): check the name"
        raise ScriptError(subtitles, [reason]) from error
    if len(found) > MOST_FILES:
        raise ScriptError(subtitles, [f"{folder} holds more than {MOST_FILES} files: give a folder of recordings only"])
    return [path for path in found if path.suffix.lower() in SOUND_SUFFIXES]


def _assigned(
    files: Iterable[Path], numbers: set[int], names: dict[str, int], problems: list[str], warnings: list[str]
) -> dict[int, Path]:
    """The recording of each line that has one; what is ambiguous is added to `problems`, leftovers to `warnings`.

    numbers: of the lines. names: identifiers that are no numbers, to the lines' numbers.
    """
    found: defaultdict[int, list[Path]] = defaultdict(list)
    leftover: list[str] = []
    for path in files:
        in_name = {int(digits) for digits in re.findall(r"\d{1,9}", path.stem, re.ASCII)}
        if path.stem.casefold() in names:
            found[names[path.stem.casefold()]].append(path)
        elif not in_name & numbers:
            leftover.append(path.name)
        elif len(in_name) > 1:
            problems.append(f"{path.name} has several numbers in its name: leave only the line's")
        else:
            found[in_name.pop()].append(path)
    for number, paths in sorted(found.items()):
        if len(paths) > 1:
            problems.append(f"{_listed([path.name for path in paths])} are all for line {number}: leave one")
    if leftover:
        warnings.append(f"{_counted('sound file', leftover)} for which there is no line")
    return {number: paths[0] for number, paths in found.items()}


def _lengths(recordings: dict[int, Path], problems: list[str]) -> dict[int, Fraction]:
    lengths = {}
    for number, path in sorted(recordings.items()):
        try:
            lengths[number] = probe_audio(path).duration_s
        except UserError as error:
            problems.append(f"line {number}: {error}")
    return lengths


def _counted(noun: str, names: Sequence[str]) -> str:
    return f"{len(names)} {noun}{'s' if len(names) > 1 else ''} ({_listed(names)})"


def _listed(names: Sequence[str]) -> str:
    more = [f"{len(names) - MOST_NAMES} more"] if len(names) > MOST_NAMES else []
    return ", ".join([*names[:MOST_NAMES], *more])
