"""Which pictures of a film have to be encoded anew so that those of some time ranges can change."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from tools.film import Film

TimeRange = tuple[Fraction, Fraction]
"""Seconds on the film's time axis; the end does not belong to it."""


@dataclass(frozen=True)
class Piece:
    """Consecutive pictures, as the file stores them, that are encoded anew. All others are copied."""

    decode_from: int
    """The picture at which decoding has to begin."""
    start: int
    """The first picture encoded anew: all stored before it are also shown before it."""
    stop: int
    """One after the last; this picture starts afresh, or the film ends."""


@dataclass(frozen=True)
class Plan:
    """What happens to every picture of a film."""

    pieces: tuple[Piece, ...]
    is_whole: bool
    """The film cannot be cut, so that all of it is encoded anew."""


def check_ranges(ranges: Sequence[TimeRange]) -> None:
    """Raises ValueError unless the ranges are sorted, disjoint and not empty."""
    for start, stop in ranges:
        if not start < stop:
            raise ValueError(f"a range ends before it begins: {start} to {stop}")
    for (_, stop), (start, _) in itertools.pairwise(ranges):
        if start < stop:
            raise ValueError(f"ranges overlap or are out of order: one ends at {stop}, the next begins at {start}")


def in_ranges(film: Film, ranges: Sequence[TimeRange]) -> np.ndarray:
    """bool [N]: which pictures, as stored, are shown inside the ranges."""
    pictures = film.pictures
    inside = np.zeros(len(pictures.times), bool)
    for start, stop in ranges:
        first, last = (_first_time_stamp(film, seconds) for seconds in (start, stop))
        inside |= (pictures.times >= first) & (pictures.times < last)
    return inside & pictures.shown


def plan_pieces(film: Film, ranges: Sequence[TimeRange], can_splice: bool) -> Plan:
    """The fewest pictures that have to be encoded anew.

    A piece begins inside a group of pictures where it may: what is stored before never refers to what comes after, and
    the piece's own first picture starts afresh. It ends before a picture of the film that starts afresh.
    """
    inside = in_ranges(film, ranges)
    count = len(inside)
    if not inside.any():
        return Plan((), is_whole=False)
    if not can_splice or not _is_in_order(film):
        return Plan((Piece(0, 0, count),), is_whole=True)
    separable = _separable(film.pictures.times)
    starts = np.flatnonzero(separable)
    cuts = np.flatnonzero(separable & film.pictures.afresh)
    pieces: list[Piece] = []
    for start, stop in ranges:
        places = np.flatnonzero(in_ranges(film, [(start, stop)]))
        if not len(places):
            continue
        first = int(starts[np.searchsorted(starts, places[0], "right") - 1])
        after = np.searchsorted(cuts, places[-1], "right")
        end = int(cuts[after]) if after < len(cuts) else count
        before = np.searchsorted(cuts, first, "right")
        decode_from = int(cuts[before - 1]) if before else 0
        if pieces and first <= pieces[-1].stop:
            previous = pieces.pop()
            first, decode_from = previous.start, previous.decode_from
            end = max(end, previous.stop)
        pieces.append(Piece(decode_from, first, end))
    return Plan(tuple(pieces), is_whole=False)


def reorder_delay(times: np.ndarray) -> int:
    """How long before the time that is its own rank's a picture has to be decoded, at most, in the times' unit.

    With it taken off, the sorted times are decode times: strictly increasing, and never after the picture is shown.
    """
    return int((np.sort(times) - times).max(initial=0))


def _separable(times: np.ndarray) -> np.ndarray:
    """bool [N]: all pictures stored before this one are shown before it and before all that follow."""
    latest_before = np.maximum.accumulate(times)[:-1]
    earliest_from = np.minimum.accumulate(times[::-1])[::-1][1:]
    return np.concatenate(([True], latest_before < earliest_from))


def _is_in_order(film: Film) -> bool:
    """Whether the edit list at most cuts off the beginning; one that joins parts or cuts the end repeats times."""
    pictures = film.pictures
    hidden = pictures.times[~pictures.shown]
    return not len(hidden) or bool(hidden.max() < pictures.times[pictures.shown].min())


def _first_time_stamp(film: Film, seconds: Fraction) -> int:
    """The first time stamp not before this."""
    return math.ceil((seconds + film.video.start) / film.time_base)
