"""Face landmarks: MediaPipe's face mesh (478 points, in the wheel) or face-alignment (68 points, weights fetched).

Landmarks are float32 [K, 3]: x and y in pixels of the frame handed in (origin at the top left corner, y down), z in the
same scale, smaller nearer to the camera, its origin at the middle of the head.
"""

from __future__ import annotations

import importlib
import math
import warnings
from dataclasses import dataclass
from typing import Literal, Protocol

import mediapipe as mp
import numpy as np
from mediapipe.python.solutions.face_detection import FaceDetection

from tools.errors import LandmarkBackendError
from tools.face_topology import IBUG_68, MEDIAPIPE_478, FaceTopology
from tools.native_output import silenced_stderr

__all__ = [
    "IBUG_68",
    "MEDIAPIPE_478",
    "FaceAlignmentLandmarks",
    "FaceTopology",
    "LandmarkDetector",
    "MediaPipeLandmarks",
    "landmark_detector",
]

MAX_FACES = 4
WINDOW_SCALE = 3.0  # side of the window that is searched around a small face, in face sizes
BLANK = np.zeros((64, 64, 3), np.uint8)  # a graph's threads start, and log, only while its first frame is worked on

# MediaPipe's Python code calls a deprecated protobuf function once per graph; nothing a user could do about it.
warnings.filterwarnings("ignore", message=r"SymbolDatabase\.GetPrototype", category=UserWarning)


class LandmarkDetector(Protocol):
    """A landmark back end. Use it as a context manager, or call `close`."""

    topology: FaceTopology

    def detect(self, frame: np.ndarray) -> list[np.ndarray]:
        """Landmarks of every face in a uint8 RGB frame [H, W, 3], the largest face first; empty when there is none."""
        ...

    def restart(self) -> None:
        """The next frame does not follow the last one: forgets what it followed."""
        ...

    def close(self) -> None:
        """Frees the network."""
        ...

    def __enter__(self) -> LandmarkDetector: ...

    def __exit__(self, *exception: object) -> None: ...


def largest_face(detector: LandmarkDetector, frame: np.ndarray) -> np.ndarray:
    """Landmarks [K, 3] of the largest face in a uint8 RGB frame [H, W, 3]; NaN when there is none."""
    faces = detector.detect(frame)
    return faces[0] if faces else np.full((detector.topology.count, 3), np.nan, np.float32)


def landmark_detector(
    name: Literal["mediapipe", "face-alignment"], still: bool = False, max_faces: int = MAX_FACES
) -> LandmarkDetector:
    """The landmark back end of that name; see the classes for the arguments.

    Raises:
        LandmarkBackendError: face-alignment is not installed or its weights cannot be had.
    """
    if name == "mediapipe":
        return MediaPipeLandmarks(still, max_faces)
    if name == "face-alignment":
        return FaceAlignmentLandmarks(max_faces)
    raise ValueError(f"unknown landmark back end {name!r}: expected mediapipe or face-alignment")


@dataclass(frozen=True)
class _Window:
    """A part of the frame, in pixels: columns `left ... right - 1`, rows `top ... bottom - 1`."""

    left: int
    top: int
    right: int
    bottom: int

    def cut(self, frame: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(frame[self.top : self.bottom, self.left : self.right])

    def holds_in_its_middle(self, x: float, y: float) -> bool:
        """Whether a point lies on the face that the window was made for."""
        reach = (self.right - self.left) / WINDOW_SCALE / 2
        return abs(x - (self.left + self.right) / 2) < reach and abs(y - (self.top + self.bottom) / 2) < reach


class MediaPipeLandmarks:
    """MediaPipe's face mesh with irises: 478 points (Kartynnik et al., arXiv 1907.06724; irises: arXiv 2006.11341).

    By default frames are taken for a video in order: a face found is followed from frame to frame. With `still` every
    frame is searched anew.

    The face mesh's own detector overlooks faces narrower than a tenth of the frame's longer side. So when it finds
    none (with `still`, also when it finds fewer than `max_faces`), the long-range detector looks at squares of the
    frame, where it finds faces down to 6 % of the shorter side, and the mesh is run in a window around each. Following
    a video, the window then stays around the largest face until that face leaves it.
    """

    topology = MEDIAPIPE_478

    def __init__(self, still: bool = False, max_faces: int = MAX_FACES) -> None:
        self._still = still
        self._max_faces = max_faces
        self._window: _Window | None = None
        self._frame_shape: tuple[int, ...] = ()
        self._has_seen_face = False
        self._finder: FaceDetection | None = None  # made when a face is overlooked: most videos need none
        with silenced_stderr():
            self._mesh = mp.solutions.face_mesh.FaceMesh(
                static_image_mode=still, max_num_faces=max_faces, refine_landmarks=True
            )
            self._mesh.process(BLANK)

    def detect(self, frame: np.ndarray) -> list[np.ndarray]:
        """See `LandmarkDetector.detect`."""
        if self._has_seen_face:
            return self._detect(frame)
        with silenced_stderr():  # the part that projects landmarks speaks up with the first face
            faces = self._detect(frame)
        self._has_seen_face = bool(faces)
        return faces

    def restart(self) -> None:
        """See `LandmarkDetector.restart`."""
        self._window = None
        self._forget()

    def close(self) -> None:
        """Frees the networks."""
        self._mesh.close()
        if self._finder is not None:
            self._finder.close()

    def __enter__(self) -> MediaPipeLandmarks:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _detect(self, frame: np.ndarray) -> list[np.ndarray]:
        height, width = frame.shape[:2]
        whole = _Window(0, 0, width, height)
        if frame.shape != self._frame_shape:
            self._frame_shape, self._window = frame.shape, None
        if self._window is not None:
            faces = self._run_mesh(frame, self._window)
            if faces and _is_well_inside(faces[0], self._window):
                return faces
            self._look_at(None)
        faces = self._run_mesh(frame, whole)
        wants_more = self._still and len(faces) < self._max_faces
        return self._look_closer(frame, faces) if wants_more or not faces else faces

    def _look_closer(self, frame: np.ndarray, faces: list[np.ndarray]) -> list[np.ndarray]:
        """These faces, and those that are too small for the mesh's own detector."""
        found = list(faces)
        for window in self._windows_around_faces(frame)[: self._max_faces]:
            self._look_at(window)
            for face in self._run_mesh(frame, window):
                if not any(_is_same_face(face, other) for other in found):
                    found.append(face)
            if found and not self._still:
                return _largest_first(found)
        self._look_at(None)
        return _largest_first(found)[: self._max_faces]

    def _look_at(self, window: _Window | None) -> None:
        """Moves the gaze. A followed face is stored relative to the window, so it has to be forgotten."""
        if not self._still and window != self._window:
            self._window = window
            self._forget()

    def _forget(self) -> None:
        with silenced_stderr():
            self._mesh.reset()
            self._mesh.process(BLANK)

    def _windows_around_faces(self, frame: np.ndarray) -> list[_Window]:
        height, width = frame.shape[:2]
        finder = self._finder = self._finder or _face_finder()
        boxes: list[np.ndarray] = []  # centre x, centre y, size in px
        for tile in _square_tiles(height, width):
            side = tile.right - tile.left
            for found in finder.process(tile.cut(frame)).detections or ():
                box = found.location_data.relative_bounding_box
                centre = (tile.left + (box.xmin + box.width / 2) * side, tile.top + (box.ymin + box.height / 2) * side)
                boxes.append(np.array((*centre, max(box.width, box.height) * side)))
        windows: list[_Window] = []
        for x, y, size in sorted(boxes, key=lambda box: -box[2]):
            if any(window.holds_in_its_middle(x, y) for window in windows):
                continue  # seen in another tile as well
            half = size * WINDOW_SCALE / 2
            left, top = max(0, round(x - half)), max(0, round(y - half))
            windows.append(_Window(left, top, min(width, round(x + half)), min(height, round(y + half))))
        return windows

    def _run_mesh(self, frame: np.ndarray, window: _Window) -> list[np.ndarray]:
        width, height = window.right - window.left, window.bottom - window.top
        faces = self._mesh.process(window.cut(frame)).multi_face_landmarks or ()
        scale, offset = (width, height, width), (window.left, window.top, 0)  # z is in units of the image width
        return _largest_first(
            [(np.array([(p.x, p.y, p.z) for p in face.landmark]) * scale + offset).astype(np.float32) for face in faces]
        )


class FaceAlignmentLandmarks:
    """face-alignment's 3D landmarks: 68 points in the iBUG mark-up (Bulat and Tzimiropoulos, arXiv 1703.07332).

    Every frame is searched anew. The library fetches its weights when it is first used.

    Raises:
        LandmarkBackendError: it is not installed, or its weights cannot be fetched.
    """

    topology = IBUG_68

    def __init__(self, max_faces: int = MAX_FACES, device: str = "cpu") -> None:
        self._max_faces = max_faces
        try:
            with silenced_stderr():
                library = importlib.import_module("face_alignment")
                self._network = library.FaceAlignment(library.LandmarksType.THREE_D, device=device)
        except ImportError as error:
            raise LandmarkBackendError(
                "face-alignment is not installed: run 'pip install face-alignment', or use the back end mediapipe"
            ) from error
        except (OSError, RuntimeError) as error:  # no network (URLError is an OSError), or a broken download
            raise LandmarkBackendError(
                f"face-alignment's weights cannot be fetched ({error}): connect to the internet once, or use mediapipe"
            ) from error

    def detect(self, frame: np.ndarray) -> list[np.ndarray]:
        """See `LandmarkDetector.detect`."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of every frame without a face
            faces = self._network.get_landmarks_from_image(frame) or ()
        return _largest_first([np.asarray(face, np.float32) for face in faces])[: self._max_faces]

    def restart(self) -> None:
        """Nothing is followed from frame to frame."""

    def close(self) -> None:
        """Frees the network."""
        self._network = None

    def __enter__(self) -> FaceAlignmentLandmarks:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _face_finder() -> FaceDetection:
    """MediaPipe's long-range face detector (BlazeFace, arXiv 1907.05047)."""
    with silenced_stderr():
        finder = FaceDetection(model_selection=1)
        finder.process(BLANK)
    return finder


def _square_tiles(height: int, width: int) -> list[_Window]:
    """Squares as large as the frame allows that cover it, neighbours sharing at least half of their area."""
    side = min(height, width)
    steps = math.ceil(2 * (max(height, width) - side) / side)
    offsets = [round((max(height, width) - side) * step / max(1, steps)) for step in range(steps + 1)]
    if width >= height:
        return [_Window(offset, 0, offset + side, side) for offset in offsets]
    return [_Window(0, offset, side, offset + side) for offset in offsets]


def _extent(face: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return face[:, :2].min(axis=0), face[:, :2].max(axis=0)


def _largest_first(faces: list[np.ndarray]) -> list[np.ndarray]:
    return sorted(faces, key=lambda face: -float(np.prod(np.ptp(face[:, :2], axis=0))))


def _is_same_face(face: np.ndarray, other: np.ndarray) -> bool:
    """Whether the middle of one lies inside the other."""
    low, high = _extent(other)
    middle = face[:, :2].mean(axis=0)
    return bool(np.all(middle > low) and np.all(middle < high))


def _is_well_inside(face: np.ndarray, window: _Window) -> bool:
    """Whether a face that moved on since the window was set is still whole within it."""
    low, high = _extent(face)
    return bool(low[0] > window.left and low[1] > window.top and high[0] < window.right and high[1] < window.bottom)
