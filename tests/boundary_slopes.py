"""Where the sound changes around labelled boundaries: how the table in encoders/corpus/timing.py was measured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise

import numpy as np

from encoders.corpus.timing import SAMPLES_PER_LABEL
from encoders.phones import PHONES

SAMPLE_RATE = 16_000
HOP = 40
WINDOW = 256
REACH = 32  # hops on both sides of a boundary: 80 ms
SLOPE = 6  # hops on both sides of a point: 15 ms
SHORTEST_LABELS = 5

CLASSES = {"V": PHONES[PHONES.index("i") :], "T": ("p", "t", "k"), "S": ("s", "z", "sh"), "N": ("m", "n", "ng")}
BANDS_HZ = {"low": (100, 900), "middle": (500, 3000), "high": (4000, 7800)}
EVENTS = {
    ("V", "T"): {"middle": -1},
    ("T", "V"): {"low": 1},
    ("V", "S"): {"high": 1, "low": -1},
    ("S", "V"): {"high": -1, "low": 1},
    ("V", "N"): {"middle": -1},
    ("N", "V"): {"middle": 1},
}
"""Classes on both sides of a boundary -> bands whose level [dB] rises (1) or falls (-1) there."""


def band_levels(samples: np.ndarray) -> dict[str, np.ndarray]:
    """Level [dB] of each band every `HOP` samples; at most 55 dB below its loudest."""
    count = len(samples) // HOP
    padded = np.pad(samples, (WINDOW // 2, WINDOW))
    frames = padded[np.arange(count)[:, None] * HOP + np.arange(WINDOW)] * np.hanning(WINDOW)
    power = np.abs(np.fft.rfft(frames)) ** 2
    frequencies = np.fft.rfftfreq(WINDOW, 1 / SAMPLE_RATE)
    levels = {}
    for name, (lowest, highest) in BANDS_HZ.items():
        level = 10 * np.log10(power[:, (frequencies >= lowest) & (frequencies < highest)].mean(axis=1) + 1e-12)
        levels[name] = np.maximum(level, level.max() - 55.0)
    return levels


def class_of(phone: str) -> str:
    """A key of `CLASSES`, or "" for a phone of none."""
    return next((name for name, phones in CLASSES.items() if phone in phones), "")


def boundaries(labels: np.ndarray) -> Iterator[tuple[int, tuple[str, str]]]:
    """(label, classes before and after) of the boundaries between phones that are not too short."""
    runs = [(label, len(list(group))) for label, group in groupby(labels)]
    position = 0
    for (before, length), (after, next_length) in pairwise(runs):
        position += length
        if min(length, next_length) >= SHORTEST_LABELS:
            yield position, (class_of(PHONES[before]), class_of(PHONES[after]))


def boundary_delays_ms(speech: Iterable[tuple[np.ndarray, np.ndarray]]) -> dict[tuple[str, str], float]:
    """How much later than its label the sound changes, for each pair of classes with 12 boundaries or more.

    Args:
        speech: samples (any float scale) and phone labels of utterances.
    """
    kernel = np.concatenate([np.ones(SLOPE), [0.0], -np.ones(SLOPE)])
    slopes: dict[tuple[str, str], list[np.ndarray]] = {pair: [] for pair in EVENTS}
    for samples, labels in speech:
        rises = {name: np.convolve(level, kernel, "same") for name, level in band_levels(samples).items()}
        for label, pair in boundaries(labels):
            # A boundary is halfway between two labels.
            centre = round((label - 0.5) * SAMPLES_PER_LABEL / HOP)
            if pair in EVENTS and REACH <= centre < len(rises["low"]) - REACH:
                around = slice(centre - REACH, centre + REACH + 1)
                slopes[pair].append(sum(sign * rises[name][around] for name, sign in EVENTS[pair].items()))
    hop_ms = 1000 * HOP / SAMPLE_RATE
    return {
        pair: (int(np.mean(curves, axis=0).argmax()) - REACH) * hop_ms
        for pair, curves in slopes.items()
        if len(curves) >= 12
    }
