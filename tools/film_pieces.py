"""Which pictures of a film have to be encoded anew so that those of some time ranges can change."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from tools.film import Film, PictureTable

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
    """One after the last; from there on nothing refers to pictures of the piece."""
    link: int | None = None
    """A picture within the piece that is copied, and stored as its last: the first of an open group, of which what is
    shown before it is encoded anew."""


@dataclass(frozen=True)
class Plan:
    """What happens to every picture of a film."""

    pieces: tuple[Piece, ...]
    is_whole: bool
    """The film cannot be cut, so that all of it is encoded anew."""
    count: int
    """Pictures of the output; the film's edit list cuts off what is stored after."""


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
    the piece's own first picture starts afresh. It ends where a group of the film begins.
    """
    pictures = film.pictures
    shown_times = pictures.times[pictures.shown]
    count = int(np.flatnonzero(pictures.shown)[-1]) + 1
    cut_off = np.flatnonzero(~pictures.shown & (pictures.times > shown_times.min()))
    wanted = [np.flatnonzero(in_ranges(film, [span])) for span in ranges]
    wanted = [places for places in wanted if len(places)]
    if len(cut_off) and cut_off[0] < count:  # decoded for others' sake, but not to be shown
        wanted.append(np.arange(cut_off[0], count))
    if not wanted:
        return Plan((), is_whole=False, count=count)
    if not can_splice or pictures.times[cut_off].min(initial=shown_times.max()) < shown_times.max():
        return Plan((Piece(0, 0, count),), is_whole=True, count=count)
    pieces: list[Piece] = []
    cuts = _Cuts(pictures, count)
    for places in wanted:
        piece = cuts.around(int(places[0]), int(places[-1]))
        while pieces and piece.start <= pieces[-1].stop:
            previous = pieces.pop()
            decode_from = min(previous.decode_from, piece.decode_from)
            later = max(previous, piece, key=lambda part: part.stop)
            piece = replace(later, decode_from=decode_from, start=min(previous.start, piece.start))
        pieces.append(piece)
    return Plan(tuple(pieces), is_whole=False, count=count)


class _Cuts:
    """Where a film's pictures can be parted."""

    def __init__(self, pictures: PictureTable, count: int) -> None:
        times = pictures.times[:count]
        latest_before = np.maximum.accumulate(times)[:-1]
        earliest_from = np.minimum.accumulate(times[::-1])[::-1][1:]
        separable = np.concatenate(([True], latest_before < earliest_from))
        self._count = count
        self._starts = np.flatnonzero(separable)
        """All pictures stored before these are shown before them and before all that follow."""
        entries = np.flatnonzero(separable & (pictures.afresh | pictures.opens)[:count])
        # Pictures shown before an open group's first are stored right after it, up to the next one that parts the film.
        ends = np.append(self._starts, count)[np.searchsorted(self._starts, entries, "right")]
        leading = np.array([np.count_nonzero(times[k:end] < times[k]) for k, end in zip(entries, ends, strict=True)])
        is_whole = pictures.afresh[entries] | (leading == ends - entries - 1)
        self._entries = entries[is_whole]
        self._leading = np.where(pictures.afresh[entries], 0, leading)[is_whole]

    def around(self, first: int, last: int) -> Piece:
        """The smallest piece that holds these pictures, as stored, and those between."""
        start = int(self._starts[np.searchsorted(self._starts, first, "right") - 1])
        before = np.flatnonzero(self._entries + self._leading <= start)
        decode_from = int(self._entries[before[-1]]) if len(before) else 0
        after = np.searchsorted(self._entries, last, "right")
        if after == len(self._entries):
            return Piece(decode_from, start, self._count)
        entry, leading = int(self._entries[after]), int(self._leading[after])
        if leading:
            return Piece(decode_from, start, entry + leading + 1, link=entry)
        return Piece(decode_from, start, entry)


def reorder_delay(times: np.ndarray) -> int:
    """How long before the time that is its own rank's a picture has to be decoded, at most, in the times' unit.

    With it taken off, the sorted times are decode times: strictly increasing, and never after the picture is shown.
    """
    return int((np.sort(times) - times).max(initial=0))


def _first_time_stamp(film: Film, seconds: Fraction) -> int:
    """The first time stamp not before this."""
    return math.ceil((seconds + film.video.start) / film.time_base)
