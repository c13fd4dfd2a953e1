"""A film's first sound track with recordings in it, and every sample outside their ranges as it was.

"As it was" means: the whole numbers that ffmpeg decodes the track to at its own rate and with its own channels. Tracks
whose samples have 16 bits or fewer keep 16; all others, those of lossy codecs among them, whose samples are
floating-point numbers, become the 24 bits that ffmpeg makes of them for PCM of 24 bits. Gaps between time stamps are
silence.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import ffmpeg
import numpy as np

from tools.errors import DamagedMediaError, NoAudioError, OutputError, UnsupportedFootageError
from tools.ffmpeg_process import FfmpegFailure, media_url, read_blocks
from tools.inserts import FULL_SCALE, Grid, Insert, InsertedSound, Piece
from tools.media import SoundTrack, first_sound_track, sound_timing
from tools.video import probe
from tools.video_writer import temporary_sibling

BLOCK_SAMPLES = 1 << 16
MOST_CHANNELS = 8
"""Of FLAC."""
SILENT_RATE, SILENT_LAYOUT = 48_000, "stereo"
"""What a film without sound gets."""
EQUAL_POWER = math.sqrt(0.5)
"""Gain of one channel to or from two, with which it is as loud as before (ITU-R BS.775)."""


@dataclass(frozen=True)
class Soundtrack:
    """A FLAC file to take the place of a film's first sound track."""

    path: Path
    start: Fraction
    """When its first sample sounds, as that of the film's own track: seconds on the film's time axis, of which 0 is the
    first picture. It may be earlier or later than that."""
    sample_rate: int
    channels: int
    sample_count: int


def write_soundtrack(film: Path, inserts: Sequence[Insert], output: Path) -> Soundtrack:
    """Writes the film's sound, with what each insert's recording says in place of what was there; memory stays flat.

    Inside an insert's range the original fades out and in again within 10 ms, and so does the recording; between ranges
    that touch nothing of the original is heard. Recordings are resampled to the film's rate. One of a single channel
    goes to the centre, or to left and right at -3 dB; of one with more the stereo mix goes to left and right, or, in a
    mono film, at -3 dB each into the one. They keep their level, and what is then too loud is clipped. A film without
    sound gets silence of its length, 48 kHz stereo. An insert that ends after the track makes it longer; of one that
    starts before it, what comes before the track's first sample is not heard.

    Raises:
        ValueError: inserts are not in order, or overlap.
        MissingFileError, UnreadableFileError, NoAudioError, DamagedMediaError: about the film or a recording.
        UnsupportedFootageError: the film's sound has more than eight channels.
        OutputError: the file cannot be written.
    """
    track, start, blocks = _original(film)
    sound = InsertedSound(inserts, Grid(track.sample_rate, start))
    channels = [channel.name for channel in av.AudioLayout(track.layout).channels]
    depth = 16 if track.sample_bits is not None and track.sample_bits <= 16 else 24
    temporary = temporary_sibling(output, ".flac")
    count = 0
    try:
        with contextlib.closing(sound), contextlib.closing(blocks), _flac(temporary, track, depth) as write:
            for block in _at_least(blocks, sound.stop, len(channels)):
                for piece in sound.pieces(count, count + len(block)):
                    replaced = block[piece.begin - count : piece.end - count]
                    replaced[:] = _mixed(replaced, piece, channels, depth)
                write(block)
                count += len(block)
        os.replace(temporary, output)
    except (OSError, av.FFmpegError) as error:
        raise OutputError(f"cannot write {output}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return Soundtrack(output, start, track.sample_rate, len(channels), count)


def _original(film: Path) -> tuple[SoundTrack, Fraction, Generator[np.ndarray, None, None]]:
    """The film's track, the time of its first sample, and its samples, int32 [n, channels] in blocks.

    Raises:
        UnsupportedFootageError: it has more channels than FLAC.
    """
    try:
        track, start = first_sound_track(film), sound_timing(film).start
    except NoAudioError:
        info = probe(film)
        count = math.ceil(info.frame_count / info.fps * SILENT_RATE)
        track = SoundTrack(0, "none", SILENT_RATE, 2, SILENT_LAYOUT, sample_bits=None)
        return track, Fraction(0), _silence(count, 2)
    if track.channels > MOST_CHANNELS:
        raise UnsupportedFootageError(
            f"the sound of {film} has {track.channels} channels, and at most {MOST_CHANNELS} can be replaced: "
            "give the film a mix of them as its first sound track"
        )
    if " " in track.layout:
        track = replace(track, layout=av.AudioLayout(f"{track.channels}c").name)  # the usual one for so many
    return track, start, _decoded(film, track)


def _decoded(film: Path, track: SoundTrack) -> Generator[np.ndarray, None, None]:
    """The track from its own first sample on."""
    output = (
        ffmpeg.input(media_url(film))[str(track.stream_index)]
        .filter("asetpts", "PTS-STARTPTS")
        .filter("aresample", track.sample_rate, **{"async": 1, "first_pts": 0})
        .filter("aformat", channel_layouts=track.layout, sample_fmts="s32")
        .output("pipe:", format="s32le")
    )
    try:
        for block in read_blocks(output, BLOCK_SAMPLES * track.channels * np.dtype(np.int32).itemsize):
            yield np.frombuffer(block, "<i4").reshape(-1, track.channels)
    except FfmpegFailure as failure:
        raise DamagedMediaError(f"the sound of {film} cannot be decoded ({failure}): export it again") from failure


def _at_least(blocks: Iterator[np.ndarray], count: int, channels: int) -> Iterator[np.ndarray]:
    """The blocks, and silence until there are `count` samples."""
    for block in blocks:
        count -= len(block)
        yield block
    yield from _silence(count, channels)


def _silence(count: int, channels: int) -> Generator[np.ndarray, None, None]:
    for begin in range(0, count, BLOCK_SAMPLES):
        yield np.zeros((min(BLOCK_SAMPLES, count - begin), channels), np.int32)


def _mixed(original: np.ndarray, piece: Piece, channels: Sequence[str], depth: int) -> np.ndarray:
    """int32 [n, channels], rounded to `depth` bits."""
    recording = piece.sound @ _placement(piece.sound.shape[1], channels)
    mixed = original * (1 - piece.covers) + recording * FULL_SCALE
    step, most = 2.0 ** (32 - depth), 2 ** (depth - 1)
    return (np.clip(np.rint(mixed / step), -most, most - 1) * step).astype(np.int32)


def _placement(recorded: int, channels: Sequence[str]) -> np.ndarray:
    """[recorded, channels]: how loud each channel of a recording (1 or 2) is in each of the film's."""
    gains = np.zeros((recorded, len(channels)))
    sides = [channels.index(name) for name in ("FL", "FR") if name in channels]
    centre = channels.index("FC") if "FC" in channels else None
    if len(sides) == 2 and (recorded == 2 or centre is None):
        gains[range(recorded) if recorded == 2 else 0, sides] = 1 if recorded == 2 else EQUAL_POWER
    else:
        gains[:, centre or 0] = 1 if recorded == 1 else EQUAL_POWER
    return gains


@contextlib.contextmanager
def _flac(path: Path, track: SoundTrack, depth: int) -> Iterator[Callable[[np.ndarray], None]]:
    """Writes int32 [n, channels], of which the upper `depth` bits count, to a FLAC file.

    Raises:
        OSError, av.FFmpegError: the file cannot be written.
    """
    sample_format, sample_type = {16: ("s16", np.int16), 24: ("s32", np.int32)}[depth]
    unused_bits = 32 - 8 * np.dtype(sample_type).itemsize
    with av.open(str(path), "w", format="flac") as container:
        stream = container.add_stream("flac", rate=track.sample_rate, layout=track.layout)
        stream.format = sample_format

        def write(block: np.ndarray) -> None:
            samples = (block >> unused_bits).astype(sample_type).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(samples, format=sample_format, layout=track.layout)
            frame.sample_rate = track.sample_rate
            container.mux(stream.encode(frame))

        yield write
        container.mux(stream.encode())
