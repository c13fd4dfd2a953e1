"""The background plate: the scene behind the person, put together from what the frames show of it."""

from __future__ import annotations

import cv2
import numpy as np

PERSON_FREE = 0.1  # a pixel counts as background when its matte, and all of it nearby, is below this
MARGIN = 0.02  # of the frame's longer side: how far "nearby" reaches, so that hair and motion blur stay out
INPAINTING_SIDE = 256  # px: what no frame shows is filled at this size, for only its colours matter
NEUTRAL_GREY = 128


class BackgroundPlate:
    """Averages the person-free pixels of a clip from a fixed camera. Memory: one frame, whatever the clip's length."""

    def __init__(self) -> None:
        self._total: np.ndarray | None = None  # float64 [H, W, 3]
        self._seen: np.ndarray | None = None  # int32 [H, W], frames in which a pixel was person-free

    def add(self, frame: np.ndarray, matte: np.ndarray) -> None:
        """Takes in one frame.

        Args:
            frame: uint8 RGB [H, W, 3].
            matte: float32 [H, W] in [0, 1], 1 on the person.

        Raises:
            ValueError: sizes differ from each other or from the frames before.
        """
        if self._total is None:
            self._total = np.zeros(frame.shape, np.float64)
            self._seen = np.zeros(frame.shape[:2], np.int32)
        if frame.shape != self._total.shape or matte.shape != self._seen.shape:
            raise ValueError(f"expected a frame of {self._total.shape} and its matte, got {frame.shape}, {matte.shape}")
        reach = 2 * round(MARGIN * max(matte.shape)) + 1
        person = cv2.dilate((matte >= PERSON_FREE).astype(np.uint8), np.ones((reach, reach), np.uint8))
        free = 1 - person
        cv2.accumulate(frame, self._total, free)
        self._seen += free

    def finish(self) -> np.ndarray:
        """The plate: uint8 RGB [H, W, 3].

        Pixels that were hidden in every frame are inpainted from their surroundings (Bertalmio et al. 2001,
        `cv2.inpaint`); with no background at all, as in a close-up, the plate is neutral grey.

        Raises:
            ValueError: no frame was added.
        """
        if self._total is None:
            raise ValueError("a background plate needs at least one frame")
        hidden = self._seen == 0
        if hidden.all():
            return np.full(self._total.shape, NEUTRAL_GREY, np.uint8)
        plate = np.round(self._total / np.maximum(self._seen, 1)[..., None]).astype(np.uint8)
        return _inpainted(plate, hidden) if hidden.any() else plate


def _inpainted(plate: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    height, width = hidden.shape
    scale = min(1.0, INPAINTING_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    known = cv2.resize((~hidden).astype(np.float32), size, interpolation=cv2.INTER_AREA)
    # Hidden pixels of the plate are black, so dividing by the known share leaves the average of the known ones.
    colors = cv2.resize(plate.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    small = np.round(colors / np.maximum(known, 1e-6)[..., None]).clip(0, 255).astype(np.uint8)
    filled = cv2.inpaint(small, (known == 0).astype(np.uint8), 3, cv2.INPAINT_NS)
    filled = cv2.resize(filled, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.where(hidden[..., None], filled, plate)
