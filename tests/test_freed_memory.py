"""Freed memory is kept for the next frame, counted in page faults of a process of its own."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from types import SimpleNamespace

import pytest

from talkinghead import freed_memory

_FAULTS = """
import resource
from talkinghead.freed_memory import keep_freed_memory
{prepare}
import numpy as np
def faults():
    pictures = [np.ones(3 << 18, np.float32) for _ in range(4)]  # 3 MB each, written to
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
faults()
before = faults()
for _ in range(20):
    after = faults()
print(after - before)
"""


def page_faults(prepare: str) -> int:
    run = subprocess.run([sys.executable, "-c", _FAULTS.format(prepare=prepare)], capture_output=True, check=True)
    return int(run.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has glibc")
def test_what_is_freed_is_not_fetched_anew() -> None:
    system = "import ctypes; ctypes.CDLL(None).mallopt(-3, 1 << 17)"  # every picture is returned at once
    assert page_faults(system) > 10_000
    assert page_faults("keep_freed_memory()") < 1_000


@pytest.mark.parametrize(("platform", "asked"), [("linux", 1), ("darwin", 0)])
def test_other_systems_and_libraries_are_left_alone(
    platform: str, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    libraries = []
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: libraries.append(SimpleNamespace()) or libraries[-1])
    freed_memory.keep_freed_memory()  # a library without mallopt is no error
    assert len(libraries) == asked
