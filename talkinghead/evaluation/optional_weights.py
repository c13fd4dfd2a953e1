"""Networks that some measures need and that others publish: fetched when first used, done without where they are not.

A measurement must not fail, nor wait long, because a computer has no network: what cannot be had is a note. To learn
that a firewall swallows what is sent takes long, ten seconds or more for a name alone, so it is learned once an hour.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from encoders.acoustic.weights import WeightsFile, fetch
from encoders.errors import EncoderWeightsError
from talkinghead.progress import Progress

PATIENCE_S = 8.0
"""Seconds without an answer after which a download is given up."""
QUICK_S = 1.0
"""A download that fails sooner is tried anew each time."""
REMEMBERED_S = 3600.0
"""For so long one that failed later is not."""
_MEGABYTE = 1_000_000

Network = TypeVar("Network")


def network_or_note(
    file: WeightsFile, load: Callable[[], Network], measures: str
) -> Generator[Progress, None, tuple[Network | None, list[str]]]:
    """The network, fetched if it is not here yet; or None, and a sentence that says why and what to do.

    Args:
        load: reads the network from the file; raises EncoderWeightsError where that is damaged.
        measures: what cannot be measured without, to begin the sentence with.
    """
    try:
        if not file.is_present:
            yield from _fetched(file)
        return load(), []
    except EncoderWeightsError as error:
        return None, [f"{measures} not available: {error}"]


def _fetched(file: WeightsFile) -> Generator[Progress, None, None]:
    """Downloads a file.

    Raises:
        EncoderWeightsError: it cannot be had, or lately could not.
    """
    mark = file.path.with_name(f"{file.path.name}.unreachable")
    if _was_made_lately(mark):
        raise EncoderWeightsError(
            f"{file.url} could not be fetched within the last hour: wait, delete {mark} to try again, or {file.remedy}"
        )
    began = time.monotonic()
    try:
        for event in fetch(file, PATIENCE_S):
            total = None if event.total is None else event.total // _MEGABYTE
            yield Progress(f"fetching {file.path.name} (MB)", event.done // _MEGABYTE, total)
    except EncoderWeightsError:
        if time.monotonic() - began > QUICK_S:
            with suppress(OSError):  # a folder that takes no file: then it is tried anew
                mark.touch()
        raise
    mark.unlink(missing_ok=True)


def _was_made_lately(mark: Path) -> bool:
    try:
        return 0 <= time.time() - mark.stat().st_mtime < REMEMBERED_S
    except OSError:
        return False
