"""A film as its file holds it: every picture's time and whether one may cut before it, colours, and how it is coded.

The time axis is that of `tools.video`: 0 is the first picture.
"""

from __future__ import annotations

import re
import struct
import subprocess
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import Type as SideData
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from tools.errors import DamagedMediaError, ProtectedMediaError
from tools.ffmpeg_process import ffmpeg_executable, media_url
from tools.media import moving_picture_stream, open_media
from tools.nal_units import StreamHeader, read_header
from tools.video import VideoInfo, probe

FieldOrder = Literal["progressive", "top first", "bottom first"]

INTRA_CODECS = frozenset({"prores", "mjpeg", "dnxhd"})
"""Every picture is coded by itself, and tells its decoder everything."""
_PROTECTED_TAGS = frozenset({"encv", "drmi"})
_PRINTED_BOTTOM_FIRST = re.compile(r"\bbottom first\b|\btop coded first \(swapped\)")
_PRINTED_LOCATION = re.compile(r"\b(left|center|topleft|top|bottomleft|bottom)\)")


@dataclass(frozen=True)
class ColourTags:
    """What a film says about its colours: code points of ISO/IEC 23091-2, 2 being unspecified."""

    primaries: int
    transfer: int
    matrix: int
    range: int
    """0 unspecified, 1 limited, 2 full."""
    chroma_location: str | None
    """Where chroma samples lie, as ffmpeg names it; None where the film does not say."""


@dataclass(frozen=True)
class HdrLight:
    """Static HDR metadata: SMPTE ST 2086 in units of 0.00002 and 0.0001 cd/m2, and CTA-861.3 in cd/m2."""

    mastering: tuple[int, ...] | None
    """x and y of red, green, blue and white, then the lowest and the highest luminance."""
    content: tuple[int, int] | None
    """Highest light level of a pixel, and of a picture's mean."""


@dataclass(frozen=True, eq=False)
class PictureTable:
    """Every picture of a film in the order in which the file stores them."""

    times: np.ndarray
    """int64 [N]: time stamps in the film's time base."""
    afresh: np.ndarray
    """bool [N]: nothing from this picture on refers to an earlier one."""
    opens: np.ndarray
    """bool [N]: so it is for what is shown after this picture, and the film's coding can be made to say so."""
    shown: np.ndarray
    """bool [N]: not cut off by the file's edit list."""


@dataclass(frozen=True, eq=False)
class Film:
    """What `tools.film_writer.rewrite_film` needs to know of a film."""

    video: VideoInfo
    time_base: Fraction
    coded_width: int
    """Pixels as stored: before rotation, and whatever their shape."""
    coded_height: int
    sample_aspect: Fraction
    profile: str | None
    colours: ColourTags
    light: HdrLight
    field_order: FieldOrder
    header: bytes
    """The video track's extradata."""
    pictures: PictureTable

    @property
    def path(self) -> Path:
        """The film's file."""
        return self.video.path

    @property
    def duration(self) -> Fraction:
        """Seconds from the first picture to the time stamp of the last."""
        times = self.pictures.times[self.pictures.shown]
        return int(times.max() - times.min()) * self.time_base

    def seconds(self, time_stamp: int) -> Fraction:
        """A picture's place on the time axis."""
        return time_stamp * self.time_base - self.video.start


def probe_film(path: Path | str) -> Film:
    """Reads every picture's time stamp and decodes one picture.

    Raises:
        MissingFileError, UnreadableFileError, NoVideoError: as `tools.video.probe`.
        DamagedMediaError: no picture can be decoded, or two have the same time.
        ProtectedMediaError: the film is encrypted.
    """
    path = Path(path)
    _refuse_protected(path)
    video = probe(path)
    with open_media(path) as container:
        stream = moving_picture_stream(container)
        codec = stream.codec_context
        codec.thread_count = 1
        first, pictures = _scan(path, container, stream, _header(stream))
        if first is None:
            raise DamagedMediaError(f"{path} holds no picture that can be decoded: export it again")
        shown = pictures.times[pictures.shown]
        if len(np.unique(shown)) < len(shown):
            raise DamagedMediaError(f"{path} is damaged: several pictures have one time stamp: export it again")
        description = _description(path, stream.index)
        location = _PRINTED_LOCATION.search(description)
        tags = (codec.color_primaries, codec.color_trc, codec.colorspace, codec.color_range)
        colours = ColourTags(*map(int, tags), location[1] if location else None)
        return Film(
            video=video,
            time_base=stream.time_base,
            coded_width=first.width,
            coded_height=first.height,
            sample_aspect=Fraction(stream.sample_aspect_ratio or 1),
            profile=stream.profile,
            colours=colours,
            light=_light(first),
            field_order=_field_order(first, description),
            header=bytes(codec.extradata or b""),
            pictures=pictures,
        )


def _refuse_protected(path: Path) -> None:
    with open_media(path) as container:
        stream = moving_picture_stream(container)
        first = None if stream is None else next(container.demux(stream), None)
        if first is not None and (
            first.has_sidedata("encryption_info") or stream.codec_context.codec_tag in _PROTECTED_TAGS
        ):
            raise ProtectedMediaError(f"{path} is copy-protected (DRM): give a file without protection")


def _header(stream: VideoStream) -> StreamHeader | None:
    name = stream.codec_context.codec.canonical_name
    return read_header(name, bytes(stream.codec_context.extradata or b"")) if name in ("h264", "hevc") else None


def _scan(
    path: Path, container: InputContainer, stream: VideoStream, header: StreamHeader | None
) -> tuple[VideoFrame | None, PictureTable]:
    is_intra = stream.codec_context.codec.canonical_name in INTRA_CODECS
    times, afresh, opens, shown = array("q"), bytearray(), bytearray(), bytearray()
    picture: VideoFrame | None = None
    for packet in packets_of(container, [stream], path):
        if not is_picture(packet):
            if picture is None:
                picture = _decoded(packet)
            continue
        if picture is None:
            picture = _decoded(packet)
        times.append(time_of(packet))
        is_entry = header is not None and packet.is_keyframe
        afresh.append(is_intra or (is_entry and header.starts_afresh(bytes(packet))))
        opens.append(is_entry and header.is_open(bytes(packet)))
        shown.append(not packet.is_discard)
    flags = (np.frombuffer(bytes(flag), bool) for flag in (afresh, opens, shown))
    return picture, PictureTable(np.array(times, np.int64), *flags)


def packets_of(container: InputContainer, streams: Sequence[Stream], path: Path) -> Iterator[av.Packet]:
    """Packets as the file stores them.

    Raises:
        DamagedMediaError: the file cannot be read to its end.
    """
    try:
        yield from container.demux(*streams)
    except (av.FFmpegError, OSError) as error:
        raise DamagedMediaError(f"{path} cannot be read to its end ({error.strerror}): export it again") from error


def is_picture(packet: av.Packet) -> bool:
    """Whether a packet of the video track holds a picture that has a time."""
    return packet.size > 0 and time_of(packet) is not None


def time_of(packet: av.Packet) -> int | None:
    """When it is shown; files without presentation times (AVI) show pictures in the order they store them in."""
    return packet.pts if packet.pts is not None else packet.dts


def _decoded(packet: av.Packet) -> VideoFrame | None:
    try:
        pictures = packet.decode()
    except av.FFmpegError:  # a broken packet before the first whole picture; the next may do
        return None
    return pictures[0] if pictures else None


def _field_order(picture: VideoFrame, description: str) -> FieldOrder:
    if not picture.interlaced_frame:
        return "progressive"
    return "bottom first" if _PRINTED_BOTTOM_FIRST.search(description) else "top first"


def _light(picture: VideoFrame) -> HdrLight:
    """From libavutil's AVMasteringDisplayMetadata and AVContentLightMetadata."""
    mastering = content = None
    for data in picture.side_data:
        if data.type == SideData.MASTERING_DISPLAY_METADATA:
            values = struct.unpack_from("=22i", bytes(data))
            ratios = [Fraction(*values[k : k + 2]) if values[k + 1] else Fraction(0) for k in range(0, 20, 2)]
            if all(values[20:]):  # has primaries, has luminance
                mastering = tuple(
                    round(ratio * unit) for ratio, unit in zip(ratios, [50_000] * 8 + [10_000] * 2, strict=True)
                )
        elif data.type == SideData.CONTENT_LIGHT_LEVEL:
            content = struct.unpack_from("=2I", bytes(data))
    return HdrLight(mastering, content)


def _description(path: Path, stream_index: int) -> str:
    """What ffmpeg prints about the track: PyAV does not tell where chroma lies, nor always the order of fields."""
    arguments = ["-hide_banner", "-nostdin", "-v", "verbose", "-i", media_url(path)]
    output = ["-map", f"0:{stream_index}", "-c", "copy", "-t", "0", "-f", "null", "-"]
    run = subprocess.run(
        [ffmpeg_executable(), *arguments, *output], capture_output=True, text=True, errors="replace", check=False
    )
    if run.returncode != 0:
        raise DamagedMediaError(f"{path} cannot be read by ffmpeg (exit code {run.returncode}): export it again")
    lines = (line.strip() for line in run.stderr.splitlines())
    return next((line for line in lines if line.startswith(f"Stream #0:{stream_index}")), "")
