"""Which pictures of a film get other lips, and how they ease in and out."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from media_samples import write_sound
from tiny_avatar import TinyClip, source_picture, tiny_avatar

import talkinghead.dubbing.redrawing as redrawing
from talkinghead.dubbing.redrawing import EASE_S, Redrawing, Role, SpokenRange, spoken_ranges
from talkinghead.dubbing.slots import Slot
from talkinghead.renderer import DrivenFrame
from talkinghead.speak import lip_codes
from tools.film_pictures import FilmPicture
from tools.shots import Shot
from tools.takes import Take
from tools.video import VideoInfo, probe
from tools.video_writer import VideoWriter

FPS = Fraction(25)
FILM_FRAMES = 100
FIRST, SECOND = Shot(10, 40), Shot(60, 80)
"""The shots of one set-up; between them is somebody else."""
CLIP = TinyClip(frames=50)
RANGE = SpokenRange(Fraction(1, 2), Fraction(3))


def slot(start: str, end: str, audio: Path = Path("line.wav")) -> Slot:
    return Slot(1, Fraction(start), Fraction(end), audio, ())


def role(clip: TinyClip = CLIP) -> Role:
    return Role(Take((FIRST, SECOND), (32.0, 32.0), 40.0, 50), tiny_avatar(clip), "cpu")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> VideoInfo:
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    with VideoWriter(path, CLIP.width, CLIP.height, FPS) as writer:
        for index in range(FILM_FRAMES):
            writer.write(source_picture(CLIP, index))
    return probe(path)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of noise that swells and fades."""
    time = np.arange(32_000) / 16_000
    sound = np.random.default_rng(0).normal(0, 0.1, len(time)) * np.sin(3 * np.pi * time) ** 2
    return write_sound(tmp_path_factory.mktemp("line") / "line.wav", sound.astype(np.float32), 16_000)


def pictures(first: int, stop: int) -> Iterator[FilmPicture]:
    for index in range(first, stop):
        yield FilmPicture(index / FPS, source_picture(CLIP, index))


def driven(film: VideoInfo, line: Path, monkeypatch: pytest.MonkeyPatch, gain: float = 1.0) -> dict[int, DrivenFrame]:
    """What is asked of the renderer for every picture of the film, by its number in the film."""
    asked: list[DrivenFrame] = []
    someone = role()
    monkeypatch.setattr(
        someone.renderer, "in_place", lambda frames: asked.extend(frames) or [frame.picture for frame in frames]
    )
    job = Redrawing(film, [someone], [RANGE], [slot("0.74", "2.76", line)], gain)
    shown = list(job(pictures(13, 75)))
    assert len(shown) == 75 - 13
    numbers = [number for number in range(13, 75) if number < FIRST.stop or number >= SECOND.start]
    return dict(zip(numbers, asked, strict=True))


# --- ranges ---


def test_slots_whose_easings_touch_are_one_range() -> None:
    found = spoken_ranges([slot("1", "2"), slot("2.4", "3"), slot("5", "6")])
    assert found == (SpokenRange(1 - EASE_S, 3 + EASE_S), SpokenRange(5 - EASE_S, 6 + EASE_S))


def test_a_range_ends_where_the_film_does() -> None:
    start, stop = spoken_ranges([slot("0.1", "3.9")])[0].times(Fraction(4))
    assert (start, stop) == (0, 4)


def test_the_picture_fades_before_the_lips_leave_the_film() -> None:
    times = [RANGE.start + EASE_S * place / 20 for place in range(21)]
    opacity, share = np.transpose([RANGE.eased(time) for time in times])
    assert opacity[0] == share[0] == 0 and opacity[-1] == share[-1] == 1
    assert (np.diff(opacity) >= 0).all() and (np.diff(share) >= 0).all()
    assert (share[opacity < 1] == 0).all()


def test_easing_is_the_same_at_both_ends() -> None:
    for part in range(10):
        before = RANGE.eased(RANGE.start + EASE_S * part / 7)
        assert before == RANGE.eased(RANGE.stop - EASE_S * part / 7)


# --- pictures ---


def test_only_pictures_with_the_face_inside_the_range_change(film: VideoInfo, line: Path) -> None:
    job = Redrawing(film, [role()], [RANGE], [slot("0.74", "2.76", line)], 1.0)
    given = list(pictures(13, 75))
    shown = list(job(iter(given)))
    changed = {round(old.time * FPS) for old, new in zip(given, shown, strict=True) if new is not old.rgb}
    assert changed == {*range(13, FIRST.stop), *range(SECOND.start, 75)}  # at 12.5 the range begins


def test_frames_of_the_take_are_found_across_its_shots(
    film: VideoInfo, line: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = driven(film, line, monkeypatch)
    assert asked[13].number == 3 and asked[39].number == 29 and asked[60].number == 30 and asked[74].number == 44
    assert all((frame.picture == source_picture(CLIP, number)).all() for number, frame in asked.items())


def test_lips_are_those_of_the_recording_at_its_place(
    film: VideoInfo, line: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, avatar = driven(film, line, monkeypatch), tiny_avatar(CLIP)
    # From the slot's start, .74 s, on: the range begins at frame 12, in which .26 s of silence lead the recording.
    expected = np.stack(list(lip_codes(avatar, line, 64, offset=Fraction("0.74") - Fraction(12, 25))))
    numbers = [*range(19, FIRST.stop), *range(SECOND.start, 69)]
    found = np.stack([asked[number].lower for number in numbers])

    def off_by(frames: int) -> float:
        return float(np.abs(found - expected[np.array(numbers) - 12 + frames]).max())

    assert off_by(0) < 0.02 < 0.05 < min(off_by(-1), off_by(1))  # the recording's ends are faded


def test_lips_come_from_the_film_s_expression_and_go_back_to_it(
    film: VideoInfo, line: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, tracks = driven(film, line, monkeypatch), tiny_avatar(CLIP).tracks
    assert np.allclose(asked[13].lower, tracks.lower[3])
    assert np.allclose(asked[74].lower, tracks.lower[44])
    assert 0 < asked[13].opacity < 1 and 0 < asked[74].opacity < 1 and asked[30].opacity == 1


def test_the_mouth_gain_is_heeded(film: VideoInfo, line: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = driven(film, line, monkeypatch, gain=0)
    assert np.allclose(closed[30].lower, tiny_avatar(CLIP).lips.closed_code)


def test_speech_of_a_range_is_heard_once(film: VideoInfo, line: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    heard = redrawing.speech_blocks
    monkeypatch.setattr(redrawing, "speech_blocks", lambda *inputs: calls.append(inputs) or heard(*inputs))
    driven(film, line, monkeypatch)
    assert len(calls) == 1


def test_frames_without_a_face_are_told_in_the_film_s_time(film: VideoInfo, line: Path) -> None:
    hidden = role(TinyClip(frames=50, missing=(0, 20, 21, 22, 30, 49)))  # 10, 30 to 32, 60 and 79 of the film
    job = Redrawing(film, [hidden], [RANGE], [slot("0.74", "2.76", line)], 1.0)
    assert job.unseen() == [(30 / FPS, 33 / FPS), (60 / FPS, 61 / FPS)]  # the range ends at frame 75
    given = list(pictures(28, 36))
    assert [new is old.rgb for old, new in zip(given, job(iter(given)), strict=True)][2:5] == [True] * 3
