"""Subtitle files to cues: SubRip (.srt) and WebVTT, whatever program wrote them.

Libraries for subtitles drop the numbers by which recordings are found, and whatever they cannot read. Here a pair of
times that cannot be read is a problem, for a line that silently stays undubbed is worse.
"""

from __future__ import annotations

import codecs
import html
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from talkinghead.errors import ScriptError

MOST_BYTES = 10_000_000
ARROW = "-->"
VTT_SIGNATURE = "WEBVTT"
_TIME = r"(?:(\d{1,4}):)?([0-5]?\d):([0-5]?\d)(?:[.,](\d{1,9}))?"
_TIMES = re.compile(rf"\s*{_TIME}\s*{ARROW}\s*{_TIME}(?:\s.*)?", re.ASCII)
_NUMBER = re.compile(r"\s*(\d{1,9})\s*", re.ASCII)
_TAGS = re.compile(r"<[^<>]*>|\{\\[^{}]*\}")
_BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


@dataclass(frozen=True)
class Cue:
    """A line of dialogue in a subtitle file."""

    row: int
    """Line of the file that holds its times, from 1."""
    identifier: str
    """What stands above its times: in SRT a number, in WebVTT any text; empty where there is none."""
    start: Fraction
    """Seconds."""
    end: Fraction
    text: str
    """Without tags, in one line."""


@dataclass(frozen=True)
class Subtitles:
    """What a subtitle file holds."""

    cues: tuple[Cue, ...]
    """In the file's order."""
    problems: tuple[str, ...]
    """Rows that look like the times of a cue but cannot be read."""
    warnings: tuple[str, ...]


def read_subtitles(path: Path) -> Subtitles:
    """Reads SRT or WebVTT, told apart by the first word; at most 10 MB.

    In UTF-8 or UTF-16, else taken for Latin-1, with a warning. Hours and fractions of seconds may be missing.

    Raises:
        ScriptError: the file cannot be read, is too large, or is no text.
    """
    text, warnings = _decoded(path, _content(path))
    rows = re.split(r"\r\n|\r|\n", text.replace("\ufeff", ""))
    is_vtt = rows[0].startswith(VTT_SIGNATURE)
    places = [index for index, row in enumerate(rows) if ARROW in row]
    cues, problems = [], []
    for place, following in itertools.pairwise([*places, len(rows)]):
        match = _TIMES.fullmatch(rows[place])
        if match is None:
            problems.append(
                f"row {place + 1} is no pair of times ({rows[place].strip()[:60]!r}): write 0:01.5 --> 0:04"
            )
            continue
        start, end = _seconds(*match.groups()[:4]), _seconds(*match.groups()[4:])
        has_identifier = following < len(rows) and bool(_identifier(rows, following, is_vtt))
        words = _words(rows[place + 1 : following - has_identifier], is_vtt)
        cues.append(Cue(place + 1, _identifier(rows, place, is_vtt), start, end, words))
    return Subtitles(tuple(cues), tuple(problems), tuple(warnings))


def whole_number(text: str) -> int | None:
    """The number that an identifier is, if it is nothing else."""
    match = _NUMBER.fullmatch(text)
    return int(match[1]) if match else None


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ScriptError(
            path, [f"it cannot be read ({error.strerror}): check the name and its permissions"]
        ) from error
    if len(content) > MOST_BYTES:
        raise ScriptError(path, [f"it is larger than {MOST_BYTES // 1_000_000} MB: give a subtitle file, or split it"])
    return content


def _decoded(path: Path, content: bytes) -> tuple[str, list[str]]:
    """The text, and a warning where the encoding is a guess."""
    encodings = [name for mark, name in _BYTE_ORDER_MARKS.items() if content.startswith(mark)]
    if not encodings:  # most of the first characters of a subtitle file are ASCII
        encodings = [{b"\0": "utf-16-be"}.get(content[:1]) or {b"\0": "utf-16-le"}.get(content[1:2]) or "utf-8"]
    try:
        text, warnings = content.decode(encodings[0]), []
    except UnicodeDecodeError as error:
        text = content.decode("latin-1")
        warnings = [
            f"{path} is not in UTF-8 (byte {error.start}), and is read as Latin-1: check accents, save as UTF-8"
        ]
    if "\0" in text:
        raise ScriptError(path, ["it is no text: give an .srt or .vtt file"])
    return text, warnings


def _identifier(rows: list[str], place: int, is_vtt: bool) -> str:
    """What stands above the times in row `place`. In SRT only a number can be told from the line before."""
    above = rows[place - 1].strip() if place else ""
    if is_vtt:
        return above if place > 1 and not rows[place - 2].strip() else ""
    return above if whole_number(above) is not None else ""


def _seconds(hours: str | None, minutes: str, seconds: str, fraction: str | None) -> Fraction:
    return int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds) + Fraction(f"0.{fraction or 0}")


def _words(rows: list[str], is_vtt: bool) -> str:
    """The text of a cue: in WebVTT it ends with the first empty row, in SRT some programs leave such rows in."""
    text = " ".join(_until_empty(rows) if is_vtt else rows)
    plain = _TAGS.sub("", text)
    return " ".join((html.unescape(plain) if is_vtt else plain).split())


def _until_empty(rows: list[str]) -> Iterator[str]:
    for row in rows:
        if not row.strip():
            return
        yield row
