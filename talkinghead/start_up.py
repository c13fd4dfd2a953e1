"""What every process that works for the commands does first."""

from __future__ import annotations

import os
import sys
import warnings

from talkinghead.freed_memory import keep_freed_memory

LIBRARY_LOG_LEVELS = {"GLOG_minloglevel": "3", "TF_CPP_MIN_LOG_LEVEL": "3", "ABSL_MIN_LOG_LEVEL": "3"}


def start_up() -> None:
    """Keeps what other packages have to say about themselves off the user's terminal (set levels win), and memory."""
    for name, level in LIBRARY_LOG_LEVELS.items():
        os.environ.setdefault(name, level)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    keep_freed_memory()


def use_threads(count: int) -> None:
    """How many threads torch, and with it the rasterizer, may use: a worker's part of its machine."""
    import torch

    torch.set_num_threads(count)
