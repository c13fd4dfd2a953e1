"""Writing video: frames to H.264 as they come, with the user's own sound, and nothing half-written left behind."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Literal

import ffmpeg
import numpy as np
from ffmpeg.nodes import FilterableStream, OutputStream

from tools.errors import OutputError
from tools.ffmpeg_process import (
    PIPE_BYTES,
    FfmpegFailure,
    compile_command,
    end_process,
    first_complaint,
    media_url,
    run,
)
from tools.media import first_sound_track, sound_before_picture

# What MP4 holds and common players play, so that it is copied bit for bit.
COPIED_AUDIO_CODECS = frozenset({"aac", "mp3", "ac3", "eac3", "opus", "alac", "flac"})
AAC_SAMPLE_RATES = frozenset(
    {96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350}
)  # ISO/IEC 14496-3, table 1.18


@dataclass(frozen=True)
class EncodeSettings:
    """How frames become a video file."""

    codec: Literal["libx264", "libx265"] = "libx264"
    """Encoder: H.264 plays everywhere, H.265 is smaller."""
    crf: int = 16
    """Constant rate factor: 0 is lossless, 16 looks like the original, 23 is visibly compressed."""
    preset: Literal["ultrafast", "veryfast", "fast", "medium", "slow"] = "veryfast"
    """Encoding effort: slower presets make smaller files of the same quality."""
    color_matrix: Literal["bt601", "bt709"] = "bt709"
    """Matrix from RGB to YCbCr, also written into the file. The source's own keeps colours alike in every player."""


class VideoWriter:
    """Encodes RGB frames into an MP4 file while they are made; use it as a context manager.

    The file is written beside `path` under a temporary name and takes its name (replacing a file of that name) when the
    block ends well; on any exception, Ctrl-C included, it is removed. Frame `i` gets the time stamp `i / fps` exactly.
    Pictures are 4:2:0; a size with an odd side, which 4:2:0 cannot store, is written as 4:4:4 at its exact size.

    `audio` is the file whose first sound track is heard: copied bit for bit if MP4 can hold its codec, else encoded
    without resampling (AAC at 192 kbit/s or more; ALAC for rates that AAC lacks). It is muxed in full, aligned as
    `tools.audio.read_audio` reads it.

    Raises:
        OutputError: the folder is missing or not writable, the disk is full, or ffmpeg fails.
        MissingFileError, UnreadableFileError, NoAudioError: about `audio`.
    """

    def __init__(
        self,
        path: Path | str,
        width: int,
        height: int,
        fps: Fraction,
        audio: Path | None = None,
        settings: EncodeSettings | None = None,
    ) -> None:
        self.path = Path(path)
        self._shape = (height, width, 3)
        self._is_empty = True
        self._temporary = temporary_sibling(self.path, ".mp4")
        self._graph = _encoding_graph(self._temporary, width, height, fps, settings or EncodeSettings(), audio)

    def __enter__(self) -> VideoWriter:
        with contextlib.ExitStack() as cleanup:
            cleanup.callback(self._temporary.unlink, missing_ok=True)
            self._errors = cleanup.enter_context(tempfile.TemporaryFile())
            self._process = subprocess.Popen(
                compile_command(self._graph),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                pipesize=PIPE_BYTES,
                start_new_session=True,  # Ctrl-C reaches this program only, which then ends ffmpeg itself
            )
            cleanup.callback(end_process, self._process)
            self._cleanup = cleanup.pop_all()
        return self

    def write(self, frame: np.ndarray) -> None:
        """Appends a frame: uint8 RGB [height, width, 3].

        Raises:
            ValueError: another shape or type.
            OutputError: ffmpeg has ended, e.g. because the disk is full.
        """
        if frame.shape != self._shape or frame.dtype != np.uint8:
            raise ValueError(f"expected a uint8 frame of shape {self._shape}, got {frame.dtype} {frame.shape}")
        try:
            self._process.stdin.write(np.ascontiguousarray(frame).data)
            self._is_empty = False
        except OSError as error:  # a broken pipe: the reason is what ffmpeg said
            raise self._failure() from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._cleanup:
            if kind is None:
                self._finish()

    def _finish(self) -> None:
        if self._is_empty:
            raise _output_error(self.path, "not one frame came; is the audio shorter than a frame?")
        try:
            self._process.stdin.close()
        except OSError as error:
            raise self._failure() from error
        if self._process.wait() != 0:
            raise self._failure()
        _rename(self._temporary, self.path)

    def _failure(self) -> OutputError:
        self._process.wait()
        return _output_error(self.path, first_complaint(self._errors, self._process.returncode))


def stream_copy(source: Path, destination: Path) -> None:
    """Copies the first moving pictures and sound of `source`, without decoding them, into `destination`.

    Other streams and all metadata (place, device) are left out; rotation stays. The container is MP4 or, if MP4 cannot
    hold the streams, QuickTime or Matroska under the same name: readers look at the content.

    Raises:
        OutputError: none of the containers takes the streams, or the destination cannot be written.
    """
    temporary = temporary_sibling(destination, ".mp4")
    file = ffmpeg.input(media_url(source))
    try:
        for container in ("mp4", "mov", "matroska"):
            options = {"c": "copy", "map_metadata": -1, "map_chapters": -1, "f": container}
            output = ffmpeg.output(file["V:0"], file["a:0?"], media_url(temporary), **options)
            try:
                run(output.overwrite_output())
            except FfmpegFailure as failure:
                refusal = failure
                continue
            return _rename(temporary, destination)
        raise _output_error(destination, str(refusal)) from refusal
    finally:
        temporary.unlink(missing_ok=True)


def temporary_sibling(path: Path, suffix: str) -> Path:
    """A new name in the folder of `path`, so that renaming it to `path` is atomic.

    Raises:
        OutputError: the folder does not exist or may not be written, or `path` is a folder.
    """
    folder = path.absolute().parent
    if not folder.is_dir():
        raise OutputError(f"cannot write {path}: {folder} is not a folder; create it first")
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder; give a file name")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"cannot write {path}: no permission to write in {folder}")
    return folder / f".unfinished-{secrets.token_hex(6)}{suffix}"


def _encoding_graph(
    destination: Path, width: int, height: int, fps: Fraction, settings: EncodeSettings, audio: Path | None
) -> OutputStream:
    rate = f"{fps.numerator}/{fps.denominator}"
    frames = ffmpeg.input("pipe:", format="rawvideo", pix_fmt="rgb24", s=f"{width}x{height}", framerate=rate)
    space = {"bt709": "bt709", "bt601": "smpte170m"}[settings.color_matrix]
    pictures = (
        frames.filter("scale", out_color_matrix=settings.color_matrix, out_range="limited", flags="area+accurate_rnd")
        .filter("format", "yuv444p" if width % 2 or height % 2 else "yuv420p")
        .filter("setparams", colorspace=space, color_primaries=space, color_trc=space, range="limited")
    )
    options = {"c:v": settings.codec, "crf": settings.crf, "preset": settings.preset, "movflags": "+faststart"}
    if settings.codec == "libx265":
        options |= {"tag:v": "hvc1", "x265-params": "log-level=error"}  # QuickTime wants hvc1
    streams: list[FilterableStream] = [pictures]
    if audio is not None:
        sound, sound_options = _sound(audio)
        streams.append(sound)
        options |= sound_options
    return ffmpeg.output(*streams, media_url(destination), f="mp4", strict=-2, **options)


def _sound(audio: Path) -> tuple[FilterableStream, dict[str, str | int]]:
    """The sound track as an input on the frames' time axis, and how it gets into the file."""
    track = first_sound_track(audio)
    shift = sound_before_picture(audio)
    stream = ffmpeg.input(media_url(audio), itsoffset=f"{-float(shift):.6f}")[str(track.stream_index)]
    if track.codec in COPIED_AUDIO_CODECS:
        return stream, {"c:a": "copy"}
    if track.sample_rate in AAC_SAMPLE_RATES:
        return stream, {"c:a": "aac", "b:a": max(192_000, 96_000 * track.channels)}
    return stream, {"c:a": "alac"}


def _rename(temporary: Path, path: Path) -> None:
    try:
        os.replace(temporary, path)
    except OSError as error:
        raise _output_error(path, error.strerror) from error


def _output_error(path: Path, reason: str) -> OutputError:
    return OutputError(f"cannot write {path}: {reason}")
