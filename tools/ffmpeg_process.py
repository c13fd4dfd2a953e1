"""Running ffmpeg: finding the program, streaming what it decodes, and turning its failures into one line."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import imageio_ffmpeg
from ffmpeg.nodes import OutputStream

from tools.errors import FfmpegMissingError

PIPE_BYTES = 1 << 20  # the largest pipe an unprivileged Linux process may ask for; elsewhere the hint is ignored
GLOBAL_ARGUMENTS = ("-hide_banner", "-nostdin", "-loglevel", "error")


class FfmpegFailure(Exception):
    """ffmpeg ended with an error. Its complaint is the message; callers wrap it with the file and the remedy."""


def ffmpeg_executable() -> str:
    """The ffmpeg to run: the one on the PATH, else the static build that imageio-ffmpeg carries.

    Raises:
        FfmpegMissingError: there is neither.
    """
    found = shutil.which("ffmpeg")
    if found:
        return found
    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise FfmpegMissingError("no ffmpeg found: install it, or run 'pip install imageio-ffmpeg'") from error


@functools.lru_cache
def has_filter(executable: str, name: str) -> bool:
    """Whether this ffmpeg was built with the filter `name`."""
    listing = subprocess.run([executable, "-hide_banner", "-filters"], capture_output=True, text=True, check=False)
    return any(line.split()[1:2] == [name] for line in listing.stdout.splitlines())


@functools.lru_cache
def has_muxer_option(executable: str, muxer: str, name: str) -> bool:
    """Whether this ffmpeg's `muxer` knows the option `name`."""
    arguments = [executable, "-hide_banner", "-h", f"muxer={muxer}"]
    listing = subprocess.run(arguments, capture_output=True, text=True, check=False)
    return any(line.split()[:1] == [f"-{name}"] for line in listing.stdout.splitlines())


def media_url(path: Path) -> str:
    """`path` as ffmpeg's file protocol: absolute, so that a leading dash is no option and a colon no protocol."""
    return f"file:{os.path.abspath(path)}"


def compile_command(stream: OutputStream) -> list[str]:
    """The argument list of an ffmpeg-python graph."""
    return stream.global_args(*GLOBAL_ARGUMENTS).compile(cmd=ffmpeg_executable())


def run(stream: OutputStream) -> None:
    """Runs an ffmpeg-python graph to its end.

    Raises:
        FfmpegFailure: ffmpeg's exit code is not 0, or its output is not complete.
    """
    with tempfile.TemporaryFile() as errors:
        result = subprocess.run(compile_command(stream), stdin=subprocess.DEVNULL, stderr=errors, check=False)
        if not has_written(errors, result.returncode):
            raise FfmpegFailure(first_complaint(errors, result.returncode))


def start_process(
    stream: OutputStream, errors: IO[bytes], stdin: int = subprocess.DEVNULL, stdout: int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    """Starts an ffmpeg-python graph, to be ended by `end_process`; what it complains of goes into `errors`.

    Args:
        stdin, stdout: subprocess.PIPE for those that the graph reads or writes as `pipe:`.
    """
    return subprocess.Popen(
        compile_command(stream),
        stdin=stdin,
        stdout=stdout,
        stderr=errors,
        pipesize=PIPE_BYTES,
        start_new_session=True,  # Ctrl-C reaches this program only, which then ends ffmpeg itself
    )


def read_blocks(stream: OutputStream, block_bytes: int) -> Iterator[bytearray]:
    """What an ffmpeg-python graph writes to `pipe:`, in fresh blocks of `block_bytes` (the last may be shorter).

    One block is held at a time. ffmpeg is ended when the iterator is closed or dropped early.

    Raises:
        FfmpegFailure: ffmpeg's exit code is not 0; the blocks before it have been yielded.
    """
    with tempfile.TemporaryFile() as errors:
        process = start_process(stream, errors, stdout=subprocess.PIPE)
        try:
            while True:
                block = bytearray(block_bytes)
                received = process.stdout.readinto(block)
                if received == 0:
                    break
                yield block if received == block_bytes else block[:received]
            if process.wait() != 0:
                raise FfmpegFailure(first_complaint(errors, process.returncode))
        finally:
            end_process(process)


def end_process(process: subprocess.Popen[bytes]) -> None:
    """Ends ffmpeg if it still runs, and closes its pipes."""
    if process.poll() is None:
        process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):  # frames that an ended ffmpeg no longer takes
                pipe.close()
    process.wait()


def has_written(errors: IO[bytes], return_code: int) -> bool:
    """Whether an ffmpeg that has ended wrote all of its output.

    ffmpeg 5 ends with exit code 0 when the disk is full only at the end of a file: its standard error alone tells.
    """
    errors.seek(max(0, errors.seek(0, os.SEEK_END) - 4096))
    return return_code == 0 and not re.search(rb"Error (writing trailer|closing file)", errors.read())


def first_complaint(errors: IO[bytes], return_code: int) -> str:
    """The first line ffmpeg wrote to its standard error, which names the cause (later ones tell what it led to).

    Its exit code when it said nothing.
    """
    errors.seek(0)
    lines = errors.read(4096).decode(errors="replace").splitlines()
    spoken = [re.sub(r"^(\[[^]]* @ 0x[0-9a-f]+\] )+", "", line).strip() for line in lines]
    return next(filter(None, spoken), f"ffmpeg ended with exit code {return_code}")
