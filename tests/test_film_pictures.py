"""Changes put back into a film's own samples: right in ffmpeg's eyes, and nothing else touched."""

from __future__ import annotations

import subprocess
from fractions import Fraction
from pathlib import Path

import av
import ffmpeg as graph
import numpy as np
import pytest
from film_samples import ffmpeg
from media_samples import FFMPEG_BUILDS, turn_in_header

from tools.ffmpeg_process import compile_command
from tools.film import Film, probe_film
from tools.film_colours import FilmColours
from tools.film_pictures import PictureForm, decoded, shown
from tools.film_pieces import Piece
from tools.video import VideoInfo, as_rgb, is_tone_mapped

SIDE = 48
TRANSFERS = {"pq": "smpte2084", "hlg": "arib-std-b67"}


@pytest.fixture(params=FFMPEG_BUILDS)
def ffmpeg_build(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Runs a test once with the ffmpeg on the PATH and once with imageio-ffmpeg's."""
    if request.param == "bundled":
        monkeypatch.setenv("PATH", str(tmp_path))
    return request.param


@pytest.mark.parametrize("hdr", [None, "pq", "hlg"])
@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
@pytest.mark.parametrize(("bits", "is_full_range"), [(8, False), (8, True), (10, False), (12, False)])
def test_codes_are_what_ffmpeg_shows_as_this_rgb(
    hdr: str | None, matrix: str, bits: int, is_full_range: bool, ffmpeg_build: str
) -> None:
    if hdr is not None and (matrix != "bt2020" or bits == 8):
        return  # there is no such film
    rgb = np.random.default_rng(0).integers(8, 248, (SIDE, SIDE, 3)).astype(np.uint8)
    codes = FilmColours(matrix, is_full_range, bits, hdr).codes(rgb)
    info = VideoInfo(Path("film"), SIDE, SIDE, Fraction(25), 1, 0.04, False, False, 0, hdr is not None, "", "", matrix,
                     is_full_range, Fraction(0), 0, True)  # fmt: skip
    assert is_tone_mapped(info) == (hdr is not None)
    form = "yuv444p" if bits == 8 else f"yuv444p{bits}le"
    tags = {} if hdr is None else {"color_trc": TRANSFERS[hdr]}
    stream = graph.input("pipe:", format="rawvideo", pix_fmt=form, s=f"{SIDE}x{SIDE}", **tags)
    output = as_rgb(stream, info).output("pipe:", format="rawvideo", pix_fmt="rgb24")
    samples = np.clip(np.rint(codes), 0, (1 << bits) - 1).astype(np.uint8 if bits == 8 else "<u2")
    planes = samples.transpose(2, 0, 1).tobytes()
    run = subprocess.run(compile_command(output), input=planes, capture_output=True, check=True)
    back = np.frombuffer(run.stdout, np.uint8).reshape(rgb.shape)
    error = np.abs(back.astype(int) - rgb)
    if hdr is None:
        assert error.max() <= (3 if bits == 8 else 1)
    else:  # near black, and where colours lie outside of BT.709, 8 bits of RGB are a wide step
        assert error.mean() < 0.7 and np.quantile(error, 0.99) < 10


def film_with(folder: Path, *options: str, degrees: int = 0) -> Film:
    path = folder / "film.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=0.2,boxblur=2", "-c:v", "libx264", *options, path)
    turn_in_header(path, degrees)
    return probe_film(path)


def first_picture(film: Film) -> tuple[PictureForm, av.VideoFrame, np.ndarray]:
    form = PictureForm(film)
    frames = list(decoded(film, [Piece(0, 0, 5)]))
    pictures = list(shown(form, (frame for frame in frames)))
    assert len(pictures) == len(frames) == 5 and pictures[0].time == 0
    return form, frames[0], pictures[0].rgb


def copies(form: PictureForm, frame: av.VideoFrame) -> list[np.ndarray]:
    return [plane.astype(int) for plane in form.planes(frame)]


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("pixels", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le"])
def test_only_samples_of_the_change_are_touched(pixels: str, degrees: int, tmp_path: Path) -> None:
    form, frame, rgb = first_picture(film_with(tmp_path, "-pix_fmt", pixels, degrees=degrees))
    before = copies(form, frame)
    assert not form.change(frame, rgb, rgb.copy())
    new = rgb.copy()
    new[21:34, 11:24] = np.clip(new[21:34, 11:24] + np.array([9, 4, -7]), 0, 255)
    assert form.change(frame, rgb, new)
    touched = np.zeros(rgb.shape[:2], bool)
    touched[21:34, 11:24] = True
    touched = np.rot90(touched, -degrees // 90)
    for plane, was in zip(copies(form, frame), before, strict=True):
        rows, columns = (full // part for full, part in zip(touched.shape, plane.shape, strict=True))
        reach = np.pad(touched, 2 if columns * rows > 1 else 0)
        near = np.zeros(plane.shape, bool)
        for y in range(plane.shape[0]):
            for x in range(plane.shape[1]):
                margin = 2 if columns * rows > 1 else 0
                window = reach[y * rows : (y + 1) * rows + 2 * margin, x * columns : (x + 1) * columns + 2 * margin]
                near[y, x] = window.any()
        assert (plane == was)[~near].all() and (plane != was).any()


@pytest.mark.parametrize(("location", "across", "down"), [("left", -0.5, 0), ("topleft", -0.5, -0.5), ("center", 0, 0)])
def test_chroma_goes_where_its_samples_lie(location: str, across: float, down: float, tmp_path: Path) -> None:
    """The centre of a change of colour alone, in chroma samples, against its centre in pixels."""
    options = ["-pix_fmt", "yuv420p", "-chroma_sample_location", location]
    form, frame, _ = first_picture(film_with(tmp_path, *options))
    assert form.film.colours.chroma_location == location
    old = np.full((64, 96, 3), 120, np.uint8)
    new = old.copy()
    new[20:31, 30:51, 0] += 60
    frame.make_writable()
    for plane, code in zip(form.planes(frame), FilmColours("bt601", False, 8).codes(old)[0, 0], strict=True):
        plane[...] = round(code)
    form.change(frame, old, new)
    change = np.abs(copies(form, frame)[2] - 128).astype(float)
    rows, columns = (np.average(np.arange(size), weights=change.sum(axis)) for size, axis in ((32, 1), (48, 0)))
    # Chroma sample k covers pixels 2k and 2k + 1: in between lies 2k + 0.5.
    assert abs(2 * columns + 0.5 + across - 40) < 0.3 and abs(2 * rows + 0.5 + down - 25) < 0.3
