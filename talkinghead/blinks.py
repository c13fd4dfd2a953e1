"""Blinks: found in footage, taken out of its expression codes, and put in anew as often as people blink."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import median_filter

from tools.face_topology import FaceTopology

BASELINE_S = 2.0
"""Window of the running median that says how open the eyes are apart from blinks: looking down is none."""
CLOSED_SHARE = 0.8
"""In a blink the opening falls below this share of its baseline (behind glasses hardly further)..."""
CLEAR_DEVIATIONS = 6.0
"""...and by more than this many of its usual deviations (median absolute deviation, as a standard deviation)."""
LONGEST_S = 0.8
"""What lasts longer is a pair of closed eyes. A blink takes 0.1 to 0.4 s (Schiffman 2001, Sensation and Perception),
and two may follow one another at once."""
OPEN_SHARE = 0.95
"""A blink begins and ends where the opening comes back to this share..."""
REACH_S = 0.24
"""...but at most this long before and after: lids that are slow to come to rest are on their way."""
MEAN_INTERVAL_S = 3.0
"""Twenty a minute: 17 at rest, 26 in conversation (Bentivoglio et al. 1997, Movement Disorders 12(6))."""
SHORTEST_PAUSE_S = 0.3
"""Lids stay open for at least this long between two blinks."""
INTERVAL_SPREAD = 0.7
"""Standard deviation of the logarithm of the pause: most are short and a few are long."""
_BLINK_STREAM = 2
"""Keeps the random numbers of this module apart from others of the same seed."""
_DEVIATIONS_PER_MAD = 1.4826


@dataclass(frozen=True)
class Blink:
    """Frames [first, stop) of one blink."""

    first: int
    stop: int


@dataclass(frozen=True)
class BlinkSplit:
    """Upper-face codes of footage as eyes that stay open, and what blinks add to them."""

    opened: np.ndarray  # [F, Ku]: interpolated across every blink
    closing: np.ndarray  # [F, Ku]: what is left, 0 but in blinks
    blinks: tuple[Blink, ...]

    @classmethod
    def without(cls, codes: np.ndarray) -> BlinkSplit:
        """Codes in which no blink was looked for."""
        return cls(codes, np.zeros_like(codes), ())

    def templates(self) -> list[np.ndarray]:
        """What each blink adds, [n, Ku]; those that the footage begins or ends with are left out."""
        whole = (blink for blink in self.blinks if blink.first > 0 and blink.stop < len(self.closing))
        return [self.closing[blink.first : blink.stop] for blink in whole]

    def in_blink(self) -> np.ndarray:
        """[F] bool."""
        flags = np.zeros(len(self.closing), bool)
        for blink in self.blinks:
            flags[blink.first : blink.stop] = True
        return flags


def eye_opening(landmarks: np.ndarray, topology: FaceTopology) -> np.ndarray:
    """The eye aspect ratio of every frame [F]: height over width (Soukupova and Cech 2016, CVWW, Eq. 1).

    Heights and widths of both eyes are added up before they are divided: an eye that is turned away is narrow in the
    picture and counts for little. Frames without a face lie between their neighbours; with no face at all it is 1.

    Args:
        landmarks: [F, K, 2] px; NaN where there is no face.
    """
    heights, widths = np.zeros(len(landmarks)), np.zeros(len(landmarks))
    for ring in (topology.left_eye, topology.right_eye):
        points, half = landmarks[:, list(ring)], len(ring) // 2
        # Rings run from the outer corner along the lower lid to the inner corner and back along the upper lid.
        upper, lower = points[:, :half:-1], points[:, 1:half]
        heights += np.linalg.norm(upper - lower, axis=2).mean(axis=1)
        widths += np.linalg.norm(points[:, 0] - points[:, half], axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        opening = heights / widths
    seen = np.isfinite(opening)
    if not seen.any():
        return np.ones(len(landmarks))
    return np.interp(np.arange(len(opening)), np.flatnonzero(seen), opening[seen])


def find_blinks(opening: np.ndarray, fps: float) -> tuple[Blink, ...]:
    """The blinks in a track of eye openings [F], in order and apart from one another.

    The opening is compared with its own running median, so that a head that turns or nods, or eyes that look down,
    are no blink.
    """
    window = 2 * round(BASELINE_S * fps / 2) + 1
    share = opening / np.maximum(median_filter(opening, window, mode="reflect"), 1e-9)
    deviation = _DEVIATIONS_PER_MAD * np.median(np.abs(share - 1))
    is_open = share >= OPEN_SHARE
    reach = max(1, round(REACH_S * fps))
    blinks: list[Blink] = []
    for first, stop in _runs(share < min(CLOSED_SHARE, 1 - CLEAR_DEVIATIONS * deviation)):
        if stop - first > LONGEST_S * fps:
            continue
        first -= _steps_to(is_open[max(0, first - reach) : first][::-1])
        stop += _steps_to(is_open[stop : stop + reach])
        if blinks and first <= blinks[-1].stop:
            first = blinks.pop().first
        blinks.append(Blink(first, stop))
    return tuple(blinks)


def _steps_to(flags: np.ndarray) -> int:
    """How many flags are false before the first that is true."""
    return int(flags.argmax()) if flags.any() else len(flags)


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """[first, stop) of every run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def split_blinks(codes: np.ndarray, blinks: tuple[Blink, ...]) -> BlinkSplit:
    """Codes [F, Ku] without and with the blinks: across each of them, straight lines between the frames around it."""
    split = BlinkSplit(codes, np.zeros_like(codes), blinks)
    frames = np.arange(len(codes))
    open_eyed = frames[~split.in_blink()]
    if not len(open_eyed):
        return BlinkSplit.without(codes)
    opened = np.stack([np.interp(frames, open_eyed, column[open_eyed]) for column in codes.T], axis=1)
    opened = opened.astype(codes.dtype)
    return BlinkSplit(opened, codes - opened, blinks)


def natural_blinks(templates: list[np.ndarray], fps: float, seed: int) -> Iterator[np.ndarray]:
    """What blinks add to the code in frame 0, 1, 2, ...: [Ku] each, without end.

    Each is one of `templates` [n, Ku], at least one, drawn at random. Pauses between them are log-normal, and as long
    on average as makes `60 / MEAN_INTERVAL_S` blinks a minute, unless the templates are so long that there is no room.
    """
    rng = np.random.default_rng((seed, _BLINK_STREAM))
    rest = np.zeros_like(templates[0][0])
    shortest = SHORTEST_PAUSE_S * fps
    mean = max(0.0, MEAN_INTERVAL_S * fps - np.mean([len(template) for template in templates]) - shortest)
    # The mean of a log-normal variable is exp(mu + sigma^2 / 2).
    factor = mean * np.exp(-(INTERVAL_SPREAD**2) / 2)
    # Time begins in the midst of a pause.
    left = rng.uniform() * (shortest + factor * rng.lognormal(sigma=INTERVAL_SPREAD))
    while True:
        for _ in range(round(left)):
            yield rest
        yield from templates[rng.integers(len(templates))]
        left = shortest + factor * rng.lognormal(sigma=INTERVAL_SPREAD)
