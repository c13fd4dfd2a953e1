"""Whether results can be written where the user wants them: asked before long work and before weights are loaded."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from talkinghead.errors import OutputExistsError
from tools.errors import OutputError
from tools.png_sequence import PNG_SUFFIX, check_png_pattern, sequence_exists
from tools.video_encoding import ALPHA_SUFFIXES

VIDEO_SUFFIX, ARRAY_SUFFIX, WEIGHTS_SUFFIX = ".mp4", ".npy", ".safetensors"
MANIFEST_NAME = "avatar.json"
"""The file that makes a folder an avatar."""
LONGEST_AVATAR_NAME = 240
"""Bytes: 255 on all usual file systems, less what the folders beside it have before and after its name."""
COMPARISON_NAME = "comparison.json"
"""The file that makes a folder a comparison of speech features."""


def work_folder(output: Path) -> Path:
    """Where a long job keeps what it can go on from."""
    return output.with_name(f".{output.name}.work")


def check_new_file(output: Path, overwrite: bool, inputs: Sequence[Path] = (), suffix: str = "") -> None:
    """Whether a file may be written.

    Args:
        overwrite: a file of that name may be replaced...
        inputs: ...but not one of these, nor one in a folder among them.
        suffix: that the name must end in, because other programs look for it; "" for any.

    Raises:
        OutputError: another ending, no such folder, no permission, a folder of that name, or one of the inputs.
        OutputExistsError: the file exists and is not to be replaced.
    """
    if suffix and output.suffix != suffix:
        raise OutputError(f"cannot write {output}: give a name that ends in {suffix}")
    for given in inputs:
        if given.resolve() in (output.resolve(), *output.resolve().parents):
            raise OutputError(
                f"cannot write {output}: it is, or lies in, the input {given}; choose another name with -o"
            )
    if output.is_dir():
        raise OutputError(f"cannot write {output}: it is a folder; give a file name")
    _refuse_existing(output, overwrite)
    check_writable(output)


def check_new_video(output: Path, overwrite: bool, inputs: Sequence[Path] = (), has_alpha: bool = False) -> None:
    """As `check_new_file`; the name must have the ending of a format that can be written, see `check_video_name`."""
    check_video_name(output, has_alpha)
    if output.suffix.lower() != PNG_SUFFIX:
        return check_new_file(output, overwrite, inputs)
    check_png_pattern(output)
    folder = output.resolve().parent
    for given in inputs:
        if folder in (given.resolve(), *given.resolve().parents):
            raise OutputError(f"cannot write {output}: {given} lies in that folder, which is replaced; name another")
    if sequence_exists(output) and not overwrite:
        raise OutputExistsError(f"{folder} exists: add --overwrite to replace it, or give another name with -o")
    check_writable(folder)


def check_video_name(output: Path, has_alpha: bool) -> None:
    """Whether a name has the ending of a format that holds transparency, or of MP4 if none is needed.

    Raises:
        OutputError: it has not.
    """
    suffix = output.suffix.lower()
    if has_alpha and suffix not in (*ALPHA_SUFFIXES, PNG_SUFFIX):
        raise OutputError(
            f"cannot write {output} with transparency: give a name that ends in {', '.join(ALPHA_SUFFIXES)}, or in "
            f"%06d{PNG_SUFFIX} for numbered pictures"
        )
    if not has_alpha and suffix != VIDEO_SUFFIX:
        raise OutputError(
            f"cannot write {output}: videos are written as MP4; give a name that ends in {VIDEO_SUFFIX}, or add "
            "--background alpha for transparency"
        )


def check_new_avatar(output: Path, overwrite: bool) -> None:
    """Whether an avatar folder may be written. Only a folder that is an avatar, or empty, can be replaced.

    Raises:
        OutputError: no such parent folder, no permission, a file, a folder that holds something else, or a name that is
            too long.
        OutputExistsError: the avatar exists and is not to be replaced.
    """
    if len(os.fsencode(output.name)) > LONGEST_AVATAR_NAME:
        raise OutputError(f"cannot write {output}: File name too long; give one of {LONGEST_AVATAR_NAME} bytes at most")
    if output.is_dir():
        if not any(output.iterdir()):
            return check_writable(output)
        if not (output / MANIFEST_NAME).exists():
            raise OutputError(f"cannot write {output}: the folder holds other files; choose another name with -o")
    elif output.exists():
        raise OutputError(
            f"cannot write {output}: it is a file, and an avatar is a folder; choose another name with -o"
        )
    _refuse_existing(output, overwrite)
    check_writable(output)


def check_comparison_folder(output: Path) -> None:
    """Whether a comparison may be written into a folder, or go on in it.

    Raises:
        OutputError: no such parent folder, no permission, a file, or a folder that holds something else.
    """
    if output.is_dir():
        if any(output.iterdir()) and not (output / COMPARISON_NAME).exists():
            raise OutputError(f"cannot write {output}: the folder holds other files; choose another name with -o")
        return check_writable(output / COMPARISON_NAME)
    if output.exists():
        raise OutputError(f"cannot write {output}: it is a file, and a comparison is a folder; name another with -o")
    check_writable(output)


def check_writable(output: Path) -> None:
    """Whether the folder of `output` takes files: one is made and removed, since permissions do not tell all.

    Raises:
        OutputError: it does not.
    """
    folder = output.resolve().parent
    if not folder.is_dir():
        raise OutputError(f"cannot write {output}: {folder} is not a folder; create it first")
    try:
        tempfile.TemporaryFile(dir=folder).close()  # has no name, where the system can do that
    except OSError as error:
        raise OutputError(
            f"cannot write {output}: no file can be made in {folder} ({error.strerror}); choose another place with -o"
        ) from error


def _refuse_existing(output: Path, overwrite: bool) -> None:
    if output.exists() and not overwrite:
        raise OutputExistsError(f"{output} exists: add --overwrite to replace it, or give another name with -o")
