"""A film written anew with some of its pictures redrawn: whatever else it holds is copied without decoding it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer, OutputContainer

from tools.errors import OutputError
from tools.ffmpeg_process import media_url
from tools.film import Film, is_picture, packets_of
from tools.film_pieces import TimeRange, check_ranges
from tools.film_splicing import Redraw, SplicedPictures
from tools.film_tracks import NewSound, TrackCopies, add_tracks, kept_metadata, muxer_for, muxer_options
from tools.media import open_media
from tools.video_encoding import Effort
from tools.video_writer import temporary_sibling


@dataclass(frozen=True)
class RewriteSettings:
    """How a film is written."""

    keep_original_sound: bool = False
    """The track that new sound replaces stays, as the second one."""
    preset: Effort = "veryfast"
    """Encoding effort: slower presets make smaller files of the same quality."""


@dataclass(frozen=True)
class RewriteProgress:
    """How far the rewriting is."""

    done: int
    """Pictures read, copied ones included."""
    total: int
    """Pictures of the film."""


@dataclass(frozen=True)
class RewriteReport:
    """What became of a film's pictures and tracks."""

    copied: int
    """Pictures whose packets are those of the film."""
    encoded: int
    """Pictures encoded anew, changed or not."""
    changed: int
    """Of these, those in which redrawing changed anything."""
    pieces: tuple[TimeRange, ...]
    """Where pictures were encoded anew: times of the first and the last of each piece, seconds."""
    notes: tuple[str, ...]
    """What is not as it was in the film, in words for the user."""


def rewrite_film(
    film: Film,
    ranges: Sequence[TimeRange],
    redraw: Redraw,
    sound: Path | None,
    output: Path,
    settings: RewriteSettings | None = None,
    finish: Callable[[Path], None] | None = None,
) -> Generator[RewriteProgress, None, RewriteReport]:
    """Writes `output`: the film with the pictures of some time ranges redrawn, and perhaps other sound.

    `redraw` is called once, with an iterator over every picture inside the ranges in the order they are shown. It
    yields as many pictures, uint8 [height, width, 3]; the array that it was given means that nothing changes. It may
    read ahead, and from another thread; what it reads ahead of what it yields is what is held.

    Pictures outside the pieces of `tools.film_pieces.plan_pieces` are copied. `sound` replaces the film's first sound
    track; its first sample is heard when that track's is, or with the first picture of a film without sound. `finish`
    may change the whole file before it takes its name. If anything fails, or the generator is closed, nothing is left.

    Raises:
        ValueError: ranges overlap, or `redraw` yields something else than asked for.
        OutputError: the file cannot be written, or its name ends in no film's suffix.
        UnsupportedFootageError: single pictures of this film cannot be replaced.
        DamagedMediaError: the film cannot be decoded where it has to be.
        MissingFileError, UnreadableFileError, NoAudioError: about `sound`.
    """
    check_ranges(ranges)
    settings = settings or RewriteSettings()
    muxer = muxer_for(output)
    temporary = temporary_sibling(output, output.suffix.lower())
    pictures = SplicedPictures(film, ranges, redraw, settings.preset)
    new_sound = None if sound is None else NewSound(sound, film.path, film.video.start)
    try:
        with open_media(film.path) as source, pictures.redrawing():
            options = muxer_options(muxer, kept_metadata(source), film.time_base)
            with _target(temporary, muxer, options, output) as target:
                tracks = add_tracks(source, target, pictures.add_to, new_sound, settings.keep_original_sound)
                shown = 0
                for done, packet in _packets(source, film, pictures, tracks, new_sound):
                    with _complaints(output):
                        target.mux(packet)
                    if done > shown:
                        shown = done
                        yield RewriteProgress(done, len(film.pictures.times))
            pictures.finish()
        if finish is not None:
            finish(temporary)
        with _complaints(output):
            os.replace(temporary, output)
    finally:
        temporary.unlink(missing_ok=True)
    return _report(film, pictures, tracks)


def _packets(
    source: InputContainer, film: Film, pictures: SplicedPictures, tracks: TrackCopies, sound: NewSound | None
) -> Iterator[tuple[int, av.Packet]]:
    """Every packet of the output in the order of time, and how many of the film's pictures have been read by then."""
    waiting = _Waiting(iter(()) if sound is None else sound.packets())
    heard: set[int] = set()
    place = 0
    for packet in packets_of(source, [source.streams[index] for index in tracks.streams], film.path):
        index = packet.stream.index
        if index == film.video.stream_index:
            if is_picture(packet):
                place += 1
                for made in pictures.take(place - 1, packet):
                    yield from ((place, due) for due in waiting.until(made))
                    yield place, made
        elif packet.size and not (packet.is_discard and index in heard):  # the edit list cuts it off at the end
            if not packet.is_discard:
                heard.add(index)
            packet.stream = tracks.streams[index]
            yield place, packet
    yield from ((place, due) for due in waiting.until(None))


class _Waiting:
    """Packets of new sound, held back until their time."""

    def __init__(self, packets: Iterator[av.Packet]) -> None:
        self._packets = packets
        self._next = next(packets, None)

    def until(self, packet: av.Packet | None) -> Iterator[av.Packet]:
        """Those to be stored before this packet; after None all that are left."""
        while self._next is not None and (packet is None or _time(self._next) <= _time(packet)):
            yield self._next
            self._next = next(self._packets, None)


def _time(packet: av.Packet) -> Fraction:
    return packet.dts * packet.time_base


@contextlib.contextmanager
def _target(path: Path, muxer: str, options: dict[str, str], output: Path) -> Iterator[OutputContainer]:
    """A file for packets; it is not completed if the block fails."""
    with _complaints(output):
        container = av.open(media_url(path), "w", format=muxer, container_options=options)
    try:
        yield container
    except BaseException:
        with contextlib.suppress(av.FFmpegError, OSError, ValueError):
            container.close()
        raise
    with _complaints(output):
        container.close()


@contextlib.contextmanager
def _complaints(output: Path) -> Iterator[None]:
    """What goes wrong while a file is written, as one line."""
    try:
        yield
    except (av.FFmpegError, OSError) as error:
        raise OutputError(f"cannot write {output}: {error.strerror}") from error


def _report(film: Film, pictures: SplicedPictures, tracks: TrackCopies) -> RewriteReport:
    times = film.pictures.times
    pieces = [times[piece.start : piece.stop] for piece in pictures.plan.pieces]
    return RewriteReport(
        copied=pictures.copied,
        encoded=pictures.encoded,
        changed=pictures.changed,
        pieces=tuple((film.seconds(int(piece.min())), film.seconds(int(piece.max()))) for piece in pieces),
        notes=(*pictures.notes, *tracks.notes),
    )
