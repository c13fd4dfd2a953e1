"""The pictures of a film on their way into another file: copied, or decoded, redrawn and encoded anew."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import av
import numpy as np
from av.container import OutputContainer
from av.sidedata.sidedata import Type as SideData
from av.stream import Stream
from av.video.frame import VideoFrame

from tools.errors import DamagedMediaError, UnsupportedFootageError
from tools.film import Film
from tools.film_encoding import (
    ENCODED_CODECS,
    PieceEncoder,
    open_encoder,
    set_up_encoder,
    splice_coding,
    track_header,
    whole_coding,
    with_content,
)
from tools.film_pictures import FilmPicture, PictureForm, PieceDecoder, decoded, shown
from tools.film_pieces import Piece, TimeRange, in_ranges, plan_pieces, reorder_delay
from tools.film_tracks import copy_track, own_tag
from tools.video_encoding import Effort

Redraw = Callable[[Iterator[FilmPicture]], Iterator[np.ndarray]]

_CHANGING_LIGHT = {
    SideData.DYNAMIC_HDR_PLUS: "HDR10+",
    SideData.DOVI_METADATA: "Dolby Vision",
    SideData.DOVI_RPU_BUFFER: "Dolby Vision",
}


class SplicedPictures:
    """Makes the packets of the output's pictures out of those of the film, one by one as the film stores them.

    Decode times are the sorted times less a constant, for copied and encoded pictures alike.
    """

    def __init__(self, film: Film, ranges: Sequence[TimeRange], redraw: Redraw, effort: Effort) -> None:
        """Raises UnsupportedFootageError: single pictures of this film cannot be replaced."""
        self._film = film
        self._ranges = ranges
        self._coding = splice_coding(film, effort) if ranges else None
        self.plan = plan_pieces(film, ranges, can_splice=self._coding is not None)
        if self.plan.is_whole:
            self._coding = whole_coding(film, effort)
        self._form = PictureForm(film) if self.plan.pieces else None
        self._pieces = deque(self.plan.pieces)
        self._times = np.sort(film.pictures.times)
        self._delay = reorder_delay(film.pictures.times)
        self._offered: deque[FilmPicture] = deque()
        self._redraw = redraw
        self._durations: dict[int, int] = {}
        self._decoder: PieceDecoder | None = None
        self._encoder: PieceEncoder | None = None
        self.copied = self.encoded = self.changed = 0
        self.notes: list[str] = []

    @contextlib.contextmanager
    def redrawing(self) -> Iterator[None]:
        """While pictures are taken: what `redraw` holds, and the ffmpeg it reads from, end with the block."""
        if not self._pieces:
            self._redrawn = iter(())
            yield
            return
        frames = self._frames_to_redraw()
        pictures = shown(self._form, frames)
        redrawn = iter(self._redraw(self._offer(pictures)))
        self._redrawn = redrawn
        try:
            yield
        finally:
            for iterator in (redrawn, pictures):
                if hasattr(iterator, "close"):
                    iterator.close()

    def add_to(self, output: OutputContainer, stream: Stream) -> Stream:
        """The output stream of the pictures.

        Raises:
            UnsupportedFootageError: all of a rotated film would have to change its codec.
        """
        film, coding = self._film, self._coding
        self._stream, self._context = stream, None
        stream.thread_type = "AUTO"
        is_quicktime = output.format.name in ("mp4", "mov")
        if self.plan.is_whole and ENCODED_CODECS[coding.encoder] != film.video.codec:
            if film.video.rotation_degrees:
                raise UnsupportedFootageError(
                    f"{film.path} is {film.video.codec} and stored turned, which cannot both be kept: "
                    "convert it to H.264 first"
                )
            made = output.add_stream(coding.encoder, rate=film.video.fps)
            set_up_encoder(made.codec_context, film, coding)
            made.time_base = film.time_base
            made.disposition = stream.disposition.value
            made.metadata.update(stream.metadata)
            self._context = made.codec_context
            self.notes.append(
                f"all pictures are encoded anew, as {ENCODED_CODECS[coding.encoder]}: "
                f"parts of {film.video.codec} cannot be replaced"
            )
        else:
            made = copy_track(stream, output, own_tag(stream, output.format.name))
            if self.plan.is_whole:
                self._context = open_encoder(film, coding, has_header=True)
                made.codec_context.extradata = self._context.extradata
                self.notes.append("all pictures are encoded anew: this film cannot be cut")
            elif self.plan.pieces:
                made.codec_context.extradata = track_header(film, coding)
                if film.video.codec == "hevc" and is_quicktime:
                    made.codec_context.codec_tag = "hev1"  # parameter sets stand before the pictures they are for
        self._made = made
        return made

    def take(self, place: int, packet: av.Packet) -> Iterator[av.Packet]:
        """The output's packets that are complete with this one, which is number `place` as the film stores them.

        None is made of packets that the film's edit list cuts off at its end.

        Raises:
            DamagedMediaError: it cannot be decoded.
            ValueError: `redraw` yielded something else than asked for.
        """
        if place >= self.plan.count:
            return
        piece = self._pieces[0] if self._pieces else None
        is_inside = piece is not None and place >= piece.start
        frames: list[VideoFrame] = []
        if piece is not None and place >= piece.decode_from:
            if is_inside:
                self._durations[packet.pts if packet.pts is not None else packet.dts] = packet.duration
                if place == piece.link:
                    self._link = self._linked(piece, packet)
            frames = list(self._decode(piece, packet))
        if not is_inside:
            yield self._copy(place, packet)
        for frame in frames:
            yield from self._encode(frame)
        if piece is not None and place == piece.stop - 1:
            for frame in self._decoder.finish(self._stream):
                yield from self._encode(frame)
            if self._encoder is not None:
                yield from self._timed(self._encoder.encode(None))
            if piece.link is not None:
                yield self._link
            self._pieces.popleft()
            self._decoder = self._encoder = None
            self._durations.clear()

    def finish(self) -> None:
        """Raises ValueError if `redraw` yields more pictures than it was given."""
        if next(self._redrawn, None) is not None:
            raise ValueError("redraw yielded more pictures than it was given")

    def _decode(self, piece: Piece, packet: av.Packet) -> Iterator[VideoFrame]:
        if self._decoder is None:
            self._decoder = PieceDecoder(self._form, piece)
        yield from self._decoder.decode(self._stream, packet)

    def _linked(self, piece: Piece, packet: av.Packet) -> av.Packet:
        """An open group's first picture, after those shown before it have been encoded anew."""
        linked = with_content(packet, self._coding.header.as_broken_link(bytes(packet)))
        return self._copy(piece.stop - 1, linked)

    def _copy(self, place: int, packet: av.Packet) -> av.Packet:
        self.copied += 1
        header = self._coding.header if self._coding is not None else None
        if header is not None and header.codec == "hevc" and packet.is_keyframe:
            packet = with_content(packet, header.with_parameter_sets(bytes(packet)))
        if packet.pts is None:
            packet.pts = packet.dts
        packet.dts = int(self._times[place]) - self._delay
        packet.stream = self._made
        return packet

    def _encode(self, frame: VideoFrame) -> Iterator[av.Packet]:
        if self._encoder is None:
            context = self._context or open_encoder(self._film, self._coding, self._coding.has_own_sets)
            self._encoder = PieceEncoder(self._coding, context)
        self._note_changing_light(frame)
        if self._is_in_range(frame):
            self._apply(frame)
        self.encoded += 1
        yield from self._timed(self._encoder.encode(frame))

    def _timed(self, packets: list[av.Packet]) -> Iterator[av.Packet]:
        for packet in packets:
            packet.dts = packet.pts - self._delay
            packet.duration = self._durations.pop(packet.pts, packet.duration)
            packet.stream = self._made
            yield packet

    def _apply(self, frame: VideoFrame) -> None:
        try:
            new = next(self._redrawn)
        except StopIteration:
            raise ValueError("redraw yielded fewer pictures than it was given") from None
        old = self._offered.popleft()
        if old.time != self._film.seconds(frame.pts):
            time = float(self._film.seconds(frame.pts))
            raise DamagedMediaError(f"{self._film.path} decodes differently each time at {time:.2f} s: export it again")
        if new is old.rgb:
            return
        if new.shape != old.rgb.shape or new.dtype != np.uint8:
            raise ValueError(f"redraw yielded {new.dtype} {new.shape} for a uint8 picture of {old.rgb.shape}")
        self.changed += self._form.change(frame, old.rgb, new)

    def _offer(self, pictures: Iterator[FilmPicture]) -> Iterator[FilmPicture]:
        for picture in pictures:
            self._offered.append(picture)
            yield picture

    def _frames_to_redraw(self) -> Iterator[VideoFrame]:
        """Decoded a second time, so that `redraw` may read ahead past pictures that are none of its."""
        inside = in_ranges(self._film, self._ranges)
        pieces = []
        for piece in self.plan.pieces:
            wanted = np.flatnonzero(inside[piece.start : piece.stop])
            if len(wanted):
                pieces.append(replace(piece, stop=piece.start + int(wanted[-1]) + 1))
        for frame in decoded(self._film, pieces):
            if self._is_in_range(frame):
                yield frame

    def _is_in_range(self, frame: VideoFrame) -> bool:
        time = self._film.seconds(frame.pts)
        return any(start <= time < stop for start, stop in self._ranges)

    def _note_changing_light(self, frame: VideoFrame) -> None:
        for data in frame.side_data:
            if name := _CHANGING_LIGHT.get(data.type):
                note = f"pictures that are encoded anew do not carry the film's {name} metadata"
                if note not in self.notes:
                    self.notes.append(note)
