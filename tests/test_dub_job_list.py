"""Job lists as text: the same rows from every format, every flaw named, and no crash whatever comes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from talkinghead.dubbing import job_list
from talkinghead.dubbing.job_list import Problem, Row, is_job_list, read_rows
from talkinghead.errors import JobListError

ENTRIES = [
    {"video": "Zoë “x”.mp4", "audio": "a, b;c.wav", "blink": "off", "seed": "010"},
    {"video": "two\nlines.mp4", "audio": 'say "hi".wav', "mouth_gain": "0.50"},
]


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def as_csv(delimiter: str) -> str:
    columns = ["video", "audio", "blink", "seed", "mouth_gain"]
    quoted = [['"' + entry.get(column, "").replace('"', '""') + '"' for column in columns] for entry in ENTRIES]
    return "\r\n".join(delimiter.join(cells) for cells in [columns, *quoted]) + "\r\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("jobs.csv", as_csv(",")),
        ("jobs.CSV", "\ufeff" + as_csv(";")),
        ("jobs.csv", "\n" + as_csv("\t")),
        ("jobs.jsonl", "\n".join(map(json.dumps, ENTRIES))),
        ("jobs.ndjson", "\ufeff" + "\r\n\r\n".join(json.dumps(entry, ensure_ascii=False) for entry in ENTRIES)),
        ("jobs.yaml", yaml.dump(ENTRIES, allow_unicode=True)),
        ("jobs.yml", json.dumps(ENTRIES)),
    ],
)
def test_every_format_says_the_same(name: str, content: str, tmp_path: Path) -> None:
    path = written(tmp_path, name, content)
    rows, problems = read_rows(path)
    assert is_job_list(path) and not problems
    assert [row.cells for row in rows] == ENTRIES


def test_rows_are_counted_as_their_editors_do(tmp_path: Path) -> None:
    table = written(tmp_path, "a.csv", 'Video,Mouth-Gain\n"two\nlines",1\n\n,\nlast,\n')
    assert read_rows(table)[0] == [Row(2, {"video": "two\nlines", "mouth_gain": "1"}), Row(5, {"video": "last"})]
    lines = written(tmp_path, "a.jsonl", '{"video": "a"}\n\n{"video": "b", "crf": 07e1}\n{"video": "c", "crf": 1e2}\n')
    rows, problems = read_rows(lines)
    assert rows == [Row(1, {"video": "a"}), Row(4, {"video": "c", "crf": "1e2"})]
    assert [problem.row for problem in problems] == [3] and "is no JSON" in problems[0].text
    text = "# comment\n- video: a\n  blink: off\n  crf: ~\n  pose: '~'\n- {video: b}\n"
    assert read_rows(written(tmp_path, "a.yaml", text))[0] == [
        Row(2, {"video": "a", "blink": "off", "pose": "~"}),
        Row(6, {"video": "b"}),
    ]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", "video,audio\na,b,c\n", Problem(2, "has 3 cells under 2 columns: put cells with a ',' in them in")),
        ("a.csv", "video,video\na,b\n", Problem(2, "has 'video' twice: keep one")),
        ("a.csv", "video\n" + "x" * 5000 + "\n", Problem(2, "'video' has 5000 characters: 4000 at most")),
        ("a.csv", "video\na\0b\n", Problem(2, "'video' holds a character that no file name can have")),
        ("a.jsonl", '{"video": "\\ud800"}', Problem(1, "'video' holds a character that no file name can have")),
        ("a.jsonl", '{"video": ["a"]}', Problem(1, "holds a list or an object")),
        ("a.jsonl", '{"video": {"a": "b"}}', Problem(1, "holds a list or an object")),
        ("a.jsonl", '["video"]', Problem(1, "is no JSON object")),
        ("a.jsonl", '{"video": "a", "video": "b"}', Problem(1, "has 'video' twice")),
        ("a.jsonl", "[" * 100_000, Problem(1, "is no JSON")),
        ("a.yaml", "- a\n", Problem(1, "is no job: write 'column: value'")),
        ("a.yaml", "- video: [a]\n", Problem(1, "is no job")),
        ("a.yaml", "- &a\n  video: *a\n", Problem(1, "is no job")),
        ("a.yaml", "- video: a\n  video: b\n", Problem(1, "has 'video' twice")),
    ],
)
def test_flaws_of_a_row(name: str, content: str, expected: Problem, tmp_path: Path) -> None:
    _, (problem,) = read_rows(written(tmp_path, name, content))
    assert problem.row == expected.row and problem.text.startswith(expected.text)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "video\n\xe4.mp4\n".encode("latin-1"), "is not in UTF-8 .* save it as UTF-8"),
        ("a.csv", "video\n".encode("utf-16"), "is not in UTF-8"),
        ("a.csv", "", "lists no job"),
        ("a.csv", "video,audio\n", "lists no job"),
        ("a.csv", 'video\n"a\n', "cannot be read .*unexpected end of data.*: correct it"),
        ("a.csv", "video\n" + "x" * 200_000, "cannot be read .*field limit"),
        ("a.yaml", "", "lists no job"),
        ("a.yaml", "video: a\n", "expected a list of jobs"),
        ("a.yaml", "- video: 'a\n", "cannot be read"),
        ("a.yaml", "- [" * 5000, "cannot be read"),
        ("a.yaml", "- a: b\n---\n- a: b\n", "cannot be read .*single document"),
        ("a.txt", "video\n", "is no job list: give a file that ends in .csv"),
        ("none/a.csv", None, "cannot be read .*No such file"),
    ],
)
def test_what_is_no_job_list(name: str, content: str | bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / name if content is None else written(tmp_path, name, content)
    with pytest.raises(JobListError, match=message):
        read_rows(path)


def test_nothing_in_yaml_is_built(tmp_path: Path) -> None:
    """Tags that other readers follow are read as the text behind them; aliases do not multiply."""
    tagged = "- video: !!python/object/apply:os.system ['touch owned']\n- !!python/name:os.system {video: x}\n"
    rows, problems = read_rows(written(tmp_path, "a.yaml", tagged))
    assert [row.cells for row in rows] == [{"video": "x"}] and len(problems) == 1
    doubled = ["a0: &a0 x"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60)]
    with pytest.raises(JobListError, match="expected a list"):
        read_rows(written(tmp_path, "b.yaml", "\n".join(doubled)))


def test_sizes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_list, "MOST_ROWS", 3)
    with pytest.raises(JobListError, match="has more than 3 jobs: split it"):
        read_rows(written(tmp_path, "a.csv", "video\n" + "a\n" * 4))
    monkeypatch.setattr(job_list, "MOST_BYTES", 50)
    with pytest.raises(JobListError, match=r"is larger than .* MB: split it"):
        read_rows(written(tmp_path, "a.csv", "video\n" + "a\n" * 23))


@settings(max_examples=300, deadline=None)
@given(
    suffix=st.sampled_from(["csv", "jsonl", "yaml"]),
    content=st.one_of(
        st.binary(max_size=200),
        st.text(max_size=100).map(str.encode),
        st.text("video:,;\"'[]{}&*!|>%@`#-\n \\0a", max_size=100).map(str.encode),
    ),
)
def test_whatever_comes_is_rows_or_a_clear_error(
    suffix: str, content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = written(tmp_path_factory.getbasetemp(), f"fuzz.{suffix}", content)
    try:
        rows, problems = read_rows(path)
    except JobListError as error:
        assert str(error)
    else:
        assert rows or problems
        assert all(isinstance(cell, str) and cell for row in rows for cell in row.cells.values())
