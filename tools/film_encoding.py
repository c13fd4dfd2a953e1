"""How pictures of a film are encoded anew so that they fit between those that are copied."""

from __future__ import annotations

from dataclasses import dataclass, field

import av
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from tools.errors import UnsupportedFootageError
from tools.film import Film
from tools.nal_units import StreamHeader, free_h264_identifier, read_header, with_h264_sets
from tools.video_encoding import Effort

_GLOBAL_HEADER = 1 << 22  # AV_CODEC_FLAG_GLOBAL_HEADER
_QUANTISER = 8
"""Of H.264 and HEVC: every picture is then at 51 dB PSNR or more, noise included. Constant: a rate factor would spend
fewer bits on what moves."""
_DEEP_H264_OFFSET = 12  # x264 counts quantisers of 10 bits from -12
_KEY_FRAME_SECONDS = 2
ENCODED_CODECS = {"libx264": "h264", "libx265": "hevc", "ffv1": "ffv1"}
"""What the encoders of whole films write."""

_H264_PROFILES = {
    "Constrained Baseline": "baseline",
    "Baseline": "baseline",
    "Main": "main",
    "High": "high",
    "High 10": "high10",
    "High 10 Intra": "high10",
    "High 4:2:2": "high422",
    "High 4:2:2 Intra": "high422",
    "High 4:4:4": "high444",
    "High 4:4:4 Predictive": "high444",
    "High 4:4:4 Intra": "high444",
}
_PRORES_PROFILES = {"Proxy": 0, "LT": 1, "Standard": 2, "HQ": 3, "4444": 4, "XQ": 5}
# AVChromaLocation by name, less one: chroma_sample_loc_type of ITU-T H.264 and H.265, annex E.
_CHROMA_LOCATIONS = {"left": 0, "center": 1, "topleft": 2, "top": 3, "bottomleft": 4, "bottom": 5}


@dataclass(frozen=True)
class Coding:
    """An encoder for one film."""

    encoder: str
    options: dict[str, str] = field(default_factory=dict)
    header: StreamHeader | None = None
    """How the units of H.264 and HEVC are held, where pieces are spliced into copied pictures."""
    pixel_format: str | None = None
    """That the encoder takes, where it is not the film's."""
    has_own_sets: bool = False
    """Parameter sets stand in the track's header, under numbers of their own."""


def splice_coding(film: Film, effort: Effort) -> Coding | None:
    """An encoder whose pictures can stand among the film's own; None if there is none."""
    codec = film.video.codec
    if codec == "h264" and film.profile in _H264_PROFILES:
        header = read_header("h264", film.header)
        number = free_h264_identifier(header)
        options = _h264_options(film, effort, number) | {"profile": _H264_PROFILES[film.profile]}
        return _if_it_fits(film, Coding("libx264", options, header, has_own_sets=header.length_bytes > 0))
    if codec == "hevc" and film.field_order == "progressive":
        return _if_it_fits(film, Coding("libx265", _hevc_options(film, effort), read_header("hevc", film.header)))
    if codec in ("prores", "mjpeg", "dnxhd") and film.field_order == "progressive":
        options = _intra_options(film)
        if options is not None:
            form = film.video.pixel_format.replace("12le", "10le")  # ProRes 4444, which decodes to 12 bits
            return _if_it_fits(film, Coding(_INTRA_ENCODERS[codec], options, pixel_format=form))
    return None


def whole_coding(film: Film, effort: Effort) -> Coding:
    """An encoder for all of a film that cannot be cut.

    Raises:
        UnsupportedFootageError: none takes its pictures as they are.
    """
    deep = film.video.pixel_format.endswith(("10le", "12le"))
    hevc = Coding("libx265", _hevc_options(film, effort))
    h264 = Coding("libx264", _h264_options(film, effort, 0))
    candidates = [hevc, h264] if film.video.codec == "hevc" or deep else [h264, hevc]
    if film.video.codec == "ffv1":
        candidates.insert(0, Coding("ffv1", {"level": "3", "g": "1", "slicecrc": "1"}))
    if film.field_order != "progressive":
        candidates = [coding for coding in candidates if coding.encoder != "libx265"]
    for coding in candidates:
        if _if_it_fits(film, coding) is not None:
            return coding
    raise UnsupportedFootageError(
        f"pictures of {film.path} ({film.video.pixel_format}, {film.field_order}) cannot be encoded as they are: "
        "convert it, for example with ffmpeg -pix_fmt yuv420p10le, deinterlaced"
    )


def track_header(film: Film, coding: Coding) -> bytes:
    """The video track's extradata of a film with spliced pieces."""
    if coding.encoder != "libx264":
        return film.header
    return with_h264_sets(film.header, bytes(open_encoder(film, coding, has_header=True).extradata))


def open_encoder(film: Film, coding: Coding, has_header: bool) -> VideoCodecContext:
    """An encoder of a film's pictures that is ready. has_header: parameter sets stand in its extradata only."""
    context = av.CodecContext.create(coding.encoder, "w")
    if has_header:
        context.flags |= _GLOBAL_HEADER
    set_up_encoder(context, film, coding)
    context.open()
    return context


def set_up_encoder(context: VideoCodecContext, film: Film, coding: Coding) -> None:
    """The film's time base, size and tags; pictures are stored in the order they are shown in."""
    context.width, context.height = film.coded_width, film.coded_height
    context.pix_fmt = coding.pixel_format or film.video.pixel_format
    context.time_base = film.time_base
    context.framerate = film.video.fps
    context.sample_aspect_ratio = film.sample_aspect
    colours = film.colours
    context.color_primaries, context.color_trc = colours.primaries, colours.transfer
    context.colorspace, context.color_range = colours.matrix, colours.range
    context.max_b_frames = 0
    context.gop_size = max(1, round(_KEY_FRAME_SECONDS * film.video.fps))
    context.options = dict(coding.options)


class PieceEncoder:
    """Encodes the pictures of one piece; its first picture starts afresh."""

    def __init__(self, coding: Coding, context: VideoCodecContext) -> None:
        self._coding, self._context = coding, context

    def encode(self, frame: VideoFrame | None) -> list[av.Packet]:
        """Packets that are complete; the last ones after None."""
        if frame is not None:
            if self._coding.pixel_format not in (None, frame.format.name):
                frame = frame.reformat(format=self._coding.pixel_format)
            frame.pict_type = 0  # else the encoder takes over the source's choice
        packets = self._context.encode(frame)
        header = self._coding.header
        if header is None or not header.length_bytes:
            return packets
        return [_repacked(packet, header) for packet in packets]


def _repacked(packet: av.Packet, header: StreamHeader) -> av.Packet:
    """A packet with start codes as one with lengths."""
    units = read_header(header.codec, bytes(packet)).units
    return with_content(packet, header.join(units))


def with_content(packet: av.Packet, content: bytes) -> av.Packet:
    """A packet with the same times and other bytes."""
    changed = av.Packet(content)
    changed.pts, changed.dts, changed.duration = packet.pts, packet.dts, packet.duration
    changed.time_base, changed.is_keyframe = packet.time_base, packet.is_keyframe
    return changed


def _if_it_fits(film: Film, coding: Coding) -> Coding | None:
    """The coding, unless its encoder refuses the film's size, pixel format or profile."""
    try:
        open_encoder(film, coding, has_header=False)
    except (av.FFmpegError, ValueError):
        return None
    return coding


def _h264_options(film: Film, effort: Effort, number: int) -> dict[str, str]:
    deep = _DEEP_H264_OFFSET if film.video.pixel_format.endswith("10le") else 0
    parameters = {"sps-id": number, "stitchable": 1, "trellis": 0, "no-psy": 1}
    if film.field_order != "progressive":
        parameters["tff" if film.field_order == "top first" else "bff"] = 1
    if film.colours.chroma_location in _CHROMA_LOCATIONS:
        parameters["chromaloc"] = _CHROMA_LOCATIONS[film.colours.chroma_location]
    return {"qp": str(_QUANTISER + deep), "preset": effort, "x264-params": _joined(parameters)}


def _hevc_options(film: Film, effort: Effort) -> dict[str, str]:
    parameters: dict[str, int | str] = {"log-level": "none", "qp": _QUANTISER, "psy-rd": 0, "psy-rdoq": 0}
    if film.colours.chroma_location in _CHROMA_LOCATIONS:
        parameters["chromaloc"] = _CHROMA_LOCATIONS[film.colours.chroma_location]
    if film.light.mastering is not None:
        red, green, blue, white, lowest, highest = _mastering(film.light.mastering)
        parameters["master-display"] = f"G{green}B{blue}R{red}WP{white}L({highest},{lowest})"
    if film.light.content is not None:
        parameters["max-cll"] = "{},{}".format(*film.light.content)
    return {"preset": effort, "x265-params": _joined(parameters)}


def _mastering(values: tuple[int, ...]) -> tuple[str | int, ...]:
    points = [f"({values[k]},{values[k + 1]})" for k in range(0, 8, 2)]
    return (*points, *values[8:])


_INTRA_ENCODERS = {"prores": "prores_ks", "mjpeg": "mjpeg", "dnxhd": "dnxhd"}


def _intra_options(film: Film) -> dict[str, str] | None:
    if film.video.codec == "prores":
        profile = _PRORES_PROFILES.get(film.profile or "")
        options = {"profile": str(profile), "bits_per_mb": "8192", "vendor": "apl0", "alpha_bits": "16"}
        return None if profile is None else options
    if film.video.codec == "mjpeg":
        return {"qmin": "1", "qmax": "1", "flags": "+qscale", "global_quality": "118", "strict": "-1"}
    name = (film.profile or "").lower().replace(" ", "_")
    return {"profile": name} if name.startswith("dnxhr") else None


def _joined(parameters: dict[str, int | str]) -> str:
    return ":".join(f"{name}={value}" for name, value in parameters.items())
