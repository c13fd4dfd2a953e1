"""The avatar's log: whole lines whatever happens beside it, and nothing outside of the avatar is written."""

from __future__ import annotations

import json
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pytest
from tiny_avatar import save_tiny_avatar, tiny_avatar

from talkinghead.avatar import load_avatar, save_avatar
from talkinghead.avatar_log import LOG_NAME, LogEntry, append_to_log

ENTRY = LogEntry("2026-01-02T03:04:05+00:00", ("0" * 64,), "“out” ü.mp4", marked=True)


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / LOG_NAME).read_text(encoding="utf-8").splitlines()]


def append_many(folder: Path, name: str) -> None:
    for number in range(500):
        append_to_log(folder, replace(ENTRY, output=f"{name} {number}"))


def test_lines_are_appended(tmp_path: Path) -> None:
    append_to_log(tmp_path, None)
    assert lines(tmp_path) == []
    append_to_log(tmp_path, ENTRY)
    append_to_log(tmp_path, replace(ENTRY, marked=False))
    expected = json.loads(json.dumps(asdict(ENTRY)))
    assert lines(tmp_path) == [expected, expected | {"marked": False}]


def test_processes_do_not_break_one_anothers_lines(tmp_path: Path) -> None:
    with ProcessPoolExecutor(3) as pool:
        list(pool.map(partial(append_many, tmp_path), "abc"))
    written = [line["output"] for line in lines(tmp_path)]
    assert sorted(written) == sorted(f"{name} {number}" for name in "abc" for number in range(500))


def test_a_line_that_was_cut_off_spoils_no_other(tmp_path: Path) -> None:
    append_to_log(tmp_path, ENTRY)
    log = tmp_path / LOG_NAME
    log.write_bytes(log.read_bytes()[:-20])
    append_to_log(tmp_path, ENTRY)
    assert json.loads(log.read_text(encoding="utf-8").splitlines()[-1])["output"] == ENTRY.output


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_a_strangers_log_leads_nowhere(tmp_path: Path, kind: str) -> None:
    avatar, outside = tmp_path / "avatar", tmp_path / "outside"
    avatar.mkdir()
    outside.write_text("mine")
    if kind == "link":
        (avatar / LOG_NAME).symlink_to(outside)
    elif kind == "folder":
        (avatar / LOG_NAME).mkdir()
    else:
        os.mkfifo(avatar / LOG_NAME)
    with pytest.raises(OSError):
        append_to_log(avatar, ENTRY)
    assert outside.read_text() == "mine"


def test_it_stays_when_the_avatar_is_fitted_anew_and_breaks_no_checksum(tmp_path: Path) -> None:
    folder = save_tiny_avatar(tmp_path).path
    append_to_log(folder, ENTRY)
    load_avatar(folder)
    save_avatar(tiny_avatar(), tmp_path / "tiny-source.mp4", folder)
    assert len(lines(load_avatar(folder).path)) == 1
