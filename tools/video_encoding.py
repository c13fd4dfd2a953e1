"""How frames and sound are encoded into each container: MP4 without transparency, QuickTime and WebM with it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import ffmpeg
from ffmpeg.nodes import FilterableStream, OutputStream

from tools.ffmpeg_process import ffmpeg_executable, has_muxer_option, media_url
from tools.media import SoundTrack, first_sound_track, sound_from_zero, sound_timing

Effort = Literal["ultrafast", "veryfast", "fast", "medium", "slow"]
Options = dict[str, str | int]

AAC_SAMPLE_RATES = frozenset(
    {96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350}
)  # ISO/IEC 14496-3, table 1.18
COPIED_AUDIO_CODECS = {
    "mp4": frozenset({"aac", "mp3", "ac3", "eac3", "opus", "alac", "flac"}),
    "mov": frozenset({"aac", "mp3", "ac3", "eac3", "alac", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le"}),
    "webm": frozenset({"opus", "vorbis"}),
}
"""What each container holds and common players play, so that it is copied bit for bit."""
VP9_SPEEDS: dict[Effort, int] = {"ultrafast": 5, "veryfast": 4, "fast": 3, "medium": 2, "slow": 1}
MICROSECOND = 1e-6
X264_WORST_CRF, VP9_WORST_CRF = 51, 63


@dataclass(frozen=True)
class EncodeSettings:
    """How frames become a video file."""

    codec: Literal["libx264", "libx265"] = "libx264"
    """Encoder of MP4: H.264 plays everywhere, H.265 is smaller. QuickTime holds ProRes 4444, WebM holds VP9."""
    crf: int = 16
    """Constant rate factor: 0 is lossless, 16 looks like the original, 23 is visibly compressed. ProRes has none."""
    preset: Effort = "veryfast"
    """Encoding effort: slower presets make smaller files of the same quality. ProRes knows one."""
    color_matrix: Literal["bt601", "bt709"] = "bt709"
    """Matrix from RGB to YCbCr, also written into the file. The source's own keeps colours alike in every player."""
    audio_offset: Fraction = Fraction(0)
    """Seconds by which the sound comes later than it would, or, where it is negative, earlier."""


@dataclass(frozen=True)
class Container:
    """A file format for moving pictures."""

    muxer: Literal["mp4", "mov", "webm"]
    has_alpha: bool

    @property
    def channels(self) -> int:
        """Of the frames that it takes: RGB, or RGB and alpha (straight, not multiplied into the colours)."""
        return 4 if self.has_alpha else 3


MP4 = Container("mp4", has_alpha=False)
_WITH_ALPHA = {".mov": Container("mov", has_alpha=True), ".webm": Container("webm", has_alpha=True)}
ALPHA_SUFFIXES = tuple(_WITH_ALPHA)


def container_for(path: Path) -> Container:
    """QuickTime for .mov, WebM for .webm, else MP4."""
    return _WITH_ALPHA.get(path.suffix.lower(), MP4)


def encoding_graph(
    destination: Path,
    size: tuple[int, int],
    fps: Fraction,
    settings: EncodeSettings,
    container: Container,
    audio: Path | None,
) -> OutputStream:
    """The ffmpeg graph from raw frames on standard input to a file. size: width and height; the rest: `VideoWriter`.

    Raises:
        MissingFileError, UnreadableFileError, NoAudioError: about `audio`.
    """
    rate = f"{fps.numerator}/{fps.denominator}"
    pixels = "rgba" if container.has_alpha else "rgb24"
    frames = ffmpeg.input("pipe:", format="rawvideo", pix_fmt=pixels, s=f"{size[0]}x{size[1]}", framerate=rate)
    space = {"bt709": "bt709", "bt601": "smpte170m"}[settings.color_matrix]
    pixel_format, options = _picture_options(settings, container, is_odd=bool(size[0] % 2 or size[1] % 2))
    pictures = (
        frames.filter("scale", out_color_matrix=settings.color_matrix, out_range="limited", flags="area+accurate_rnd")
        .filter("format", pixel_format)
        .filter("setparams", colorspace=space, color_primaries=space, color_trc=space, range="limited")
    )
    streams: list[FilterableStream] = [pictures]
    if audio is not None:
        sound, sound_options = _sound(audio, settings.audio_offset, container)
        streams.append(sound)
        options |= sound_options
    output = ffmpeg.output(*streams, media_url(destination), f=container.muxer, strict=-2, **options)
    return output.global_args("-copyts")


def _picture_options(settings: EncodeSettings, container: Container, is_odd: bool) -> tuple[str, Options]:
    """Pixel format and encoder options."""
    if container.muxer == "mov":  # 16 bits of alpha, coded without loss
        return "yuva444p10le", {"c:v": "prores_ks", "profile:v": "4444", "alpha_bits": 16, "vendor": "apl0"}
    if container.muxer == "webm":
        crf = round(settings.crf * VP9_WORST_CRF / X264_WORST_CRF)
        speed = {"deadline": "good", "cpu-used": VP9_SPEEDS[settings.preset], "row-mt": 1}
        # Frames that are coded but not shown would lose their alpha.
        return "yuva420p", {"c:v": "libvpx-vp9", "crf": crf, "b:v": 0, "auto-alt-ref": 0, **speed}
    options: Options = {"c:v": settings.codec, "crf": settings.crf, "preset": settings.preset, "movflags": "+faststart"}
    if settings.codec == "libx265":
        options |= {"tag:v": "hvc1", "x265-params": "log-level=error"}  # QuickTime wants hvc1
    return "yuv444p" if is_odd else "yuv420p", options


def _sound(audio: Path, offset: Fraction, container: Container) -> tuple[FilterableStream, Options]:
    """The sound track as an input on the frames' time axis, and how it gets into the file."""
    track, timing = first_sound_track(audio), sound_timing(audio)
    # Only the formats with edit lists can hold, and not play, what comes before the first picture.
    is_whole = container.muxer != "webm" or timing.start + offset >= 0
    if track.codec not in COPIED_AUDIO_CODECS[container.muxer] or not is_whole:
        return sound_from_zero(audio, track, offset, track.sample_rate), _sound_options(track, container)
    options: Options = {"c:a": "copy"}
    if container.muxer != "webm" and has_muxer_option(ffmpeg_executable(), container.muxer, "movie_timescale"):
        options["movie_timescale"] = track.sample_rate  # else edit lists count in milliseconds
    # ffmpeg takes exactly the start of a transport stream for its own correction, which it then makes in another way.
    shift = float(offset - timing.zero) + MICROSECOND
    return ffmpeg.input(media_url(audio), itsoffset=f"{shift:.6f}")[str(track.stream_index)], options


def _sound_options(track: SoundTrack, container: Container) -> Options:
    if container.muxer == "mov":
        return {"c:a": "pcm_s24le"}
    if container.muxer == "webm":  # Opus knows few layouts of more than two channels
        channels = min(2, track.channels)
        return {"c:a": "libopus", "b:a": 96_000 * channels, "ac": channels}
    if track.sample_rate in AAC_SAMPLE_RATES:
        return {"c:a": "aac", "b:a": max(192_000, 96_000 * track.channels)}
    return {"c:a": "alac"}
