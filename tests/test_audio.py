"""Audio in: exact length, exact place in time, every common layout and rate, and what is said of bad files."""

from __future__ import annotations

import tracemalloc
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from media_samples import FFMPEG_BUILDS, clicks, first_loud_time, numbered_picture, write_clip, write_sound

from tools.audio import SAMPLE_RATE, frame_count, probe_audio, read_audio, read_audio_blocks
from tools.errors import DamagedMediaError, MissingFileError, NoAudioError, UnreadableFileError

LAYOUT_CHANNELS = {"mono": 1, "stereo": 2, "5.1": 6}


@pytest.fixture(params=FFMPEG_BUILDS, autouse=True)
def ffmpeg_build(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Runs every test once with the ffmpeg on the PATH and once with imageio-ffmpeg's."""
    if request.param == "bundled":
        monkeypatch.setenv("PATH", str(tmp_path))
    return request.param


def tone(hertz: float, duration_s: float, rate: int) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(duration_s * rate)) / rate)).astype(np.float32)


@pytest.mark.parametrize("layout", LAYOUT_CHANNELS)
@pytest.mark.parametrize("rate", [8000, 16000, 44100, 96000])
def test_any_rate_and_layout_becomes_mono_at_16_khz(rate: int, layout: str, tmp_path: Path) -> None:
    mono = tone(440, 1.3, rate)
    samples = np.repeat(mono[:, None], LAYOUT_CHANNELS[layout], axis=1)
    path = write_sound(tmp_path / "tone.wav", samples, rate, layout=layout)
    info = probe_audio(path)
    assert (info.sample_rate, info.channels, info.codec) == (rate, LAYOUT_CHANNELS[layout], "pcm_s16le")
    assert info.duration_s == Fraction(len(mono), rate)
    heard = read_audio(path)
    assert heard.samples.dtype == np.float32 and heard.sample_rate == SAMPLE_RATE
    assert abs(heard.duration_s - info.duration_s) <= Fraction(1, SAMPLE_RATE)
    middle = slice(2000, -2000)  # resampling has no neighbours to go by at the ends
    expected = tone(440, 1.3, SAMPLE_RATE)[: len(heard.samples)]
    assert np.abs(heard.samples[: len(expected)] - expected)[middle].max() < 0.005


@pytest.mark.parametrize(
    ("codec", "suffix"), [("pcm_s24le", "wav"), ("flac", "flac"), ("alac", "m4a"), ("pcm_f32le", "wav")]
)
def test_the_length_of_lossless_files_is_exact(codec: str, suffix: str, tmp_path: Path) -> None:
    path = write_sound(tmp_path / f"odd.{suffix}", tone(300, 1.0, 44100)[:43211], 44100, codec)
    assert probe_audio(path).duration_s == Fraction(43211, 44100)


@pytest.mark.parametrize(("codec", "suffix"), [("aac", "m4a"), ("mp3", "mp3"), ("libopus", "ogg")])
def test_the_delay_of_encoders_is_taken_out(codec: str, suffix: str, tmp_path: Path) -> None:
    path = write_sound(tmp_path / f"click.{suffix}", clicks(2.0, 48000, [1.0]), 48000, codec)
    heard = read_audio(path)
    assert first_loud_time(heard.samples, SAMPLE_RATE) == pytest.approx(1.0, abs=0.004)
    assert float(probe_audio(path).duration_s) == pytest.approx(2.0, abs=0.06)


def test_blocks_join_to_the_whole_and_only_one_is_held(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "noise.wav", np.random.default_rng(0).uniform(-1, 1, 16000 * 60), 16000)
    whole = read_audio(path).samples
    tracemalloc.start()
    lengths, start = [], 0
    for block in read_audio_blocks(path, 0.7):
        assert np.array_equal(block.samples, whole[start : start + 11200])
        start += len(block.samples)
        lengths.append(len(block.samples))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert start == len(whole) and set(lengths[:-1]) == {11200}
    assert peak < whole.nbytes / 4


@pytest.mark.parametrize("sound_start", ["0", "0.5", "1"])
@pytest.mark.parametrize("picture_start", ["0", "0.5"])
def test_sample_zero_belongs_to_the_first_picture(sound_start: str, picture_start: str, tmp_path: Path) -> None:
    times = [Fraction(picture_start) + Fraction(k, 25) for k in range(25)]
    sound = (clicks(2.0, 44100, [1.0]), 44100, Fraction(sound_start))
    clip = write_clip(tmp_path / "clip.mkv", times, sound=sound)
    late = Fraction(sound_start) - Fraction(picture_start)
    heard = read_audio(clip)
    assert first_loud_time(heard.samples, SAMPLE_RATE) == pytest.approx(1.0 + float(late), abs=0.002)
    assert float(probe_audio(clip).duration_s) == pytest.approx(2.0 + float(late), abs=0.002)


def test_a_gap_in_the_sound_stays_a_gap(tmp_path: Path) -> None:
    path = tmp_path / "gap.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        for start in (0, 32000):  # one second of sound at 0 s, one at 2 s
            frame = av.AudioFrame.from_ndarray(np.full((1, 16000), 20000, np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 16000, start, Fraction(1, 16000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    heard = read_audio(path).samples
    assert len(heard) == 48000
    assert np.abs(heard[16500:31500]).max() < 0.01 < 0.5 < np.abs(heard[32500:]).min()


def test_not_a_number_and_overshoot_do_not_get_through(tmp_path: Path) -> None:
    samples = np.array([0.5, np.nan, np.inf, -np.inf, 7.0, -7.0] * 500, np.float32)
    path = tmp_path / "wild.wav"
    header = b"RIFF" + (36 + samples.nbytes).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
    header += b"\x03\x00\x01\x00" + (16000).to_bytes(4, "little") + (64000).to_bytes(4, "little") + b"\x04\x00\x20\x00"
    path.write_bytes(header + b"data" + samples.nbytes.to_bytes(4, "little") + samples.tobytes())
    heard = read_audio(path).samples
    assert len(heard) == 3000 and np.isfinite(heard).all() and np.abs(heard).max() <= 1


@given(st.fractions(0, 5000), st.sampled_from(["24000/1001", "24", "25", "30000/1001", "30", "50", "60000/1001", "60"]))
def test_frame_count_is_the_nearest_whole_number(duration: Fraction, fps: str) -> None:
    rate = Fraction(fps)
    count = frame_count(duration, rate)
    assert isinstance(count, int) and abs(count - duration * rate) <= Fraction(1, 2)


def test_frame_count_is_exact_where_floating_point_is_not() -> None:
    rate = Fraction(30000, 1001)
    nearly_half = Fraction(2_000_001, 2) / rate - Fraction(1, 10**12)
    assert frame_count(nearly_half, rate) == 1_000_000
    assert frame_count(nearly_half + Fraction(2, 10**12), rate) == 1_000_001


def empty_wav(path: Path) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
    return path


def broken_header(path: Path) -> Path:
    path.write_bytes(b"RIFF\x00\x00")
    return path


def noise_named_mp3(path: Path) -> Path:
    path.write_bytes(b"\x00\x01\x02\x03" * 5000)
    return path


def silent_video(path: Path) -> Path:
    return write_clip(path, [Fraction(0), Fraction(1, 25)], pictures=[numbered_picture(0)] * 2)


def nothing(path: Path) -> Path:
    path.write_bytes(b"")
    return path


FAULTS = {
    "missing.wav": (lambda path: path, MissingFileError, "does not exist"),
    "nothing.wav": (nothing, UnreadableFileError, "0 bytes"),
    "empty.wav": (empty_wav, (NoAudioError, UnreadableFileError), "empty|not a video or audio"),
    "broken.wav": (broken_header, UnreadableFileError, "not a video or audio file"),
    "noise.mp3": (noise_named_mp3, (UnreadableFileError, DamagedMediaError), "noise.mp3"),
    "silent.mp4": (silent_video, NoAudioError, "has no sound track"),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("reader", [probe_audio, read_audio], ids=["probe", "read"])
def test_bad_sound_is_named_in_one_line(
    name: str, reader: object, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make, error, words = FAULTS[name]
    path = make(tmp_path / name)
    with pytest.raises(error, match=words) as caught:
        reader(path)
    assert "\n" not in str(caught.value) and name in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_folder_is_not_a_sound(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="is not a file"):
        read_audio(tmp_path)
