"""Reading video: what a file holds, and its frames as a stream of RGB arrays on a constant time grid.

Time 0 is the first picture. Frame `i` is the picture nearest to `i / fps`, so the frames of a constant-rate file are
its pictures, one by one, and a variable-rate file (most phones) becomes constant by dropping and repeating pictures.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import ffmpeg
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from ffmpeg.nodes import FilterableStream

from tools.errors import DamagedMediaError, NoVideoError
from tools.ffmpeg_process import FfmpegFailure, ffmpeg_executable, has_filter, media_url, read_blocks
from tools.media import moving_picture_stream, open_media
from tools.video_writer import EncodeSettings, VideoWriter, stream_copy

__all__ = [
    "EncodeSettings",
    "VideoInfo",
    "VideoWriter",
    "ffmpeg_executable",
    "probe",
    "read_frames",
    "stream_copy",
]

ColorMatrix = Literal["bt601", "bt709", "bt2020"]

_NTSC = Fraction(1000, 1001)
STANDARD_RATES = (
    *(Fraction(rate) for rate in (10, 12, 15, 20, 24, 25, 30, 48, 50, 60, 90, 100, 120, 240)),
    *(rate * _NTSC for rate in (24, 30, 60, 120, 240)),
)

# Values of ISO/IEC 23091-2 (colour description code points), as libavutil numbers them.
_MATRIX_NAMES: dict[int, ColorMatrix] = {1: "bt709", 5: "bt601", 6: "bt601", 9: "bt2020", 10: "bt2020"}
_ZSCALE_MATRICES = {"bt601": "smpte170m", "bt709": "bt709", "bt2020": "bt2020nc"}
_TRANSFER_PQ, _TRANSFER_HLG = 16, 18
_FULL_RANGE = 2
DIFFUSE_WHITE = 203
"""cd/m2 of a white sheet in HDR (ITU-R BT.2408); it becomes (almost) the white of BT.709."""
TONE_MAPPING_PEAK = 10
"""The light, in diffuse whites, that tone-mapping turns into the brightest white."""

# Containers with an index of key frames. In others a jump may land on a picture that cannot be decoded by itself, so
# they are decoded from the start.
_INDEXED_FORMATS = frozenset({"mov", "mp4", "matroska", "webm"})


@dataclass(frozen=True)
class VideoInfo:
    """What a video file holds, and how `read_frames` will deliver it."""

    path: Path
    width: int
    """Pixels as displayed: rotation metadata and non-square pixels applied."""
    height: int
    """Pixels as displayed."""
    fps: Fraction
    """The constant rate of the delivered frames."""
    frame_count: int
    """Exactly the frames that `read_frames` delivers from an undamaged file."""
    duration_s: float
    """`frame_count / fps`."""
    has_audio: bool
    is_variable_rate: bool
    """The file's own pictures are not evenly spaced; `fps` is then the standard rate nearest to their average."""
    rotation_degrees: int
    """Counter-clockwise turn that the file asks players for: 0, 90, 180 or 270. Already applied to the frames."""
    is_hdr: bool
    """PQ or HLG; the frames are tone-mapped to BT.709."""
    pixel_format: str
    codec: str
    color_matrix: ColorMatrix
    """The matrix between the file's YCbCr and RGB."""
    is_full_range: bool
    start: Fraction
    """Container time of the first picture, in seconds."""
    stream_index: int
    is_indexed: bool
    """The container lets a reader jump to the key frame before any frame."""

    @property
    def output_matrix(self) -> Literal["bt601", "bt709"]:
        """For `EncodeSettings.color_matrix`: new pictures then look like this clip's even in players that guess.

        Wider gamuts were converted to BT.709 when they were read.
        """
        return "bt601" if self.color_matrix == "bt601" else "bt709"


def probe(path: Path | str) -> VideoInfo:
    """Reads a video's properties: every packet is counted, one picture is decoded.

    A file whose end is missing is described as far as it goes.

    Raises:
        MissingFileError, UnreadableFileError: see `tools.media.open_media`.
        NoVideoError: the file has no moving pictures.
        DamagedMediaError: not one picture can be decoded.
    """
    path = Path(path)
    with open_media(path) as container:
        stream = moving_picture_stream(container)
        if stream is None:
            raise NoVideoError(f"{path} has no video track: give a video of a person")
        picture, times = _first_picture_and_times(container, stream, path)
        fps, is_variable = _delivery_rate(times, stream)
        first_to_last = (times[-1] - times[0]) * stream.time_base
        frame_count = math.ceil(first_to_last * fps - Fraction(1, 2)) + 1 if is_variable else len(times)
        width, height = _displayed_size(picture, stream)
        codec = stream.codec_context
        return VideoInfo(
            path=path,
            width=width,
            height=height,
            fps=fps,
            frame_count=frame_count,
            duration_s=float(frame_count / fps),
            has_audio=any(audio.codec_context is not None for audio in container.streams.audio),
            is_variable_rate=is_variable,
            rotation_degrees=round(picture.rotation) % 360,
            is_hdr=codec.color_trc in (_TRANSFER_PQ, _TRANSFER_HLG),
            pixel_format=picture.format.name,
            codec=codec.codec.canonical_name,
            color_matrix=_MATRIX_NAMES.get(codec.colorspace) or _usual_matrix(picture),
            is_full_range=codec.color_range == _FULL_RANGE or picture.format.name.startswith("yuvj"),
            start=times[0] * stream.time_base,
            stream_index=stream.index,
            is_indexed=bool(_INDEXED_FORMATS & set(container.format.name.split(","))),
        )


def read_frames(info: VideoInfo, start: int = 0, count: int | None = None) -> Iterator[np.ndarray]:
    """Yields frames `start ... start + count - 1` (to the end by default) as uint8 RGB [height, width, 3].

    Each frame is a fresh array and no other is held. Reading from the middle starts at the key frame before it.

    Raises:
        ValueError: the frames asked for are not all in `0 ... info.frame_count - 1`.
        DamagedMediaError: ffmpeg fails, or the file yields fewer frames than it announces.
    """
    count = info.frame_count - start if count is None else count
    if start < 0 or count < 0 or start + count > info.frame_count:
        raise ValueError(f"frames {start} to {start + count} asked for, but {info.path} has {info.frame_count}")
    return _decoded_frames(info, start, count) if count else iter(())


def _decoded_frames(info: VideoInfo, start: int, count: int) -> Iterator[np.ndarray]:
    source = _input(info, start)
    graph = as_rgb(_on_time_grid(source[str(info.stream_index)], info, start), info)
    output = graph.output("pipe:", format="rawvideo", pix_fmt="rgb24", **{"frames:v": count}).global_args("-copyts")
    frame_bytes = info.width * info.height * 3
    received = 0
    try:
        for block in read_blocks(output, frame_bytes):
            if len(block) < frame_bytes:
                break
            received += 1
            yield np.frombuffer(block, np.uint8).reshape(info.height, info.width, 3)
    except FfmpegFailure as failure:
        raise DamagedMediaError(f"{info.path} cannot be decoded ({failure}): export it again") from failure
    if received < count:
        raise DamagedMediaError(
            f"{info.path} is damaged: {received} of {count} frames from {start} on can be decoded: export it again"
        )


def _input(info: VideoInfo, start: int) -> FilterableStream:
    seek = {}
    if start and info.is_indexed:
        # To a key frame, not to the time itself: the grid needs the picture that is on show when frame `start` begins.
        position = float(info.start + start / info.fps)
        seek = {"noaccurate_seek": None, "seek_timestamp": 1, "ss": f"{position:.6f}"}
    return ffmpeg.input(media_url(info.path), fflags="+discardcorrupt", **seek)


def _on_time_grid(stream: FilterableStream, info: VideoInfo, start: int) -> FilterableStream:
    """Puts the pictures on the grid `i / fps`, its first point being frame `start`.

    Rounding to the nearest point is rounding down half a frame later; so done, the filter never drops the last picture.
    A picture exactly between two points goes to the earlier one, wherever reading starts.
    """
    ticks = 2 * _ticks_per_second(info.fps)
    almost_half_a_frame = int(ticks / info.fps) // 2 - 1
    shift = round((info.start + start / info.fps) * ticks) - almost_half_a_frame
    return (
        stream.filter("settb", f"1/{ticks}")
        .filter("setpts", f"PTS-({shift})")
        .filter("fps", fps=_ratio(info.fps), round="down", start_time=0, eof_action="pass")
    )


def _ticks_per_second(fps: Fraction) -> int:
    """A clock in which frames are whole numbers, and the ticks of usual containers (1/600, 1/1000, 1/90000 s) too."""
    common = math.lcm(fps.numerator, 90_000)
    return common if common < 1 << 30 else fps.numerator * math.ceil(90_000 / fps.numerator)


def _ratio(fps: Fraction) -> str:
    return f"{fps.numerator}/{fps.denominator}"


def as_rgb(stream: FilterableStream, info: VideoInfo) -> FilterableStream:
    """Converts to full-range RGB at the displayed size, with the file's own matrix and range."""
    if is_tone_mapped(info):
        stream = _tone_mapped(stream, info)
    return stream.filter(
        "scale",
        info.width,
        info.height,
        in_color_matrix=info.color_matrix,
        in_range="full" if info.is_full_range else "limited",
        flags="bicubic+accurate_rnd+full_chroma_int",
    )


def is_tone_mapped(info: VideoInfo) -> bool:
    """Whether the frames are shown as on a display without HDR; an ffmpeg without zscale cannot do that."""
    return info.is_hdr and has_filter(ffmpeg_executable(), "zscale")


def _tone_mapped(stream: FilterableStream, info: VideoInfo) -> FilterableStream:
    """HDR to RGB of BT.709: 203 cd/m2 is white (ITU-R BT.2408); mid-tones stay, only highlights are compressed.

    `tools.film_colours` is its inverse. The peak is given: whether a film's own metadata sets it depends on ffmpeg's
    release.
    """
    coded = {"matrixin": _ZSCALE_MATRICES[info.color_matrix], "primariesin": "bt2020"}  # some files leave these out
    return (
        stream.filter("zscale", **coded, matrix="gbr", primaries="bt709", transfer="linear", npl=DIFFUSE_WHITE)
        .filter("format", "gbrpf32le")
        .filter("tonemap", "mobius", desat=0, peak=TONE_MAPPING_PEAK)
        .filter("zscale", transfer="bt709", range="full")
        .filter("format", "gbrp")
    )


def _first_picture_and_times(
    container: InputContainer, stream: VideoStream, path: Path
) -> tuple[VideoFrame, array[int]]:
    """The first decodable picture, and the time stamp of every shown one in ascending order."""
    stream.codec_context.thread_count = 1  # several would hold the first picture back
    picture: VideoFrame | None = None
    times = array("q")
    for packet in container.demux(stream):
        if picture is None:
            picture = _decode_one(stream, packet)
        time = packet.pts if packet.pts is not None else packet.dts
        if time is not None and packet.size and not packet.is_discard:
            times.append(time)
    if picture is None or not times:
        raise DamagedMediaError(f"{path} holds no picture that can be decoded: export it again")
    return picture, array("q", sorted(times))


def _decode_one(stream: VideoStream, packet: av.Packet) -> VideoFrame | None:
    try:
        pictures = packet.decode()
    except av.FFmpegError:  # a broken packet before the first whole picture; the next may do
        return None
    return pictures[0] if pictures else None


def _delivery_rate(times: array[int], stream: VideoStream) -> tuple[Fraction, bool]:
    """The rate to deliver frames at, and whether the pictures are unevenly spaced.

    In this order: the rate of which every picture has its own place; the rate on whose grid all pictures lie although
    some are missing; the standard rate nearest to the average.
    """
    declared = [rate.limit_denominator(1001) for rate in (stream.average_rate, stream.guessed_rate) if rate]
    span = (times[-1] - times[0]) * stream.time_base
    average = (len(times) - 1) / span if span else (declared or [Fraction(25)])[0]
    candidates = [_nearest_standard(rate) for rate in (*declared, average)] + declared
    elapsed = np.frombuffer(times, np.int64) - times[0]
    for rate in candidates:
        if np.all(np.abs(elapsed * float(rate * stream.time_base) - np.arange(len(times))) < 0.5):
            return rate, False
    for rate in candidates:
        places = elapsed * float(rate * stream.time_base)
        if rate <= 2 * average and np.all(np.abs(places - np.round(places)) < 0.1):
            return rate, True
    return _nearest_standard(average), True


def _nearest_standard(rate: Fraction) -> Fraction:
    return min(STANDARD_RATES, key=lambda standard: abs(math.log(standard / rate)))


def _displayed_size(picture: VideoFrame, stream: VideoStream) -> tuple[int, int]:
    pixel_aspect = stream.sample_aspect_ratio or 1
    width, height = round(picture.width * pixel_aspect), picture.height
    return (height, width) if round(picture.rotation) % 180 == 90 else (width, height)


def _usual_matrix(picture: VideoFrame) -> ColorMatrix:
    """The matrix players assume when a file does not say: BT.709 for high definition (the rule of mpv's libplacebo)."""
    return "bt709" if picture.width >= 1280 or picture.height > 576 else "bt601"
