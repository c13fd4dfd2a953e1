"""Networks that some measures need and that others publish: fetched when first used, done without where they are not.

A measurement must not fail, nor wait long, because a computer has no network: what cannot be had is a note.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

from encoders.acoustic.weights import WeightsFile, fetch
from encoders.errors import EncoderWeightsError
from talkinghead.progress import Progress

PATIENCE_S = 8.0
"""Seconds without an answer after which a download is given up."""
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
        for event in fetch(file, PATIENCE_S):
            total = None if event.total is None else event.total // _MEGABYTE
            yield Progress(f"fetching {file.path.name} (MB)", event.done // _MEGABYTE, total)
        return load(), []
    except EncoderWeightsError as error:
        return None, [f"{measures} not available: {error}"]
