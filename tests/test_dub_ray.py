"""The same jobs on a local Ray cluster with two workers, one of them killed in mid-job."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import ROOT
from dub_fakes import FakeJob, starts, starts_file, write_list

import talkinghead.dubbing.job_checks
from talkinghead.cli import main

PATIENCE_S = 60.0


@pytest.fixture(autouse=True)
def fake_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(talkinghead.dubbing.job_checks, "KINDS", (FakeJob,))


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> str:
    """Says how `--ray` starts a cluster of two processors on this machine, whose workers find this checkout."""
    ray = pytest.importorskip("ray", reason="needs ray: pip install 'talkinghead[ray]'")
    init = ray.init
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])

    def local(address: str, **options: object) -> object:
        options["runtime_env"] = {"env_vars": {"PYTHONPATH": path}}
        return init(address, num_cpus=2, include_dashboard=False, **options)

    monkeypatch.setattr(ray, "init", local)
    return "local"


def test_one_of_two_workers_is_killed_in_mid_job(
    cluster: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job_list = write_list(tmp_path, a="wait", b="quick", c="fail", d="die", e="last")
    counted, killed = starts_file(tmp_path / "a.txt"), []

    def kill() -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not (counted.exists() and counted.read_text().endswith("\n")) and time.monotonic() < deadline:
            time.sleep(0.02)
        killed.append(int(counted.read_text()))
        os.kill(killed[0], signal.SIGKILL)
        while starts(tmp_path / "a.txt") < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        (tmp_path / "GO").touch()

    killer = threading.Thread(target=kill)
    killer.start()
    command = ["dub", str(job_list), "--out", str(tmp_path / "out"), "--ray", cluster, "--workers", "2"]
    code = main(command)
    killer.join()
    found = {}
    for text in (tmp_path / "out" / "report.jsonl").read_text().splitlines():
        line = json.loads(text)
        found[Path(line["output"]).stem] = line
    assert code == 1 and {name: line["status"] for name, line in found.items()} == {
        **dict.fromkeys("abe", "done"),
        **dict.fromkeys("cd", "failed"),
    }
    assert found["c"]["error"] == "this cannot be done: give something else"
    assert "its worker died on the cluster" in found["d"]["error"] and "2 times" in found["d"]["error"]
    assert [starts(tmp_path / f"{name}.txt") for name in "abcde"] == [2, 1, 1, 2, 1]
    assert killed[0] != os.getpid() and not list((tmp_path / "out" / ".dub").glob("*.work"))
    assert capsys.readouterr().out.splitlines()[-1].startswith("5 jobs: 3 done, 2 failed")


def test_without_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    job_list = write_list(tmp_path, a="fine")
    assert main(["dub", str(job_list), "--out", str(tmp_path / "out"), "--ray", "auto"]) == 2
    assert "pip install 'talkinghead[ray]'" in capsys.readouterr().err


def test_no_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ray", reason="needs ray: pip install 'talkinghead[ray]'")
    job_list = write_list(tmp_path, a="fine")
    assert main(["dub", str(job_list), "--out", str(tmp_path / "out"), "--ray", "auto"]) == 2
    assert "no Ray cluster at auto" in capsys.readouterr().err and not (tmp_path / "out").exists()
