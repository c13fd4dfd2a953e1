"""How different the pictures look from the source, by networks: LPIPS, where it can be had."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator
from contextlib import ExitStack
from functools import partial

import numpy as np

from encoders.errors import FeatureUnavailableError
from encoders.perceptual import ALEX, VGG, Backbone, PerceptualDistance, require_package
from talkinghead.evaluation.instruments import Drive, Measure, ObservedFrame
from talkinghead.evaluation.optional_weights import network_or_note
from talkinghead.evaluation.pictures import COMPOSITE, MOUTH, WHOLE, mouth_blocks
from talkinghead.progress import Progress

EVERY = 10
"""Frames from one that is measured to the next: VGG takes seconds for a picture on a processor."""
_BACKBONES = (ALEX, VGG)
_PLACES = {"composite": COMPOSITE, "whole": WHOLE, "mouth": MOUTH}


class PerceptualInstrument:
    """LPIPS by one network."""

    def __init__(self, backbone: Backbone, distance: PerceptualDistance) -> None:
        self._suffix, self._distance = f"lpips_{backbone.name}", distance
        lpips = f"LPIPS v0.1 of {backbone.name} (Zhang et al. 2018), of every {EVERY}th frame,"
        self.measures = tuple(
            Measure(f"{place}_{self._suffix}", f"{lpips} {meaning}", best="low") for place, meaning in _PLACES.items()
        )

    def observer(self, drive: Drive, stack: ExitStack) -> _PerceptualObserver:
        """See `Instrument.observer`."""
        return _PerceptualObserver(self._suffix, self._distance, drive.has_truth)


def perceptual_instruments() -> Generator[Progress, None, tuple[list[PerceptualInstrument], list[str]]]:
    """An instrument for each network that can be had, and a sentence for each that cannot."""
    try:
        require_package()
    except FeatureUnavailableError as error:
        return [], [str(error)]
    instruments, notes = [], []
    for backbone in _BACKBONES:
        load = partial(PerceptualDistance, backbone)
        distance, missing = yield from network_or_note(backbone.weights, load, f"LPIPS ({backbone.name})")
        notes += missing
        if distance is not None:
            instruments.append(PerceptualInstrument(backbone, distance))
    return instruments, notes


class _PerceptualObserver:
    def __init__(self, suffix: str, distance: PerceptualDistance, has_truth: bool) -> None:
        self._suffix, self._distance, self._has_truth = suffix, distance, has_truth
        self._seen = 0
        self._values: defaultdict[str, list[float]] = defaultdict(list)

    def see(self, frame: ObservedFrame) -> None:
        self._seen += 1
        if not self._has_truth or self._seen % EVERY != 1:
            return
        mouth, source = mouth_blocks(frame), frame.source
        pairs = {
            "composite": (frame.in_place, source),
            "whole": (frame.free, source),
            "mouth": (frame.in_place[mouth], source[mouth]),
        }
        for place, pair in pairs.items():
            self._values[place].append(self._distance(*pair))

    def figures(self, truth: _PerceptualObserver) -> dict[str, float]:
        return {
            f"{place}_{self._suffix}": float(np.mean(self._values[place])) if self._values[place] else float("nan")
            for place in _PLACES
        }
