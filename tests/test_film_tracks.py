"""What a film holds beside its pictures goes into the output as it is, or the report says that it does not."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from film_samples import BEEP, TEST_PICTURE, ffmpeg, rewritten
from media_samples import clicks, first_loud_time, write_clip, write_sound

from tools.audio import read_audio
from tools.errors import MissingFileError, NoAudioError, OutputError
from tools.film_writer import RewriteSettings

RANGE = [("1.2", "1.4")]
PICTURES = ["-c:v:0", "libx264", "-g", "25", "-bf", "2", "-pix_fmt", "yuv420p"]
METADATA = """;FFMETADATA1
title=A film
artist=Somebody
comment=seen twice
[CHAPTER]
TIMEBASE=1/1000
START=0
END=1000
title=First
[CHAPTER]
TIMEBASE=1/1000
START=1000
END=3000
title=Second
"""
SUBTITLES = "1\n00:00:00,500 --> 00:00:01,200\nHello\n\n2\n00:00:01,500 --> 00:00:02,500\nGoodbye\n"


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Things that a film is made of."""
    folder = tmp_path_factory.mktemp("parts")
    (folder / "metadata.txt").write_text(METADATA)
    (folder / "lines.srt").write_text(SUBTITLES)
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x64", "-frames:v", "1", folder / "cover.png")
    ffmpeg("-f", "lavfi", "-i", "sine=220:d=3:r=48000", folder / "new.flac")
    inputs = [*TEST_PICTURE, *BEEP, "-f", "lavfi", "-i", "sine=880:d=3:r=44100", "-i", folder / "lines.srt"]
    inputs += ["-i", folder / "metadata.txt", "-map", "0", "-map", "1", "-map", "2", "-map", "3"]
    inputs += ["-map_metadata", "4", "-map_chapters", "4", *PICTURES]
    inputs += ["-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=fra", "-metadata:s:s:0", "language=deu"]
    attached = ["-attach", folder / "lines.srt", "-metadata:s:t:0", "mimetype=text/plain"]
    ffmpeg(*inputs, "-c:a:0", "flac", "-c:a:1", "libopus", "-c:s", "srt", *attached, folder / "film.mkv")
    cover = ["-i", folder / "cover.png", *inputs[inputs.index("-map") :], "-map", "5", "-c:v:1", "copy"]
    cover += ["-disposition:v:1", "attached_pic", "-metadata:s:a:1", "title=Director", "-timecode", "01:00:00:00"]
    ffmpeg(*inputs[: inputs.index("-map")], *cover, "-c:a", "aac", "-c:s", "mov_text", folder / "film.mp4")
    quicktime = ["-metadata", "com.apple.quicktime.make=Acme", "-movflags", "use_metadata_tags"]
    ffmpeg(*inputs[: inputs.index("-map")], *inputs[inputs.index("-map") :][:6], "-map_metadata", "4", *PICTURES,
           "-c:a", "pcm_s16le", *quicktime, folder / "film.mov")  # fmt: skip
    return folder


def tracks(path: Path) -> list[tuple[str, str, str | None, bool]]:
    """Type, codec, language, and whether it is a cover picture; without tracks of chapters and time codes."""
    with av.open(str(path)) as container:
        return [
            (
                stream.type,
                stream.codec_context.name if stream.codec_context else stream.name,
                stream.metadata.get("language", "und"),
                bool(stream.disposition & Disposition.attached_pic),
            )
            for stream in container.streams
            if stream.type != "data"
        ]


def packets(path: Path, kind: str, number: int) -> list[tuple[Fraction, str]]:
    """Of one track: times relative to the first picture, and digests of the content."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        zero = min(packet.pts for packet in container.demux(video) if packet.pts is not None) * video.time_base
    with av.open(str(path)) as container:
        stream = container.streams.get({kind: number})[0]
        return [
            (packet.pts * packet.time_base - zero, hashlib.sha256(bytes(packet)).hexdigest())
            for packet in container.demux(stream)
            if packet.size
        ]


def about(path: Path) -> tuple[dict[str, str], list[tuple[Fraction, Fraction, str]]]:
    """Metadata in lower case and chapters."""
    with av.open(str(path)) as container:
        chapters = [
            (*(chapter[end] * chapter["time_base"] for end in ("start", "end")), chapter["metadata"]["title"])
            for chapter in container.chapters()
        ]
        return {key.lower(): value for key, value in container.metadata.items()}, chapters


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_every_track_chapter_and_name_is_kept(suffix: str, parts: Path, tmp_path: Path) -> None:
    film, output = parts / f"film{suffix}", tmp_path / f"out{suffix}"
    report = rewritten(film, output, RANGE)
    assert report.notes == ()
    assert tracks(output) == tracks(film)
    (before, chapters), (after, kept) = about(film), about(output)
    made = {"encoder", "major_brand", "minor_version", "compatible_brands"}
    if int(av.__version__.split(".")[0]) < 18:  # such a release (the last for Python 3.10) does not write time code
        made.add("timecode")
    assert {k: v for k, v in after.items() if k not in made} == {k: v for k, v in before.items() if k not in made}
    assert kept == chapters and (suffix == ".mov" or len(chapters) == 2)
    for number in range(2 if suffix != ".mov" else 1):
        assert packets(output, "audio", number) == packets(film, "audio", number)
    if suffix != ".mov":
        assert packets(output, "subtitles", 0) == packets(film, "subtitles", 0)
    assert "error" not in ffmpeg("-i", output, "-map", "0:V", "-map", "0:a", "-f", "null", "-").lower()


def test_a_container_that_cannot_hold_a_track_is_reported(parts: Path, tmp_path: Path) -> None:
    report = rewritten(parts / "film.mkv", tmp_path / "out.mp4", RANGE)
    assert report.notes == (
        "subtitle track 3 (srt, deu) is left out: MP4 cannot hold it",
        "attachment track 4 (lines.srt) is left out: MP4 cannot hold it",
    )
    assert [track[:3] for track in tracks(tmp_path / "out.mp4")] == [
        ("video", "h264", "und"),
        ("audio", "flac", "eng"),
        ("audio", "opus", "fra"),
    ]
    assert about(tmp_path / "out.mp4")[0]["artist"] == "Somebody"


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_new_sound_takes_the_place_of_the_first_track(suffix: str, parts: Path, tmp_path: Path) -> None:
    film = parts / ("film.mkv" if suffix == ".mkv" else "film.mp4")
    output = tmp_path / f"out{suffix}"
    rewritten(film, output, RANGE, sound=parts / "new.flac")
    sounds = [track for track in tracks(output) if track[0] == "audio"]
    assert [track[2] for track in sounds] == ["eng", "fra"]
    assert sounds[0][1] == ("pcm_s24le" if suffix == ".mov" else "flac")
    assert np.array_equal(samples(output, 0), samples(parts / "new.flac", 0))

    both = tmp_path / f"both{suffix}"
    rewritten(film, both, RANGE, sound=parts / "new.flac", settings=RewriteSettings(keep_original_sound=True))
    assert [track[2] for track in tracks(both) if track[0] == "audio"] == ["eng", "eng", "fra"]
    assert packets(both, "audio", 1) == packets(film, "audio", 0)
    with av.open(str(both)) as container:
        is_default = [bool(stream.disposition & Disposition.default) for stream in container.streams.audio]
    assert is_default == [True, False, False]


def samples(path: Path, number: int) -> np.ndarray:
    """Decoded sound, in 32 bits."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="s32")
        frames = [made for frame in container.decode(audio=number) for made in resampler.resample(frame)]
        return np.concatenate([frame.to_ndarray() for frame in frames], axis=1)


@pytest.mark.parametrize("start", ["0.36", "0", "-0.2"])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
def test_new_sound_begins_when_the_old_did(start: str, suffix: str, tmp_path: Path) -> None:
    rate = 48_000
    times = [Fraction(1, 2) + Fraction(k, 25) for k in range(60)]
    sound = (clicks(2.0, rate, [0.7]), rate, times[0] + Fraction(start))
    film = write_clip(tmp_path / f"film{'.mkv' if suffix == '.mkv' else '.mov'}", times, sound=sound)
    new = write_sound(tmp_path / "new.flac", clicks(2.0, rate, [0.9]), rate, codec="flac")
    output = tmp_path / f"out{suffix}"
    rewritten(film, output, RANGE, sound=new)
    heard = read_audio(output)
    tolerance = 0.0011 if suffix == ".mkv" else 1e-4
    assert abs(first_loud_time(heard.samples, heard.sample_rate) - (0.9 + float(start))) < tolerance


def test_a_silent_film_gets_sound_with_its_first_picture(tmp_path: Path) -> None:
    film = write_clip(tmp_path / "film.mp4", [Fraction(k + 10, 25) for k in range(60)])
    new = write_sound(tmp_path / "new.wav", clicks(2.0, 48_000, [0.9]), 48_000)
    rewritten(film, tmp_path / "out.mp4", RANGE, sound=new)
    assert tracks(tmp_path / "out.mp4")[1][1] == "flac"  # MP4 with PCM plays almost nowhere
    heard = read_audio(tmp_path / "out.mp4")
    assert abs(first_loud_time(heard.samples, heard.sample_rate) - 0.9) < 1e-3


def test_sound_may_change_alone(parts: Path, tmp_path: Path) -> None:
    report = rewritten(parts / "film.mp4", tmp_path / "out.mp4", [], sound=parts / "new.flac")
    assert (report.copied, report.encoded, report.pieces) == (75, 0, ())
    assert packets(tmp_path / "out.mp4", "video", 0) == packets(parts / "film.mp4", "video", 0)


def test_what_is_wrong_with_sound_or_name_is_said_before_anything_is_written(parts: Path, tmp_path: Path) -> None:
    film = parts / "film.mp4"
    with pytest.raises(MissingFileError):
        rewritten(film, tmp_path / "out.mp4", RANGE, sound=tmp_path / "no.flac")
    with pytest.raises(NoAudioError):
        rewritten(film, tmp_path / "out.mp4", RANGE, sound=parts / "cover.png")
    with pytest.raises(OutputError, match=r"\.mp4, \.m4v, \.mov, \.mkv"):
        rewritten(film, tmp_path / "out.avi", RANGE)
    with pytest.raises(OutputError, match="create it first"):
        rewritten(film, tmp_path / "nowhere" / "out.mp4", RANGE)
    assert list(tmp_path.iterdir()) == []
