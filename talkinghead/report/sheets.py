"""Contact sheets: source, output and what differs, whole and around the mouth."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

DIFFERENCE_GAIN = 4
STILL_PX = 256
"""Side of a whole picture on its sheet."""
MOUTH_ZOOM = 3
MOUTH_MARGIN = 1.3
"""Width of the window around the mouth, in widths of the lips..."""
MOUTH_ASPECT = 0.7
"""...and its height, in widths of the window."""
JPEG_QUALITY = 88


@dataclass(frozen=True)
class MouthWindow:
    """A window of constant size that follows the lips."""

    width: int  # px
    height: int
    centres: np.ndarray  # [T, 2] px, NaN where there is no face

    @classmethod
    def around(cls, landmarks: np.ndarray, lips: Sequence[int]) -> MouthWindow:
        """Args: landmarks [T, K, 2] px, NaN where there is no face; lips, the indices of theirs."""
        points = landmarks[:, list(lips)]
        widest = np.ptp(points[..., 0], axis=1)
        width = round(MOUTH_MARGIN * float(np.nanmax(widest))) if np.isfinite(widest).any() else 1
        return cls(max(2, width), max(2, round(MOUTH_ASPECT * width)), points.mean(axis=1))

    def cut(self, picture: np.ndarray, place: int) -> np.ndarray:
        """The window [height, width, 3] of the place-th frame; the picture's border is continued."""
        x, y = self.centres[place].tolist()
        return cv2.getRectSubPix(picture, (self.width, self.height), (x, y))


def difference(source: np.ndarray, output: np.ndarray) -> np.ndarray:
    """Absolute difference of two uint8 pictures times DIFFERENCE_GAIN, clipped to uint8."""
    return cv2.convertScaleAbs(cv2.absdiff(source, output), alpha=DIFFERENCE_GAIN)


def whole_strip(source: np.ndarray, output: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Source, output, their difference, the head alone and its difference, side by side: [STILL_PX, 5 STILL_PX, 3]."""
    pictures = (source, output, difference(source, output), free, difference(source, free))
    return np.hstack([cv2.resize(p, (STILL_PX, STILL_PX), interpolation=cv2.INTER_AREA) for p in pictures])


def mouth_strip(source: np.ndarray, output: np.ndarray) -> np.ndarray:
    """Source, output and difference at three times their size, side by side."""
    strip = np.hstack([source, output, difference(source, output)])
    return cv2.resize(strip, None, fx=MOUTH_ZOOM, fy=MOUTH_ZOOM, interpolation=cv2.INTER_CUBIC)


def extremes(values: np.ndarray, count: int, apart: int) -> list[int]:
    """Places of the `count` smallest values [T], then of the `count` largest, at least `apart` from one another.

    Fewer where there are not so many; NaN is never chosen.
    """
    chosen: list[int] = []
    for order in (np.argsort(values), np.argsort(-values)):  # NaN is sorted last in both
        wanted = len(chosen) + count
        for place in order[: np.isfinite(values).sum()].tolist():
            if len(chosen) < wanted and all(abs(place - other) >= apart for other in chosen):
                chosen.append(place)
    return chosen


def jpeg(picture: np.ndarray) -> str:
    """A picture, uint8 RGB, as a data URI."""
    _, encoded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return data_uri("image/jpeg", encoded.tobytes())


def data_uri(media_type: str, content: bytes) -> str:
    """RFC 2397."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"
