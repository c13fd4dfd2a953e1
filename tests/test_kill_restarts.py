"""A moment of `python tests/kill_restarts.py --times 50`, and whether it would notice."""

from __future__ import annotations

from pathlib import Path

from kill_restarts import Wanted, compare, listing, run


def test_two_kills(tmp_path: Path) -> None:
    attempts = run(times=2, seed=3, folder=tmp_path / "kills", commands=["fit"])
    assert sum(attempt.kills for attempt in attempts) == 2
    assert [attempt.problems for attempt in attempts] == [[]] * len(attempts)


def test_what_is_wrong_is_seen(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("as it was")
    (tmp_path / "kept").touch()
    wanted = Wanted(1.0, {}, listing(tmp_path), {"note.txt": "as it was"})
    assert compare(tmp_path, wanted) == []
    (tmp_path / "note.txt").write_text("changed")
    (tmp_path / "kept").rename(tmp_path / ".unfinished-1")
    assert compare(tmp_path, wanted) == ["left over: .unfinished-1", "missing: kept", "differs: note.txt"]
