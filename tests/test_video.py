"""Video in and out: frame-exactness is proved with pictures that carry their own number."""

from __future__ import annotations

import math
import os
import subprocess
import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest
from media_samples import (
    FFMPEG_BUILDS,
    ClipRecipe,
    clicks,
    first_loud_time,
    number_in,
    numbered_picture,
    turn_in_header,
    write_clip,
    write_sound,
)

from tools import ffmpeg_process
from tools.audio import frame_count, read_audio, read_audio_blocks
from tools.errors import (
    DamagedMediaError,
    FfmpegMissingError,
    MissingFileError,
    NoAudioError,
    NoVideoError,
    OutputError,
    UnreadableFileError,
    UserError,
)
from tools.video import EncodeSettings, VideoWriter, ffmpeg_executable, probe, read_frames, stream_copy

RATES = [Fraction(rate) for rate in ("24000/1001", "24", "25", "30000/1001", "30", "50", "60000/1001", "60")]
STANDARD = set(RATES)


@pytest.fixture(params=FFMPEG_BUILDS)
def ffmpeg_build(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Runs a test once with the ffmpeg on the PATH and once with imageio-ffmpeg's."""
    if request.param == "bundled":
        monkeypatch.setenv("PATH", str(tmp_path))
    return request.param


def grid(count: int, fps: Fraction, start: Fraction = Fraction(0)) -> list[Fraction]:
    return [start + k / fps for k in range(count)]


def numbers(path: Path, start: int = 0, count: int | None = None) -> list[int]:
    return [number_in(frame) for frame in read_frames(probe(path), start, count)]


def files_in(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


# --- reading: the time grid ---


@pytest.mark.parametrize("fps", RATES, ids=str)
def test_constant_rate_is_read_picture_by_picture(fps: Fraction, tmp_path: Path, ffmpeg_build: str) -> None:
    clip = write_clip(tmp_path / "clip.mp4", grid(50, fps), ClipRecipe(rate=fps))
    info = probe(clip)
    assert (info.fps, info.frame_count, info.is_variable_rate) == (fps, 50, False)
    assert (info.width, info.height, info.duration_s) == (64, 48, float(50 / fps))
    assert numbers(clip) == list(range(50))


@pytest.mark.parametrize("container", ["mp4", "mkv", "mov", "ts"])
@pytest.mark.parametrize("start", [1, 11, 12, 13, 37, 59])
def test_reading_from_the_middle_is_frame_exact(container: str, start: int, tmp_path: Path, ffmpeg_build: str) -> None:
    recipe = ClipRecipe(rate=Fraction(30000, 1001))
    clip = write_clip(tmp_path / f"clip.{container}", grid(60, recipe.rate), recipe)
    assert probe(clip).fps == recipe.rate
    count = min(7, 60 - start)
    assert numbers(clip, start, count) == list(range(start, start + count))


def phone_times(count: int, seed: int) -> list[Fraction]:
    """Picture times as a phone stamps them: mostly 1/30 s apart, some late, some missing."""
    generator = np.random.default_rng(seed)
    steps = generator.choice([2970, 3000, 3030, 4500, 6000], size=count - 1, p=[0.3, 0.3, 0.3, 0.06, 0.04])
    return [Fraction(int(ticks), 90_000) for ticks in np.concatenate([[0], np.cumsum(steps)])]


def expected_on_grid(times: list[Fraction], fps: Fraction, count: int) -> list[int]:
    """The specification: frame i is the latest picture whose nearest grid point is not after i."""
    places = [math.ceil(time * fps - Fraction(1, 2)) for time in times]
    return [max(k for k, place in enumerate(places) if place <= i) for i in range(count)]


@pytest.mark.parametrize("seed", range(3))
def test_variable_rate_is_put_on_a_constant_grid(seed: int, tmp_path: Path, ffmpeg_build: str) -> None:
    times = phone_times(80, seed)
    clip = write_clip(tmp_path / "phone.mp4", times, ClipRecipe(rate=Fraction(30)))
    info = probe(clip)
    average = 79 / times[-1]
    assert info.is_variable_rate and info.fps == min(STANDARD, key=lambda rate: abs(rate - average))
    assert info.frame_count == round(times[-1] * info.fps) + 1
    expected = expected_on_grid(times, info.fps, info.frame_count)
    assert numbers(clip) == expected
    for start in (1, 20, info.frame_count - 3):
        assert numbers(clip, start, 3) == expected[start : start + 3]


def test_missing_pictures_do_not_change_the_rate(tmp_path: Path, ffmpeg_build: str) -> None:
    times = [time for k, time in enumerate(grid(60, Fraction(25))) if k not in (7, 8, 9, 30, 55)]
    clip = write_clip(tmp_path / "gaps.mp4", times)
    info = probe(clip)
    assert (info.fps, info.frame_count, info.is_variable_rate) == (Fraction(25), 60, True)
    assert numbers(clip) == expected_on_grid(times, info.fps, 60)


def test_a_picture_held_for_long_is_repeated(tmp_path: Path, ffmpeg_build: str) -> None:
    times = grid(10, Fraction(25)) + grid(10, Fraction(25), Fraction(3))
    clip = write_clip(tmp_path / "screen.mp4", times)
    info = probe(clip)
    expected = expected_on_grid(times, info.fps, info.frame_count)
    assert numbers(clip) == expected
    middle = info.frame_count // 2
    assert numbers(clip, middle, 2) == [9, 9] == expected[middle : middle + 2]


@pytest.mark.parametrize("container", ["mp4", "mkv", "ts"])
def test_time_zero_is_the_first_picture(container: str, tmp_path: Path, ffmpeg_build: str) -> None:
    fps = Fraction(25)
    clip = write_clip(tmp_path / f"late.{container}", grid(40, fps, Fraction(3, 2)))
    info = probe(clip)
    assert (info.frame_count, info.fps) == (40, fps)
    assert numbers(clip) == list(range(40))
    assert numbers(clip, 25, 5) == list(range(25, 30))


def test_pictures_cut_off_by_an_edit_list_do_not_count(tmp_path: Path, ffmpeg_build: str) -> None:
    clip = write_clip(tmp_path / "whole.mp4", grid(60, Fraction(25)))
    cut = tmp_path / "cut.mp4"
    arguments = ["-v", "error", "-ss", "0.8", "-i", str(clip), "-c", "copy", str(cut)]
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), *arguments], check=True)
    shown = numbers(cut)
    assert shown == list(range(20, 60))  # the key frame before is number 12
    assert numbers(cut, 17, 3) == [37, 38, 39]
    stream_copy(cut, tmp_path / "copy.mp4")
    assert numbers(tmp_path / "copy.mp4") == shown


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_rotation_is_applied(degrees: int, tmp_path: Path, ffmpeg_build: str) -> None:
    clip = write_clip(tmp_path / "phone.mp4", grid(5, Fraction(25)))
    turn_in_header(clip, degrees)
    info = probe(clip)
    assert info.rotation_degrees == degrees
    assert (info.width, info.height) == ((48, 64) if degrees % 180 else (64, 48))
    for index, frame in enumerate(read_frames(info)):
        assert frame.shape == (info.height, info.width, 3)
        assert number_in(np.rot90(frame, -degrees // 90)) == index


def test_odd_sizes_and_pixels_that_are_not_square(tmp_path: Path, ffmpeg_build: str) -> None:
    picture = np.full((37, 51, 3), 90, np.uint8)
    clip = write_clip(tmp_path / "odd.mkv", grid(3, Fraction(25)), ClipRecipe("ffv1", options={}), [picture] * 3)
    assert [frame.shape for frame in read_frames(probe(clip))] == [(37, 51, 3)] * 3

    wide = tmp_path / "anamorphic.mp4"
    with av.open(str(wide), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(3, 2)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered_picture(0))))
        container.mux(stream.encode())
    info = probe(wide)
    assert (info.width, info.height, info.frame_count) == (96, 48, 1)
    assert next(read_frames(info)).shape == (48, 96, 3)


def test_only_frames_that_exist_may_be_asked_for(tmp_path: Path) -> None:
    info = probe(write_clip(tmp_path / "clip.mp4", grid(10, Fraction(25))))
    assert list(read_frames(info, 10)) == list(read_frames(info, 3, 0)) == []
    for start, count in [(-1, 2), (0, 11), (11, None), (5, 6)]:
        with pytest.raises(ValueError, match="has 10"):
            read_frames(info, start, count)


def test_one_frame_at_a_time_is_held_and_ffmpeg_ends_when_abandoned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = np.full((480, 640, 3), 90, np.uint8)
    clip = write_clip(tmp_path / "clip.mp4", grid(120, Fraction(25)), pictures=[picture] * 120)
    started: list[subprocess.Popen] = []

    class RecordedPopen(subprocess.Popen):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)
            started.append(self)

    monkeypatch.setattr(ffmpeg_process.subprocess, "Popen", RecordedPopen)
    info = probe(clip)
    tracemalloc.start()
    frames = read_frames(info)
    for _ in range(100):
        next(frames)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * picture.nbytes
    assert started[0].poll() is None
    frames.close()
    assert started[0].poll() is not None


# --- reading: colours ---

MATRICES = {"bt601": (0.299, 0.114, 5), "bt709": (0.2126, 0.0722, 1), "bt2020": (0.2627, 0.0593, 9)}


def yuv_frame(rgb: np.ndarray, matrix: str, full_range: bool, bits: int) -> av.VideoFrame:
    """One flat colour as 4:2:0, by the definition of the matrix (ITU-R BT.601, BT.709, BT.2020)."""
    red_weight, blue_weight, _ = MATRICES[matrix]
    luma = rgb @ np.array([red_weight, 1 - red_weight - blue_weight, blue_weight]) / 255
    blue = (rgb[2] / 255 - luma) / (2 * (1 - blue_weight))
    red = (rgb[0] / 255 - luma) / (2 * (1 - red_weight))
    top = 2**bits - 1
    if full_range:
        values = [luma * top, 2 ** (bits - 1) + blue * top, 2 ** (bits - 1) + red * top]
    else:
        step = 2 ** (bits - 8)
        values = [step * (16 + 219 * luma), step * (128 + 224 * blue), step * (128 + 224 * red)]
    frame = av.VideoFrame(64, 48, "yuv420p" if bits == 8 else "yuv420p10le")
    dtype = np.uint8 if bits == 8 else np.dtype("<u2")
    for plane, value in zip(frame.planes, values, strict=True):
        samples = plane.line_size * plane.height // np.dtype(dtype).itemsize
        plane.update(np.full(samples, round(value), dtype).tobytes())
    return frame


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("full_range", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", MATRICES)
def test_colour_matrix_and_range_are_honoured(
    matrix: str, full_range: bool, bits: int, tmp_path: Path, ffmpeg_build: str
) -> None:
    colors = np.array([[200, 30, 40], [30, 180, 60], [20, 40, 210], [128, 128, 128], [250, 240, 10]], float)
    recipe = ClipRecipe(
        pixel_format="yuv420p" if bits == 8 else "yuv420p10le",
        options={"qp": "0", "g": "1", "preset": "ultrafast"},
        matrix=MATRICES[matrix][2],
        color_range=2 if full_range else 1,
    )
    frames = [yuv_frame(color, matrix, full_range, bits) for color in colors]
    info = probe(write_clip(tmp_path / "flat.mp4", grid(len(colors), Fraction(25)), recipe, frames))
    assert (info.color_matrix, info.is_full_range) == (matrix, full_range)
    for frame, color in zip(read_frames(info), colors, strict=True):
        assert np.abs(frame - color).max() <= 2


def test_a_clip_that_does_not_name_its_matrix_is_read_as_players_do(tmp_path: Path) -> None:
    small = write_clip(tmp_path / "small.mp4", grid(1, Fraction(25)))
    large = write_clip(tmp_path / "large.mp4", grid(1, Fraction(25)), pictures=[np.zeros((720, 406, 3), np.uint8)])
    assert (probe(small).color_matrix, probe(large).color_matrix) == ("bt601", "bt709")
    assert (probe(small).output_matrix, probe(large).output_matrix) == ("bt601", "bt709")


def pq_code(nits: float) -> float:
    """Inverse EOTF of SMPTE ST 2084, equation 5.2."""
    power = (nits / 10_000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)


def test_hdr_is_tone_mapped(tmp_path: Path, ffmpeg_build: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = ClipRecipe(pixel_format="yuv420p10le", options={"qp": "0", "g": "1"}, matrix=9, transfer=16, color_range=1)
    greys = [yuv_frame(np.full(3, 255 * pq_code(nits)), "bt2020", False, 10) for nits in (0.01, 26, 203, 1000)]
    info = probe(write_clip(tmp_path / "pq.mp4", grid(4, Fraction(25)), recipe, greys))
    assert info.is_hdr
    shown = np.array([frame.mean((0, 1)) for frame in read_frames(info)])
    assert np.ptp(shown, axis=1).max() <= 2, "grey stays grey"
    black, mid, white, highlight = shown[:, 1]
    assert black < 12 and 80 < mid < 130 and 190 < white < 240 and white + 10 < highlight <= 255

    monkeypatch.setattr("tools.video.has_filter", lambda executable, name: False)
    plain = np.array([frame.mean() for frame in read_frames(info)])
    assert np.all(np.diff(plain) > 10), "without zscale the picture is flat, but there"


# --- reading: faults ---


def cut_short(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def cover_art_only(folder: Path) -> Path:
    path = folder / "song.mp3"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mp3", rate=44100)
        picture = container.add_stream("png", rate=1)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "rgb24"
        picture.disposition = av.stream.Disposition.attached_pic.value
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1152), np.float32), format="fltp", layout="stereo")
        frame.sample_rate = 44100
        container.mux(picture.encode(av.VideoFrame.from_ndarray(numbered_picture(0))))
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


FAULTS: dict[str, tuple[Callable[[Path], Path], type[UserError], str]] = {
    "missing": (lambda folder: folder / "none.mp4", MissingFileError, "does not exist"),
    "folder": (lambda folder: folder, UnreadableFileError, "is not a file"),
    "empty": (lambda folder: written(folder / "a.mp4", b""), UnreadableFileError, "empty"),
    "text": (lambda folder: written(folder / "a.mp4", b"not a video\n" * 50), UnreadableFileError, "not a video"),
    "no header": (
        lambda folder: cut_short(write_clip(folder / "a.mp4", grid(50, Fraction(25))), 0.5),
        UnreadableFileError,
        "cut off",
    ),
    "sound only": (
        lambda folder: write_sound(folder / "a.wav", np.zeros(8000, np.float32), 8000),
        NoVideoError,
        "no video track",
    ),
    "cover picture": (cover_art_only, NoVideoError, "no video track"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_input_is_named_in_one_line(fault: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make, error, words = FAULTS[fault]
    path = make(tmp_path)
    with pytest.raises(error, match=words) as caught:
        probe(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_truncated_file_is_read_as_far_as_it_goes(tmp_path: Path, ffmpeg_build: str) -> None:
    recipe = ClipRecipe(container_options={"movflags": "faststart"})
    clip = write_clip(tmp_path / "clip.mp4", grid(100, Fraction(25)), recipe)
    healthy = probe(clip)
    cut_short(clip, 0.8)
    info = probe(clip)
    assert 20 < info.frame_count < 90
    shown = [number_in(frame) for frame in read_frames(info)]
    assert info.fps == 25
    assert shown[:-4] == list(range(info.frame_count - 4))  # the last ones may refer to pictures that are gone
    with pytest.raises(DamagedMediaError, match="export it again"):
        list(read_frames(healthy))


NAMES = ["a b.mp4", 'it\'s "quoted".mp4', "Grüße 视频.mp4", "-dash.mp4", "100%d.mp4", "a:b.mp4", "[x];$HOME&.mp4"]


@pytest.mark.parametrize("name", NAMES)
def test_any_file_name_works(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ffmpeg_build: str) -> None:
    monkeypatch.chdir(tmp_path)
    sound = write_sound(tmp_path / "x.wav", clicks(0.2, 16000, [0.1]), 16000)
    sound = sound.rename(tmp_path / name.replace(".mp4", ".wav"))
    with VideoWriter(Path(name), 64, 48, Fraction(25), audio=Path(sound.name)) as writer:
        for index in range(5):
            writer.write(numbered_picture(index))
    assert numbers(Path(name)) == list(range(5))
    stream_copy(Path(name), Path("copy " + name))
    assert numbers(Path("copy " + name)) == list(range(5))
    assert files_in(tmp_path) == {name, sound.name, "copy " + name}


def test_the_ffmpeg_on_the_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = written(tmp_path / "ffmpeg", b"#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ffmpeg_executable() == str(program)
    program.unlink()
    assert ffmpeg_executable() == imageio_ffmpeg.get_ffmpeg_exe()

    def nothing_found() -> str:
        raise RuntimeError("No ffmpeg exe could be found.")

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", nothing_found)
    with pytest.raises(FfmpegMissingError, match="install it"):
        ffmpeg_executable()


# --- writing ---


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
def test_colours_survive_a_round_trip(matrix: str, tmp_path: Path, ffmpeg_build: str) -> None:
    cells = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    picture = np.repeat(np.repeat(cells, 32, 0), 32, 1)
    clip = tmp_path / "patches.mp4"
    with VideoWriter(clip, 256, 192, Fraction(25), settings=EncodeSettings(color_matrix=matrix)) as writer:
        for _ in range(5):
            writer.write(picture)
    info = probe(clip)
    assert (info.color_matrix, info.is_full_range, info.pixel_format) == (matrix, False, "yuv420p")
    for frame in read_frames(info):
        error = np.abs(frame.astype(int) - picture).reshape(6, 32, 8, 32, 3)[:, 8:24, :, 8:24]
        assert error.mean() <= 2 and error.mean((1, 3)).max() <= 4


def tags_of(path: Path) -> tuple[int, int, int, int]:
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        return context.colorspace, context.color_primaries, context.color_trc, context.color_range


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_the_file_says_how_its_colours_are_meant_and_starts_at_once(
    codec: str, tmp_path: Path, ffmpeg_build: str
) -> None:
    clip = tmp_path / "clip.mp4"
    with VideoWriter(clip, 64, 48, Fraction(25), settings=EncodeSettings(codec=codec)) as writer:
        for index in range(30):
            writer.write(numbered_picture(index))
    assert tags_of(clip) == (1, 1, 1, 1)  # BT.709 three times, limited range
    data = clip.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert numbers(clip) == list(range(30))


@pytest.mark.parametrize("fps", RATES, ids=str)
def test_written_time_stamps_are_exact(fps: Fraction, tmp_path: Path, ffmpeg_build: str) -> None:
    clip = tmp_path / "clip.mp4"
    with VideoWriter(clip, 64, 48, fps) as writer:
        for index in range(40):
            writer.write(numbered_picture(index))
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        times = sorted(packet.pts * stream.time_base for packet in container.demux(stream) if packet.size)
    assert times == grid(40, fps)
    assert probe(clip).fps == fps


@pytest.mark.parametrize("size", [(51, 37), (51, 38), (50, 37)])
def test_odd_sizes_are_kept(size: tuple[int, int], tmp_path: Path, ffmpeg_build: str) -> None:
    width, height = size
    picture = np.random.default_rng(0).integers(90, 110, (height, width, 3), dtype=np.uint8)
    picture[:, -1] = picture[-1] = 230
    with VideoWriter(tmp_path / "odd.mp4", width, height, Fraction(25)) as writer:
        writer.write(picture)
    info = probe(tmp_path / "odd.mp4")
    assert (info.width, info.height) == size
    assert np.abs(next(read_frames(info)).astype(int) - picture).mean() < 5


def test_a_frame_of_another_shape_or_type_is_refused(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "clip.mp4", 64, 48, Fraction(25))
    with pytest.raises(ValueError, match=r"\(48, 64, 3\), got float32"), writer:
        writer.write(np.zeros((48, 64, 3), np.float32))
    with pytest.raises(ValueError, match=r"got uint8 \(64, 48, 3\)"), writer:
        writer.write(np.zeros((64, 48, 3), np.uint8))
    assert files_in(tmp_path) == set()


def sound_packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(container.streams.audio[0]) if packet.size]


COPIED = {"aac": "m4a", "mp3": "mp3", "ac3": "ac3", "libopus": "ogg", "alac": "m4a", "flac": "flac"}


@pytest.mark.parametrize("codec", COPIED)
def test_sound_that_mp4_can_hold_is_copied_bit_for_bit(codec: str, tmp_path: Path, ffmpeg_build: str) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, (48000, 2)).astype(np.float32)
    sound = write_sound(tmp_path / f"sound.{COPIED[codec]}", noise, 48000, codec, "stereo")
    with VideoWriter(tmp_path / "out.mp4", 64, 48, Fraction(25), audio=sound) as writer:
        for index in range(25):
            writer.write(numbered_picture(index))
    assert sound_packets(tmp_path / "out.mp4") == sound_packets(sound)
    assert numbers(tmp_path / "out.mp4") == list(range(25))


@pytest.mark.parametrize(("rate", "codec"), [(8000, "aac"), (44100, "aac"), (96000, "aac"), (192000, "alac")])
def test_other_sound_is_encoded_at_its_own_rate(rate: int, codec: str, tmp_path: Path, ffmpeg_build: str) -> None:
    sound = write_sound(tmp_path / "sound.wav", clicks(1.0, rate, [0.5]), rate)
    with VideoWriter(tmp_path / "out.mp4", 64, 48, Fraction(25), audio=sound) as writer:
        for index in range(25):
            writer.write(numbered_picture(index))
    with av.open(str(tmp_path / "out.mp4")) as container:
        context = container.streams.audio[0].codec_context
        assert (context.name, context.sample_rate) == (codec, rate)
    heard = read_audio(tmp_path / "out.mp4")
    assert first_loud_time(heard.samples, heard.sample_rate) == pytest.approx(0.5, abs=0.005)


@pytest.mark.parametrize("sound_start", ["0", "0.3"])
@pytest.mark.parametrize("picture_start", ["0", "0.3"])
def test_sound_taken_from_a_video_keeps_its_place(
    sound_start: str, picture_start: str, tmp_path: Path, ffmpeg_build: str
) -> None:
    fps, rate = Fraction(25), 48000
    sound = (clicks(2.0, rate, [1.0]), rate, Fraction(sound_start))
    source = write_clip(tmp_path / "source.mkv", grid(50, fps, Fraction(picture_start)), sound=sound)
    expected = 1.0 + float(sound_start) - float(picture_start)
    read = read_audio(source)
    assert first_loud_time(read.samples, read.sample_rate) == pytest.approx(expected, abs=0.002)
    with VideoWriter(tmp_path / "out.mp4", 64, 48, fps, audio=source) as writer:
        for frame in read_frames(probe(source)):
            writer.write(frame)
    heard = read_audio(tmp_path / "out.mp4")
    assert first_loud_time(heard.samples, heard.sample_rate) == pytest.approx(expected, abs=0.005)
    assert numbers(tmp_path / "out.mp4") == list(range(50))


def test_sound_and_picture_stay_together_for_ten_minutes(tmp_path: Path) -> None:
    fps, rate, last_click = Fraction(30000, 1001), 44100, 599.0
    sound = write_sound(tmp_path / "long.wav", clicks(600.0, rate, [1.0, last_click]), rate)
    count = frame_count(Fraction(600), fps)
    assert count == 17982
    flash, dark = np.full((48, 64, 3), 250, np.uint8), np.zeros((48, 64, 3), np.uint8)
    lit = {round(1.0 * fps), round(last_click * fps)}
    clip = tmp_path / "long.mp4"
    settings = EncodeSettings(preset="ultrafast")
    with VideoWriter(clip, 64, 48, fps, audio=sound, settings=settings) as writer:
        for index in range(count):
            writer.write(flash if index in lit else dark)
    info = probe(clip)
    assert info.frame_count == count
    start = round(last_click * fps) - 5
    flashes = [start + k for k, frame in enumerate(read_frames(info, start, 10)) if frame.mean() > 128]
    heard = [
        59 * 10 + first_loud_time(block.samples, block.sample_rate)
        for index, block in enumerate(read_audio_blocks(clip, 10.0))
        if index == 59
    ]
    assert abs(heard[0] - float(flashes[0] / fps)) < float(1 / fps / 2)


# --- writing: nothing half-written ---


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_video_leaves_nothing_and_keeps_the_old_one(error: type[BaseException], tmp_path: Path) -> None:
    target = written(tmp_path / "out.mp4", b"the one before")
    with pytest.raises(error), VideoWriter(target, 64, 48, Fraction(25)) as writer:
        writer.write(numbered_picture(0))
        assert target.read_bytes() == b"the one before"
        raise error
    assert files_in(tmp_path) == {"out.mp4"} and target.read_bytes() == b"the one before"
    with VideoWriter(target, 64, 48, Fraction(25)) as writer:
        writer.write(numbered_picture(7))
    assert numbers(target) == [7] and files_in(tmp_path) == {"out.mp4"}


def test_a_video_without_frames_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="not one frame"), VideoWriter(tmp_path / "out.mp4", 64, 48, Fraction(25)):
        pass
    assert files_in(tmp_path) == set()


def test_a_full_disk_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = ffmpeg_executable()
    tools = tmp_path / "bin"
    tools.mkdir()
    limited = written(tools / "ffmpeg", f"#!/bin/sh\ntrap '' XFSZ\nulimit -f 64\nexec '{program}' \"$@\"\n".encode())
    limited.chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=os.pathsep)
    folder = tmp_path / "out"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    with (
        pytest.raises(OutputError, match=r"cannot write .*out\.mp4"),
        VideoWriter(folder / "out.mp4", 320, 240, Fraction(25), settings=EncodeSettings(crf=1)) as writer,
    ):
        for shift in range(200):
            writer.write(np.roll(noise, shift, axis=1))
    assert files_in(folder) == set()


def test_an_ffmpeg_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    broken = written(tools / "ffmpeg", b"#!/bin/sh\necho 'Unknown encoder libx264' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=os.pathsep)
    with (
        pytest.raises(OutputError, match=r"out\.mp4: Unknown encoder libx264$"),
        VideoWriter(tmp_path / "out.mp4", 64, 48, Fraction(25)) as writer,
    ):
        for _ in range(500):
            writer.write(numbered_picture(0))
    assert files_in(tmp_path) == {"bin"}


@pytest.mark.parametrize("target", ["file/out.mp4", "missing/out.mp4", "folder"])
def test_an_output_that_cannot_be_written_is_named_at_once(target: str, tmp_path: Path) -> None:
    written(tmp_path / "file", b"x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="cannot write"):
        VideoWriter(tmp_path / target, 64, 48, Fraction(25))
    with pytest.raises(OutputError, match="cannot write"):
        stream_copy(write_clip(tmp_path / "clip.mp4", grid(2, Fraction(25))), tmp_path / target)
    assert files_in(tmp_path) == {"file", "folder", "clip.mp4"} and files_in(tmp_path / "folder") == set()


def test_sound_without_sound_is_refused_before_any_work(tmp_path: Path) -> None:
    silent = write_clip(tmp_path / "silent.mp4", grid(2, Fraction(25)))
    with pytest.raises(NoAudioError):
        VideoWriter(tmp_path / "out.mp4", 64, 48, Fraction(25), audio=silent)
    assert files_in(tmp_path) == {"silent.mp4"}


# --- copying streams ---


@pytest.mark.parametrize(
    ("container", "codec"), [("mp4", "libx264"), ("mov", "libx264"), ("mkv", "libx264"), ("mkv", "ffv1")]
)
def test_a_stream_copy_shows_the_same_frames(container: str, codec: str, tmp_path: Path, ffmpeg_build: str) -> None:
    recipe = ClipRecipe(codec) if codec == "libx264" else ClipRecipe(codec, options={})
    sound = (clicks(2.0, 48000, [1.0]), 48000, Fraction(0))
    source = write_clip(tmp_path / f"source.{container}", grid(50, Fraction(25)), recipe, sound=sound)
    copy = tmp_path / "copy.mp4"
    stream_copy(source, copy)
    assert files_in(tmp_path) == {source.name, "copy.mp4"}
    for ours, theirs in zip(read_frames(probe(copy)), read_frames(probe(source)), strict=True):
        assert np.array_equal(ours, theirs)
    heard = read_audio(copy)
    assert first_loud_time(heard.samples, heard.sample_rate) == pytest.approx(1.0, abs=0.002)


def test_a_stream_copy_keeps_rotation_and_forgets_the_place(tmp_path: Path, ffmpeg_build: str) -> None:
    source = tmp_path / "phone.mp4"
    with av.open(str(source), "w") as container:
        container.metadata["location"] = "+48.1351+011.5820/"
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered_picture(3))))
        container.mux(stream.encode())
    turn_in_header(source, 90)
    stream_copy(source, tmp_path / "copy.mp4")
    assert probe(tmp_path / "copy.mp4").rotation_degrees == 90
    for path, is_known in [(source, True), (tmp_path / "copy.mp4", False)]:
        with av.open(str(path)) as container:
            assert ("location" in container.metadata) is is_known
