"""Rows to jobs, with everything that is wrong with any of them found before any work.

Inputs may lie anywhere, relative to the job list: they are only read. Outputs lie in the output folder, whatever the
job list says: no absolute path, no `..`, no link out of it.
"""

from __future__ import annotations

import difflib
import os
import unicodedata
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

import numpy as np

from encoders.contrastive.encoder_file import load_encoder
from encoders.errors import EncoderWeightsError
from talkinghead.backgrounds import background_picture
from talkinghead.config import SOURCE, TRAINED_SPEECH_SUFFIX, DubOptions
from talkinghead.dubbing.cell_values import OPTION_COLUMNS, fit_options_among, options_of
from talkinghead.dubbing.job import Job
from talkinghead.dubbing.job_kinds import KINDS
from talkinghead.dubbing.job_list import Problem, Row, read_rows
from talkinghead.dubbing.ledger import LEDGER_NAME, Ledger
from talkinghead.errors import JobListError
from talkinghead.outputs import check_writable
from talkinghead.pose_file import read_poses
from talkinghead.progress import Progress
from tools.errors import UserError
from tools.png_sequence import PNG_SUFFIX

PERSON_COLUMNS = ("video", "avatar")
OUTPUT = "output"
INPUT_COLUMNS = tuple(dict.fromkeys(column for kind in KINDS for column in kind.COLUMNS))
COLUMNS = (*PERSON_COLUMNS, *INPUT_COLUMNS, OUTPUT, *OPTION_COLUMNS)
LONGEST_NAME, LONGEST_STEM = 255, 100
"""Bytes of a file's name on all usual file systems, and of each part of a name that is made here."""


@dataclass(frozen=True)
class JobFolder:
    """Where the outputs of a job list go, and what holds for all of its jobs."""

    path: Path
    avatars: Path
    options: DubOptions
    """Of rows that say nothing else."""
    overwrite: bool
    """Files that were not made by jobs of this folder may be replaced."""


def check_jobs(job_list: Path, folder: JobFolder) -> Generator[Progress, None, tuple[Job, ...]]:
    """Reads and checks a job list; nothing is written.

    Raises:
        JobListError: it cannot be read, or something is wrong with it; all of that is in `problems`.
        OutputError: the output folder cannot be written.
    """
    _check_folder(folder.path)
    rows, problems = read_rows(job_list)
    problems += _unknown_columns(rows)
    jobs: list[Job] = []
    for done, row in enumerate(rows, 1):
        told: list[str] = []
        try:
            job = _job(row, job_list.absolute().parent, folder, told)
            if job is not None:
                jobs.append(job)
                told += _unusable_options(job.options)
                told += job.problems()
        except (OSError, ValueError) as error:  # a name that no file can have
            told.append(f"{error}: correct the name")
        problems += [Problem(row.number, text) for text in told]
        yield Progress("checking jobs", done, len(rows))
    problems += _conflicts(jobs, job_list, folder)
    if problems:
        ordered = sorted(dict.fromkeys(problems), key=lambda problem: problem.row or 0)
        count = f"{len(ordered)} problem{'s' if len(ordered) > 1 else ''}"
        raise JobListError(f"{job_list} has {count} (above); nothing was done", list(map(str, ordered)))
    return tuple(jobs)


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"cannot write into {folder}: it is a file; give a folder with --out")
    check_writable(folder / LEDGER_NAME if folder.is_dir() else folder)


def _unknown_columns(rows: list[Row]) -> Iterator[Problem]:
    first_rows: dict[str, int] = {}
    for row in rows:
        for column in row.cells:
            first_rows.setdefault(column, row.number)
    for column, number in first_rows.items():
        if column not in COLUMNS:
            similar = difflib.get_close_matches(column, COLUMNS, 1)
            remedy = f"did you mean {similar[0]!r}?" if similar else f"there are {', '.join(COLUMNS)}"
            yield Problem(number, f"has an unknown column {column!r}: {remedy}")


def _job(row: Row, base: Path, folder: JobFolder, problems: list[str]) -> Job | None:
    """The job of a row, if its cells make one; appends what is wrong with them.

    Raises:
        OSError, ValueError: a name that no file can have.
    """
    person = [row.cells[column] for column in PERSON_COLUMNS if column in row.cells]
    if len(person) != 1:
        problems.append(f"names {len(person)} people: fill one of {' and '.join(PERSON_COLUMNS)}")
    kind = _kind(row.cells, problems)
    cells = {name: row.cells[name] for name in OPTION_COLUMNS if name in row.cells}
    options, wrong = options_of(cells, folder.options, base)
    problems += wrong
    if kind is None or len(person) != 1:
        return None
    video = base / person[0]
    if video.is_dir() and (columns := fit_options_among(cells)):
        problems.append(f"{video} is an avatar, so nothing is fitted: leave {', '.join(columns)} empty")
    if "avatar" in row.cells and video.is_file():
        problems.append(f"{video} is a file, and an avatar is a folder: name it under 'video'")
    inputs = {column: base / row.cells[column] for column in kind.COLUMNS}
    name = row.cells.get(OUTPUT) or _default_name(video, *inputs.values()) + kind.suffix(video, options)
    try:
        output = _output(name, folder)
        kind.check_name(output, options)
    except UserError as error:
        problems.append(str(error))
        output = folder.path / f"row {row.number}"  # the rest of the row is still looked at
    problems += _output_problems(output, folder)
    return kind(row=row.number, video=video, output=output, options=options, **inputs)


def _kind(cells: Mapping[str, str], problems: list[str]) -> type[Job] | None:
    """The kind of job whose columns are filled."""
    filled = {column for column in INPUT_COLUMNS if column in cells}
    for kind in KINDS:
        if set(kind.COLUMNS) == filled:
            return kind
    expected = ", or ".join(" and ".join(kind.COLUMNS) for kind in KINDS)
    problems.append(f"says {' and '.join(sorted(filled)) or 'nothing'} to be heard: fill {expected}")
    return None


def _default_name(*paths: Path) -> str:
    """Without an ending."""
    return ".".join(path.stem.encode()[:LONGEST_STEM].decode(errors="ignore") for path in paths)


def _output(name: str, folder: JobFolder) -> Path:
    """
    Raises:
        UserError: a name that may not be written, or not here.
        OSError, ValueError: a name that no file can have.
    """
    relative = Path(name)
    if relative.is_absolute() or PureWindowsPath(name).drive or ".." in relative.parts:
        raise UserError(f"{OUTPUT} {name!r} leads out of {folder.path}: give a name or a path inside it")
    if relative.suffix.lower() == PNG_SUFFIX:
        raise UserError(f"{OUTPUT} {name!r} has no sound: name a video, or use 'talkinghead speak' for pictures")
    if len(os.fsencode(relative.name)) > LONGEST_NAME:
        raise UserError(f"{OUTPUT} {name!r} is longer than {LONGEST_NAME} bytes: shorten it")
    output = folder.path / relative
    if not output.resolve().is_relative_to(folder.path.resolve()):
        raise UserError(f"{OUTPUT} {name!r} leads out of {folder.path} by a link: give another name")
    for ours in (folder.path / LEDGER_NAME, folder.avatars):
        if output.resolve().is_relative_to(ours.resolve()):
            raise UserError(f"{OUTPUT} {name!r} lies in {ours}, which is not for videos: give another name")
    return output


def _output_problems(output: Path, folder: JobFolder) -> Iterator[str]:
    """Why an output cannot be written where it shall go."""
    if output.is_dir():
        yield f"{output} is a folder: give another {OUTPUT}"
    elif output.exists() and not folder.overwrite and not Ledger(folder.path).knows(output):
        yield f"{output} exists, and no job made it: add --overwrite to replace it, or name another {OUTPUT}"
    existing = next(parent for parent in output.parents if parent.exists() or parent == folder.path)
    if existing.exists():
        try:
            check_writable(existing / output.name)
        except UserError as error:
            yield str(error)


def _unusable_options(options: DubOptions) -> Iterator[str]:
    """What is wrong with options that only a look at files and at the machine can tell."""
    try:
        if options.background != SOURCE:
            background_picture(options.background, np.zeros((2, 2, 3), np.uint8), 2)
        if options.pose not in (SOURCE, "still", "idle"):
            read_poses(Path(options.pose))
        if options.speech.endswith(TRAINED_SPEECH_SUFFIX):
            load_encoder(Path(options.speech))
    except (UserError, EncoderWeightsError) as error:
        yield str(error)


def _conflicts(jobs: list[Job], job_list: Path, folder: JobFolder) -> Iterator[Problem]:
    """Outputs of one name, in one another, and over what is read."""
    outputs: dict[str, Job] = {}
    inputs = {path.resolve(): f"row {job.row} reads" for job in reversed(jobs) for path in job.inputs}
    inputs[job_list.resolve()] = "is this list"
    for job in jobs:
        name = job.output.relative_to(folder.path).as_posix()
        same = outputs.setdefault(_folded(job.output), job)
        if same is not job:
            yield Problem(job.row, f"writes {name}, and so does row {same.row}: give them different outputs")
        resolved = job.output.resolve()
        for path in (resolved, *resolved.parents):
            if path in inputs:
                yield Problem(job.row, f"writes {name}, which is, or lies in, what {inputs[path]}: name another output")
    for job in jobs:
        above = next((outputs[_folded(path)] for path in job.output.parents if _folded(path) in outputs), None)
        if above is not None:
            yield Problem(
                job.row, f"writes into {above.output.name}, which row {above.row} writes as a file: rename it"
            )


def _folded(path: Path) -> str:
    """Equal for names that some file systems do not tell apart."""
    return unicodedata.normalize("NFC", str(path)).casefold()
