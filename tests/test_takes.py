"""Which shots belong together, and the clip that is made of them."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import ffmpeg
import numpy as np
import pytest
from demo_clip_track import demo_clip
from footage import close_up, demo_pictures, pictures, written
from media_samples import ClipRecipe, number_in, write_clip

from tools.errors import OutputError
from tools.ffmpeg_process import ffmpeg_executable
from tools.landmarks import LandmarkDetector, landmark_detector
from tools.shots import Shot, find_shots
from tools.take_clip import read_take_shots, write_take
from tools.takes import Take, group_takes, left_out
from tools.video import VideoInfo, probe, read_frames

EMPTY = np.full((256, 256, 3), (90, 120, 60), np.uint8)
RATE = 44_100


@pytest.fixture(scope="module")
def detector() -> Iterator[LandmarkDetector]:
    with landmark_detector("mediapipe", still=True) as detector:
        yield detector


def shots_of(*lengths: int) -> tuple[Shot, ...]:
    places = np.cumsum([0, *lengths]).tolist()
    return tuple(map(Shot, places, places[1:]))


def take_of(*shots: tuple[int, int], seen: int = 100, height: float = 100.0) -> Take:
    return Take(tuple(Shot(*shot) for shot in shots), (0.0, 0.0), height, seen)


# --- grouping ---


def test_shots_of_two_cameras_and_an_empty_one_are_told_apart(tmp_path: Path, detector: LandmarkDetector) -> None:
    wide = demo_pictures(0, 60)
    near = [close_up(picture) for picture in demo_pictures(150, 50)]
    info = written(tmp_path / "film.mp4", [*wide[:30], *near[:20], *[EMPTY] * 20, *wide[30:], *near[20:]])
    shots = find_shots(info)
    assert shots == shots_of(30, 20, 20, 30, 30)
    first, second = group_takes(info, shots, detector)
    assert first.shots == (shots[0], shots[3]) and second.shots == (shots[1], shots[4])
    assert first.seen_frames == 60 and second.seen_frames == 50
    assert second.height > 1.3 * first.height
    assert first.joints == (30,) and len(first) == 60


def test_two_people_before_cameras_alike_are_two_takes(
    shared: Path, tmp_path: Path, detector: LandmarkDetector
) -> None:
    anchor = probe(shared / "clips" / "anchor_512_25fps_20s.mp4")
    anchor_frames, demo = pictures(anchor, 0, 60), demo_pictures(0, 30)
    info = written(tmp_path / "film.mp4", [*anchor_frames[:30], *demo, *anchor_frames[30:]])
    takes = group_takes(info, shots_of(30, 30, 30), detector)
    assert [take.shots for take in takes] == [(Shot(0, 30), Shot(60, 90)), (Shot(30, 60),)]


@pytest.mark.parametrize(
    "name", ["anchor_512_25fps_20s", "portrait_512_25fps_8s", "square_700_30fps_6s", "vertical_1080x1920_25fps_10s"]
)
def test_a_person_is_one_take_however_much_he_moves(shared: Path, name: str, detector: LandmarkDetector) -> None:
    info = probe(shared / "clips" / f"{name}.mp4")
    third = info.frame_count // 3
    shots = (Shot(0, 30), Shot(third, third + 30), Shot(2 * third, 2 * third + 30))
    (take,) = group_takes(info, shots, detector)
    assert take.shots == shots


def test_the_second_face_of_every_shot_can_be_meant(shared: Path, tmp_path: Path, detector: LandmarkDetector) -> None:
    anchor = pictures(probe(shared / "clips" / "anchor_512_25fps_20s.mp4"), 0, 40)
    demo = demo_pictures(0, 40)
    info = written(tmp_path / "film.mp4", [np.hstack(pair) for pair in zip(anchor, demo, strict=True)])
    shots = shots_of(20, 20)
    (largest,), (other,) = (group_takes(info, shots, detector, face) for face in (1, 2))
    assert largest.shots == other.shots == shots
    assert largest.centre[0] < 256 < other.centre[0] and largest.height > other.height
    assert group_takes(info, shots, detector, face=3) == ()


def test_takes_that_are_too_short_or_small_are_told() -> None:
    takes = (take_of((0, 100)), take_of((100, 120), (200, 210), seen=30), take_of((300, 600), seen=300, height=40.0))
    assert [take.is_usable(Fraction(25)) for take in takes] == [True, False, False]
    short, small = left_out(takes, Fraction(25))
    assert short == (
        "4.0 to 4.8 s, 8.0 to 8.4 s: the face is seen for 1.2 s, at least 3 s are needed: left as it was"
    )
    assert "12.0 to 24.0 s: the face is 40 px high" in small


# --- the clip of a take ---


def film_of_numbers(folder: Path, sound_start: Fraction = Fraction(0)) -> tuple[VideoInfo, np.ndarray]:
    """Eighty numbered pictures, and 3 s of noise, which ends before them, in 16 bits."""
    samples = np.random.default_rng(0).integers(-9000, 9000, 3 * RATE).astype(np.float32) / 32768
    recipe = ClipRecipe(rate=Fraction(30000, 1001))
    times = [Fraction(1001 * k, 30000) for k in range(100)]
    path = write_clip(folder / "it's a 'film'.mov", times, recipe, sound=(samples, RATE, sound_start))
    return probe(path), samples


def sound_of(path: Path) -> np.ndarray:
    """int16 samples as an independent reader decodes them."""
    out, _ = ffmpeg.input(str(path)).output("pipe:", format="s16le", ac=1).run(ffmpeg_executable(), True, True)
    return np.frombuffer(out, "<i2")


def test_a_take_holds_exactly_its_pictures_and_their_sound(tmp_path: Path) -> None:
    info, samples = film_of_numbers(tmp_path)
    take = take_of((3, 20), (40, 41), (77, 100))
    output = tmp_path / "take 1.mp4"
    assert list(write_take(info, take, output)) == list(range(1, len(take) + 1))
    clip = probe(output)
    expected = [*range(3, 20), 40, *range(77, 100)]
    assert [number_in(frame) for frame in read_frames(clip)] == expected
    assert clip.fps == info.fps and not clip.is_variable_rate
    heard = np.rint(np.pad(samples, (0, RATE)) * 32768).astype(np.int16)
    places = [[round(n * RATE * Fraction(1001, 30000)) for n in (shot.start, shot.stop)] for shot in take.shots]
    assert np.array_equal(sound_of(output), np.concatenate([heard[start:stop] for start, stop in places]))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([info.path.name, output.name])


def test_pictures_of_a_take_look_like_the_films(tmp_path: Path) -> None:
    list(write_take(demo_clip(), take_of((10, 20)), tmp_path / "take.mp4"))
    for frame, source in zip(read_frames(probe(tmp_path / "take.mp4")), read_frames(demo_clip(), 10, 10), strict=True):
        assert np.square(frame.astype(float) - source).mean() < 255**2 / 10**4.5  # 45 dB


def test_a_take_says_which_frames_it_holds(tmp_path: Path) -> None:
    info, _ = film_of_numbers(tmp_path)
    take = take_of((3, 20), (40, 60))
    list(write_take(info, take, tmp_path / "take.mp4"))
    clip = probe(tmp_path / "take.mp4")
    assert read_take_shots(clip) == take.shots
    assert read_take_shots(info) is None and read_take_shots(demo_clip()) is None


RANGES = ("", " 0-9", " 5-25 4-21", " 0.0-37.0", " 0-37 ", " 0-37 5", " -1-36", " 0-37-37", " 0-9 9-9 9-37", " 0-9" * 9)


@pytest.mark.parametrize("text", ["", "[" * 5000, "0-37", *(f"frames of the film:{ranges}" for ranges in RANGES)])
def test_other_comments_in_a_file_are_no_frame_numbers(tmp_path: Path, text: str) -> None:
    path = write_clip(tmp_path / "a.mp4", [Fraction(k, 25) for k in range(37)])
    ffmpeg.input(str(path)).output(str(tmp_path / "b.mp4"), c="copy", metadata=f"comment={text}").run(
        ffmpeg_executable(), quiet=True
    )
    assert read_take_shots(probe(tmp_path / "b.mp4")) is None


def test_an_abandoned_take_leaves_nothing(tmp_path: Path) -> None:
    info, _ = film_of_numbers(tmp_path)
    job = write_take(info, take_of((0, 50)), tmp_path / "take.mp4")
    assert next(job) == 1
    job.close()
    with pytest.raises(OutputError, match="cannot write"):
        list(write_take(info, take_of((0, 50)), tmp_path / "none" / "take.mp4"))
    assert [path.name for path in tmp_path.iterdir()] == [info.path.name]


def test_a_silent_film_makes_a_silent_take(tmp_path: Path) -> None:
    info = probe(write_clip(tmp_path / "a.mp4", [Fraction(k, 25) for k in range(20)]))
    list(write_take(info, take_of((5, 15)), tmp_path / "take.mp4"))
    assert not probe(tmp_path / "take.mp4").has_audio
