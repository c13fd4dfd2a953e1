"""Cells of a job list as options: every bad value of a row is found, not only the first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from talkinghead.config import FIT_OPTIONS, DubOptions
from talkinghead.dubbing.job import DEVICE
from tools.errors import UserError

_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
WORDS_OR_FILES = ("background", "pose", "speech")
_HINTS = get_type_hints(DubOptions)
OF_THE_COMMAND = (DEVICE, "certificate", "key", "mark")
"""Options that belong to the machine and to whoever answers for the videos: no job list, which may come from a
stranger, decides where work is done, who signs, and what goes unmarked."""
OPTION_COLUMNS = tuple(name for name in _HINTS if name not in OF_THE_COMMAND)
"""Options that a job list may set."""


def options_of(cells: Mapping[str, str], defaults: DubOptions, folder: Path) -> tuple[DubOptions, list[str]]:
    """The options of a row, and what is wrong with them.

    Args:
        cells: with the names of options; those that are missing are as in `defaults`.
        folder: that names of files are relative to.
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    for name, cell in cells.items():
        try:
            values[name] = _value(_HINTS[name], cell)
        except ValueError as error:
            problems.append(f"{name} takes {error}, got {cell!r}")
    while True:
        try:
            return with_absolute_files(replace(defaults, **values), folder), problems
        except UserError as error:
            problems.append(str(error))
            del values[_culprit(values, defaults, str(error))]


def with_absolute_files(options: DubOptions, folder: Path) -> DubOptions:
    """The same options, so that they name the same files in any folder."""
    changed: dict[str, str | Path] = {}
    for name, value in asdict(options).items():
        if isinstance(value, Path):
            changed[name] = folder.absolute() / value
        elif name in WORDS_OR_FILES and (folder / value).is_file():
            changed[name] = str(folder.absolute() / value)
    return replace(options, **changed)


def fit_options_among(cells: Mapping[str, str]) -> list[str]:
    """The columns that say how a person is learned."""
    return [name for name in FIT_OPTIONS if name in cells]


def _culprit(values: Mapping[str, Any], defaults: DubOptions, complaint: str) -> str:
    """The value without which the options have another problem, or none."""
    for name in values:
        others = {other: value for other, value in values.items() if other != name}
        try:
            replace(defaults, **others)
        except UserError as error:
            if str(error) == complaint:
                continue
        return name
    raise AssertionError(f"the defaults were checked before: {complaint}")


def _value(kind: Any, cell: str) -> Any:
    """
    Raises:
        ValueError: another kind of value; the message says what is expected.
    """
    choices = get_args(kind)
    if get_origin(kind) is Literal:
        if cell not in choices:
            raise ValueError(", ".join(choices))
        return cell
    if choices:  # X | None; an empty cell is none
        return _value(next(choice for choice in choices if choice is not type(None)), cell)
    if kind is bool:
        if cell.lower() not in _TRUTHS:
            raise ValueError("true or false")
        return _TRUTHS[cell.lower()]
    try:
        return kind(cell)
    except ValueError as error:
        raise ValueError({int: "a whole number", float: "a number such as 0.8"}[kind]) from error
