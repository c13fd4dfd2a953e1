"""Writing video: frames are encoded as they come, with the user's own sound, and nothing half-written stays behind."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import ffmpeg
import numpy as np

from tools.errors import OutputError
from tools.ffmpeg_process import (
    FfmpegFailure,
    end_process,
    first_complaint,
    has_written,
    media_url,
    run,
    start_process,
)
from tools.video_encoding import EncodeSettings, container_for, encoding_graph

Finish = Callable[[Path], None]


class VideoWriter:
    """Encodes frames into a file while they are made; use it as a context manager.

    A name that ends in .mov makes a QuickTime file with ProRes 4444 and .webm one with VP9; both take frames with an
    alpha channel. Any other name makes an MP4 file, of RGB frames.

    The file is written beside `path` under a temporary name and takes its name (replacing a file of that name) when the
    block ends well; on any exception, Ctrl-C included, it is removed. Frame `i` gets the time stamp `i / fps` exactly;
    WebM rounds it to a millisecond. Pictures of MP4 are 4:2:0; a size with an odd side, which 4:2:0 cannot store, is
    written as 4:4:4 at its exact size.

    `audio` is the file whose first sound track is heard: copied bit for bit if the container can hold its codec, else
    encoded: in MP4 without resampling (AAC at 192 kbit/s or more; ALAC for rates that AAC lacks), in QuickTime as PCM,
    in WebM as Opus. It is heard to its end, aligned as `tools.audio.read_audio` reads it and moved by the
    settings' `audio_offset`; what comes before the first frame is not heard.

    `finish` is called with the finished file before that takes its name; it may change it, or raise.

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
        finish: Finish | None = None,
    ) -> None:
        self.path = Path(path)
        container = container_for(self.path)
        self._shape = (height, width, container.channels)
        self._is_empty = True
        self._finish_file = finish
        self._temporary = temporary_sibling(self.path, f".{container.muxer}")
        self._graph = encoding_graph(
            self._temporary, (width, height), fps, settings or EncodeSettings(), container, audio
        )

    def __enter__(self) -> VideoWriter:
        with contextlib.ExitStack() as cleanup:
            cleanup.callback(self._temporary.unlink, missing_ok=True)
            self._errors = cleanup.enter_context(tempfile.TemporaryFile())
            self._process = start_process(self._graph, self._errors, stdin=subprocess.PIPE)
            cleanup.callback(end_process, self._process)
            self._cleanup = cleanup.pop_all()
        return self

    def write(self, frame: np.ndarray) -> None:
        """Appends a frame: uint8 RGB [height, width, 3], or with straight alpha [height, width, 4], see above.

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
        if not has_written(self._errors, self._process.wait()):
            raise self._failure()
        if self._finish_file is not None:
            self._finish_file(self._temporary)
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


def _rename(temporary: Path, path: Path) -> None:
    try:
        os.replace(temporary, path)
    except OSError as error:
        raise _output_error(path, error.strerror) from error


def _output_error(path: Path, reason: str) -> OutputError:
    return OutputError(f"cannot write {path}: {reason}")
