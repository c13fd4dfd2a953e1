"""Masks of a frame: the person, and the inside of the mouth."""

from __future__ import annotations

import cv2
import mediapipe as mp
import numpy as np

from tools.face_topology import FaceTopology
from tools.native_output import silenced_stderr

SUBPIXEL_BITS = 4


class PersonSegmenter:
    """MediaPipe's selfie segmentation, the general model for 256x256. Use it as a context manager, or call `close`.

    Every frame is taken by itself: a matte averaged over time would trail behind a moving head, and what it is used for
    (whole regions, the background plate) does not see its flicker.
    """

    def __init__(self) -> None:
        with silenced_stderr():
            self._network = mp.solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)
            # The graph's threads start, and log, only while its first frame is worked on.
            self._network.process(np.zeros((64, 64, 3), np.uint8))

    def person_matte(self, frame: np.ndarray) -> np.ndarray:
        """How much of each pixel is person: float32 [H, W] in [0, 1], for a uint8 RGB frame [H, W, 3]."""
        matte = self._network.process(np.ascontiguousarray(frame)).segmentation_mask
        return np.clip(matte, 0.0, 1.0).astype(np.float32)

    def close(self) -> None:
        """Frees the network."""
        self._network.close()

    def __enter__(self) -> PersonSegmenter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def inner_mouth_mask(landmarks: np.ndarray, topology: FaceTopology, size: tuple[int, int]) -> np.ndarray:
    """The opening of the mouth, teeth and tongue included: uint8 [H, W], 1 inside the inner-lip ring and 0 elsewhere.

    Args:
        landmarks: [K, 2 or 3], pixels of a frame of that size (pixel centres at whole numbers plus a half).
        topology: says which of them form the ring.
        size: height and width of the mask.
    """
    mask = np.zeros(size, np.uint8)
    ring = landmarks[list(topology.inner_lips), :2] - 0.5  # OpenCV counts from the centre of the first pixel
    points = np.round(ring * (1 << SUBPIXEL_BITS)).astype(np.int32)
    return cv2.fillPoly(mask, [points], 1, shift=SUBPIXEL_BITS)
