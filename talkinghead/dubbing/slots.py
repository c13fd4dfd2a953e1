"""When each recording is heard: one set of rules for gaps, overlaps and recordings of another length than their line.

1. A recording starts where its line starts.
2. One that is longer than its line goes on after the line's end,
3. until the next line with a recording starts, or the film ends: there it is cut, with a short fade.
4. After one that is shorter it is silent until the line ends: what was said there before is not heard.

Lines that overlap need no rule of their own: by 3 the earlier recording ends where the later line starts, and by 4 the
original is heard again when the last of them has ended. Lines without a recording take no part: their original sound
stays, but for what a longer recording covers of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from talkinghead.dubbing.script import Line, Script
from talkinghead.errors import ScriptError

NOTEWORTHY_S = Fraction(1, 100)
"""Shorter overruns and losses are not mentioned: times in subtitles are rounded more than that."""


@dataclass(frozen=True)
class Slot:
    """A time range of the film in which only one recording is heard, from its beginning, and then silence."""

    number: int
    """Of the line."""
    start: Fraction
    """Seconds on the film's time axis: 0 is its first picture."""
    end: Fraction
    audio: Path
    warnings: tuple[str, ...]
    """What is worth knowing of this slot, and of lines that are not heard because of it."""


def slots(script: Script, film_duration: Fraction) -> tuple[Slot, ...]:
    """The slots in order; none overlap. Warnings of lines that start after the film has ended are the last one's.

    Args:
        film_duration: seconds from the first picture to the end of the last.

    Raises:
        ScriptError: no line with a recording starts before the film ends.
    """
    spoken = [line for line in script.lines if line.audio is not None]
    inside = [line for line in spoken if line.start < film_duration]
    if not inside:
        raise ScriptError(script.path, [f"no line with a recording starts in the film's {_seconds(film_duration)}"])
    found: list[Slot] = []
    covered_until = Fraction(0)
    unheard: list[str] = []
    for line, following in zip(inside, [*inside[1:], None], strict=True):
        covered_until = max(covered_until, line.end)
        limit = following.start if following else film_duration
        if limit == line.start:
            unheard.append(f"line {line.number} is not heard, since line {following.number} starts at the same time")
            continue
        end = min(max(covered_until, line.start + line.audio_s), limit)
        warnings = (*unheard, *_warnings(line, following, limit, script.lines))
        found.append(Slot(line.number, line.start, end, line.audio, warnings))
        unheard.clear()
    late = [f"line {line.number} is not heard, since it starts after the film's end" for line in spoken[len(inside) :]]
    found[-1] = replace(found[-1], warnings=(*found[-1].warnings, *late))
    return tuple(found)


def _warnings(line: Line, following: Line | None, limit: Fraction, lines: Sequence[Line]) -> list[str]:
    sound_end = line.start + line.audio_s
    said = []
    overrun = min(sound_end, limit) - line.end
    if overrun >= NOTEWORTHY_S:
        over = [other for other in lines if other.audio is None and line.start <= other.start < min(sound_end, limit)]
        also = f", and covers line {over[0].number}, which has no recording" if over else ""
        said.append(f"line {line.number} is {_seconds(overrun)} longer than its slot{also}")
    lost = sound_end - limit
    if lost >= NOTEWORTHY_S:
        where = f"where line {following.number} starts" if following else "at the film's end"
        said.append(f"line {line.number} is cut {where}: its last {_seconds(lost)} are not heard")
    return said


def _seconds(duration: Fraction) -> str:
    return f"{float(duration):.2f}".rstrip("0").rstrip(".") + " s"
