"""Answers to a study, and their mean opinion scores with confidence intervals."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from talkinghead.errors import StudyError
from talkinghead.study import QUESTIONS, StudyKey

CONFIDENCE = 0.95
LOWEST, HIGHEST = 1, 5
_COLUMNS = ("study", "participant", "clip", *(question.key for question in QUESTIONS))
_REMEDY = "ask for the file as the page saved it"


@dataclass(frozen=True)
class Answers:
    """What one participant answered."""

    participant: str
    marks: dict[str, tuple[int, ...]]
    """By the clip's name: a mark for each of `QUESTIONS`."""


@dataclass(frozen=True)
class OpinionScore:
    """A mean opinion score, 1 to 5."""

    mean: float
    half_width: float
    """The 95 % confidence interval reaches as far to either side; NaN for a single participant."""

    def __str__(self) -> str:
        return f"{self.mean:.2f}" if math.isnan(self.half_width) else f"{self.mean:.2f} ± {self.half_width:.2f}"


def read_answers(paths: Sequence[Path], key: StudyKey) -> list[Answers]:
    """Reads the participants' files; of a folder, every .csv in it.

    Raises:
        StudyError: a file is no table of answers, is of another study, lacks videos or has one twice, or holds a mark
            that is none; or a participant comes twice.
    """
    files = [file for path in paths for file in (sorted(path.glob("*.csv")) if path.is_dir() else [path])]
    if not files:
        raise StudyError(f"no answers in {', '.join(map(str, paths))}: give the participants' CSV files")
    read: dict[str, Path] = {}
    answers = []
    for file in files:
        one = _read_file(file, key)
        name = one.participant.casefold()
        if name in read:
            raise StudyError(f"{read[name]} and {file} are both of participant {one.participant}: leave one out")
        read[name] = file
        answers.append(one)
    return answers


def opinion_scores(answers: Sequence[Answers], key: StudyKey) -> dict[str, tuple[OpinionScore, ...]]:
    """For each method the score of each question.

    A participant's marks are not independent of each other, so that each participant counts once, with the mean of the
    marks given to a method's videos; the interval is Student's t over participants.
    """
    scores = {}
    for method in key.methods:
        names = [clip.name for clip in key.clips if clip.method == method]
        means = np.array([[one.marks[name] for name in names] for one in answers], float).mean(axis=1)
        scores[method] = tuple(_score(column) for column in means.T)
    return scores


def _score(means: np.ndarray) -> OpinionScore:
    """Of [N] participants' means."""
    count = len(means)
    if count < 2:
        return OpinionScore(float(means.mean()), math.nan)
    reach = stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)
    return OpinionScore(float(means.mean()), float(reach * means.std(ddof=1) / math.sqrt(count)))


def _read_file(path: Path, key: StudyKey) -> Answers:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            missing = [column for column in _COLUMNS if column not in (table.fieldnames or ())]
            rows = list(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise StudyError(f"{path} cannot be read as a table ({error}): {_REMEDY}") from error
    if missing:
        raise StudyError(f"{path} lacks the columns {', '.join(missing)}: {_REMEDY}")
    expected = {clip.name for clip in key.clips}
    marks: dict[str, tuple[int, ...]] = {}
    for line, row in enumerate(rows, start=2):
        if row["study"] != key.study:
            raise StudyError(f"{path}, line {line}: answers to another study; give that study's --key")
        if row["clip"] not in expected or row["clip"] in marks:
            reason = "comes twice" if row["clip"] in marks else "is not of this study"
            raise StudyError(f"{path}, line {line}: video {row['clip']} {reason}: {_REMEDY}")
        marks[row["clip"]] = tuple(_mark(row[question.key], f"{path}, line {line}") for question in QUESTIONS)
    if len(marks) < len(expected):
        raise StudyError(f"{path} rates {len(marks)} of {len(expected)} videos: {_REMEDY}")
    return Answers(_only(path, ((row["participant"] or "").strip() for row in rows)), marks)


def _mark(text: str | None, where: str) -> int:
    if text is None or text.strip() not in map(str, range(LOWEST, HIGHEST + 1)):
        raise StudyError(f"{where}: a mark is {text!r}, expected a whole number from {LOWEST} to {HIGHEST}: {_REMEDY}")
    return int(text)


def _only(path: Path, names: Iterable[str]) -> str:
    different = set(names)
    if len(different) != 1 or "" in different:
        raise StudyError(f"{path} names {len(different - {''})} participants, expected one: {_REMEDY}")
    return different.pop()
