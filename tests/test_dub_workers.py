"""Jobs in processes of their own: deaths, failures, Ctrl-C, runs that are killed, and two runs at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from dub_fakes import FRAMES, FakeJob, starts, starts_file, write_list

import talkinghead.dubbing.job_checks
from talkinghead.cli import main

PATIENCE_S = 60.0


@pytest.fixture(autouse=True)
def fake_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(talkinghead.dubbing.job_checks, "KINDS", (FakeJob,))


def report(folder: Path) -> dict[str, dict[str, Any]]:
    """The lines of report.jsonl by the outputs' names."""
    lines = [json.loads(line) for line in (folder / "report.jsonl").read_text().splitlines()]
    return {Path(line["output"]).stem: line for line in lines}


def dub(job_list: Path, *options: str) -> int:
    return main(["dub", str(job_list), "--out", str(job_list.parent / "out"), *options])


def begin(job_list: Path, *options: str) -> subprocess.Popen[str]:
    """The same as a program of its own."""
    command = [sys.executable, str(ROOT / "tests" / "dub_fakes.py"), "dub", str(job_list)]
    return subprocess.Popen(
        [*command, "--out", str(job_list.parent / "out"), *options],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell in the background lets its children ignore Ctrl-C, and so would this one's.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def until(condition: Callable[[], bool], run: subprocess.Popen[str] | None = None) -> None:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < PATIENCE_S
        assert run is None or run.poll() is None, run.communicate()
        time.sleep(0.02)


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def half_made(folder: Path) -> list[str]:
    """Whatever is neither a finished output nor the ledger's own."""
    known = {".mp4", ".json", ".lock", ".jsonl"}
    return [str(path) for path in folder.rglob("*") if path.name != ".dub" and path.suffix not in known]


def test_one_bad_job_never_stops_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job_list = write_list(tmp_path, a="fine", b="fail", c="die", d="defect", e="die once", f="change", g="last")
    assert dub(job_list, "--workers", "2") == 1
    found, shown = report(tmp_path / "out"), capsys.readouterr()
    assert {name: line["status"] for name, line in found.items()} == {
        **dict.fromkeys("aeg", "done"),
        **dict.fromkeys("bcdf", "failed"),
    }
    assert found["b"]["error"] == "this cannot be done: give something else"
    assert "SIGKILL" in found["c"]["error"] and "2 times" in found["c"]["error"]
    assert "our own fault" in found["d"]["error"] and "dub_fakes.py" in found["d"]["traceback"]
    assert "an input changed while it was read" in found["f"]["error"]
    assert {name: starts(tmp_path / f"{name}.txt") for name in "abcdefg"} == {
        **dict.fromkeys("abdfg", 1),
        "c": 2,
        "e": 2,
    }
    assert (found["a"]["frames"], found["a"]["notes"], found["b"]["frames"]) == (FRAMES, ["a note"], None)
    for name in "aeg":
        assert (tmp_path / "out" / f"{name}.mp4").read_text() == (tmp_path / f"{name}.txt").read_text()
    assert not any((tmp_path / "out" / f"{name}.mp4").exists() for name in "bcdf") and not half_made(tmp_path / "out")
    heading, *rows, total, _ = [*shown.out.splitlines(), ""]
    assert heading.split() == ["row", "status", "frames", "s", "output"] and len(rows) == 7
    assert total.startswith("7 jobs: 3 done, 4 failed; see ")
    assert "Traceback" in shown.err and shown.err.count("Traceback") == 1, "only of our own defect"


def test_a_finished_job_is_never_done_again(tmp_path: Path) -> None:
    job_list, out = write_list(tmp_path, a="one", b="two", c="three", d="fail"), tmp_path / "out"
    assert dub(job_list) == 1
    kept = (out / "a.mp4").stat().st_mtime_ns
    (tmp_path / "b.txt").write_text("another")  # an input
    (out / "c.mp4").write_text("damaged")
    (tmp_path / "d.txt").write_text("mended")
    assert dub(job_list) == 0
    statuses = {name: line["status"] for name, line in report(out).items()}
    assert statuses == {"a": "already done", **dict.fromkeys("bcd", "done")}
    assert [starts(tmp_path / f"{name}.txt") for name in "abcd"] == [1, 2, 2, 2]
    assert (out / "a.mp4").stat().st_mtime_ns == kept
    assert [(out / f"{name}.mp4").read_text() for name in "bcd"] == ["another", "three", "mended"]
    assert dub(job_list) == 0 and [starts(tmp_path / f"{name}.txt") for name in "abcd"] == [1, 2, 2, 2]
    assert report(out)["a"]["frames"] == FRAMES
    assert dub(job_list, "--crf", "20") == 0, "another option is another job"
    assert [starts(tmp_path / f"{name}.txt") for name in "abcd"] == [2, 3, 3, 3]
    assert dub(job_list, "--crf", "20", "--device", "cpu") == 0, "where it is done is not"
    assert [starts(tmp_path / f"{name}.txt") for name in "abcd"] == [2, 3, 3, 3]


def test_a_worker_is_killed_in_mid_job(tmp_path: Path) -> None:
    job_list = write_list(tmp_path, a="wait", b="quick")
    run = begin(job_list, "--workers", "2")
    counted = starts_file(tmp_path / "a.txt")
    until(lambda: counted.exists() and counted.read_text().endswith("\n"), run)
    os.kill(int(counted.read_text()), signal.SIGKILL)
    until(lambda: starts(tmp_path / "a.txt") == 2, run)
    (tmp_path / "GO").touch()
    _, complaints = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 0, complaints
    assert {name: line["status"] for name, line in report(tmp_path / "out").items()} == {"a": "done", "b": "done"}
    assert starts(tmp_path / "b.txt") == 1 and not half_made(tmp_path / "out")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_stopped_goes_on(number: signal.Signals, tmp_path: Path) -> None:
    job_list, out = write_list(tmp_path, a="quick", b="wait", c="late"), tmp_path / "out"
    run = begin(job_list)
    until(lambda: starts(tmp_path / "b.txt") == 1, run)
    assert (out / "a.mp4").exists() and half_made(out), "in the middle of the second job"
    worker = int(starts_file(tmp_path / "b.txt").read_text())
    run.send_signal(number)
    _, complaints = run.communicate(timeout=PATIENCE_S)
    until(lambda: not is_alive(worker))
    assert run.returncode == (130 if number == signal.SIGINT else -number), complaints
    assert "Traceback" not in complaints
    assert not half_made(out), "the worker ends in order, and leaves nothing"
    if number == signal.SIGINT:
        statuses = {name: line["status"] for name, line in report(out).items()}
        assert statuses == {"a": "done", "b": "not done", "c": "not done"}
    (tmp_path / "GO").touch()
    assert dub(job_list) == 0
    statuses = {name: line["status"] for name, line in report(out).items()}
    assert statuses == {"a": "already done", "b": "done", "c": "done"}
    assert [starts(tmp_path / f"{name}.txt") for name in "abc"] == [1, 2, 1]


def test_everything_is_killed_at_once(tmp_path: Path) -> None:
    """As when the machine loses power, but for the disk's own memory."""
    job_list, out = write_list(tmp_path, a="wait"), tmp_path / "out"
    run = begin(job_list)
    until(lambda: starts(tmp_path / "a.txt") == 1, run)
    worker = int(starts_file(tmp_path / "a.txt").read_text())
    os.kill(worker, signal.SIGSTOP)  # it cannot see its run end
    run.kill()
    os.kill(worker, signal.SIGKILL)
    run.communicate(timeout=PATIENCE_S)
    until(lambda: not is_alive(worker))
    assert half_made(out)
    (tmp_path / "GO").touch()
    assert dub(job_list) == 0 and not half_made(out) and starts(tmp_path / "a.txt") == 2


def test_two_runs_at_once_do_no_job_twice(tmp_path: Path) -> None:
    names = [f"job{number}" for number in range(6)]
    job_list = write_list(tmp_path, **dict.fromkeys(names, "text"), held="wait")
    runs = [begin(job_list, "--workers", "2") for _ in range(2)]
    until(lambda: all((tmp_path / "out" / f"{name}.mp4").exists() for name in names))
    (tmp_path / "GO").touch()
    for run in runs:
        _, complaints = run.communicate(timeout=PATIENCE_S)
        assert run.returncode == 0, complaints
    assert {name: starts(tmp_path / f"{name}.txt") for name in [*names, "held"]} == dict.fromkeys([*names, "held"], 1)
