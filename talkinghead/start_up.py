"""What every process that works for the commands does first."""

from __future__ import annotations

import os
import sys
import warnings

from talkinghead.freed_memory import keep_freed_memory

LIBRARY_LOG_LEVELS = {"GLOG_minloglevel": "3", "TF_CPP_MIN_LOG_LEVEL": "3", "ABSL_MIN_LOG_LEVEL": "3"}
THREADS_VARIABLE = "OMP_NUM_THREADS"
"""Read by torch when it is loaded."""


def start_up() -> None:
    """Keeps what other packages have to say about themselves off the user's terminal (set levels win), and memory."""
    for name, level in LIBRARY_LOG_LEVELS.items():
        os.environ.setdefault(name, level)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    keep_freed_memory()


def use_threads(count: int) -> None:
    """How many threads torch, loaded or not, and with it the rasterizer may use: a worker's part of its machine. A
    number that the user has set wins."""
    if THREADS_VARIABLE in os.environ:
        return
    os.environ[THREADS_VARIABLE] = str(count)
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(count)
