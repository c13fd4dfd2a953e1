"""Rewriting that fails, is given up or gets the wrong thing leaves nothing behind, and says what is wrong."""

from __future__ import annotations

import errno
import os
import queue
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from film_samples import TEST_PICTURE, ffmpeg, rewritten, seen, unchanged

from tools.errors import DamagedMediaError, NoVideoError, OutputError, ProtectedMediaError, UnsupportedFootageError
from tools.film import probe_film
from tools.film_pictures import FilmPicture
from tools.film_writer import rewrite_film

RANGES = [("0.4", "1.0"), ("2.0", "2.5")]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    ffmpeg(*TEST_PICTURE, "-c:v", "libx264", "-g", "25", "-bf", "2", "-pix_fmt", "yuv420p", path)
    return path


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def too_few(pictures: Iterator[FilmPicture]) -> Iterator[np.ndarray]:
    for picture in pictures:
        if picture.time < Fraction("2.2"):
            yield picture.rgb


def too_many(pictures: Iterator[FilmPicture]) -> Iterator[np.ndarray]:
    yield from unchanged(pictures)
    yield np.zeros((120, 160, 3), np.uint8)


def of_other_size(pictures: Iterator[FilmPicture]) -> Iterator[np.ndarray]:
    for picture in pictures:
        yield picture.rgb[:-2]


def failing(pictures: Iterator[FilmPicture]) -> Iterator[np.ndarray]:
    for picture in pictures:
        if picture.time > Fraction("2.1"):
            raise OSError("the redrawing's own error")
        yield picture.rgb


@pytest.mark.parametrize(
    ("redraw", "error", "message"),
    [
        (too_few, ValueError, "fewer"),
        (too_many, ValueError, "more"),
        (of_other_size, ValueError, "118"),
        (failing, OSError, "own error"),
    ],
)
def test_a_redraw_that_goes_wrong(redraw, error: type[Exception], message: str, film: Path, tmp_path: Path) -> None:
    (tmp_path / "out.mp4").write_bytes(b"what was there")
    threads = threading.active_count()
    with pytest.raises(error, match=message):
        rewritten(film, tmp_path / "out.mp4", RANGES, redraw)
    assert names(tmp_path) == ["out.mp4"] and (tmp_path / "out.mp4").read_bytes() == b"what was there"
    assert threading.active_count() == threads


def test_giving_up_leaves_nothing(film: Path, tmp_path: Path) -> None:
    for steps in (0, 1, 5, 20, 60):
        job = rewrite_film(probe_film(film), [(Fraction(1, 2), Fraction(1))], unchanged, None, tmp_path / "out.mp4")
        for _ in range(steps):
            next(job)
        job.close()
        assert names(tmp_path) == []


def test_a_full_disk_is_said_so(film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tools.film_writer.os.replace", full)
    with pytest.raises(OutputError, match="No space left"):
        rewritten(film, tmp_path / "out.mp4", RANGES)
    assert names(tmp_path) == []


def test_a_hook_changes_the_file_before_it_takes_its_name(film: Path, tmp_path: Path) -> None:
    def finish(path: Path) -> None:
        assert names(tmp_path) == [path.name] and len(seen(path)) == 75
        with path.open("ab") as file:
            file.write(b"\x00\x00\x00\x08free")

    rewritten(film, tmp_path / "out.mp4", RANGES, finish=finish)
    assert (tmp_path / "out.mp4").read_bytes().endswith(b"free")

    def refuse(path: Path) -> None:
        raise RuntimeError("no mark")

    with pytest.raises(RuntimeError, match="no mark"):
        rewritten(film, tmp_path / "second.mp4", RANGES, finish=refuse)
    assert names(tmp_path) == ["out.mp4"]


def test_redrawing_may_read_ahead_from_a_thread(film: Path, tmp_path: Path) -> None:
    def ahead(pictures: Iterator[FilmPicture]) -> Iterator[np.ndarray]:
        read: queue.Queue = queue.Queue(maxsize=20)

        def fill() -> None:
            for picture in pictures:
                read.put(picture)
            read.put(None)

        thread = threading.Thread(target=fill)
        thread.start()
        while (picture := read.get()) is not None:
            yield 255 - picture.rgb
        thread.join()

    report = rewritten(film, tmp_path / "out.mp4", RANGES, ahead)
    assert report.changed == 15 + 13
    before, after = seen(film), seen(tmp_path / "out.mp4")
    for place, (a, b) in enumerate(zip(before, after, strict=True)):
        is_inside = 10 <= place < 25 or 50 <= place < 63
        assert (a.psnr_to(b) < 20) == is_inside


def test_few_pictures_are_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the range is: those that the redrawing reads ahead, and those on their way through ffmpeg."""
    film = tmp_path / "long.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=640x480:r=25:d=16", "-c:v", "libx264", "-g", "100", "-preset", "ultrafast",
           "-pix_fmt", "yuv420p", film)  # fmt: skip
    held: list[int] = []
    offered: list[int] = []

    def counting(pictures: Iterator[FilmPicture]) -> Iterator[np.ndarray]:
        for count, picture in enumerate(pictures):
            offered.append(count)
            yield picture.rgb

    from tools.film_pictures import _Feeder

    feeders: list[_Feeder] = []
    start = _Feeder.start
    monkeypatch.setattr(_Feeder, "start", lambda self: (feeders.append(self), start(self))[1])
    job = rewrite_film(probe_film(film), [(Fraction(1), Fraction(15))], counting, None, tmp_path / "out.mp4")
    for _ in job:
        if feeders:
            held.append(len(feeders[0].time_stamps))
    assert len(offered) == 350 and max(held) <= 40


def test_films_that_cannot_be_redrawn_are_refused(tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "sine=d=1", tmp_path / "sound.mp4")
    with pytest.raises(NoVideoError):
        probe_film(tmp_path / "sound.mp4")
    ffmpeg(*TEST_PICTURE, "-c:v", "ffv1", "-pix_fmt", "bgr0", tmp_path / "rgb.mkv")
    with pytest.raises(UnsupportedFootageError, match="-pix_fmt"):
        rewritten(tmp_path / "rgb.mkv", tmp_path / "out.mkv", RANGES)
    key = ["-encryption_scheme", "cenc-aes-ctr", "-encryption_key", "0" * 32, "-encryption_kid", "1" * 32]
    ffmpeg(*TEST_PICTURE, "-c:v", "libx264", "-pix_fmt", "yuv420p", *key, tmp_path / "locked.mp4")
    with pytest.raises(ProtectedMediaError, match="DRM"):
        probe_film(tmp_path / "locked.mp4")
    assert "out.mkv" not in names(tmp_path)


def test_a_film_whose_end_is_missing(film: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole.mkv"
    with av.open(str(film)) as source, av.open(str(whole), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    report = rewritten(cut, tmp_path / "out.mkv", [("0.4", "0.6")])
    assert report.copied + report.encoded == len(seen(tmp_path / "out.mkv")) < 75


def test_a_damaged_picture_matters_where_it_has_to_be_decoded(film: Path, tmp_path: Path) -> None:
    with av.open(str(film)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][50]
    content = bytearray(film.read_bytes())
    content[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(content)
    with pytest.raises(DamagedMediaError, match="export it again"):
        rewritten(damaged, tmp_path / "out.mp4", [("2.0", "2.5")])
    assert names(tmp_path) == ["damaged.mp4"]
    report = rewritten(damaged, tmp_path / "out.mp4", [("0.4", "0.6")])
    assert (report.copied, report.encoded) == (60, 15)
