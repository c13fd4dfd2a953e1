"""Job lists as text: CSV, JSON Lines and YAML to rows of named cells. What the cells mean is for `job_checks`.

Job lists may come from strangers: sizes are bounded, YAML is read as nodes (no tag is followed, nothing is built), and
every value is taken as the text that stands there, so that `off` and `010` mean the same in all three.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from talkinghead.errors import JobListError

MOST_BYTES, MOST_ROWS, LONGEST_CELL = 4_000_000, 10_000, 4_000
DELIMITERS = (",", ";", "\t")
YAML_NOTHING = ("~", "null", "Null", "NULL")


@dataclass(frozen=True)
class Row:
    """One job as it was written."""

    number: int
    """CSV: as a spreadsheet counts, the heading is row 1. JSON Lines and YAML: the line it begins in."""
    cells: dict[str, str]
    """By the columns' names; only those that are filled."""


@dataclass(frozen=True)
class Problem:
    """Something that the user has to mend, in a row or (None) in the whole list."""

    row: int | None
    text: str

    def __str__(self) -> str:
        return self.text if self.row is None else f"row {self.row}: {self.text}"


Entry = tuple[int, list[tuple[str, str]]]
"""A row's number, and its columns and cells in order."""


def is_job_list(path: Path) -> bool:
    """Whether a file's name says that it is a job list."""
    return path.suffix.lower() in _READERS


def read_rows(path: Path) -> tuple[list[Row], list[Problem]]:
    """The rows of a job list, and what is wrong with how they are written.

    Raises:
        JobListError: the file cannot be read as a job list at all.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise JobListError(f"{path} is no job list: give a file that ends in {', '.join(_READERS)}")
    problems: list[Problem] = []
    rows: list[Row] = []
    try:
        for number, pairs in reader(_text(path), problems):
            if len(rows) == MOST_ROWS:
                raise JobListError(f"{path} has more than {MOST_ROWS} jobs: split it")
            rows.append(Row(number, _cells(number, pairs, problems)))
    except (csv.Error, yaml.YAMLError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise JobListError(f"{path} cannot be read ({reason}): correct it, or export it again") from error
    if not rows and not problems:
        raise JobListError(f"{path} lists no job: write one row for each video to make")
    return rows, problems


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise JobListError(f"{path} cannot be read ({error.strerror}): check the name and its permissions") from error
    if len(content) > MOST_BYTES:
        raise JobListError(f"{path} is larger than {MOST_BYTES // 1_000_000} MB: split it")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise JobListError(f"{path} is not in UTF-8 (byte {error.start}): save it as UTF-8") from error


def _csv(text: str, problems: list[Problem]) -> Iterator[Entry]:
    heading_line = text.lstrip().partition("\n")[0]
    delimiter = max(DELIMITERS, key=heading_line.count)
    heading: list[str] | None = None
    for number, cells in enumerate(csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter), 1):
        if not any(cell.strip() for cell in cells):
            continue
        if heading is None:
            heading = cells
        elif len(cells) > len(heading):
            problems.append(
                Problem(number, f"has {len(cells)} cells under {len(heading)} columns: put cells with a "
                        f"{delimiter!r} in them in double quotes")
            )  # fmt: skip
        else:
            yield number, list(zip(heading, cells, strict=False))


def _json_lines(text: str, problems: list[Problem]) -> Iterator[Entry]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:  # numbers stay the text they are
            pairs = json.loads(line, object_pairs_hook=_Pairs, parse_int=str, parse_float=str, parse_constant=str)
        except (ValueError, RecursionError) as error:
            problems.append(Problem(number, f"is no JSON ({error}): write one object on each line"))
            continue
        if not isinstance(pairs, _Pairs):
            problems.append(Problem(number, 'is no JSON object: write one like {"video": ..., "audio": ...}'))
            continue
        plain = [(name, _plain(value)) for name, value in pairs]
        if any(value is None for _, value in plain):
            problems.append(Problem(number, "holds a list or an object: write a text or a number for each column"))
            continue
        yield number, plain


class _Pairs(list):
    """A JSON object, with what stands in it twice."""


def _plain(value: object) -> str | None:
    """A JSON value as the text it stands for; None if it is more than one."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else value if isinstance(value, str) else None


def _yaml(text: str, problems: list[Problem]) -> Iterator[Entry]:
    root = yaml.compose(text, Loader=yaml.BaseLoader)
    if root is None:
        return
    if not isinstance(root, yaml.SequenceNode):
        raise ValueError("expected a list of jobs, each beginning with '- '")
    for entry in root.value:
        number = entry.start_mark.line + 1
        pairs = entry.value if isinstance(entry, yaml.MappingNode) else None
        if pairs is None or not all(isinstance(node, yaml.ScalarNode) for pair in pairs for node in pair):
            problems.append(Problem(number, "is no job: write 'column: value' for each column, all of them texts"))
            continue
        yield number, [(name.value, "" if _is_nothing(cell) else cell.value) for name, cell in pairs]


def _is_nothing(node: yaml.ScalarNode) -> bool:
    return node.style is None and node.value in YAML_NOTHING


def _cells(number: int, pairs: Iterable[tuple[str, str]], problems: list[Problem]) -> dict[str, str]:
    """The filled cells by their columns' names, which are written as options or with spaces too."""
    cells: dict[str, str] = {}
    for column, text in pairs:
        name, cell = column.strip().lower().replace("-", "_").replace(" ", "_"), text.strip()
        if flaw := _flaw(cell):
            problems.append(Problem(number, f"{name!r} {flaw}"))
        elif cell and name in cells:
            problems.append(Problem(number, f"has {name!r} twice: keep one of them"))
        elif cell:
            cells[name] = cell
    return cells


def _flaw(cell: str) -> str | None:
    """What makes a text that no file and no option can have."""
    if len(cell) > LONGEST_CELL:
        return f"has {len(cell)} characters: {LONGEST_CELL} at most"
    if "\0" in cell or any("\ud800" <= character <= "\udfff" for character in cell):
        return "holds a character that no file name can have: remove it"
    return None


_READERS: dict[str, Callable[[str, list[Problem]], Iterator[Entry]]] = {
    ".csv": _csv,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".yaml": _yaml,
    ".yml": _yaml,
}
