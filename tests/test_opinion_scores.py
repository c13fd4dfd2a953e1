"""Participants' answers: everything that a file can have wrong with it, and scores by hand."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from talkinghead.cli import main
from talkinghead.errors import StudyError
from talkinghead.opinion_scores import Answers, OpinionScore, opinion_scores, read_answers
from talkinghead.study import StudyClip, StudyKey

KEY = StudyKey(
    "cafe",
    ("ours", "theirs"),
    (
        StudyClip("1.mp4", "ours", "a.mp4"),
        StudyClip("2.mp4", "theirs", "a.mp4"),
        StudyClip("3.mp4", "theirs", "b.mp4"),
        StudyClip("4.mp4", "ours", "b.mp4"),
    ),
)
HEAD = "study,participant,position,clip,lip_sync,image_quality,realness"
MARKS = {"1.mp4": (5, 4, 3), "2.mp4": (1, 2, 3), "3.mp4": (2, 2, 2), "4.mp4": (4, 4, 4)}


def lines(participant: str = "Ann", marks: Mapping[str, Sequence[object]] = MARKS) -> list[str]:
    rated = [f"{place},{clip},{','.join(map(str, row))}" for place, (clip, row) in enumerate(marks.items(), 1)]
    return [HEAD, *(f"cafe,{participant},{row}" for row in rated)]


def saved(folder: Path, name: str, content: Sequence[str], encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_text("\r\n".join(content) + "\r\n", encoding=encoding, newline="")
    return path


def test_answers_are_read(tmp_path: Path) -> None:
    saved(tmp_path, "ann.csv", lines())
    saved(tmp_path, "bob.csv", lines('" Bob ""B"", C"'), "utf-8-sig")  # a table calculation saved it again
    (tmp_path / "notes.txt").touch()
    expected = [Answers("Ann", MARKS), Answers('Bob "B", C', MARKS)]
    assert read_answers([tmp_path], KEY) == expected
    assert read_answers([tmp_path / "ann.csv", tmp_path / "bob.csv"], KEY) == expected


def test_columns_may_stand_in_any_order(tmp_path: Path) -> None:
    turned = [",".join(reversed(line.split(","))) for line in lines()]
    assert read_answers([saved(tmp_path, "ann.csv", turned)], KEY) == [Answers("Ann", MARKS)]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ([""], "lacks the columns study, participant, clip, lip_sync, image_quality, realness"),
        ([line.rpartition(",")[0] for line in lines()], "lacks the columns realness: ask for the file"),
        ([line.replace(",", ";") for line in lines()], "lacks the columns study"),
        (lines(marks=MARKS | {"2.mp4": (0, 2, 3)}), r"line 3: a mark is '0', expected a whole number from 1 to 5"),
        (lines(marks=MARKS | {"2.mp4": (1, 6, 3)}), "line 3: a mark is '6'"),
        (lines(marks=MARKS | {"4.mp4": (1, 2, 2.5)}), r"line 5: a mark is '2\.5'"),
        (lines(marks=MARKS | {"4.mp4": (1, "", 2)}), "line 5: a mark is ''"),
        (lines(marks=MARKS | {"4.mp4": (1, 2)}), "line 5: a mark is None"),
        (lines(marks=MARKS | {"5.mp4": (1, 2, 3)}), r"line 6: video 5\.mp4 is not of this study"),
        ([*lines(), lines()[1]], r"line 6: video 1\.mp4 comes twice"),
        (lines()[:-1], "rates 3 of 4 videos"),
        ([HEAD], "rates 0 of 4 videos"),
        ([line.replace("cafe", "beef") for line in lines()], "line 2: answers to another study; give that"),
        ([*lines()[:-1], lines("Bob")[-1]], "names 2 participants, expected one"),
        (lines(" "), "names 0 participants"),
    ],
)
def test_files_that_are_no_answers(content: list[str], complaint: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=rf"ann\.csv.*{complaint}"):
        read_answers([saved(tmp_path, "ann.csv", content)], KEY)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"none\.csv cannot be read"):
        read_answers([tmp_path / "none.csv"], KEY)
    (tmp_path / "picture.csv").write_bytes(b"\x89PNG\xff")
    with pytest.raises(StudyError, match=r"picture\.csv cannot be read"):
        read_answers([tmp_path / "picture.csv"], KEY)
    (tmp_path / "empty").mkdir()
    with pytest.raises(StudyError, match=r"no answers in .*empty"):
        read_answers([tmp_path / "empty"], KEY)


def test_a_participant_counts_once(tmp_path: Path) -> None:
    saved(tmp_path, "1.csv", lines("Ann"))
    saved(tmp_path, "2.csv", lines("ann "))
    with pytest.raises(StudyError, match=r"1\.csv and .*2\.csv are both of participant ann: leave one out"):
        read_answers([tmp_path], KEY)


def test_scores_by_hand() -> None:
    # Means of ours, first question: (5 + 4) / 2 = 4.5, (3 + 4) / 2 = 3.5, (2 + 3) / 2 = 2.5: mean 3.5, deviation 1.
    marks = [(5, 4), (3, 4), (2, 3)]
    answers = [
        Answers(str(k), {"1.mp4": (a, 3, 1), "4.mp4": (b, 3, 1), "2.mp4": (2, 2, 2), "3.mp4": (2, 2, k + 2)})
        for k, (a, b) in enumerate(marks)
    ]
    scores = opinion_scores(answers, KEY)
    assert list(scores) == ["ours", "theirs"]
    assert scores["ours"][0].mean == 3.5
    assert scores["ours"][0].half_width == pytest.approx(4.302653 / math.sqrt(3), abs=1e-6)  # t of 2 degrees, a table's
    assert scores["ours"][1:] == (OpinionScore(3, 0), OpinionScore(1, 0))
    assert [score.mean for score in scores["theirs"]] == [2, 2, 2.5]
    assert str(scores["ours"][0]) == "3.50 ± 2.48"


def test_intervals_are_those_of_scipy() -> None:
    random = np.random.default_rng(0)
    answers = [
        Answers(str(k), {clip.name: tuple(random.integers(1, 6, 3)) for clip in KEY.clips}) for k in range(12)
    ]
    for method, names in (("ours", ("1.mp4", "4.mp4")), ("theirs", ("2.mp4", "3.mp4"))):
        for question, score in enumerate(opinion_scores(answers, KEY)[method]):
            means = [np.mean([one.marks[name][question] for name in names]) for one in answers]
            expected = stats.ttest_1samp(means, 0).confidence_interval(0.95)
            assert (score.mean - score.half_width, score.mean + score.half_width) == pytest.approx(tuple(expected))


def test_one_participant_has_no_interval(tmp_path: Path) -> None:
    score = opinion_scores([Answers("Ann", MARKS)], KEY)["ours"][0]
    assert score.mean == 4.5 and math.isnan(score.half_width) and str(score) == "4.50"


def test_the_command_prints_the_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "key.json").write_text(json.dumps(asdict(KEY)))
    files = [saved(tmp_path, f"{name}.csv", lines(name)) for name in ("Ann", "Bob")]
    assert main(["study", "--answers", *map(str, files), "--key", str(tmp_path / "key.json")]) == 0
    shown = capsys.readouterr()
    head, ours, theirs = shown.out.splitlines()
    assert re.split(" {2,}", head.strip()) == ["Lip-sync accuracy", "Image quality", "Video realness"]
    assert ours.split() == ["ours", "4.50", "±", "0.00", "4.00", "±", "0.00", "3.50", "±", "0.00"]
    assert theirs.split() == ["theirs", "1.50", "±", "0.00", "2.00", "±", "0.00", "2.50", "±", "0.00"]
    assert "2 participants, 4 videos" in shown.err
