"""A film's own pictures, as they are shown, and with what was changed in them put back.

A change is added to a picture's own samples as the difference of the two RGB pictures in the film's code values, so
that samples outside it stay exactly as they are, and keep their bits and grain inside it. Where a sample is far from
what its RGB says (colours that RGB clips, sharp edges of colour between chroma samples), it is led to the new RGB.
"""

from __future__ import annotations

import contextlib
import math
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import IO

import av
import cv2
import ffmpeg
import numpy as np
from av.video.frame import VideoFrame

from tools.errors import DamagedMediaError, UnsupportedFootageError
from tools.ffmpeg_process import end_process, first_complaint, start_process
from tools.film import Film, is_picture, packets_of, time_of
from tools.film_colours import FilmColours
from tools.film_pieces import Piece
from tools.media import moving_picture_stream, open_media
from tools.video import as_rgb, is_tone_mapped

# Names of ISO/IEC 23091-2 code points, as ffmpeg's options take them.
_TRANSFER_NAMES = {16: "smpte2084", 18: "arib-std-b67"}
_HDR_NAMES = {16: "pq", 18: "hlg"}
_TURNS = {0: (), 90: (("transpose", "cclock"),), 180: (("hflip",), ("vflip",)), 270: (("transpose", "clock"),)}
_COSITED_ACROSS = frozenset({None, "left", "topleft", "bottomleft"})
_COSITED_DOWN = frozenset({"topleft", "top", "bottomleft", "bottom"})
_GRAIN = 4
"""Code values of 8 bits that a sample's own grain and rounding are taken to make up at most."""
_ALIGNMENT = 4
"""Pixels: a change is looked at in whole chroma samples, and one more around it, which changed pixels belong to too."""


@dataclass(frozen=True, eq=False)
class FilmPicture:
    """A picture of a film, to be redrawn or left as it is."""

    time: Fraction
    """Seconds on the film's time axis."""
    rgb: np.ndarray
    """uint8 [height, width, 3] as `tools.video.read_frames` shows it."""


class PictureForm:
    """How a film's samples are laid out: planes of luma, two of chroma and perhaps alpha."""

    def __init__(self, film: Film) -> None:
        """Raises UnsupportedFootageError for packed and RGB formats."""
        name = film.video.pixel_format
        layout = av.VideoFormat(name, film.coded_width, film.coded_height)
        is_planar_ycc = name.startswith("yuv") and layout.is_planar and not name.endswith("be")
        if not is_planar_ycc:
            raise UnsupportedFootageError(
                f"pictures of {film.path} are stored as {name}, of which single ones cannot be replaced: "
                "convert it, for example with ffmpeg -pix_fmt yuv444p10le"
            )
        self.film = film
        self.name = name
        bits = layout.components[0].bits
        self.sample_type = np.dtype(np.uint8 if bits == 8 else "<u2")
        self.bits = bits
        self.chroma_shape = (layout.chroma_height(film.coded_height), layout.chroma_width(film.coded_width))
        hdr = _HDR_NAMES[film.colours.transfer] if is_tone_mapped(film.video) else None
        self._colours = FilmColours(film.video.color_matrix, film.video.is_full_range, bits, hdr)

    def check(self, frame: VideoFrame) -> None:
        """Raises UnsupportedFootageError if a picture is stored unlike the film's first."""
        film = self.film
        expected = (self.name, film.coded_width, film.coded_height)
        found = (frame.format.name, frame.width, frame.height)
        if found != expected:
            was, now = ("{} {}x{}".format(*form) for form in (expected, found))
            raise UnsupportedFootageError(
                f"{film.path} changes from {was} to {now} at {float(film.seconds(frame.pts)):.2f} s: export it anew"
            )

    def planes(self, frame: VideoFrame) -> list[np.ndarray]:
        """Views of a picture's samples; they can be written to if the picture can."""
        views = []
        for plane in frame.planes:
            samples = np.frombuffer(plane, self.sample_type).reshape(plane.height, -1)
            views.append(samples[:, : plane.width])
        return views

    def change(self, frame: VideoFrame, old: np.ndarray, new: np.ndarray) -> bool:
        """Adds to a picture what differs between two RGB pictures, in place; says whether anything does."""
        turns = self.film.video.rotation_degrees // 90
        old, new = np.rot90(old, -turns), np.rot90(new, -turns)
        box = _changed_box(old, new)
        if box is None:
            return False
        frame.make_writable()
        luma, *chroma = self.planes(frame)[:3]
        codes, top, left = self._codes(old, new, box)
        height, width = codes.shape[:2]
        self._lead(luma[top : top + height, left : left + width], codes, 0)
        location = self.film.colours.chroma_location
        across, down = (-(-luma.shape[axis] // self.chroma_shape[axis]) for axis in (1, 0))
        codes = _coarser(codes, down, location in _COSITED_DOWN)
        codes = _coarser(codes.swapaxes(0, 1), across, location in _COSITED_ACROSS).swapaxes(0, 1)
        height, width = codes.shape[:2]
        for k, plane in enumerate(chroma, start=1):
            self._lead(plane[top // down : top // down + height, left // across : left // across + width], codes, k)
        return True

    def _lead(self, samples: np.ndarray, codes: np.ndarray, channel: int) -> None:
        """Changes samples by the difference of new and old codes.

        What sets them apart from the old codes stays where it is small, else it goes as far as the pixel changes.
        """
        old, new = codes[..., channel], codes[..., 3 + channel]
        change = np.abs(codes[..., 3:] - codes[..., :3]).max(axis=-1)
        apart = samples - old
        kept = _GRAIN << (self.bits - 8)
        excess = apart - np.clip(apart, -kept, kept)
        led = samples + (new - old) - np.clip(excess, -change, change)
        samples[...] = np.clip(np.rint(led), 0, (1 << self.bits) - 1)

    def _codes(self, old: np.ndarray, new: np.ndarray, box: tuple[int, int, int, int]) -> tuple[np.ndarray, int, int]:
        """Old and new code values float32 [h, w, 6] on the luma grid, and the row and column that they begin at."""
        height, width = old.shape[:2]
        top, bottom, left, right = (edge // _ALIGNMENT * _ALIGNMENT for edge in box)
        top, bottom = max(0, top - _ALIGNMENT), min(height, bottom + 2 * _ALIGNMENT)
        left, right = max(0, left - _ALIGNMENT), min(width, right + 2 * _ALIGNMENT)
        if (height, width) != (self.film.coded_height, self.film.coded_width):  # pixels that are not square
            top, bottom, left, right = 0, height, 0, width
        window = np.s_[top:bottom, left:right]
        codes = [self._colours.codes(picture[window]) for picture in (old, new)]
        if (height, width) != (self.film.coded_height, self.film.coded_width):
            size = (self.film.coded_width, self.film.coded_height)
            codes = [cv2.resize(part, size, interpolation=cv2.INTER_AREA) for part in codes]
        return np.concatenate(codes, axis=-1), top, left


def _changed_box(old: np.ndarray, new: np.ndarray) -> tuple[int, int, int, int] | None:
    """First and last row and column in which the pictures differ."""
    changed = (old != new).any(axis=2)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    return (rows[0], rows[-1], columns[0], columns[-1]) if len(rows) else None


def _coarser(samples: np.ndarray, factor: int, is_cosited: bool) -> np.ndarray:
    """Fewer rows by a power of two: each lies on an even row of the finer ones, or between two."""
    while factor > 1:
        factor //= 2
        padded = np.pad(samples, ((1, 1 + len(samples) % 2), (0, 0), (0, 0)), mode="edge")
        here, after = padded[1:-1:2], padded[2::2]
        samples = (padded[0:-2:2] + 2 * here + after) / 4 if is_cosited else (here + after) / 2
    return samples


def decoded(film: Film, pieces: Iterable[Piece]) -> Iterator[VideoFrame]:
    """The pictures of every piece as they are shown, decoded in one pass through the file.

    Raises:
        DamagedMediaError: a picture cannot be decoded.
        UnsupportedFootageError: pictures change their size or format.
    """
    form = PictureForm(film)
    with open_media(film.path) as container:
        stream = moving_picture_stream(container)
        stream.thread_type = "AUTO"
        packets = enumerate(filter(is_picture, packets_of(container, [stream], film.path)))
        for piece in pieces:
            decoder = PieceDecoder(form, piece)
            for place, packet in packets:
                if place >= piece.decode_from:
                    yield from decoder.decode(stream, packet)
                if place == piece.stop - 1:
                    break
            yield from decoder.finish(stream)


class PieceDecoder:
    """Decodes a piece's packets; its link is dropped, and so are pictures before the piece that decoding begins at."""

    def __init__(self, form: PictureForm, piece: Piece) -> None:
        times = form.film.pictures.times
        self._form = form
        self._first = int(times[piece.start : piece.stop].min())
        self._link = None if piece.link is None else int(times[piece.link])

    def decode(self, stream: av.VideoStream, packet: av.Packet) -> Iterator[VideoFrame]:
        """Pictures that are complete now. Raises as `decoded`."""
        packet.pts = time_of(packet)
        yield from self._kept(lambda: stream.codec_context.decode(packet))

    def finish(self, stream: av.VideoStream) -> Iterator[VideoFrame]:
        """The pictures that are still to come; afterwards another piece can be decoded."""
        yield from self._kept(lambda: stream.codec_context.decode(None))
        stream.codec_context.flush_buffers()

    def _kept(self, decode: Callable[[], list[VideoFrame]]) -> Iterator[VideoFrame]:
        film = self._form.film
        try:
            frames = decode()
        except av.FFmpegError as error:
            raise DamagedMediaError(f"{film.path} cannot be decoded ({error.strerror}): export it again") from error
        for frame in frames:
            if frame.pts is not None and frame.pts >= self._first and frame.pts != self._link:
                self._form.check(frame)
                yield frame


def shown(form: PictureForm, frames: Iterator[VideoFrame]) -> Iterator[FilmPicture]:
    """The pictures as `tools.video.read_frames` shows them, through the same ffmpeg program and filters.

    A thread feeds ffmpeg with what `frames` yields; a few pictures are on their way. Closing this iterator ends both.

    Raises: what `frames` raises; DamagedMediaError if ffmpeg fails.
    """
    film = form.film
    size = f"{film.coded_width}x{film.coded_height}"
    stream = ffmpeg.input("pipe:", format="rawvideo", pix_fmt=form.name, s=size, **_tags(film)).video
    for turn in _TURNS[film.video.rotation_degrees]:
        stream = stream.filter(*turn)
    graph = as_rgb(stream, film.video).output("pipe:", format="rawvideo", pix_fmt="rgb24")
    shape = (film.video.height, film.video.width, 3)
    with tempfile.TemporaryFile() as errors:
        process = start_process(graph, errors, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        feeder = _Feeder(form, frames, process.stdin)
        try:
            feeder.start()
            while True:
                block = bytearray(math.prod(shape))
                if process.stdout.readinto(block) < len(block):
                    break
                time = film.seconds(feeder.time_stamps.popleft())
                yield FilmPicture(time, np.frombuffer(block, np.uint8).reshape(shape))
            feeder.join()
            if feeder.error is not None:
                raise feeder.error
            if process.wait() != 0 or feeder.time_stamps:
                complaint = first_complaint(errors, process.returncode)
                raise DamagedMediaError(f"{film.path} cannot be converted ({complaint}): export it again")
        finally:
            process.kill()
            feeder.join()
            end_process(process)


class _Feeder(threading.Thread):
    """Writes pictures' samples into a pipe."""

    def __init__(self, form: PictureForm, frames: Iterator[VideoFrame], pipe: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self.time_stamps: deque[int] = deque()
        """Of pictures that are on their way."""
        self.error: Exception | None = None
        """What `frames` raised."""
        self._form, self._frames, self._pipe = form, frames, pipe

    def run(self) -> None:
        try:
            for frame in self._frames:
                self.time_stamps.append(frame.pts)
                for plane in self._form.planes(frame):
                    self._pipe.write(np.ascontiguousarray(plane).data)
            self._pipe.close()
        except OSError:  # the reader ended ffmpeg, or finds out why it ended
            pass
        except Exception as error:  # raised where the pictures are read
            self.error = error
            with contextlib.suppress(OSError):
                self._pipe.close()
        finally:
            self._frames.close()


def _tags(film: Film) -> dict[str, str]:
    """What the conversion asks of a picture besides its samples."""
    tags = {}
    if film.colours.chroma_location is not None:
        tags["chroma_sample_location"] = film.colours.chroma_location
    if film.colours.transfer in _TRANSFER_NAMES:
        tags["color_trc"] = _TRANSFER_NAMES[film.colours.transfer]
    return tags
