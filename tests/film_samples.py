"""Films of every coding, made with the ffmpeg program, and what an independent decoder sees in them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tools.ffmpeg_process import ffmpeg_executable
from tools.film import probe_film
from tools.film_pictures import FilmPicture
from tools.film_writer import RewriteReport, RewriteSettings, rewrite_film

IDENTICAL_DB = 200.0
TEST_PICTURE = ("-f", "lavfi", "-i", "testsrc2=s=160x120:r=25:d=3")
NOISE = ("-f", "lavfi", "-i", "mandelbrot=s=160x120:r=25:end_pts=400,noise=alls=15:allf=t", "-t", "3")
BEEP = ("-f", "lavfi", "-i", "sine=d=3:r=48000")


def ffmpeg(*arguments: str | Path) -> str:
    """Runs ffmpeg; what it complains about."""
    command = [ffmpeg_executable(), "-v", "warning", "-nostdin", "-y", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stderr


@dataclass(frozen=True)
class SeenPicture:
    """A decoded picture in the film's own samples."""

    time: Fraction
    """Seconds after the first."""
    planes: tuple[np.ndarray, ...]
    peak: int

    def psnr_to(self, other: SeenPicture) -> float:
        """Of the plane that differs most, dB."""
        return min(_psnr(a, b, self.peak) for a, b in zip(self.planes, other.planes, strict=True))


def seen(path: Path) -> list[SeenPicture]:
    """Every picture of a film's first video track, as PyAV decodes it."""
    return list(_seen(path))


def _seen(path: Path) -> Iterator[SeenPicture]:
    with av.open(str(path)) as container:
        start = None
        for frame in container.decode(video=0):
            bits = frame.format.components[0].bits
            kind = np.uint8 if bits == 8 else np.uint16
            planes = tuple(
                np.frombuffer(plane, kind).reshape(plane.height, -1)[:, : plane.width].astype(np.int32)
                for plane in frame.planes
            )
            time = frame.pts * frame.time_base
            start = time if start is None else start
            yield SeenPicture(time - start, planes, (1 << bits) - 1)


def _psnr(a: np.ndarray, b: np.ndarray, peak: int) -> float:
    error = np.mean((a - b) ** 2)
    return IDENTICAL_DB if error == 0 else 10 * np.log10(peak**2 / error)


def unchanged(pictures: Iterator[FilmPicture]) -> Iterator[np.ndarray]:
    """Redraws nothing."""
    for picture in pictures:
        yield picture.rgb


def rewritten(
    film: Path,
    output: Path,
    ranges: Sequence[tuple[str, str]],
    redraw: Callable[[Iterator[FilmPicture]], Iterator[np.ndarray]] = unchanged,
    sound: Path | None = None,
    settings: RewriteSettings | None = None,
    finish: Callable[[Path], None] | None = None,
) -> RewriteReport:
    """Rewrites a film to the end. Ranges in seconds, such as "1.2"."""
    exact = [(Fraction(start), Fraction(stop)) for start, stop in ranges]
    job = rewrite_film(probe_film(film), exact, redraw, sound, output, settings, finish)
    while True:
        try:
            next(job)
        except StopIteration as end:
            return end.value
