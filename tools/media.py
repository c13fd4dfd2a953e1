"""Opening a user's media file: what every reader checks first, and the time axis that picture and sound share."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import ffmpeg
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream
from ffmpeg.nodes import FilterableStream

from tools.errors import MissingFileError, NoAudioError, UnreadableFileError
from tools.ffmpeg_process import media_url

SEVERAL_PACKETS = 64
"""Packets in which a track's first decodable samples are looked for."""
FLOATING_POINT = ("flt", "dbl")
REORDERING_DEPTH = 32  # packets; pictures are stored at most 16 places away from where they are shown (H.264 Annex A)


@contextmanager
def open_media(path: Path) -> Iterator[InputContainer]:
    """Opens a media file for demuxing.

    Raises:
        MissingFileError: there is no such file.
        UnreadableFileError: it is a folder, empty, may not be read, or no format that ffmpeg knows.
    """
    path = Path(path)
    if not path.exists():
        raise MissingFileError(f"{path} does not exist: check the name")
    if not path.is_file():
        raise UnreadableFileError(f"{path} is not a file: give one video or audio file")
    if path.stat().st_size == 0:
        raise UnreadableFileError(f"{path} is empty (0 bytes): copy or export it again")
    try:
        # A packet cut off by the end of a truncated file is dropped here as it is when decoding.
        container = av.open(media_url(path), options={"fflags": "+discardcorrupt"}, metadata_errors="replace")
    except PermissionError as error:
        raise UnreadableFileError(f"{path} may not be read: change its permissions") from error
    except av.FFmpegError as error:
        raise UnreadableFileError(
            f"{path} is not a video or audio file, or its header is cut off ({error.strerror}): export it again"
        ) from error
    with container:
        yield container


def moving_picture_stream(container: InputContainer) -> VideoStream | None:
    """The first video stream that is not a cover picture."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic and stream.codec_context is not None:
            return stream
    return None


@dataclass(frozen=True)
class SoundTrack:
    """The first sound track of a file that this ffmpeg can decode."""

    stream_index: int
    codec: str
    sample_rate: int
    channels: int
    layout: str
    """ffmpeg's name of the channels' places, such as 5.1; where the file does not say, words such as 6 channels."""
    sample_bits: int | None
    """Bits of a decoded sample; None: its samples are floating-point numbers."""


def first_sound_track(path: Path) -> SoundTrack:
    """Reads the header of the first decodable sound track.

    Raises:
        MissingFileError, UnreadableFileError: see `open_media`.
        NoAudioError: the file has none.
    """
    with open_media(path) as container:
        stream = _sound_stream(container)
        if stream is None:
            raise NoAudioError(f"{path} has no sound track: give a file with speech")
        codec = stream.codec_context
        return SoundTrack(
            stream_index=stream.index,
            codec=codec.codec.canonical_name,
            sample_rate=codec.sample_rate,
            channels=codec.channels,
            layout=codec.layout.name,
            sample_bits=None if codec.format is None or codec.format.name[:3] in FLOATING_POINT else codec.format.bits,
        )


@dataclass(frozen=True)
class SoundTiming:
    """Where a file's first sound track lies in time. Time 0 of a file is its first picture if it has one, else the
    first sample of its sound; what encoders put before that for their own use (priming) is not counted."""

    zero: Fraction
    """Time 0, as the container's time stamps count, seconds."""
    start: Fraction
    """The first sample, seconds after time 0; negative where sound begins before the picture."""


def sound_timing(path: Path) -> SoundTiming:
    """Reads the time stamps of the first pictures and of the first samples; edit lists and priming are applied.

    Raises: as `first_sound_track`.
    """
    with open_media(path) as container:
        zero = _first_picture_time(container)
    with open_media(path) as container:
        stream = _sound_stream(container)
        if stream is None:
            raise NoAudioError(f"{path} has no sound track: give a file with speech")
        first = _first_sample_time(container, stream)
    return SoundTiming(first, Fraction(0)) if zero is None else SoundTiming(zero, first - zero)


def sound_from_zero(path: Path, track: SoundTrack, offset: Fraction, sample_rate: int) -> FilterableStream:
    """The track as an ffmpeg stream of which sample 0 belongs to the file's time 0; needs the output option -copyts.

    Gaps between time stamps are filled with silence, and so is the time up to a later start; what lies before time 0 is
    cut. With an `offset` all of it comes that many seconds later, or, where it is negative, earlier.
    """
    shift = offset - sound_timing(path).zero
    return (
        ffmpeg.input(media_url(path))[str(track.stream_index)]
        .filter("asetpts", f"round(PTS+({shift.numerator}/{shift.denominator})/TB)")
        # Unless told otherwise it lets a start that is up to a millisecond off pass.
        .filter("aresample", sample_rate, **{"async": 1, "first_pts": 0, "min_comp": 1e-6})
    )


def _sound_stream(container: InputContainer) -> AudioStream | None:
    for stream in container.streams.audio:
        codec = stream.codec_context
        if codec is not None and codec.sample_rate and codec.channels:
            return stream
    return None


def _first_picture_time(container: InputContainer) -> Fraction | None:
    stream = moving_picture_stream(container)
    if stream is None:
        return None
    packets = itertools.islice(container.demux(stream), REORDERING_DEPTH)
    shown = [packet.pts for packet in packets if packet.pts is not None and not packet.is_discard]
    return min(shown) * stream.time_base if shown else None


def _first_sample_time(container: InputContainer, stream: AudioStream) -> Fraction:
    """By decoding, since only so is the priming that a decoder drops known."""
    packets = itertools.islice(container.demux(stream), SEVERAL_PACKETS)
    for frame in itertools.chain.from_iterable(map(_decoded, packets)):
        if frame.pts is not None:
            return frame.pts * frame.time_base
    return (stream.start_time or 0) * stream.time_base


def _decoded(packet: av.Packet) -> list[av.AudioFrame]:
    try:
        return packet.decode()
    except av.FFmpegError:  # damaged; ffmpeg goes on after it too
        return []
