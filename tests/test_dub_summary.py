"""What is said of all jobs in the end: a table, a total, and a file with a line of JSON for each."""

from __future__ import annotations

import json
from pathlib import Path

from dub_fakes import FakeJob

from talkinghead.config import DubOptions
from talkinghead.dubbing.job import JobResult
from talkinghead.dubbing.summary import summary_table, total, write_report
from talkinghead.dubbing.task import Outcome


def jobs(folder: Path) -> list[FakeJob]:
    names = ("a.mp4", "de/Zoë “x”.mp4", "new\nline.mp4", "d.mp4")
    return [
        FakeJob(row=row, video=folder / "v", audio=folder / "s.wav", output=folder / name, options=DubOptions())
        for row, name in enumerate(names, 2)
    ]


OUTCOMES = {
    2: Outcome("done", JobResult(250, ("a note",), Path("/people/a.avatar")), 12.34),
    3: Outcome("failed", None, 1.0, "no face found:\ngive another clip"),
    4: Outcome("already done", JobResult(25), 3.0),
}


def test_a_table_of_one_line_each(tmp_path: Path) -> None:
    assert summary_table(tmp_path, jobs(tmp_path), OUTCOMES) == [
        ("row", "status", "frames", "s", "output"),
        ("2", "done", "250", "12.3", "a.mp4"),
        ("3", "failed", "-", "1.0", "de/Zoë “x”.mp4: no face found: give another clip"),
        ("4", "already done", "25", "3.0", "new\\nline.mp4"),
        ("5", "not done", "-", "0.0", "d.mp4"),
    ]
    assert total(jobs(tmp_path), OUTCOMES) == "4 jobs: 1 already done, 1 done, 1 failed, 1 not done"


def test_a_line_of_json_each(tmp_path: Path) -> None:
    path = write_report(tmp_path, jobs(tmp_path), OUTCOMES)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert path == tmp_path / "report.jsonl" and [line["row"] for line in lines] == [2, 3, 4, 5]
    assert lines[0] == {
        "row": 2,
        "status": "done",
        "video": str(tmp_path / "v"),
        "audio": str(tmp_path / "s.wav"),
        "output": str(tmp_path / "a.mp4"),
        "seconds": 12.3,
        "frames": 250,
        "notes": ["a note"],
        "avatar": "/people/a.avatar",
        "error": None,
    }
    assert lines[1]["error"] == "no face found:\ngive another clip" and lines[2]["output"].endswith("new\nline.mp4")
