"""Sound keeps its place: a chirp at a known time is found there, whatever it came in, and where `speak` puts it.

The files are made and the results decoded without the code under test: by PyAV's own libraries and time stamps.
"""

from __future__ import annotations

import contextlib
import struct
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_samples import FFMPEG_BUILDS, chirp, chirp_time, numbered_picture, write_film, write_sound

from tools import video_encoding
from tools.audio import SAMPLE_RATE, probe_audio, read_audio, read_audio_blocks
from tools.errors import DamagedMediaError, UnreadableFileError
from tools.media import first_sound_track, sound_timing
from tools.video import EncodeSettings, VideoWriter

CHIRP_S = 0.7
LENGTH_S = 1.6
TOLERANCE_S = 0.0005
CHANNELS = {"mono": 1, "stereo": 2, "5.1": 6}
FPS = Fraction(25)


@pytest.fixture(params=FFMPEG_BUILDS, autouse=True)
def ffmpeg_build(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Runs every test once with the ffmpeg on the PATH and once with imageio-ffmpeg's."""
    if request.param == "bundled":
        monkeypatch.setenv("PATH", str(tmp_path))


def spoken(rate: int, layout: str = "mono", at_s: float = CHIRP_S, length_s: float = LENGTH_S) -> np.ndarray:
    """float32 [n, channels]: silence, and a chirp."""
    samples = np.zeros((round(length_s * rate), CHANNELS[layout]), np.float32)
    start, burst = round(at_s * rate), 0.6 * chirp(rate)
    samples[start : start + len(burst)] = burst[:, None]
    return samples


@dataclass(frozen=True)
class Heard:
    """A track as its own time stamps place it, on the axis of the file's first picture."""

    samples: np.ndarray
    rate: int
    start_s: float

    @property
    def chirp_s(self) -> float:
        return self.start_s + chirp_time(self.samples, self.rate)


def decodable(container: av.container.InputContainer) -> Iterator[av.AudioFrame]:
    """All but a last packet that is cut off."""
    with contextlib.suppress(av.InvalidDataError):
        yield from container.decode(container.streams.audio[0])


def decoded(path: Path) -> Heard:
    """By PyAV, channels added up."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        zero = min(packet.pts for packet in container.demux(stream) if packet.size and not packet.is_discard)
        zero_s = zero * stream.time_base
    with av.open(str(path)) as container:
        frames = list(decodable(container))
    channels = len(frames[0].layout.channels)
    blocks = [frame.to_ndarray().astype(float) for frame in frames]
    planes = [block if len(block) == channels else block.reshape(-1, channels).T for block in blocks]
    mono = np.concatenate([plane.sum(axis=0) for plane in planes])
    return Heard(mono, frames[0].sample_rate, float(frames[0].pts * frames[0].time_base - zero_s))


def written(audio: Path, offset: Fraction = Fraction(0), name: str = "out.mp4") -> Heard:
    """The sound in a video of it."""
    path, settings = audio.with_name(name), EncodeSettings(preset="ultrafast", audio_offset=offset)
    with VideoWriter(path, 64, 48, FPS, audio, settings) as writer:
        for index in range(5):
            writer.write(numbered_picture(index))
    return decoded(path)


def check_place(path: Path, expected_s: float, tolerance_s: float = TOLERANCE_S) -> None:
    heard = read_audio(path)
    assert chirp_time(heard.samples, SAMPLE_RATE) == pytest.approx(expected_s, abs=tolerance_s)
    assert written(path).chirp_s == pytest.approx(expected_s, abs=tolerance_s)


# --- sound files ---


FORMS = [(8000, "mono"), (44_100, "stereo"), (48_000, "5.1"), (96_000, "stereo")]


@pytest.mark.parametrize(("rate", "layout"), FORMS)
def test_rates_and_layouts(rate: int, layout: str, tmp_path: Path) -> None:
    check_place(write_sound(tmp_path / "sound.wav", spoken(rate, layout), rate, layout=layout), CHIRP_S)


def test_channels_of_unknown_places_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((9, 2, 48_000, 0, "NONE", ""))
        file.writeframes(bytes(9 * 2 * 4800))
    assert first_sound_track(path).channels == 9
    with pytest.raises(DamagedMediaError, match="9 channels"):
        read_audio(path)


def test_stereo_with_a_silent_channel(tmp_path: Path) -> None:
    samples = spoken(44_100, "stereo") * np.array([1, 0], np.float32)
    check_place(write_sound(tmp_path / "sound.wav", samples, 44_100, layout="stereo"), CHIRP_S)


@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le"])
def test_sample_formats(codec: str, tmp_path: Path) -> None:
    check_place(write_sound(tmp_path / "sound.wav", spoken(44_100), 44_100, codec), CHIRP_S)


ENCODED = [
    ("libmp3lame", "mp3", 44_100),
    ("libmp3lame", "mp3", 48_000),
    ("aac", "m4a", 44_100),
    ("aac", "m4a", 48_000),
    ("aac", "mov", 48_000),
    ("alac", "m4a", 44_100),
    ("libopus", "ogg", 48_000),
    ("libopus", "webm", 48_000),
    ("libopus", "mp4", 48_000),
    ("flac", "flac", 96_000),
]


@pytest.mark.parametrize(("codec", "suffix", "rate"), ENCODED)
def test_what_encoders_put_before_the_sound_is_taken_out(codec: str, suffix: str, rate: int, tmp_path: Path) -> None:
    rounding_s = 0.0006 if suffix == "webm" else 0  # WebM counts in milliseconds, and Opus' 6.5 ms are none
    path = write_sound(tmp_path / f"sound.{suffix}", spoken(rate), rate, codec)
    check_place(path, CHIRP_S, TOLERANCE_S + rounding_s)
    assert abs(probe_audio(path).duration_s - Fraction(LENGTH_S)) < Fraction(1, 20)


# --- films whose sound starts earlier or later than the picture ---

FILMS = [
    ("mp4", "aac", ["0.28", "1/30", "-0.2006"]),
    ("mp4", "libmp3lame", ["0.28", "-0.2"]),
    ("mov", "pcm_s16le", ["0.0007", "-0.2006"]),
    ("mkv", "pcm_s24le", ["0", "0.28", "-0.2"]),
    ("ts", "aac", ["0", "0.28", "-0.2006"]),
    ("ts", "mp2", ["1/30"]),
]


@pytest.mark.parametrize(
    ("suffix", "codec", "sound_s"), [(suffix, codec, time) for suffix, codec, times in FILMS for time in times]
)
def test_sound_that_starts_with_another_moment_than_the_picture(
    suffix: str, codec: str, sound_s: str, tmp_path: Path
) -> None:
    delay = Fraction(sound_s)
    path = write_film(tmp_path / f"film.{suffix}", spoken(48_000), 48_000, codec, delay, Fraction(24_000, 1001))
    actual_s = decoded(path).chirp_s  # what its time stamps, which some formats round, say
    assert actual_s == pytest.approx(CHIRP_S + float(delay), abs=0.0015)
    check_place(path, actual_s)


def test_a_film_that_was_cut_without_encoding_it_anew(tmp_path: Path) -> None:
    """Its edit list begins amid a group of pictures, and amid a packet of sound."""
    path = write_film(tmp_path / "film.mp4", spoken(44_100, at_s=1.9, length_s=3.2), 44_100, "aac", Fraction(0), FPS)
    skip_in_edit_lists(path, Fraction(6, 5))
    assert decoded(path).chirp_s == pytest.approx(CHIRP_S, abs=TOLERANCE_S)
    check_place(path, CHIRP_S)


def skip_in_edit_lists(path: Path, seconds: Fraction) -> None:
    """Moves the start of every track's only edit (ISO/IEC 14496-12, 8.6.6), as editors that cut without encoding do."""
    data = bytearray(path.read_bytes())
    place = -1
    while (place := data.find(b"elst", place + 1)) >= 0:
        (timescale,) = struct.unpack_from(">I", data, data.index(b"mdhd", place) + 4 + 4 + 8)
        count, duration, media_time = struct.unpack_from(">IIi", data, place + 8)
        assert count == 1
        struct.pack_into(
            ">Ii", data, place + 12, duration - round(seconds * 1000), media_time + round(seconds * timescale)
        )
    path.write_bytes(data)


# --- the offset ---


@pytest.mark.parametrize(
    ("codec", "suffix", "offset"), [("pcm_s16le", "wav", "-0.3"), ("aac", "m4a", "1/3"), ("libmp3lame", "mp3", "-0.3")]
)
def test_an_offset_moves_what_is_read_and_what_is_written(codec: str, suffix: str, offset: str, tmp_path: Path) -> None:
    shift = Fraction(offset)
    path = write_sound(tmp_path / f"sound.{suffix}", spoken(44_100), 44_100, codec)
    blocks = [block.samples for block in read_audio_blocks(path, 0.25, shift)]
    read = np.concatenate(blocks)
    assert {len(block) for block in blocks[:-1]} == {4000}
    assert len(read) / SAMPLE_RATE == pytest.approx(LENGTH_S + float(shift), abs=0.06)
    assert chirp_time(read, SAMPLE_RATE) == pytest.approx(CHIRP_S + float(shift), abs=TOLERANCE_S)
    assert written(path, shift).chirp_s == pytest.approx(CHIRP_S + float(shift), abs=TOLERANCE_S)


@pytest.mark.parametrize("offset", ["0.3", "-0.3"])
@pytest.mark.parametrize(("name", "tolerance_s"), [("out.mov", TOLERANCE_S), ("out.webm", 0.008)])
def test_an_offset_in_other_containers(name: str, tolerance_s: float, offset: str, tmp_path: Path) -> None:
    """WebM, which has no edit list: what comes before the picture is not in it. (Its 8 ms: see test_alpha_output.)"""
    path = write_sound(tmp_path / "sound.ogg", spoken(48_000), 48_000, "libopus")
    out = tmp_path / name
    with VideoWriter(out, 64, 48, FPS, path, EncodeSettings(audio_offset=Fraction(offset))) as writer:
        for _ in range(20):
            writer.write(np.zeros((48, 64, 4), np.uint8))
    heard = decoded(out)
    assert heard.chirp_s == pytest.approx(CHIRP_S + float(offset), abs=tolerance_s)
    assert heard.start_s > -0.01


def packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(container.streams.audio[0]) if packet.size]


@pytest.mark.parametrize(
    ("codec", "suffix", "offset"), [("aac", "m4a", "0.3"), ("libmp3lame", "mp3", "-0.3"), ("libopus", "ogg", "-0.3")]
)
def test_with_an_offset_it_is_still_copied_bit_for_bit(codec: str, suffix: str, offset: str, tmp_path: Path) -> None:
    path = write_sound(tmp_path / f"sound.{suffix}", spoken(48_000), 48_000, codec)
    written(path, Fraction(offset))
    assert packets(tmp_path / "out.mp4") == packets(path)


def test_an_older_ffmpeg_counts_offsets_in_milliseconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_encoding, "has_muxer_option", lambda *_: False)
    path = write_sound(tmp_path / "sound.m4a", spoken(44_100), 44_100, "aac")
    assert written(path, Fraction(1, 3)).chirp_s == pytest.approx(CHIRP_S + 1 / 3, abs=0.001)


# --- wav files whose header is wrong ---


def with_data_size(path: Path, size: int) -> Path:
    """A wav file whose header says that there are `size` bytes of samples, as of a recorder that has not finished."""
    data = bytearray(write_sound(path, spoken(44_100), 44_100).read_bytes())
    place = data.index(b"data")
    struct.pack_into("<I", data, place + 4, size)
    struct.pack_into("<I", data, 4, min(size + place, 0xFFFFFFFF))
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("size", [0, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_wav_that_is_not_finished(size: int, tmp_path: Path) -> None:
    path = with_data_size(tmp_path / "sound.wav", size)
    check_place(path, CHIRP_S)
    assert probe_audio(path).duration_s == Fraction(round(LENGTH_S * 44_100), 44_100)


def test_a_wav_whose_header_says_less_than_is_there_is_read_as_far_as_it_says(tmp_path: Path) -> None:
    """What lies behind may be anything; a recorder writes the true size in the end."""
    path = with_data_size(tmp_path / "sound.wav", 44_100 * 2)
    assert probe_audio(path).duration_s == 1
    assert len(read_audio(path).samples) == SAMPLE_RATE


def test_a_wav_that_grows_while_it_is_read(tmp_path: Path) -> None:
    path = with_data_size(tmp_path / "sound.wav", 0)
    blocks = read_audio_blocks(path, 0.1)
    first = next(blocks)
    with path.open("ab") as file:
        file.write(bytes(44_100 * 2))
    rest = np.concatenate([first.samples, *(block.samples for block in blocks)])
    assert chirp_time(rest, SAMPLE_RATE) == pytest.approx(CHIRP_S, abs=TOLERANCE_S)


def test_more_than_four_gigabytes(tmp_path: Path) -> None:
    """RF64 (EBU Tech 3306): the sizes are in a chunk of their own. The samples but the first second are a hole."""
    path, rate, size = tmp_path / "long.wav", 48_000, 5 << 30
    samples = (spoken(rate, length_s=1.0) * 32767).astype("<i2").tobytes()
    sizes = struct.pack("<4sIQQQI", b"ds64", 28, size + 72, size, size // 2, 0)
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, rate * 2, 2, 16)
    with path.open("wb") as file:
        file.write(b"RF64\xff\xff\xff\xffWAVE" + sizes + form + b"data\xff\xff\xff\xff" + samples)
        file.truncate(file.tell() + size - len(samples))
    assert first_sound_track(path).sample_rate == rate
    with av.open(str(path)) as container:
        assert container.duration == size // 2 * 1_000_000 // rate
    blocks = read_audio_blocks(path, 1.0)
    first, second = next(blocks), next(blocks)
    blocks.close()
    assert chirp_time(first.samples, SAMPLE_RATE) == pytest.approx(CHIRP_S, abs=TOLERANCE_S)
    assert len(second.samples) == SAMPLE_RATE and not second.samples.any()


# --- truncated files ---

WHOLE = [("pcm_s16le", "wav"), ("libmp3lame", "mp3"), ("flac", "flac"), ("libopus", "ogg")]


@pytest.mark.parametrize(("codec", "suffix"), WHOLE)
def test_a_file_whose_end_is_missing_is_read_as_far_as_it_goes(codec: str, suffix: str, tmp_path: Path) -> None:
    path = write_sound(tmp_path / f"sound.{suffix}", spoken(48_000) + noise(48_000), 48_000, codec)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.75)])
    check_place(path, CHIRP_S)
    assert 0.8 < float(probe_audio(path).duration_s) < 1.4


def test_an_m4a_whose_end_is_missing_is_refused(tmp_path: Path) -> None:
    """Its index lies at the end."""
    path = write_sound(tmp_path / "sound.m4a", spoken(48_000), 48_000, "aac")
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises((UnreadableFileError, DamagedMediaError), match="export it again"):
        read_audio(path)


def noise(rate: int) -> np.ndarray:
    """Faint, so that no encoder saves all of its bytes for the chirp."""
    return np.random.default_rng(0).normal(0, 0.01, (round(LENGTH_S * rate), 1)).astype(np.float32)


# --- the time axis itself ---


@pytest.mark.parametrize("start", ["0", "1/3", "-1/4"])
def test_the_first_sample_is_where_the_time_stamps_say(start: str, tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.mkv", spoken(48_000), 48_000, "pcm_s16le", Fraction(start), FPS)
    assert abs(sound_timing(path).start - Fraction(start)) <= Fraction(1, 1000)


@pytest.mark.parametrize(("codec", "suffix"), [("libmp3lame", "mp3"), ("aac", "m4a")])
def test_a_sound_file_starts_with_its_sound(codec: str, suffix: str, tmp_path: Path) -> None:
    assert sound_timing(write_sound(tmp_path / f"sound.{suffix}", spoken(44_100), 44_100, codec)).start == 0
