"""Recordings in a film's sound: every other sample as it was, every recording where and as loud as it should be."""

from __future__ import annotations

import subprocess
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_samples import FFMPEG_BUILDS, chirp, chirp_time, numbered_picture, write_clip, write_film, write_sound

from tools import soundtrack as soundtrack_module
from tools.audio import SAMPLE_RATE, Waveform, read_audio
from tools.errors import (
    DamagedMediaError,
    MissingFileError,
    OutputError,
    UnreadableFileError,
    UnsupportedFootageError,
)
from tools.ffmpeg_process import ffmpeg_executable
from tools.inserts import speech_blocks
from tools.media import first_sound_track, sound_timing
from tools.soundtrack import write_soundtrack

FPS = Fraction(25)
FADE_S = 0.01


@dataclass(frozen=True)
class Recording:
    """An insert, as its users make them."""

    start: Fraction
    end: Fraction
    audio: Path


@pytest.fixture(params=FFMPEG_BUILDS)
def ffmpeg_build(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Runs a test once with the ffmpeg on the PATH and once with imageio-ffmpeg's."""
    if request.param == "bundled":
        monkeypatch.setenv("PATH", str(tmp_path))


def insert(start: float | str, end: float | str, audio: Path) -> Recording:
    return Recording(Fraction(str(start)), Fraction(str(end)), audio)


def whole_numbers(path: Path) -> np.ndarray:
    """int64 [n, channels]: what the ffmpeg program makes of the first sound track for 24-bit PCM."""
    command = [
        ffmpeg_executable(),
        "-v",
        "error",
        "-i",
        str(path),
        "-map",
        "0:a:0",
        "-c:a",
        "pcm_s24le",
        "-f",
        "s24le",
        "-",
    ]
    content = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.uint8)
    low, middle, high = content.reshape(-1, 3).astype(np.int64).T
    samples = low | middle << 8 | high << 16
    return (samples - ((samples >> 23) << 24)).reshape(-1, first_sound_track(path).channels)


def noise(rate: int, length_s: float, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(7).normal(0, 0.1, (round(rate * length_s), channels)).astype(np.float32)


def tone(path: Path, length_s: float = 1.0, rate: int = 16_000, channels: int = 1, hertz: float = 440) -> Path:
    times = np.arange(round(length_s * rate)) / rate
    wave = (0.5 * np.sin(2 * np.pi * hertz * times)).astype(np.float32)
    layout = ("mono", "stereo")[channels - 1]
    return write_sound(path, np.repeat(wave[:, None], channels, axis=1), rate, "pcm_s16le", layout)


# --- what is not replaced ---

FILMS = [
    ("mkv", "pcm_s16le", 44_100, 2, "0", 16),
    ("mkv", "pcm_s24le", 48_000, 6, "0", 24),
    ("mov", "pcm_s16le", 48_000, 1, "-1/4", 16),
    ("mp4", "aac", 44_100, 2, "0", 24),
    ("mp4", "aac", 48_000, 2, "1/5", 24),
    ("mkv", "flac", 96_000, 1, "0", 16),
    ("mp4", "libmp3lame", 44_100, 2, "0", 24),
    ("ts", "mp2", 48_000, 2, "-1/5", 24),
]


@pytest.mark.parametrize(("suffix", "codec", "rate", "channels", "sound_start", "bits"), FILMS)
def test_outside_the_ranges_every_sample_is_as_it_was(
    suffix: str, codec: str, rate: int, channels: int, sound_start: str, bits: int, tmp_path: Path, ffmpeg_build: None
) -> None:
    samples = noise(rate, 3.0, channels)
    film = write_film(tmp_path / f"film.{suffix}", samples, rate, codec, Fraction(sound_start), FPS)
    line = tone(tmp_path / "line.wav")
    inserts = [insert("0.7", "1.1", line), insert("1.1", "1.3003", line), insert("2", "2.25", line)]
    result = write_soundtrack(film, inserts, tmp_path / "out.flac")
    before, after = whole_numbers(film), whole_numbers(result.path)
    assert result.start == sound_timing(film).start
    assert (result.sample_rate, result.channels, result.sample_count) == (rate, channels, len(before))
    assert before.shape == after.shape
    times = [result.start + Fraction(index, rate) for index in (0, len(before) - 1)]
    times = np.linspace(float(times[0]), float(times[1]), len(before))
    inside = np.zeros(len(before), bool)
    for one in inserts:
        inside |= (times >= float(one.start) - 1e-9) & (times < float(one.end) - 1e-9)
    assert np.array_equal(after[~inside], before[~inside])
    assert (after[inside] != before[inside]).any(axis=1).mean() > 0.95
    with av.open(str(result.path)) as container:
        assert container.streams.audio[0].codec_context.name == "flac"
        assert container.streams.audio[0].codec_context.format.bits == {16: 16, 24: 32}[bits]


def test_without_inserts_nothing_changes(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", noise(48_000, 1.0, 2), 48_000, "aac", Fraction(0), FPS)
    assert np.array_equal(whole_numbers(write_soundtrack(film, [], tmp_path / "o.flac").path), whole_numbers(film))


# --- where and how recordings are heard ---


@pytest.mark.parametrize("sound_start", ["0", "0.28", "-0.2"])
@pytest.mark.parametrize(("rate", "codec"), [(44_100, "aac"), (96_000, "pcm_s24le")])
def test_a_recording_is_heard_at_its_time(
    sound_start: str, rate: int, codec: str, tmp_path: Path, ffmpeg_build: None
) -> None:
    film = write_film(tmp_path / "film.mov", noise(rate, 3.0) * 0.05, rate, codec, Fraction(sound_start), FPS)
    words = np.zeros(16_000, np.float32)
    words[3200 : 3200 + len(chirp(16_000))] = 0.7 * chirp(16_000)
    line = write_sound(tmp_path / "line.wav", words, 16_000)
    result = write_soundtrack(film, [insert("1.3", "2.3", line)], tmp_path / "out.flac")
    heard = chirp_time(whole_numbers(result.path)[:, 0] / 2**23, rate) + float(result.start)
    assert heard == pytest.approx(1.5, abs=1.5 / rate + 1e-5)


def silent_film(folder: Path, channels: int, length_s: float = 2.0, rate: int = 48_000) -> Path:
    samples = np.zeros((round(length_s * rate), channels), np.float32)
    return write_film(folder / f"silent{channels}.mkv", samples, rate, "pcm_s16le", Fraction(0), FPS)


HALF = 0.5**0.5
GAINS = [
    (1, 1, [1]),
    (1, 2, [HALF]),
    (2, 1, [HALF, HALF]),
    (2, 2, [1, 1]),
    (6, 1, [0, 0, 1, 0, 0, 0]),
    (6, 2, [1, 1, 0, 0, 0, 0]),
]


@pytest.mark.parametrize(("film_channels", "recorded", "gains"), GAINS)
def test_channels_and_levels(film_channels: int, recorded: int, gains: list[float], tmp_path: Path) -> None:
    """A stereo recording with the same in both channels: in a mono film they add up to twice -3 dB."""
    line = tone(tmp_path / "line.wav", rate=48_000, channels=recorded)
    film = silent_film(tmp_path, film_channels)
    result = write_soundtrack(film, [insert("0.5", "1.5", line)], tmp_path / "out.flac")
    heard = whole_numbers(result.path)[30_000:66_000] / 2**23
    expected = np.array(gains) * (2 if recorded == 2 and film_channels == 1 else 1) * 0.5
    assert np.abs(heard).max(axis=0) == pytest.approx(expected, abs=0.002)


def test_the_fades_lie_inside_the_range(tmp_path: Path) -> None:
    rate = 48_000
    film = write_film(tmp_path / "film.mkv", np.full(2 * rate, 0.25, np.float32), rate, "pcm_s16le", Fraction(0), FPS)
    line = write_sound(tmp_path / "line.wav", np.full(2 * rate, -0.25, np.float32), rate)
    result = write_soundtrack(film, [insert("0.5", "1", line)], tmp_path / "out.flac")
    heard = whole_numbers(result.path)[:, 0] / 2**23
    first, stop, fade = rate // 2, rate, round(FADE_S * rate)
    assert np.allclose(heard[:first], 0.25, atol=1e-4) and np.allclose(heard[stop:], 0.25, atol=1e-4)
    assert np.allclose(heard[first + fade : stop - fade], -0.25, atol=1e-4)
    ramp = np.linspace(0.25, -0.25, fade + 2)[1:-1]
    assert np.allclose(heard[first : first + fade], ramp, atol=1e-3)
    assert np.allclose(heard[stop - fade : stop], ramp[::-1], atol=1e-3)


def test_between_ranges_that_touch_nothing_of_the_original_is_heard(tmp_path: Path) -> None:
    rate = 48_000
    film = write_film(tmp_path / "film.mkv", np.full(2 * rate, 0.5, np.float32), rate, "pcm_s16le", Fraction(0), FPS)
    line = write_sound(tmp_path / "line.wav", np.full(2 * rate, -0.25, np.float32), rate)
    result = write_soundtrack(film, [insert("0.5", "1", line), insert("1", "1.5", line)], tmp_path / "out.flac")
    heard = whole_numbers(result.path)[:, 0] / 2**23
    middle = heard[rate // 2 + 500 : 3 * rate // 2 - 500]
    assert middle.max() < 0.001 and middle.min() > -0.251


def test_after_a_short_recording_it_is_silent(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mkv", noise(48_000, 2.0), 48_000, "pcm_s16le", Fraction(0), FPS)
    line = tone(tmp_path / "line.wav", 0.25)
    result = write_soundtrack(film, [insert("0.5", "1.5", line)], tmp_path / "out.flac")
    heard = whole_numbers(result.path)[:, 0]
    assert np.abs(heard[25_000:35_000]).max() > 2**21
    assert not heard[37_000 : 72_000 - 480].any()


def test_what_is_too_loud_is_clipped(tmp_path: Path) -> None:
    film = silent_film(tmp_path, 1)
    loud = write_sound(tmp_path / "loud.wav", np.full((48_000, 2), 0.99, np.float32), 48_000, layout="stereo")
    result = write_soundtrack(film, [insert("0.5", "1", loud)], tmp_path / "out.flac")
    assert whole_numbers(result.path).max() == 32767 << 8


def test_inserts_that_reach_beyond_the_track(tmp_path: Path) -> None:
    """Sound starts half a second after the picture: what a recording says before that is lost, the rest is in place."""
    film = write_film(tmp_path / "film.mov", noise(48_000, 2.0), 48_000, "pcm_s16le", Fraction("0.5"), FPS)
    words = np.zeros(16_000, np.float32)
    words[9_600 : 9_600 + len(chirp(16_000))] = 0.7 * chirp(16_000)
    line = write_sound(tmp_path / "line.wav", words, 16_000)
    result = write_soundtrack(film, [insert("0.1", "0.9", line), insert("2.4", "3.4", line)], tmp_path / "out.flac")
    after = whole_numbers(result.path)[:, 0] / 2**23
    assert result.start == Fraction(1, 2) and result.sample_count == len(after) == round(2.9 * 48_000)
    assert 0.5 + chirp_time(after[:48_000], 48_000) == pytest.approx(0.7, abs=5e-5)
    assert 0.5 + 2 + chirp_time(after[96_000:], 48_000) == pytest.approx(3.0, abs=5e-5)


def test_a_film_without_sound(tmp_path: Path) -> None:
    film = write_clip(tmp_path / "film.mp4", [Fraction(k, 25) for k in range(50)], pictures=[numbered_picture(1)] * 50)
    line = tone(tmp_path / "line.wav", 0.5)
    result = write_soundtrack(film, [insert("1", "1.5", line)], tmp_path / "out.flac")
    heard = whole_numbers(result.path)
    assert (result.start, result.sample_rate, result.channels, len(heard)) == (0, 48_000, 2, 96_000)
    assert not heard[:48_000].any() and heard[50_000:60_000].any() and not heard[72_000:].any()


def test_half_an_hour_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = np.zeros(8_000 * 1800, np.int16)
    samples[::97] = 1000
    film = write_sound(tmp_path / "film.wav", samples[: 8_000 * 60].astype(np.float32) / 2**15, 8_000)
    content = bytearray(film.read_bytes())
    place = content.index(b"data") + 8
    content[place - 4 : place] = (len(samples) * 2).to_bytes(4, "little")
    film.write_bytes(content[:place] + samples.tobytes())
    line = tone(tmp_path / "line.wav", 20.0)
    inserts = [insert(start, start + 20, line) for start in range(10, 1790, 360)]
    lengths: list[int] = []
    mixed = soundtrack_module._mixed

    def watched(original: np.ndarray, *rest: object) -> np.ndarray:
        lengths.append(len(original))
        return mixed(original, *rest)

    monkeypatch.setattr(soundtrack_module, "_mixed", watched)
    tracemalloc.start()
    result = write_soundtrack(film, inserts, tmp_path / "out.flac")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert result.sample_count == len(samples)
    assert sum(lengths) == 5 * 20 * 8_000 and max(lengths) <= soundtrack_module.BLOCK_SAMPLES
    assert peak < samples.nbytes / 4


# --- what goes wrong ---


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if "unfinished" in path.name or path.name == "out.flac"]


def test_inserts_that_overlap_or_are_not_in_order(tmp_path: Path) -> None:
    film, line = silent_film(tmp_path, 1), tone(tmp_path / "line.wav")
    for inserts in ([insert(1, 2, line), insert("1.5", 3, line)], [insert(1, 2, line), insert(0, 1, line)]):
        with pytest.raises(ValueError, match="in order of time"):
            write_soundtrack(film, inserts, tmp_path / "out.flac")
    assert leftovers(tmp_path) == []


def test_bad_files_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film, line = silent_film(tmp_path, 1), tone(tmp_path / "line.wav")
    with pytest.raises(MissingFileError):
        write_soundtrack(film, [insert(1, 2, tmp_path / "none.wav")], tmp_path / "out.flac")
    with pytest.raises(OutputError, match="create it first"):
        write_soundtrack(film, [insert(1, 2, line)], tmp_path / "none" / "out.flac")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(av.container.OutputContainer, "mux", full, raising=False)
    with pytest.raises(OutputError, match="No space left on device"):
        write_soundtrack(film, [insert(1, 2, line)], tmp_path / "out.flac")
    assert leftovers(tmp_path) == []


def test_more_channels_than_flac_has(tmp_path: Path) -> None:
    path = tmp_path / "film.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="hexadecagonal")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16 * 800), np.int16), format="s16", layout="hexadecagonal")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(UnsupportedFootageError, match="16 channels"):
        write_soundtrack(path, [], tmp_path / "out.flac")


# --- the new speech alone ---


def joined(blocks: Iterator[Waveform] | Sequence[Waveform]) -> np.ndarray:
    return np.concatenate([block.samples for block in blocks])


def test_speech_alone(tmp_path: Path) -> None:
    line = write_sound(tmp_path / "line.wav", noise(44_100, 1.0, 2), 44_100, layout="stereo")
    inserts = [insert("0.5", "1.8", line), insert("3", "3.5", line)]
    heard = joined(speech_blocks(inserts, Fraction(0), Fraction(4), 0.7))
    read = read_audio(line).samples
    assert len(heard) == 64_000
    assert not heard[:8_000].any() and not heard[24_000:48_000].any() and not heard[56_000:].any()
    assert np.allclose(heard[8_160:24_000], read[160:], atol=1e-6)
    assert np.allclose(heard[48_160 : 56_000 - 160], read[160 : 8_000 - 160], atol=1e-6)
    for block_s, start, stop in (
        (0.01, 0, 4),
        (10.0, 0, 4),
        (1.0, 1, 2),
        (0.3, "3.25", 4),
        (1.0, "1.6", 2),
        (1.0, 2, 3),
    ):
        blocks = list(speech_blocks(inserts, Fraction(str(start)), Fraction(str(stop)), block_s))
        first, last = round(Fraction(str(start)) * SAMPLE_RATE), round(Fraction(str(stop)) * SAMPLE_RATE)
        assert np.allclose(joined(blocks), heard[first:last], atol=1e-6)
        assert {len(block.samples) for block in blocks[:-1]} <= {round(block_s * SAMPLE_RATE)}


def test_broken_recordings_are_said(tmp_path: Path) -> None:
    (tmp_path / "line.mp3").write_bytes(b"\x00\x01\x02\x03" * 5000)
    with pytest.raises((DamagedMediaError, UnreadableFileError), match=r"line\.mp3"):
        list(speech_blocks([insert(0, 1, tmp_path / "line.mp3")], Fraction(0), Fraction(1), 1.0))
