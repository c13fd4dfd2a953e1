"""Frames in which something is in front of the mouth: a hand, a microphone, a cup.

A landmark of cheek, chin or lip has nearly the same colour in every frame of a take, wherever the head turns and
whatever the mouth says. Under a hand landmarks are guessed at, and what is seen at many of them has another colour.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import cv2
import numpy as np
from scipy.ndimage import binary_dilation, label

from tools.face_topology import FaceTopology

FACE_PX = 96
"""Height of the face where colours are read..."""
BLUR_PX = 1.5
"""...and how far they are averaged: fine texture and stubble do not count."""
LEVEL = 25.0
"""Grey levels by which, in one channel, a landmark must differ from its median over the take..."""
SPREAD = 5.0
"""...and so many median absolute deviations, which are large where light and shadow move."""
COVERED, TOUCHED = 0.2, 0.05
"""A face is covered when this share of the landmarks differs; in the frames beside those, the second share will do."""
FEWEST_FRAMES = 6
"""...if so many frames reach the first share. Of six clips of people talking, the frame with the sixth largest share
reaches .14 (a single failed detection .37); under hands and microphones that hide the mouth it is .26 to .6."""
MARGIN_FRAMES = 2
"""So many more on either side are left out: what comes before the mouth is near it before."""


def colour_count(topology: FaceTopology) -> int:
    """How many colours `landmark_colours` reads."""
    return len(_places(topology)[0]) + 1


@cache
def _places(topology: FaceTopology) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Landmarks of the lower face, and of forehead, temples and nose."""
    rim = set(topology.face_oval)
    lower = set(topology.lower_face) - rim - set(topology.inner_lips)
    return tuple(sorted(lower)), tuple(sorted(set(topology.stable) - rim))


def landmark_colours(frame: np.ndarray, landmarks: np.ndarray, topology: FaceTopology) -> np.ndarray:
    """Colours [M + 1, 3] float32 in a uint8 RGB frame [H, W, 3], each averaged around its place.

    Of the M landmarks of the lower face's skin and the outer lips, without the rim, which turns away, and what the
    mouth shows; the last is the mean over the upper face: how light it is.

    Args:
        landmarks: [K, 2+] px of the frame.
    """
    lower, upper = _places(topology)
    points = landmarks[:, :2]
    low, high = points.min(0), points.max(0)
    margin = 0.1 * float((high - low).max())
    left, top = np.maximum(np.floor(low - margin), 0).astype(int)
    right, bottom = np.maximum(np.ceil(high + margin), 0).astype(int)
    part = frame[top:bottom, left:right]
    if not part.size:
        return np.full((len(lower) + 1, 3), np.nan, np.float32)
    scale = min(1.0, FACE_PX / float((high - low)[1]))
    smaller = cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else part
    smooth = cv2.GaussianBlur(smaller, (0, 0), BLUR_PX)
    columns, rows = ((points[[*lower, *upper]] - (left, top)) * scale - 0.5).astype(np.float32).T
    read = cv2.remap(smooth, columns[None], rows[None], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0]
    read = read.astype(np.float32)
    return np.concatenate([read[: len(lower)], read[len(lower) :].mean(0, keepdims=True)])


def covered_frames(colours: np.ndarray, fitted_frames: int) -> np.ndarray:
    """[F] bool: frames in which the mouth is covered.

    Args:
        colours: [F, M + 1, 3] as `landmark_colours` reads them, NaN where no face is seen. What covers the face most
            of the time is part of it.
        fitted_frames: usual is what is usual before this frame.
    """
    seen = np.isfinite(colours).all(axis=(1, 2))
    if not seen[:fitted_frames].any():
        return np.zeros(len(colours), bool)
    skin, light = colours[seen, :-1], colours[seen, -1:]
    fitted = int(seen[:fitted_frames].sum())
    evenly_lit = skin * (np.median(light[:fitted], axis=0) / np.maximum(light, 1))
    shares = np.minimum(_unusual(skin, fitted), _unusual(evenly_lit, fitted))
    # A face that is lost for moments is covered there if it is so before and after.
    runs, count = label(np.interp(np.arange(len(colours)), np.flatnonzero(seen), shares) >= TOUCHED)
    clearly = np.zeros(len(colours), bool)
    clearly[seen] = shares >= COVERED
    covered = np.isin(runs, [run for run in range(1, count + 1) if clearly[runs == run].sum() >= FEWEST_FRAMES])
    return binary_dilation(covered, iterations=MARGIN_FRAMES) if covered.any() else covered


def _unusual(skin: np.ndarray, fitted: int) -> np.ndarray:
    """Share [F] of the places in skin [F, M, 3] whose colour is not what it is in the first `fitted` frames."""
    usual = np.median(skin[:fitted], axis=0)
    level = np.maximum(LEVEL, SPREAD * np.median(np.abs(skin[:fitted] - usual), axis=0))
    return (np.abs(skin - usual) > level).any(axis=2).mean(axis=1)


def findings(covered: np.ndarray, fps: Fraction) -> tuple[str, ...]:
    """A sentence on every stretch of covered frames [F]."""
    runs, count = label(covered)
    stretches = [np.flatnonzero(runs == run)[[0, -1]] for run in range(1, count + 1)]
    times = [f"{float(first / fps):.1f} to {float((last + 1) / fps):.1f} s" for first, last in stretches]
    return tuple(f"something is in front of the mouth from {time}: shown as it is" for time in times)
