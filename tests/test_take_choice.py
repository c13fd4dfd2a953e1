"""What of a cut video an avatar is made from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from demo_clip_track import demo_clip, finish
from footage import close_up, demo_pictures, written
from media_samples import write_sound

from talkinghead.take_choice import TAKE_NAME, ChosenTake, choose_take
from tools.errors import UnusableClipError
from tools.shots import Shot
from tools.take_clip import read_take_shots
from tools.tracking import TrackingConfig
from tools.video import VideoInfo, probe, read_frames


def chosen(info: VideoInfo, folder: Path) -> ChosenTake:
    return finish(choose_take(info, TrackingConfig(), folder))


def near(start: int, count: int) -> Iterator[np.ndarray]:
    return map(close_up, demo_pictures(start, count))


@pytest.fixture
def film(tmp_path: Path) -> VideoInfo:
    """Two cameras: 90 frames from afar, in two shots, around 30 from near."""
    frames: Iterable[np.ndarray] = [*demo_pictures(0, 50), *near(100, 30), *demo_pictures(140, 40)]
    sound = write_sound(tmp_path / "sound.wav", np.zeros(16_000 * 5, np.float32), 16_000)
    return written(tmp_path / "film.mp4", frames, sound)


def test_a_clip_without_cuts_is_taken_as_it_is(tmp_path: Path) -> None:
    assert chosen(demo_clip(), tmp_path) == ChosenTake(demo_clip(), (), ())
    assert list(tmp_path.iterdir()) == []


def test_cuts_within_one_set_up_are_joints_of_the_clip(tmp_path: Path) -> None:
    frames = [np.roll(frame, 6, axis=1) if k >= 45 else frame for k, frame in enumerate(demo_pictures(0, 90))]
    info = written(tmp_path / "clip.mp4", frames)
    take = chosen(info, tmp_path)
    assert (take.info, take.joints) == (info, (45,))
    assert take.findings == ("1 cut(s) within one camera set-up, at 1.8 s: tracking starts anew at each",)


def test_of_two_cameras_the_take_of_the_one_that_shows_the_face_longest_is_made(film: VideoInfo) -> None:
    folder = film.path.parent
    take = chosen(film, folder)
    assert take.info == probe(folder / TAKE_NAME) and take.info.frame_count == 90 and take.info.has_audio
    assert take.joints == (50,) and read_take_shots(take.info) == (Shot(0, 50), Shot(80, 120))
    (finding,) = take.findings
    assert "3 shots" in finding and "3.6 of 4.8 s" in finding and "0.0 to 2.0 s, 3.2 to 4.8 s" in finding
    source = list(read_frames(film))
    for frame, number in zip(read_frames(take.info), [*range(50), *range(80, 120)], strict=True):
        assert np.abs(frame.astype(int) - source[number]).mean() < 3


def test_a_take_that_is_there_is_not_written_again(film: VideoInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    first = chosen(film, film.path.parent)
    monkeypatch.setattr("talkinghead.take_choice.write_take", lambda *_: pytest.fail("written again"))
    assert chosen(film, film.path.parent) == first


def test_a_clip_that_is_a_take_knows_its_joints(film: VideoInfo) -> None:
    take = chosen(film, film.path.parent)
    again = chosen(take.info, film.path.parent)
    assert again == ChosenTake(take.info, (50,), ())


def test_a_film_of_short_shots_is_refused(tmp_path: Path) -> None:
    frames = [*demo_pictures(0, 50), *near(100, 40), *[np.full((256, 256, 3), (90, 120, 60), np.uint8)] * 30]
    with pytest.raises(UnusableClipError, match=r"3 shots, .*seen for 2\.0 s, at least 3 s .*give a continuous take"):
        chosen(written(tmp_path / "clip.mp4", frames), tmp_path)
