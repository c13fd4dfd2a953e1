"""The faces in a row's pictures: each is looked for once, however many instruments ask."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np

from tools.face_topology import MEDIAPIPE_478
from tools.landmarks import LandmarkDetector, landmark_detector, largest_face


class RowFaces:
    """MediaPipe's landmarks, by a detector that follows the row's pictures as a video of their own.

    What the row shows in place and the head alone are two videos. A detector takes tens of megabytes and is made when
    first needed.
    """

    topology = MEDIAPIPE_478

    def __init__(self, stack: ExitStack) -> None:
        """Makes it; the stack closes the detectors."""
        self._stack = stack
        self._detectors: dict[str, LandmarkDetector] = {}

    def in_place(self, picture: np.ndarray) -> np.ndarray:
        """[478, 3] px of the largest face in the next picture in place, NaN without one."""
        return self._seen("in place", picture)

    def free(self, picture: np.ndarray) -> np.ndarray:
        """The same in the next picture of the head alone."""
        return self._seen("free", picture)

    def _seen(self, video: str, picture: np.ndarray) -> np.ndarray:
        if video not in self._detectors:
            self._detectors[video] = self._stack.enter_context(landmark_detector("mediapipe", max_faces=1))
        return largest_face(self._detectors[video], picture)
