"""The ledger of an output folder: what counts as finished, and what a crash at any point leaves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from talkinghead.dubbing.job import JobResult
from talkinghead.dubbing.ledger import LEDGER_NAME, Ledger
from talkinghead.file_lock import FileLock
from tools.errors import OutputError

RESULT = JobResult(25, ("a note", "Zoë’s"), Path("/people/a.avatar"))


def make(ledger: Ledger, output: Path, key: str = "key", content: str = "video") -> None:
    with ledger.workspace(output) as work:
        made = work / output.name
        made.write_text(content)
        ledger.publish(made, output, key, 1.5, RESULT)


def test_what_was_published_is_finished(tmp_path: Path) -> None:
    ledger, output = Ledger(tmp_path), tmp_path / "de" / "a.mp4"
    assert ledger.finished(output, "key") is None and not ledger.knows(output)
    make(ledger, output)
    entry = Ledger(tmp_path).finished(output, "key")
    assert (entry.result, entry.seconds, entry.output, entry.key) == (RESULT, 1.5, "de/a.mp4", "key")
    assert ledger.finished(output, "another key") is None and ledger.knows(output)
    assert ledger.finished(tmp_path / "a.mp4", "key") is None
    assert sorted(path.suffix for path in (tmp_path / LEDGER_NAME).iterdir()) == [".json"], "no workspace stays"


@pytest.mark.parametrize("content", [None, "vide", "VIDEO", "video and more"])
def test_an_output_that_changed_is_not(content: str | None, tmp_path: Path) -> None:
    ledger, output = Ledger(tmp_path), tmp_path / "a.mp4"
    make(ledger, output)
    output.unlink() if content is None else output.write_text(content)
    assert ledger.finished(output, "key") is None and ledger.knows(output)
    make(ledger, output)
    assert ledger.finished(output, "key") is not None


@pytest.mark.parametrize("record", ["", "{", "[]", '{"key": 1}', "[" * 100_000, "\udcff"])
def test_a_damaged_record_is_none(record: str, tmp_path: Path) -> None:
    ledger, output = Ledger(tmp_path), tmp_path / "a.mp4"
    make(ledger, output)
    (path,) = (tmp_path / LEDGER_NAME).glob("*.json")
    path.write_bytes(record.encode(errors="surrogateescape"))
    assert ledger.finished(output, "key") is None and not ledger.knows(output)


def test_a_crash_between_record_and_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, output = Ledger(tmp_path), tmp_path / "a.mp4"
    make(ledger, output, "old", "old video")
    replace_file = Path.replace

    def crashing(self: Path, target: Path) -> Path:
        if target == output:
            raise KeyboardInterrupt
        return replace_file(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", crashing)
        with pytest.raises(KeyboardInterrupt):
            make(ledger, output, "new", "new video")
    assert output.read_text() == "old video" and ledger.knows(output)
    assert ledger.finished(output, "new") is None and ledger.finished(output, "old") is None


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, output = Ledger(tmp_path), tmp_path / "a.mp4"

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("talkinghead.dubbing.ledger.write_text", full)
    with pytest.raises(OutputError, match=r"cannot write .*a\.mp4: No space left on device"):
        make(ledger, output)
    assert not output.exists() and list((tmp_path / LEDGER_NAME).iterdir()) == []


def test_only_what_nobody_works_on_is_swept(tmp_path: Path) -> None:
    ledger, names = Ledger(tmp_path), ("a.mp4", "b.mp4")
    locks = [ledger.lock_path(tmp_path / name) for name in names]
    for lock in locks:
        lock.with_suffix(".work").mkdir(parents=True)
        (lock.with_suffix(".work") / "half.mp4").touch()
    held = FileLock.take(locks[0])
    ledger.sweep()
    assert [lock.with_suffix(".work").exists() for lock in locks] == [True, False]
    held.release()
    ledger.sweep()
    assert not list((tmp_path / LEDGER_NAME).glob("*.work"))


def test_results_survive_as_they_are(tmp_path: Path) -> None:
    ledger, output = Ledger(tmp_path), tmp_path / "a.mp4"
    with ledger.workspace(output) as work:
        (work / "a.mp4").touch()
        ledger.publish(work / "a.mp4", output, "key", 0.0, replace(RESULT, avatar=None, notes=()))
    assert ledger.finished(output, "key").result == JobResult(25)
