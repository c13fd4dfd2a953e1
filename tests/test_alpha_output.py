"""Transparency in files: QuickTime, WebM and PNG, read back with ffmpeg, with the sound beside it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from media_samples import FFMPEG_BUILDS, write_sound

from tools.audio import read_audio
from tools.errors import OutputError
from tools.ffmpeg_process import ffmpeg_executable
from tools.png_sequence import PngSequenceWriter, check_png_pattern, sequence_exists
from tools.video import EncodeSettings, VideoWriter
from tools.video_encoding import ALPHA_SUFFIXES

SIZE = 96
FPS = Fraction(30_000, 1001)
FRAMES = 12


@pytest.fixture(params=FFMPEG_BUILDS)
def ffmpeg_build(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Runs a test once with the ffmpeg on the PATH and once with imageio-ffmpeg's."""
    if request.param == "bundled":
        monkeypatch.setenv("PATH", str(tmp_path))


def frame(index: int) -> np.ndarray:
    """A soft disc that moves, uint8 [SIZE, SIZE, 4] with straight alpha; its colour is that of every pixel."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    alpha = np.clip((30 - np.hypot(rows - 48, columns - 40 - index)) / 8, 0, 1)
    colors = np.broadcast_to(np.array([200, 90, 40]), (SIZE, SIZE, 3))
    return np.dstack([colors, np.rint(255 * alpha)]).astype(np.uint8)


def read_back(path: Path) -> np.ndarray:
    """Every frame, uint8 [F, SIZE, SIZE, 4]; libvpx must be asked for, for ffmpeg's own VP9 drops the alpha."""
    decoder = ["-c:v", "libvpx-vp9"] if path.suffix == ".webm" else []
    command = [ffmpeg_executable(), "-v", "error", *decoder, "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgba", "-"]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(data, np.uint8).reshape(-1, SIZE, SIZE, 4)


def write(path: Path, audio: Path | None = None, settings: EncodeSettings | None = None) -> Path:
    with VideoWriter(path, SIZE, SIZE, FPS, audio, settings) as writer:
        for index in range(FRAMES):
            writer.write(frame(index))
    return path


@pytest.mark.parametrize("suffix", ALPHA_SUFFIXES)
def test_alpha_survives_a_round_trip(suffix: str, tmp_path: Path, ffmpeg_build: None) -> None:
    shown = read_back(write(tmp_path / f"out{suffix}")).astype(int)
    expected = np.stack([frame(index) for index in range(FRAMES)]).astype(int)
    assert shown.shape == expected.shape
    assert np.abs(shown[..., 3] - expected[..., 3]).mean() < (0.1 if suffix == ".mov" else 1.0)
    assert np.abs(shown[..., 3] - expected[..., 3]).max() < (2 if suffix == ".mov" else 20)
    seen = expected[..., 3] > 128
    assert np.abs(shown[seen] - expected[seen])[:, :3].mean() < 3


@pytest.mark.parametrize(("suffix", "codec"), [(".mov", "prores"), (".webm", "vp9")])
def test_codec_time_and_colours_are_as_they_should_be(suffix: str, codec: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"out{suffix}", settings=EncodeSettings(color_matrix="bt601"))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        times = [packet.pts * stream.time_base for packet in container.demux(stream) if packet.size]
        assert stream.codec_context.name == codec and stream.codec_context.colorspace in (5, 6)
    tolerance = 0 if suffix == ".mov" else Fraction(1, 2000)
    assert all(abs(time - index / FPS) <= tolerance for index, time in enumerate(times)) and len(times) == FRAMES


SOUNDS = [
    (".mov", "wav", "pcm_s16le", 44_100, "pcm_s16le"),
    (".mov", "m4a", "aac", 48_000, "aac"),
    (".mov", "flac", "flac", 96_000, "pcm_s24le"),
    (".webm", "wav", "pcm_s16le", 44_100, "opus"),
    (".webm", "ogg", "libopus", 48_000, "opus"),
]


@pytest.mark.parametrize(("suffix", "kind", "codec", "rate", "expected"), SOUNDS)
def test_sound(
    suffix: str, kind: str, codec: str, rate: int, expected: str, tmp_path: Path, ffmpeg_build: None
) -> None:
    click = np.zeros(rate, np.float32)
    click[rate // 4 : rate // 4 + rate // 100] = 0.5
    sound = write_sound(tmp_path / f"sound.{kind}", click, rate, codec)
    path = write(tmp_path / f"out{suffix}", sound)
    with av.open(str(path)) as container:
        assert container.streams.audio[0].codec_context.name == expected
    heard = read_audio(path)
    tolerance = 0.001 if suffix == ".mov" else 0.008  # older ffmpegs leave Opus' 6.5 ms of priming out of time stamps
    assert np.argmax(np.abs(heard.samples) > 0.2) / heard.sample_rate == pytest.approx(0.25, abs=tolerance)


def test_sound_of_many_channels_fits_into_webm(tmp_path: Path, ffmpeg_build: None) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, (48_000, 6)).astype(np.float32)
    sound = write_sound(tmp_path / "surround.wav", noise, 48_000, "pcm_s16le", "5.1(side)")
    with av.open(str(write(tmp_path / "out.webm", sound))) as container:
        assert container.streams.audio[0].codec_context.channels == 2


def test_frames_without_alpha_are_refused(tmp_path: Path) -> None:
    writers: list[Callable[[], VideoWriter | PngSequenceWriter]] = [
        lambda: VideoWriter(tmp_path / "out.mov", SIZE, SIZE, FPS),
        lambda: PngSequenceWriter(tmp_path / "frames" / "%d.png"),
    ]
    for make in writers:
        with pytest.raises(ValueError, match=r"4\), got uint8 \(96, 96, 3\)"), make() as writer:
            writer.write(frame(0)[..., :3])
    assert list(tmp_path.iterdir()) == []


# --- PNG ---


def write_pictures(pattern: Path, count: int = 3) -> None:
    with PngSequenceWriter(pattern) as writer:
        for index in range(count):
            writer.write(frame(index))


@pytest.mark.parametrize(("name", "third"), [("%06d.png", "000002.png"), ("a %d.png", "a 2.png")])
def test_pictures_are_exact(name: str, third: str, tmp_path: Path) -> None:
    write_pictures(tmp_path / "my frames" / name)
    assert len(list((tmp_path / "my frames").iterdir())) == 3
    shown = cv2.imread(str(tmp_path / "my frames" / third), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(cv2.cvtColor(shown, cv2.COLOR_BGRA2RGBA), frame(2))


def test_an_earlier_sequence_is_replaced_as_a_whole(tmp_path: Path) -> None:
    pattern = tmp_path / "frames" / "%06d.png"
    assert not sequence_exists(pattern)
    write_pictures(pattern, 5)
    assert sequence_exists(pattern)
    write_pictures(pattern, 2)
    assert sorted(path.name for path in pattern.parent.iterdir()) == ["000000.png", "000001.png"]
    assert list(tmp_path.iterdir()) == [pattern.parent]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_sequence_leaves_the_old_one(error: type[BaseException], tmp_path: Path) -> None:
    pattern = tmp_path / "frames" / "%06d.png"
    write_pictures(pattern, 2)
    with pytest.raises(error), PngSequenceWriter(pattern) as writer:
        writer.write(frame(7))
        raise error
    assert len(list(pattern.parent.iterdir())) == 2 and list(tmp_path.iterdir()) == [pattern.parent]


def test_a_sequence_without_frames_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="not one frame"), PngSequenceWriter(tmp_path / "frames" / "%d.png"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["f/out.png", "f/%s.png", "f/%d-%d.png", "f/%d.jpg", "f/100%%d.png", "f/%3d.png"])
def test_names_that_hold_no_number(name: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"a name with a number in it, such as frames/%06d\.png"):
        check_png_pattern(tmp_path / name)


def test_folders_that_are_not_ours(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.png").touch()
    (tmp_path / "file").touch()
    for name, words in {
        "photos/%06d.png": r"holds other files \(holiday\.png\)",
        "file/%06d.png": "is a file; give another folder",
        "none/frames/%06d.png": "create it first",
    }.items():
        with pytest.raises(OutputError, match=words):
            check_png_pattern(tmp_path / name)
