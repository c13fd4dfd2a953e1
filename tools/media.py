"""Opening a user's media file: what every reader checks first, and the time axis that picture and sound share."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from tools.errors import MissingFileError, NoAudioError, UnreadableFileError
from tools.ffmpeg_process import media_url

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


def first_sound_track(path: Path) -> SoundTrack:
    """Reads the header of the first decodable sound track.

    Raises:
        MissingFileError, UnreadableFileError: see `open_media`.
        NoAudioError: the file has none.
    """
    with open_media(path) as container:
        for stream in container.streams.audio:
            codec = stream.codec_context
            if codec is not None and codec.sample_rate:
                return SoundTrack(stream.index, codec.codec.canonical_name, codec.sample_rate, codec.channels)
    raise NoAudioError(f"{path} has no sound track: give a file with speech")


def sound_before_picture(path: Path) -> Fraction:
    """Seconds from the start of the file, as ffmpeg counts it, to the first picture; 0 for a file without pictures.

    Time 0 of a file is its first picture if it has one, else its start. This is what has to be taken off sound time
    stamps so that sample 0 belongs to frame 0.
    """
    with open_media(path) as container:
        stream = moving_picture_stream(container)
        if stream is None or container.start_time is None:
            return Fraction(0)
        packets = itertools.islice(container.demux(stream), REORDERING_DEPTH)
        shown = [packet.pts for packet in packets if packet.pts is not None and not packet.is_discard]
        if not shown:
            return Fraction(0)
        return min(shown) * stream.time_base - Fraction(container.start_time, av.time_base)
