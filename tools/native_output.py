"""Keeping the log lines of compiled libraries away from the user's terminal."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

STDERR_DESCRIPTOR = 2
_one_at_a_time = threading.RLock()


@contextlib.contextmanager
def silenced_stderr() -> Iterator[None]:
    """Sends standard error, Python's and that of compiled code, to nowhere inside the block.

    Meant for the short moments in which a library starts: what other threads write then is lost too, and they wait if
    they want the same.
    """
    sys.stderr.flush()
    with _one_at_a_time, open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        kept = os.dup(STDERR_DESCRIPTOR)
        try:
            os.dup2(nowhere.fileno(), STDERR_DESCRIPTOR)
            yield
        finally:
            os.dup2(kept, STDERR_DESCRIPTOR)
            os.close(kept)
