"""What is encoded anew: as little as can be, and never so little that a copied picture lacks what it refers to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.film import PictureTable
from tools.film_pieces import check_ranges, in_ranges, plan_pieces, reorder_delay


@dataclass(frozen=True)
class FakeFilm:
    """As much of a film as planning looks at; time stamps are seconds times 25 and begin at 100."""

    pictures: PictureTable
    time_base: Fraction = Fraction(1, 25)

    @property
    def video(self) -> SimpleNamespace:
        return SimpleNamespace(start=100 * self.time_base)


def film_of(groups: list[tuple[str, int, int]]) -> FakeFilm:
    """Groups of pictures as encoders store them: how they begin, mini-groups, and pictures of a mini-group.

    `closed`: IDR first. `open`: the first is stored before pictures that are shown before it, and refer to what is
    earlier. `i`: as open, but nothing says so.
    """
    times: list[int] = []
    afresh: list[bool] = []
    opens: list[bool] = []
    shown_until = 100
    for kind, mini_groups, size in groups:
        is_open = kind != "closed" and bool(times)
        for number in range(mini_groups + 1 if not is_open else mini_groups):
            is_first = number == 0
            length = 1 if is_first and not is_open else size
            anchor = shown_until + length - 1
            times += [anchor, *range(shown_until, anchor)]
            afresh += [is_first and not is_open] + [False] * (length - 1)
            opens += [is_first and is_open and kind == "open"] + [False] * (length - 1)
            shown_until += length
    table = PictureTable(np.array(times), np.array(afresh), np.array(opens), np.ones(len(times), bool))
    return FakeFilm(table)


groups = st.lists(
    st.tuples(st.sampled_from(["closed", "open", "i"]), st.integers(1, 4), st.integers(1, 5)), min_size=1, max_size=8
)


@settings(max_examples=300, deadline=None)
@given(groups=groups, spans=st.lists(st.integers(0, 120), min_size=2, max_size=6, unique=True))
def test_copied_pictures_keep_what_they_refer_to(groups: list[tuple[str, int, int]], spans: list[int]) -> None:
    film = film_of(groups)
    times = film.pictures.times
    edges = sorted(spans)[: len(spans) // 2 * 2]
    ranges = [(Fraction(a, 25), Fraction(b, 25)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    plan = plan_pieces(film, ranges, can_splice=True)
    inside = in_ranges(film, ranges)
    encoded = np.zeros(len(times), bool)
    for piece in plan.pieces:
        encoded[piece.start : piece.stop] = True
        if piece.link is not None:
            encoded[piece.link] = False
    assert not plan.is_whole and plan.count == len(times)
    assert not (inside & ~encoded).any()
    for before, after in zip(plan.pieces, plan.pieces[1:], strict=False):
        assert before.stop < after.start
    for piece in plan.pieces:
        own = times[piece.start : piece.stop]
        assert times[: piece.start].max(initial=0) < own.min()
        assert own.max() < times[piece.stop :].min(initial=10**9)
        if piece.link is not None:
            assert film.pictures.opens[piece.link] and times[piece.link] == own.max()
        elif piece.stop < len(times):
            assert film.pictures.afresh[piece.stop] or film.pictures.opens[piece.stop]
        entry = piece.decode_from
        assert entry <= piece.start
        assert entry == 0 or film.pictures.afresh[entry] or film.pictures.opens[entry]
        if entry != piece.start and film.pictures.opens[entry]:  # what is shown before it cannot be decoded from here
            assert times[entry] < own.min()
        assert entry != piece.start or not film.pictures.opens[entry] or times[entry] == own.min()


@settings(max_examples=100, deadline=None)
@given(groups=groups)
def test_sorted_times_less_the_delay_are_decode_times(groups: list[tuple[str, int, int]]) -> None:
    times = film_of(groups).pictures.times
    decode = np.sort(times) - reorder_delay(times)
    assert (np.diff(decode) > 0).all() and (decode <= times).all() and (decode == times).any()


def test_a_piece_begins_inside_a_group_and_ends_where_one_begins() -> None:
    film = film_of([("closed", 4, 3), ("closed", 4, 3), ("open", 4, 3), ("closed", 4, 3)])
    [piece] = plan_pieces(film, [(Fraction(20, 25), Fraction(21, 25))], can_splice=True).pieces
    assert (piece.decode_from, piece.start, piece.stop, piece.link) == (13, 20, 29, 26)
    [whole] = plan_pieces(film, [(Fraction(20, 25), Fraction(21, 25))], can_splice=False).pieces
    assert (whole.decode_from, whole.start, whole.stop) == (0, 0, 51)


def test_what_an_edit_list_cuts_off_is_not_encoded() -> None:
    film = film_of([("closed", 4, 3), ("closed", 4, 3)])
    shown = film.pictures.times >= 105
    shown[23:] = False
    late = replace(film, pictures=replace(film.pictures, shown=shown))
    plan = plan_pieces(late, [(Fraction(12, 25), Fraction(13, 25))], can_splice=True)
    assert plan.count == 23 and not plan.is_whole
    shown[[14, 24]] = [False, True]  # a hole, as where an edit list joins two parts
    assert plan_pieces(late, [(Fraction(12, 25), Fraction(13, 25))], can_splice=True).is_whole


@pytest.mark.parametrize("ranges", [[(1, 1)], [(2, 1)], [(0, 2), (1, 3)], [(2, 3), (0, 1)]])
def test_ranges_that_make_no_sense_are_refused(ranges: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="range"):
        check_ranges([(Fraction(a), Fraction(b)) for a, b in ranges])
