"""The tracks of a film beside its pictures: copied into another file, one of sound perhaps replaced."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer, OutputContainer
from av.stream import Disposition, Stream

from tools.errors import NoAudioError, OutputError
from tools.media import first_sound_track, moving_picture_stream, open_media, sound_timing
from tools.video_encoding import COPIED_AUDIO_CODECS

MUXERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
_NAMES = {"mp4": "MP4", "mov": "QuickTime", "matroska": "Matroska"}
_LOSSLESS = {"mp4": "flac", "mov": "pcm_s24le"}
# What MP4 stores as iTunes does (libavformat); other keys need the form that QuickTime and phones use.
_COMMON_KEYS = frozenset(
    {"title", "artist", "album_artist", "composer", "album", "date", "comment", "genre", "copyright", "grouping"}
    | {"lyrics", "description", "synopsis", "show", "episode_id", "network", "keywords", "episode_sort"}
    | {"season_number", "media_type", "hd_video", "gapless_playback", "compilation", "track", "disc", "tmpo"}
    | {"location", "creation_time", "encoder", "encoding_tool", "timecode"}
    | {"major_brand", "minor_version", "compatible_brands"}
)
_NAMES_OF_A_TRACK = frozenset({"language", "title", "handler_name"})
_MADE_BY_THE_MUXER = frozenset({"major_brand", "minor_version", "compatible_brands", "encoder", "timecode"})
_COVER_TYPES = {"mjpeg": ("image/jpeg", "cover.jpg"), "png": ("image/png", "cover.png")}


def muxer_for(output: Path) -> str:
    """By the file name's suffix.

    Raises:
        OutputError: another suffix than .mp4, .m4v, .mov or .mkv.
    """
    try:
        return MUXERS[output.suffix.lower()]
    except KeyError:
        raise OutputError(f"cannot write {output}: a film's name ends in {', '.join(MUXERS)}") from None


def muxer_options(muxer: str, metadata: dict[str, str], time_base: Fraction) -> dict[str, str]:
    """Options with which nothing of a film's times and metadata is rounded or left out."""
    if muxer == "matroska":
        return {}
    flags = "+faststart" if set(metadata) <= _COMMON_KEYS else "+faststart+use_metadata_tags"
    # Else edit lists count in milliseconds.
    return {"movflags": flags, "movie_timescale": str(time_base.denominator), "strict": "-2"}


@dataclass(eq=False)
class TrackCopies:
    """Which tracks of a film go where in the output, and what cannot be kept."""

    streams: dict[int, Stream] = field(default_factory=dict)
    """Output streams of the film's tracks, by the track's index in the film."""
    notes: list[str] = field(default_factory=list)


class NewSound:
    """A sound file's first track, on the clock of a film's container."""

    def __init__(self, path: Path, film: Path, first_picture: Fraction) -> None:
        """Its first sample belongs where the film's own first sample is, else to the first picture.

        first_picture: container time of the film's first picture, seconds.

        Raises:
            MissingFileError, UnreadableFileError, NoAudioError: about `path`.
        """
        self.path = path
        self._track = first_sound_track(path)
        timing = sound_timing(path)
        try:
            start = sound_timing(film).start
        except NoAudioError:
            start = Fraction(0)
        self._shift = first_picture + start - timing.zero - timing.start
        self._made: Stream | None = None
        self._is_copied = True

    def add_to(self, output: OutputContainer, like: Stream | None) -> None:
        """Makes its output stream, with the language and names of the track that it replaces."""
        muxer = output.format.name
        with open_media(self.path) as container:
            stream = container.streams[self._track.stream_index]
            self._is_copied = muxer not in COPIED_AUDIO_CODECS or self._track.codec in COPIED_AUDIO_CODECS[muxer]
            if self._is_copied:
                self._made = output.add_stream_from_template(stream, opaque=True)
                self._made.time_base = stream.time_base
            else:
                layout = stream.codec_context.layout
                self._made = output.add_stream(_LOSSLESS[muxer], rate=self._track.sample_rate, layout=layout)
                self._made.time_base = Fraction(1, self._track.sample_rate)
        if like is not None:
            self._made.disposition = like.disposition.value
            self._made.metadata.update({k: v for k, v in like.metadata.items() if k in _NAMES_OF_A_TRACK})
        else:
            self._made.disposition = Disposition.default.value

    def packets(self) -> Iterator[av.Packet]:
        """Its packets for the output: copied, or encoded without loss where the container cannot hold its codec."""
        with open_media(self.path) as container:
            stream = container.streams[self._track.stream_index]
            shift = round(self._shift / stream.time_base)
            if self._is_copied:
                for packet in container.demux(stream):
                    if packet.size:
                        packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                        packet.stream = self._made
                        yield packet
                return
            for frame in container.decode(stream):
                frame.pts += shift
                yield from self._made.encode(frame)
            yield from self._made.encode(None)


def add_tracks(
    source: InputContainer,
    output: OutputContainer,
    add_pictures: Callable[[OutputContainer, Stream], Stream],
    sound: NewSound | None,
    keep_original_sound: bool,
) -> TrackCopies:
    """Makes an output stream for every track of a film, in the film's order, and copies chapters and metadata."""
    copies = TrackCopies()
    muxer = output.format.name
    pictures = moving_picture_stream(source)
    first_sound = next(iter(source.streams.audio), None)
    for stream in source.streams:
        if stream is first_sound and sound is not None:
            sound.add_to(output, like=stream)
            if not keep_original_sound:
                continue
        if stream is pictures:
            copies.streams[stream.index] = add_pictures(output, stream)
        elif _is_made_by_the_muxer(stream, source):
            continue
        elif stream.disposition & Disposition.attached_pic and muxer == "matroska":
            _attach_cover(source, stream, output)
        elif (tag := _tag_taken(muxer, stream)) is not None:
            made = copy_track(stream, output, tag)
            if stream is first_sound and sound is not None:
                made.disposition = made.disposition.value & ~Disposition.default.value
                made.metadata.setdefault("title", "Original")
            copies.streams[stream.index] = made
        else:
            copies.notes.append(f"{_described(stream)} is left out: {_NAMES[muxer]} cannot hold it")
    if sound is not None and first_sound is None:
        sound.add_to(output, like=None)
    output.set_chapters(source.chapters())
    output.metadata.update(kept_metadata(source))
    return copies


def kept_metadata(source: InputContainer) -> dict[str, str]:
    """What a film says about itself. Names that every container knows are in lower case, which Matroska has not."""
    named = {key.lower() if key.lower() in _COMMON_KEYS else key: value for key, value in source.metadata.items()}
    return {key: value for key, value in named.items() if key not in _MADE_BY_THE_MUXER}


def copy_track(stream: Stream, output: OutputContainer, tag: str) -> Stream:
    """An output stream of the same coding, names, role and side data (rotation, mastering display).

    tag: the name that the container has for the coding; empty for its usual one.
    """
    made = output.add_stream_from_template(stream, opaque=True)
    made.time_base = stream.time_base
    made.disposition = stream.disposition.value
    made.metadata.update(stream.metadata)
    if "name" in stream.metadata:  # what libavformat calls the title of a QuickTime track when it reads one
        made.metadata["title"] = made.metadata.pop("name")
    if tag:
        made.codec_context.codec_tag = tag
    return made


def own_tag(stream: Stream, muxer: str) -> str:
    """The name that a track's coding has in its file, if the output uses the same names."""
    both_are_quicktime = muxer in ("mp4", "mov") and "mov" in stream.container.format.name.split(",")
    return stream.codec_context.codec_tag if both_are_quicktime and stream.codec_context is not None else ""


def _is_made_by_the_muxer(stream: Stream, source: InputContainer) -> bool:
    """Titles of chapters and time codes are tracks in QuickTime files, but their content is metadata."""
    if stream.type != "data" or "mov" not in source.format.name.split(","):
        return False
    return "timecode" in stream.metadata or bool(source.chapters() and stream.name == "bin_data")


def _tag_taken(muxer: str, stream: Stream) -> str | None:
    """The name under which a container takes a track, found out by writing headers of files; None if it does not."""
    for tag in dict.fromkeys((own_tag(stream, muxer), "")):
        with contextlib.suppress(av.FFmpegError, ValueError):
            with av.open(io.BytesIO(), "w", format=muxer, container_options={"strict": "-2"}) as trial:
                copy_track(stream, trial, tag)
                trial.start_encoding()
            return tag
    return None


def _attach_cover(source: InputContainer, stream: Stream, output: OutputContainer) -> None:
    with open_media(Path(source.name.removeprefix("file:"))) as again:
        packet = next(again.demux(again.streams[stream.index]))
        mime, name = _COVER_TYPES.get(stream.codec_context.name, ("application/octet-stream", "cover"))
        names = stream.metadata.get("filename", name), stream.metadata.get("mimetype", mime)
        output.add_attachment(*names, bytes(packet))


def _described(stream: Stream) -> str:
    codec = stream.codec_context.name if stream.codec_context is not None else stream.name or "unknown"
    language = stream.metadata.get("language")
    return f"{stream.type} track {stream.index} ({codec}{f', {language}' if language else ''})"
