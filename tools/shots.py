"""Where a video's shots begin and end: cuts, jump cuts and cross-fades.

Consecutive pictures of one shot look alike, however much moves; across a cut they differ far more than their
neighbours do. The threshold is therefore the difference of the neighbouring pictures (the adaptive threshold of Yusoff,
Christmas and Kittler 2000, "Video Shot Cut Detection Using Adaptive Thresholding"), which noise, pans and gestures
raise by themselves. A flash returns to what was there before it; a fade of the light keeps the picture's structure; in
a cross-fade every picture is a mix of the one before and the one after it, which nothing that moves is.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, repeat

import cv2
import numpy as np

from tools.video import VideoInfo, read_frames

THUMBNAIL_PIXELS = 64 * 36
BLUR_PX = 0.8
"""Of the thumbnails, so that edges which move by a fraction of a pixel do not count."""
CONTRAST_FLOOR = 20.0
"""Variance of grey levels that counts as none: what a picture without structure differs by is noise."""
NEIGHBOURS = 5
"""Steps to either side that a step is compared with; the largest of them may be another cut, or a flash's other end."""
STEP_FLOOR = 5e-4
"""Neighbouring steps count as at least this: compression alone changes a still picture by half as much."""
JUMP_STEP, JUMP_RATIO = 0.006, 8.0
"""A cut differs from the picture before it by this, and by so many times what its neighbours do. Six clips of people
talking have steps up to .04, and none of .002 or more is 5.5 times its neighbours; jumping a second ahead in the
calmest of them is a step of .013..."""
CUT_STEP, CUT_RATIO = 0.3, 3.0
"""...or by this and so many times: a cut between pictures that move fast themselves."""
FLASH_S = 0.25
"""A picture that looks again as one did so long before was interrupted by a flash."""
FLASH_SHARE = 0.4
"""It looks so when it differs by less than this share of the step."""
FADE_HALVES_S = (0.08, 0.16, 0.32, 0.64, 1.0)
"""Half lengths of the windows in which a cross-fade is looked for, seconds."""
FADE_STEP = 0.3
"""The ends of a cross-fade differ by at least this..."""
FADE_RESIDUAL = 0.06
"""...and of all pictures between, this share of their difference (variances) at most is explained by no mix of them:
.02 in cross-fades of people talking, .15 where somebody turns the head so far that the ends differ as much."""
MIXED = 0.25
"""The picture in the middle has at least so much of either."""
PURE = 0.05
"""A picture with less than this of the other shot in it belongs to its own."""
SHORTEST_S = 0.12
"""What is shorter is no shot but part of a transition."""


@dataclass(frozen=True, order=True)
class Shot:
    """Frames [start, stop) of a video, taken by one camera without interruption."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def find_shots(info: VideoInfo) -> tuple[Shot, ...]:
    """The shots of a video in order; a video without cuts is one. Pictures of a cross-fade belong to none.

    One pass over the video in constant memory, at the size of thumbnails.

    Raises:
        DamagedMediaError: see `tools.video.read_frames`.
    """
    transitions: list[tuple[int, int]] = []  # where one shot stops and the next starts
    for stop, start in sorted(_transitions(info)):
        if transitions and stop <= transitions[-1][1]:
            stop, start = transitions[-1][0], max(transitions.pop()[1], start)
        transitions.append((stop, start))
    stops, starts = zip(*transitions, strict=True) if transitions else ((), ())
    shots = map(Shot, (0, *starts), (*stops, info.frame_count))
    shortest = min(info.frame_count, math.ceil(SHORTEST_S * info.fps))
    return tuple(shot for shot in shots if len(shot) >= shortest)


def _transitions(info: VideoInfo) -> Iterator[tuple[int, int]]:
    """(stop, start) of every transition, those of one cross-fade many times."""
    halves = sorted({max(2, round(half * info.fps)) for half in FADE_HALVES_S})
    flash = round(FLASH_S * info.fps)
    middle = max(halves[-1], flash + 1, NEIGHBOURS + 1)
    pictures: deque[np.ndarray] = deque(maxlen=2 * middle + 1)
    steps: deque[float] = deque(maxlen=2 * middle + 1)  # from the picture before
    stream = thumbnails(info)
    first = next(stream)
    last = first
    for number, picture in enumerate(chain(repeat(first, middle), (first,), stream, repeat(None, middle)), -2 * middle):
        last = last if picture is None else picture
        steps.append(difference(pictures[-1], last) if pictures else 0.0)
        pictures.append(last)
        if number < 0:
            continue
        window = list(pictures)
        if _is_cut(steps, middle) and not _is_flash(window, middle, steps[middle], flash):
            yield number, number
        for half in halves:
            fade = _cross_fade(window[middle - half : middle + half + 1])
            if fade is not None:
                yield number - half + fade[0], number - half + fade[1]


def thumbnails(info: VideoInfo, start: int = 0, count: int | None = None) -> Iterator[np.ndarray]:
    """Small YCrCb pictures [h, w, 3] of frames, float32 grey levels less their mean: the light's level is no matter."""
    scale = math.sqrt(THUMBNAIL_PIXELS / (info.width * info.height))
    size = {"width": max(1, round(scale * info.width)), "height": max(1, round(scale * info.height))}
    for frame in read_frames(replace(info, **size), start, count):
        picture = cv2.GaussianBlur(cv2.cvtColor(frame, cv2.COLOR_RGB2YCrCb), (0, 0), BLUR_PX).astype(np.float32)
        yield picture - picture.mean((0, 1))


def difference(first: np.ndarray, second: np.ndarray) -> float:
    """How different two thumbnails [h, w, 3] are in structure: 0 the same, 1 unrelated, at most 2.

    One less their correlation, so that more or less light is no difference.
    """
    floor = CONTRAST_FLOOR * first.shape[0] * first.shape[1]
    x, y = first.ravel(), second.ravel()
    return 1 - (float(x @ y) + floor) / math.sqrt((float(x @ x) + floor) * (float(y @ y) + floor))


def _is_cut(steps: deque[float], middle: int) -> bool:
    """Whether the step to the middle picture stands out of its neighbours."""
    around = list(steps)
    before, after = around[middle - NEIGHBOURS : middle], around[middle + 1 : middle + 1 + NEIGHBOURS]
    ratio = around[middle] / max(STEP_FLOOR, sorted(before)[-2], sorted(after)[-2])
    step = around[middle]
    return (step >= JUMP_STEP and ratio >= JUMP_RATIO) or (step >= CUT_STEP and ratio >= CUT_RATIO)


def _is_flash(pictures: list[np.ndarray], middle: int, step: float, longest: int) -> bool:
    """Whether the picture before the step comes back, or the one after it was there before."""
    old, new = pictures[middle - 1], pictures[middle]
    later, earlier = pictures[middle + 1 : middle + 1 + longest], pictures[middle - 1 - longest : middle - 1]
    nearest = min(*(difference(old, picture) for picture in later), *(difference(picture, new) for picture in earlier))
    return nearest < FLASH_SHARE * step


def _cross_fade(pictures: list[np.ndarray]) -> tuple[int, int] | None:
    """The mixed pictures [stop, start) of a window in whose middle one shot turns into another; None if none does."""
    half = len(pictures) // 2
    old, new = pictures[0], pictures[-1]
    if difference(old, new) < FADE_STEP:
        return None
    across = (new - old).ravel()
    spread = float(across @ across)
    shares = [float(across @ (picture - old).ravel()) / spread for picture in pictures]
    if not MIXED < shares[half] < 1 - MIXED:
        return None
    for picture, share in zip(pictures, shares, strict=True):
        unexplained = (picture - old).ravel() - share * across
        if float(unexplained @ unexplained) > FADE_RESIDUAL * spread:
            return None
    mixed = [place for place, share in enumerate(shares) if PURE < share < 1 - PURE]
    return mixed[0], mixed[-1] + 1
