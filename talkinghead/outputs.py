"""Whether results can be written where the user wants them: asked before long work and before weights are loaded."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

from talkinghead.errors import OutputExistsError
from tools.errors import OutputError

VIDEO_SUFFIX, ARRAY_SUFFIX, WEIGHTS_SUFFIX = ".mp4", ".npy", ".safetensors"
MANIFEST_NAME = "avatar.json"
"""The file that makes a folder an avatar."""


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


def check_new_video(output: Path, overwrite: bool, inputs: Sequence[Path] = ()) -> None:
    """As `check_new_file`; the name must have the ending of the format that is written."""
    if output.suffix.lower() != VIDEO_SUFFIX:
        raise OutputError(f"cannot write {output}: videos are written as MP4; give a name that ends in {VIDEO_SUFFIX}")
    check_new_file(output, overwrite, inputs)


def check_new_avatar(output: Path, overwrite: bool) -> None:
    """Whether an avatar folder may be written. Only a folder that is an avatar, or empty, can be replaced.

    Raises:
        OutputError: no such parent folder, no permission, a file, or a folder that holds something else.
        OutputExistsError: the avatar exists and is not to be replaced.
    """
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


def check_writable(output: Path) -> None:
    """Whether the folder of `output` takes files: one is made and removed, since permissions do not tell all.

    Raises:
        OutputError: it does not.
    """
    folder = output.resolve().parent
    if not folder.is_dir():
        raise OutputError(f"cannot write {output}: {folder} is not a folder; create it first")
    trial = folder / f".unfinished-{secrets.token_hex(6)}"
    try:
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise OutputError(
            f"cannot write {output}: no file can be made in {folder} ({error.strerror}); choose another place with -o"
        ) from error


def _refuse_existing(output: Path, overwrite: bool) -> None:
    if output.exists() and not overwrite:
        raise OutputExistsError(f"{output} exists: add --overwrite to replace it, or give another name with -o")
