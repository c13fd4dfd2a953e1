"""What becomes of the memory that one frame frees and the next one needs again."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""glibc's numbers of the settings, from its malloc.h."""
KEPT_BYTES = 1 << 28
LARGEST_REUSED_BYTES = 1 << 25
"""The most that glibc allows; a picture of 2048 x 2048 px in floating point."""


def keep_freed_memory() -> None:
    """Has glibc keep it, and hand pictures out of it.

    By default some processes return it to the system and fetch it back in every frame, page by page: up to 2,000 page
    faults a frame, a twelfth of the time of rendering. Elsewhere nothing is done.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # not in every C library
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(_MMAP_THRESHOLD, LARGEST_REUSED_BYTES)
