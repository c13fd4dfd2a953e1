"""A film with some pictures redrawn: the rest is the same, in every coding, and so is all else that the file holds."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from film_samples import IDENTICAL_DB, NOISE, TEST_PICTURE, ffmpeg, rewritten, seen
from media_samples import FFMPEG_BUILDS, turn_in_header

from tools.film_pictures import FilmPicture
from tools.video import probe, read_frames

X265 = "log-level=error:keyint=25:min-keyint=25:scenecut=0"
PQ = "zscale=matrixin=709:transferin=709:primariesin=709:matrix=2020_ncl:transfer=smpte2084:primaries=2020:npl=203"
HLG = PQ.replace("smpte2084", "arib-std-b67")
X265_PQ = (
    f"{X265}:open-gop=0:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:chromaloc=2:max-cll=1000,400:"
    "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
)
X265_HLG = f"{X265}:open-gop=0:colorprim=bt2020:transfer=arib-std-b67:colormatrix=bt2020nc"

# name -> how it is coded, and how many of its 75 pictures are copied when those from 1.2 to 1.4 s are redrawn.
SPLICED = {
    "h264.mp4": (["libx264", "-g", "25", "-bf", "3"], 54),
    "baseline.mkv": (["libx264", "-g", "12", "-profile:v", "baseline"], 69),
    "noise.mp4": (["libx264", "-g", "25", "-bf", "2", "-crf", "18"], 54),
    "transport.ts": (["libx264", "-g", "25", "-bf", "3"], 54),
    "high422.mov": (["libx264", "-g", "25", "-pix_fmt", "yuv422p10le"], 54),
    "full.mp4": (["libx264", "-g", "25", "-pix_fmt", "yuvj420p", "-colorspace", "bt470bg"], 54),
    "odd.mkv": (["libx264", "-g", "25", "-vf", "crop=151:113:0:0:exact=1,format=yuv444p"], 55),
    "wide.mp4": (["libx264", "-g", "25", "-vf", "setsar=4/3"], 54),
    "fields.mp4": (["libx264", "-g", "25", "-flags", "+ildct+ilme", "-x264-params", "tff=1"], 54),
    "hevc.mp4": (["libx265", "-x265-params", f"{X265}:open-gop=0:bframes=4", "-pix_fmt", "yuv420p10le"], 54),
    "pq.mp4": (["libx265", "-x265-params", X265_PQ, "-vf", f"{PQ},format=yuv420p10le"], 54),
    "hlg.mov": (["libx265", "-x265-params", X265_HLG, "-vf", f"{HLG},format=yuv420p10le"], 54),
    "prores.mov": (["prores_ks", "-profile:v", "3"], 70),
    "prores4444.mov": (["prores_ks", "-profile:v", "4444", "-pix_fmt", "yuva444p10le"], 70),
    "motion.mov": (["mjpeg", "-q:v", "3", "-pix_fmt", "yuvj422p"], 70),
    "dnxhr.mov": (["dnxhd", "-profile:v", "dnxhr_hq", "-pix_fmt", "yuv422p", "-s", "320x240"], 70),
}
WHOLE = {
    "lossless.mkv": (["ffv1"], "ffv1"),
    "old.mp4": (["mpeg4", "-q:v", "3", "-bf", "2"], "h264"),
    "web.mkv": (["libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"], "h264"),
}


@pytest.fixture(params=FFMPEG_BUILDS)
def ffmpeg_build(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Runs a test once with the ffmpeg on the PATH and once with imageio-ffmpeg's."""
    if request.param == "bundled":
        monkeypatch.setenv("PATH", str(tmp_path))
    return request.param


def film_of(folder: Path, name: str, coding: list[str]) -> Path:
    source = NOISE if name.startswith("noise") else TEST_PICTURE
    depth = [] if "-pix_fmt" in coding or "-vf" in coding else ["-pix_fmt", "yuv420p"]
    depth = [] if coding[0] == "prores_ks" else depth
    ffmpeg(*source, "-c:v", *coding, *depth, folder / name)
    return folder / name


def output_of(film: Path) -> Path:
    return film.with_name(f"out{'.mkv' if film.suffix == '.ts' else film.suffix}")


class Painter:
    """Paints a rectangle into the pictures before 1.3 s and leaves the others alone."""

    COLOUR = (200, 60, 90)

    def __init__(self) -> None:
        self.given: list[FilmPicture] = []

    def __call__(self, pictures: Iterator[FilmPicture]) -> Iterator[np.ndarray]:
        for picture in pictures:
            self.given.append(picture)
            if picture.time >= Fraction("1.3"):
                yield picture.rgb
                continue
            new = picture.rgb.copy()
            self.box(new)[...] = self.COLOUR
            yield new

    @staticmethod
    def box(picture: np.ndarray, inset: int = 0) -> np.ndarray:
        height, width = picture.shape[:2]
        top, left = height // 2 - 15, width // 3 + 3
        return picture[top + inset : top + 41 - inset, left + inset : left + 31 - inset]


@pytest.mark.parametrize("name", SPLICED)
def test_redrawn_pictures_change_and_all_others_stay(name: str, tmp_path: Path) -> None:
    coding, copied = SPLICED[name]
    film = film_of(tmp_path, name, coding)
    output = output_of(film)
    painter = Painter()
    report = rewritten(film, output, [("1.2", "1.4")], painter)
    assert (report.copied, report.encoded, report.changed, report.notes) == (copied, 75 - copied, 3, ())
    assert [picture.time for picture in painter.given] == [Fraction(k, 25) for k in range(30, 35)]

    before, after = seen(film), seen(output)
    tolerance = Fraction(1, 1000) if film.suffix == ".ts" else 0  # Matroska counts in milliseconds
    assert len(before) == len(after) == 75
    assert all(abs(a.time - b.time) <= tolerance for a, b in zip(before, after, strict=True))
    quality = [a.psnr_to(b) for a, b in zip(before, after, strict=True)]
    assert sum(value == IDENTICAL_DB for value in quality) >= copied
    assert min(quality[:30] + quality[33:]) > 50
    assert ffmpeg("-i", output, "-f", "null", "-") == ""

    for picture, frame in zip(painter.given, read_frames(probe(film), 30, 5), strict=True):
        assert np.array_equal(picture.rgb, frame)
    for frame in read_frames(probe(output), 30, 3):
        error = np.abs(painter.box(frame, inset=4).astype(int) - painter.COLOUR)
        assert error.mean() < 6 and error.max() < 30


@pytest.mark.parametrize("name", WHOLE)
def test_a_film_that_cannot_be_cut_is_encoded_whole(name: str, tmp_path: Path) -> None:
    coding, codec = WHOLE[name]
    film = film_of(tmp_path, name, coding)
    output = output_of(film)
    report = rewritten(film, output, [("1.2", "1.4")], Painter())
    assert (report.copied, report.encoded, report.changed) == (0, 75, 3)
    assert len(report.notes) == 1 and "all pictures are encoded anew" in report.notes[0]
    before, after = seen(film), seen(output)
    assert probe(output).codec == codec and len(after) == 75
    quality = [a.psnr_to(b) for a, b in zip(before, after, strict=True)]
    assert min(quality[:30] + quality[33:]) > 50 > max(quality[30:33])
    assert ffmpeg("-i", output, "-f", "null", "-") == ""


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_film_stored_turned_stays_so(degrees: int, tmp_path: Path, ffmpeg_build: str) -> None:
    film = film_of(tmp_path, "phone.mp4", ["libx264", "-g", "25", "-bf", "2"])
    turn_in_header(film, degrees)
    painter = Painter()
    rewritten(film, tmp_path / "out.mp4", [("1.2", "1.4")], painter)
    info = probe(tmp_path / "out.mp4")
    assert info.rotation_degrees == degrees
    for picture, frame in zip(painter.given, read_frames(probe(film), 30, 5), strict=True):
        assert np.array_equal(picture.rgb, frame)
    for frame in read_frames(info, 30, 3):
        assert np.abs(painter.box(frame, inset=4).astype(int) - painter.COLOUR).mean() < 4
