"""Which instruments measure an avatar on this machine."""

from __future__ import annotations

from talkinghead.evaluation.instruments import Instrument
from talkinghead.evaluation.lips import LipInstrument
from talkinghead.evaluation.pictures import PictureInstrument


def instruments() -> tuple[list[Instrument], list[str]]:
    """The instruments, and a sentence for each that cannot be used, with the remedy."""
    return [PictureInstrument(), LipInstrument()], []
