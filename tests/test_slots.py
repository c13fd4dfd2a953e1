"""When recordings are heard: every rule by an example, and what always holds."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talkinghead.dubbing.script import Line, Script
from talkinghead.dubbing.slots import Slot, slots
from talkinghead.errors import ScriptError

SUBTITLES = Path("film.srt")


def line(number: int, start: float, end: float, audio_s: float | None = None) -> Line:
    audio = None if audio_s is None else Path(f"{number}.wav")
    return Line(number, Fraction(str(start)), Fraction(str(end)), "", audio, Fraction(str(audio_s or 0)))


def planned(*lines: Line, film_s: float = 60) -> tuple[Slot, ...]:
    return slots(Script(SUBTITLES, lines, ()), Fraction(str(film_s)))


def times(found: Sequence[Slot]) -> list[tuple[int, float, float]]:
    return [(slot.number, float(slot.start), float(slot.end)) for slot in found]


def warnings(found: Sequence[Slot]) -> list[str]:
    return [warning for slot in found for warning in slot.warnings]


def test_a_shorter_recording_leaves_silence_to_the_end_of_its_line() -> None:
    found = planned(line(1, 1, 3, 1.2))
    assert times(found) == [(1, 1, 3)] and found[0].audio == Path("1.wav") and not warnings(found)


def test_a_longer_one_goes_on_into_the_gap() -> None:
    found = planned(line(1, 1, 3, 2.4), line(2, 4, 5, 1))
    assert times(found) == [(1, 1, 3.4), (2, 4, 5)]
    assert warnings(found) == ["line 1 is 0.4 s longer than its slot"]


def test_it_is_cut_where_the_next_line_with_a_recording_starts() -> None:
    found = planned(line(1, 1, 3, 4.25), line(2, 4, 5, 1))
    assert times(found) == [(1, 1, 4), (2, 4, 5)]
    assert warnings(found) == [
        "line 1 is 1 s longer than its slot",
        "line 1 is cut where line 2 starts: its last 1.25 s are not heard",
    ]


def test_a_line_without_a_recording_does_not_stop_it() -> None:
    found = planned(line(1, 1, 3, 2.5), line(2, 3.2, 4), line(3, 5, 6, 1))
    assert times(found) == [(1, 1, 3.5), (3, 5, 6)]
    assert warnings(found) == ["line 1 is 0.5 s longer than its slot, and covers line 2, which has no recording"]


def test_lines_that_overlap() -> None:
    found = planned(line(1, 1, 3, 2), line(2, 2.5, 4, 1))
    assert times(found) == [(1, 1, 2.5), (2, 2.5, 4)]
    assert warnings(found) == ["line 1 is cut where line 2 starts: its last 0.5 s are not heard"]


def test_a_line_within_another_is_followed_by_silence_to_the_end_of_that() -> None:
    found = planned(line(1, 1, 9, 2), line(2, 4, 5, 0.5))
    assert times(found) == [(1, 1, 4), (2, 4, 9)] and not warnings(found)


def test_two_lines_that_start_together() -> None:
    found = planned(line(1, 1, 3, 2), line(2, 1, 2, 1))
    assert times(found) == [(2, 1, 3)]
    assert warnings(found) == ["line 1 is not heard, since line 2 starts at the same time"]


def test_the_end_of_the_film() -> None:
    found = planned(line(1, 8, 9.5, 3), line(2, 11, 12, 1), film_s=10)
    assert times(found) == [(1, 8, 10)]
    assert warnings(found) == [
        "line 1 is 0.5 s longer than its slot",
        "line 1 is cut at the film's end: its last 1 s are not heard",
        "line 2 is not heard, since it starts after the film's end",
    ]
    assert times(planned(line(1, 8, 12, 1), film_s=10)) == [(1, 8, 10)]


def test_nothing_in_the_film() -> None:
    with pytest.raises(ScriptError, match=r"no line with a recording starts in the film's 10 s"):
        planned(line(1, 1, 2), line(2, 10, 12, 1), film_s=10)


MOMENTS = st.fractions(0, 20, max_denominator=1001)


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    lines = []
    for number in range(draw(st.integers(1, 8))):
        start, length = draw(MOMENTS), draw(MOMENTS) + Fraction(1, 1000)
        audio_s = draw(st.none() | MOMENTS)
        lines.append(Line(number, start, start + length, "", audio_s and Path("x.wav"), audio_s or Fraction(0)))
    return Script(SUBTITLES, tuple(sorted(lines, key=lambda one: (one.start, one.number))), ())


@given(scripts(), MOMENTS.map(lambda length: length + 1))
def test_what_always_holds(script: Script, film_s: Fraction) -> None:
    inside = [one for one in script.lines if one.audio is not None and one.start < film_s]
    if not inside:
        with pytest.raises(ScriptError):
            slots(script, film_s)
        return
    found = slots(script, film_s)
    by_number = {one.number: one for one in inside}
    assert all(slot.start == by_number[slot.number].start < slot.end <= film_s for slot in found)
    assert all(earlier.end <= later.start for earlier, later in itertools.pairwise(found))
    for one in inside:  # what was said in its slot before is not heard
        edges = sorted({one.start, min(one.end, film_s), *(edge for slot in found for edge in (slot.start, slot.end))})
        for left, right in itertools.pairwise(edges):
            if one.start <= left and right <= min(one.end, film_s):
                assert any(slot.start <= left and right <= slot.end for slot in found)
    for slot in found:  # a recording is heard to its end, unless another starts or the film ends
        end = by_number[slot.number].start + by_number[slot.number].audio_s
        assert slot.end >= min([end, film_s, *(one.start for one in inside if one.start > slot.start)])
        said_all = slot.end >= end
        assert said_all or end - slot.end < Fraction(1, 100) or any("are not heard" in text for text in slot.warnings)
    heard = {slot.number for slot in found}
    assert all(any(f"line {one.number} is not heard" in text for slot in found for text in slot.warnings)
               for one in inside if one.number not in heard)  # fmt: skip
