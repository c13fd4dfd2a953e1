"""A whole film with new lines: the demo clip, whose head is fitted already."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import ffmpeg
import numpy as np
import pytest
from demo_clip_track import demo_clip
from fitted_demo import FittedDemo
from media_samples import write_sound

from talkinghead.cli import main
from talkinghead.config import DubOptions, FitConfig
from talkinghead.dubbing.avatar_store import AvatarStore
from talkinghead.dubbing.film import DubbedFilm, dub_film
from talkinghead.dubbing.film_job import FilmJob
from talkinghead.dubbing.redrawing import EASE_S
from talkinghead.errors import NoSpeakerError
from talkinghead.progress import Progress
from tools.audio import read_audio
from tools.errors import UnusableClipError
from tools.ffmpeg_process import ffmpeg_executable
from tools.media import open_media
from tools.video import VideoInfo, probe, read_frames

START, END, LENGTH_S = Fraction("2.2"), Fraction("3.4"), 1.0
OPTIONS = DubOptions(preset="fast", device="cpu")


@dataclass(frozen=True)
class Lines:
    """A line, and its recording's samples at 16 kHz."""

    subtitles: Path
    audio_dir: Path
    samples: np.ndarray


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Lines:
    folder = tmp_path_factory.mktemp("lines")
    time = np.arange(round(16_000 * LENGTH_S)) / 16_000
    samples = (0.3 * np.sin(2 * np.pi * 220 * time) * np.sin(2 * np.pi * 2 * time)).astype(np.float32)
    (folder / "recordings").mkdir()
    write_sound(folder / "recordings" / "1.wav", samples, 16_000)
    subtitles = folder / "lines.srt"
    subtitles.write_text("1\n00:00:02,200 --> 00:00:03,400\nHallo\n")
    return Lines(subtitles, folder / "recordings", samples)


class Store(AvatarStore):
    """Has the demo's avatar, or says what is wrong with every clip."""

    def __init__(self, folder: Path, avatar: Path | None) -> None:
        super().__init__(folder)
        self.avatar = avatar
        self.asked: list[tuple[VideoInfo, FitConfig]] = []

    def avatar_for(self, video: Path, config: FitConfig) -> Generator[Progress, None, Path]:
        self.asked.append((probe(video), config))
        yield Progress("fitting", 1, 1)
        if self.avatar is None:
            raise UnusableClipError("nobody can learn this")
        return self.avatar


def film_with_key_frames(path: Path) -> Path:
    """The demo clip with a key frame every 20 pictures."""
    source = ffmpeg.input(str(demo_clip().path))
    output = source.output(str(path), vcodec="libx264", g=20, sc_threshold=0, crf=12, acodec="flac", strict=-2)
    output.run(cmd=ffmpeg_executable(), quiet=True)
    return path


@pytest.fixture(scope="module")
def dubbed(
    tmp_path_factory: pytest.TempPathFactory, fitted_demo: FittedDemo, lines: Lines
) -> tuple[Path, Path, DubbedFilm, Store]:
    """The film, the dubbed one, what was said of it, and the store."""
    folder = tmp_path_factory.mktemp("dubbed")
    film, output = film_with_key_frames(folder / "film.mp4"), folder / "film.de.mp4"
    store = Store(folder / "avatars", copied(fitted_demo, tmp_path_factory.mktemp("avatar")))
    report = run(dub_film(film, lines.subtitles, lines.audio_dir, output, store, OPTIONS))
    assert sorted(path.name for path in folder.iterdir()) == ["film.de.mp4", "film.mp4"]
    return film, output, report, store


def copied(fitted: FittedDemo, folder: Path) -> Path:
    """The avatar, for its log is written to."""
    return Path(shutil.copytree(fitted.avatar, folder / "demo.avatar"))


def run(job: Generator[Progress, None, DubbedFilm]) -> DubbedFilm:
    while True:
        try:
            next(job)
        except StopIteration as finished:
            return finished.value


def changes(film: Path, output: Path) -> np.ndarray:
    """Largest change of every picture, grey levels."""
    pairs = zip(read_frames(probe(film)), read_frames(probe(output)), strict=True)
    return np.array([np.abs(old.astype(int) - new).max() for old, new in pairs])


def test_pictures_change_around_the_line_only(dubbed: tuple[Path, Path, DubbedFilm, Store]) -> None:
    film, output, report, _ = dubbed
    fps, largest = probe(film).fps, changes(film, output)
    times = np.arange(len(largest)) / float(fps)
    inside = (times > START - EASE_S / 2) & (times < END + EASE_S / 2)
    assert (largest[inside] > 30).all()
    outside = (times < START - EASE_S) | (times > END + EASE_S)
    assert largest[outside].max() <= 12  # encoded anew, at 50 dB or more
    assert (largest[outside] == 0).sum() > 0.7 * outside.sum()  # copied
    expected = ((times > START - EASE_S) & (times < END + EASE_S)).sum()
    assert report.frames == len(largest) and abs(report.redrawn - expected) <= 1


def test_the_sound_changes_inside_the_line_only(dubbed: tuple[Path, Path, DubbedFilm, Store], lines: Lines) -> None:
    film, output, *_ = dubbed
    before, after = read_audio(film).samples, read_audio(output).samples
    assert len(before) == len(after)
    start, end = (round(edge * 16_000) for edge in (START, END))
    margin = 200  # of the resampler to 16 kHz
    assert np.abs(before - after)[: start - margin].max() < 1e-4
    assert np.abs(before - after)[end + margin :].max() < 1e-4
    said = after[start + margin : start + len(lines.samples) - margin]
    assert np.corrcoef(said, lines.samples[margin:-margin])[0, 1] > 0.99
    assert np.abs(after[start + len(lines.samples) + margin : end - margin]).max() < 1e-4  # silence to the slot's end


def test_the_avatar_is_learned_from_the_whole_take(dubbed: tuple[Path, Path, DubbedFilm, Store]) -> None:
    film, _, _, store = dubbed
    ((clip, config),) = store.asked
    assert clip.frame_count == probe(film).frame_count and clip.has_audio and config == OPTIONS.fit


def test_the_film_is_marked(dubbed: tuple[Path, Path, DubbedFilm, Store]) -> None:
    with open_media(dubbed[1]):
        assert b"c2pa" in dubbed[1].read_bytes()


def test_a_film_without_a_face_is_refused(tmp_path: Path, lines: Lines, fitted_demo: FittedDemo) -> None:
    film = tmp_path / "film.mp4"
    picture, sound = ffmpeg.input("testsrc=d=5:r=25:s=160x120", f="lavfi"), ffmpeg.input("sine=d=5", f="lavfi")
    ffmpeg.output(picture, sound, str(film)).run(cmd=ffmpeg_executable(), quiet=True)
    store = Store(tmp_path / "avatars", fitted_demo.avatar)  # is not asked
    with pytest.raises(NoSpeakerError, match="no face that could be learned"):
        run(dub_film(film, lines.subtitles, lines.audio_dir, tmp_path / "out.mp4", store, OPTIONS))
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


def test_takes_that_cannot_be_learned_are_told(tmp_path: Path, lines: Lines) -> None:
    store = Store(tmp_path / "avatars", None)
    with pytest.raises(NoSpeakerError, match="left as it was: nobody can learn this"):
        run(dub_film(demo_clip().path, lines.subtitles, lines.audio_dir, tmp_path / "out.mp4", store, OPTIONS))
    assert not list(tmp_path.iterdir())


def test_nothing_is_left_of_a_job_that_is_closed(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, lines: Lines, fitted_demo: FittedDemo
) -> None:
    store = Store(tmp_path / "avatars", copied(fitted_demo, tmp_path_factory.mktemp("avatar")))
    job = dub_film(demo_clip().path, lines.subtitles, lines.audio_dir, tmp_path / "out.mp4", store, OPTIONS)
    while next(job).stage != "film":
        pass
    assert list(tmp_path.iterdir())
    job.close()
    assert not list(tmp_path.iterdir())


# --- as a row of a job list ---


def film_job(lines: Lines, video: Path, options: DubOptions = OPTIONS) -> FilmJob:
    return FilmJob(
        row=2,
        video=video,
        output=Path("out.mp4"),
        options=options,
        subtitles=lines.subtitles,
        audio_dir=lines.audio_dir,
    )


def test_a_row_that_can_be_done_has_no_problems(lines: Lines) -> None:
    assert not list(film_job(lines, demo_clip().path).problems())


def test_all_problems_of_a_row_are_told(lines: Lines, tmp_path: Path) -> None:
    free = DubOptions(background="plate", pose="still")
    assert "leave background, pose away" in next(film_job(lines, demo_clip().path, free).problems())
    assert "is an avatar" in next(film_job(lines, tmp_path).problems())
    assert "does not exist" in next(film_job(lines, tmp_path / "nothing.mp4").problems())


# --- as a command ---


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--srt", "lines.srt", "-o", "out.mp4"], "a film needs both --srt"),
        (["--audio-dir", "recordings", "-o", "out.mp4"], "a film needs both --srt"),
        (["--srt", "lines.srt", "--audio-dir", "recordings", "-o", "out.avi"], "a film's name ends in .mp4"),
        (["--srt", "no.srt", "--audio-dir", "recordings", "-o", "out.mp4"], "no.srt: it cannot be read"),
        (["--srt", "lines.srt", "--audio-dir", "recordings", "-o", "demo.mp4"], "is, or lies in, the input"),
        (["--srt", "lines.srt", "--audio-dir", "recordings", "-o", "o.mp4", "--workers", "2"], "are for job lists"),
        (["-o", "out.mp4"], "is no job list"),
    ],
)
def test_what_a_user_can_mend_is_one_line(
    arguments: list[str],
    complaint: str,
    lines: Lines,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(lines.subtitles.parent, tmp_path / "work")
    shutil.copy(demo_clip().path, tmp_path / "work" / "demo.mp4")
    monkeypatch.chdir(tmp_path / "work")
    before = sorted(path.name for path in Path().iterdir())
    assert main(["dub", "demo.mp4", *arguments]) == 2
    assert complaint in capfd.readouterr().err
    assert sorted(path.name for path in Path().iterdir()) == before
