"""The order of source frames: exact, without jumps, eased; and reading them in it."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from media_samples import number_in, write_clip

from talkinghead import timeline
from talkinghead.timeline import PingPong, frames_in_order
from tools.video import VideoInfo, probe, read_frames

RATES = st.sampled_from([Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(30), Fraction(50), Fraction(60)])
LENGTHS = st.integers(1, 400)


def order(length: int, fps: Fraction, frames: int) -> np.ndarray:
    track = PingPong(length, fps)
    return np.array([track[frame] for frame in range(frames)])


@given(LENGTHS, RATES)
def test_never_jumps_and_shows_every_frame(length: int, fps: Fraction) -> None:
    shown = order(length, fps, 4 * length + 200)
    assert shown[0] == 0
    assert set(shown) == set(range(length))
    assert np.abs(np.diff(shown)).max(initial=0) <= 1


@given(st.integers(100, 400), RATES, st.integers(2, 30))
def test_turns_are_eased(length: int, fps: Fraction, step: int) -> None:
    """Over half a second the speed goes from 1 to -1, so the acceleration is 4 / fps frames per frame squared (a turn
    is rounded to multiples of four frames, hence at most a third more); rounding to whole frames adds up to 2."""
    shown = order(length, fps, 3 * length)
    second_difference = shown[2 * step :] - 2 * shown[step:-step] + shown[: -2 * step]
    assert np.abs(second_difference).max() <= 4 / 3 * 4 / float(fps) * step**2 + 2


@given(st.integers(100, 400), RATES)
def test_speed_is_one_between_turns_and_a_turn_lasts_half_a_second(length: int, fps: Fraction) -> None:
    shown = order(length, fps, 4 * length)
    slow = np.abs(shown[8:] - shown[:-8]) < 8  # eight steps that do not cover eight frames
    runs = [sum(1 for _ in run) for is_slow, run in itertools.groupby(slow) if is_slow]
    assert max(runs) <= float(fps) * 0.5 * 4 / 3 + 16
    assert not slow[: length - int(fps)].any()


@given(LENGTHS, RATES, st.integers(0, 10**15), st.integers(1, 50))
def test_repeats_exactly_however_far(length: int, fps: Fraction, start: int, periods: int) -> None:
    track = PingPong(length, fps)
    begin = 40  # after the start at full speed, which is not part of the period
    window = [track[begin + frame] for frame in range(8 * length + 400)]
    period = next(
        p for p in range(1, len(window) // 2 + 1) if window[:p] == window[p : 2 * p] and window[p:] == window[:-p]
    )
    assert track[begin + start % period + periods * 10**12 * period] == track[begin + start % period]


def test_a_single_frame_is_a_still() -> None:
    assert set(order(1, Fraction(25), 100)) == {0}


def test_no_source_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one source frame, got 0"):
        PingPong(0, Fraction(25))


@pytest.fixture(scope="module")
def numbered_clip(tmp_path_factory: pytest.TempPathFactory) -> VideoInfo:
    path = tmp_path_factory.mktemp("timeline") / "numbered.mp4"
    return probe(write_clip(path, [Fraction(index, 25) for index in range(60)]))


def test_frames_come_in_order_and_few_are_held(numbered_clip: VideoInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[np.ndarray]] = []

    def watched(info: VideoInfo, start: int = 0, count: int | None = None) -> Iterator[np.ndarray]:
        for picture in read_frames(info, start, count):
            made.append(weakref.ref(picture))
            yield picture

    monkeypatch.setattr(timeline, "read_frames", watched)
    monkeypatch.setattr(timeline, "CHUNK_FRAMES", 8)
    track = PingPong(numbered_clip.frame_count, numbered_clip.fps)
    wanted = [track[frame] for frame in range(200)]
    pictures = frames_in_order(numbered_clip, wanted)
    for index in wanted:
        assert number_in(next(pictures)) == index
        assert sum(picture() is not None for picture in made) <= 8 + 2  # one in the reader's hand, one in ours


def test_large_pictures_make_small_chunks(numbered_clip: VideoInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int | None] = []

    def recorded(info: VideoInfo, start: int = 0, count: int | None = None) -> Iterator[np.ndarray]:
        asked.append(count)
        return read_frames(info, start, count)

    monkeypatch.setattr(timeline, "read_frames", recorded)
    monkeypatch.setattr(timeline, "CHUNK_BYTES", 5 * 64 * 48 * 3)
    shown = [number_in(picture) for picture in frames_in_order(numbered_clip, [*range(12), *range(10, -1, -1)])]
    assert shown == [*range(12), *range(10, -1, -1)]
    assert [count for count in asked if count is not None] == [5, 5, 1]


@pytest.mark.parametrize("order", [[59, 60], [0, -1]])
def test_frames_outside_the_clip_are_refused(numbered_clip: VideoInfo, order: list[int]) -> None:
    with pytest.raises(ValueError, match=r"asked for, but .* has 60"):
        list(frames_in_order(numbered_clip, order))
