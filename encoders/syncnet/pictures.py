"""What SyncNet sees: the face cut out as the published pipeline cuts it, in a stream of pictures.

That pipeline cuts around boxes of the detector S3FD. Each box becomes a square of side 2.8 s, s being half of the
box's longer side: from s above the centre to 1.8 s below it and 1.4 s to either side, so that chin and neck are in it.
Centre and s are medians over 13 frames; what lies outside of the picture is grey 110.

Here the box is that of face-mesh landmarks (forehead under the hair line to the chin, ear to ear), which is about what
S3FD marks; that is not the same detector, so that figures are near the published ones' scale but not interchangeable
to the last digit. Pictures are not compressed in between, as the pipeline's are (MPEG-4, then JPEG).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from fractions import Fraction

import cv2
import numpy as np

from encoders.syncnet.network import PICTURE_SIZE
from encoders.syncnet.sound import FPS

CROP_SCALE = 0.4
"""Share of s by which the square reaches beyond the box on either side, and twice as much below."""
MEDIAN_FRAMES = 13
GREY = 110
SHORTEST = MEDIAN_FRAMES // 2 + 1
"""Pictures: of fewer the median knows no box."""

FaceBox = tuple[float, float, float]
"""Centre x and y, and half of the longer side, px."""


def face_box(landmarks: np.ndarray) -> FaceBox:
    """The box around landmarks [K, 2 or more] of the whole face."""
    low, high = landmarks[:, :2].min(axis=0), landmarks[:, :2].max(axis=0)
    x, y = (low + high) / 2
    return float(x), float(y), float((high - low).max() / 2)


def cut_face(picture: np.ndarray, box: FaceBox) -> np.ndarray:
    """The square around the box, uint8 [PICTURE_SIZE, PICTURE_SIZE, 3] blue first, of a picture RGB uint8 [H, W, 3].

    Raises:
        ValueError: the box is empty.
    """
    x, y, half = box
    margin = int(half * (1 + 2 * CROP_SCALE))
    if margin < 1:
        raise ValueError(f"expected a face box of some pixels, got half a side of {half:g} px")
    padded = cv2.copyMakeBorder(picture, *[margin] * 4, cv2.BORDER_CONSTANT, value=(GREY,) * 3)
    x, y, side = x + margin, y + margin, half * (1 + CROP_SCALE)
    rows = slice(max(0, int(y - half)), max(0, int(y + half * (1 + 2 * CROP_SCALE))))
    columns = slice(max(0, int(x - side)), max(0, int(x + side)))
    return cv2.resize(padded[rows, columns], (PICTURE_SIZE, PICTURE_SIZE))[..., ::-1]


class FaceStream:
    """Pictures with face boxes in, faces out; it holds seven pictures.

    The median is that of scipy.signal.medfilt, as published: beyond the ends boxes are zero, so that the first and the
    last ones are smaller than the face by what it moves in a quarter of a second.
    """

    def __init__(self) -> None:
        self._boxes: deque[FaceBox] = deque([(0.0, 0.0, 0.0)] * MEDIAN_FRAMES, MEDIAN_FRAMES)
        self._pictures: deque[np.ndarray] = deque()

    def see(self, picture: np.ndarray, box: FaceBox) -> Iterator[np.ndarray]:
        """Takes the next picture in; yields a face (see `cut_face`) once it is known what follows."""
        self._pictures.append(picture)
        self._boxes.append(box)
        if len(self._pictures) == SHORTEST:
            yield self._next()

    def finish(self) -> Iterator[np.ndarray]:
        """The faces that are left.

        Raises:
            ValueError: there were less than SHORTEST pictures in all.
        """
        while self._pictures:
            self._boxes.append((0.0, 0.0, 0.0))
            yield self._next()

    def _next(self) -> np.ndarray:
        x, y, half = np.median(np.array(self._boxes), axis=0)
        return cut_face(self._pictures.popleft(), (x, y, half))


def shown_before(index: int, fps: Fraction) -> int:
    """How many pictures at FPS show frames before `index` of a video: picture k is the frame nearest to k / FPS s.

    ffmpeg's `-r 25`, by which the published pipeline begins, takes frames alike.
    """
    return max(0, math.ceil((index - Fraction(1, 2)) * FPS / fps))
