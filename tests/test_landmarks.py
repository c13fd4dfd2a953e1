"""Landmarks on a real photograph; the index tables against MediaPipe's own and against the face's geometry."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path
from urllib.error import URLError

import cv2
import numpy as np
import pytest
from mediapipe.python.solutions import face_mesh_connections as reference
from skimage import data

from tools.errors import LandmarkBackendError
from tools.landmarks import IBUG_68, MEDIAPIPE_478, FaceTopology, MediaPipeLandmarks, landmark_detector
from tools.video import probe, read_frames


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    return data.astronaut()


@pytest.fixture(scope="module")
def face(astronaut: np.ndarray) -> np.ndarray:
    with landmark_detector("mediapipe", still=True) as detector:
        (found,) = detector.detect(astronaut)
    return found


def pasted(picture: np.ndarray, side: int, left: int, top: int, canvas: np.ndarray | None = None) -> np.ndarray:
    """The picture, shrunk to `side`, in a grey full-HD frame."""
    canvas = np.full((1080, 1920, 3), 90, np.uint8) if canvas is None else canvas.copy()
    canvas[top : top + side, left : left + side] = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
    return canvas


# --- topologies ---


def indices(edges: frozenset[tuple[int, int]]) -> set[int]:
    return {index for edge in edges for index in edge}


REFERENCES = {
    "lips": reference.FACEMESH_LIPS,
    "left_eye": reference.FACEMESH_LEFT_EYE,
    "right_eye": reference.FACEMESH_RIGHT_EYE,
    "left_brow": reference.FACEMESH_LEFT_EYEBROW,
    "right_brow": reference.FACEMESH_RIGHT_EYEBROW,
    "face_oval": reference.FACEMESH_FACE_OVAL,
}


@pytest.mark.parametrize("part", REFERENCES)
def test_parts_are_those_of_mediapipe(part: str) -> None:
    assert set(getattr(MEDIAPIPE_478, part)) == indices(REFERENCES[part])


@pytest.mark.parametrize("part", ["outer_lips", "inner_lips", "left_eye", "right_eye", "face_oval"])
def test_rings_follow_mediapipes_edges(part: str) -> None:
    ring = getattr(MEDIAPIPE_478, part)
    edges = {frozenset(edge) for connections in REFERENCES.values() for edge in connections}
    assert len(set(ring)) == len(ring)
    for first, second in zip(ring, ring[1:] + ring[:1], strict=True):
        assert frozenset((first, second)) in edges


def test_irises_are_those_of_mediapipe() -> None:
    assert set(MEDIAPIPE_478.left_iris[1:]) == indices(reference.FACEMESH_LEFT_IRIS)
    assert set(MEDIAPIPE_478.right_iris[1:]) == indices(reference.FACEMESH_RIGHT_IRIS)


@pytest.mark.parametrize("topology", [MEDIAPIPE_478, IBUG_68], ids=lambda topology: topology.name)
def test_indices_exist_and_belong_together(topology: FaceTopology) -> None:
    parts = [value for value in vars(topology).values() if isinstance(value, tuple)]
    assert all(0 <= index < topology.count for part in parts for index in part)
    assert {topology.upper_inner_lip, topology.lower_inner_lip} <= set(topology.inner_lips)
    assert topology.left_outer_eye_corner in topology.left_eye and topology.right_outer_eye_corner in topology.right_eye
    assert not set(topology.stable) & (set(topology.lips) | {topology.chin})
    assert topology.chin in topology.face_oval


def inside(point: np.ndarray, ring: np.ndarray) -> bool:
    return cv2.pointPolygonTest(np.ascontiguousarray(ring[:, :2], np.float32), [float(v) for v in point[:2]], False) > 0


def test_parts_lie_where_they_should_on_a_face(face: np.ndarray) -> None:
    """A frontal face: the subject's left is on the right of the picture, y grows downwards, z away from the camera."""
    names = MEDIAPIPE_478
    assert face.shape == (478, 3) and face.dtype == np.float32

    def middle(part: tuple[int, ...]) -> np.ndarray:
        return face[list(part)].mean(axis=0)

    assert middle(names.left_eye)[0] > middle(names.right_eye)[0] + 30
    assert middle(names.left_brow)[1] < middle(names.left_eye)[1] < middle(names.lips)[1] < face[names.chin, 1]
    assert face[names.upper_inner_lip, 1] < face[names.lower_inner_lip, 1]
    assert face[names.left_outer_eye_corner, 0] == face[list(names.left_eye), 0].max()
    assert face[names.right_outer_eye_corner, 0] == face[list(names.right_eye), 0].min()
    assert face[names.chin, 1] == pytest.approx(face[list(names.face_oval), 1].max(), abs=1)
    for eye, iris in ((names.left_eye, names.left_iris), (names.right_eye, names.right_iris)):
        assert inside(face[iris[0]], face[list(eye)])
        assert np.allclose(face[iris[0], :2], face[list(iris[1:]), :2].mean(axis=0), atol=1)
    outer = face[list(names.outer_lips)]
    assert sum(inside(point, outer) for point in face[list(names.inner_lips)]) >= 18
    nose_tip = 1
    assert face[nose_tip, 2] < middle(names.left_eye)[2] and face[nose_tip, 2] < middle(names.face_oval)[2]


def test_the_stable_points_hold_still_while_a_person_speaks(shared: Path) -> None:
    info = probe(shared / "clips" / "anchor_512_25fps_20s.mp4")
    with landmark_detector("mediapipe", max_faces=1) as detector:
        faces = np.array([detector.detect(frame)[0] for frame in read_frames(info, 0, 75)])
    reference_face = faces[0] - faces[0].mean(0)
    residual = []
    for points in faces:
        centred = points - points.mean(0)
        left, _, right = np.linalg.svd(centred.T @ reference_face)
        residual.append(centred @ left @ right - reference_face)
    motion = np.std(residual, axis=0).mean(1)
    assert motion[list(MEDIAPIPE_478.stable)].mean() < 0.6 * motion[list(MEDIAPIPE_478.lips)].mean()


# --- MediaPipe ---


def test_landmarks_are_in_pixels_of_the_frame(astronaut: np.ndarray, face: np.ndarray) -> None:
    with landmark_detector("mediapipe", still=True) as detector:
        (small,) = detector.detect(cv2.resize(astronaut, (256, 256), interpolation=cv2.INTER_AREA))
        (wide,) = detector.detect(np.pad(astronaut, ((0, 0), (100, 40), (0, 0)), mode="edge"))
    assert np.abs(small * 2 - face).mean() < 1.5
    assert np.abs(wide - (100, 0, 0) - face).mean() < 1.5


@pytest.mark.parametrize("still", [True, False])
def test_a_small_face_in_a_large_frame_is_found(still: bool, astronaut: np.ndarray, face: np.ndarray) -> None:
    """Its width is 4 % of the frame's, far below what the mesh's own detector sees."""
    with MediaPipeLandmarks(still) as detector:
        for left in (900, 905, 910):
            (found,) = detector.detect(pasted(astronaut, 400, left, 300))
            assert np.abs((found - (left, 300, 0)) * (512 / 400) - face).mean() < 2.5
        assert detector.detect(np.full((1080, 1920, 3), 90, np.uint8)) == []
        (found,) = detector.detect(pasted(astronaut, 400, 200, 500))
        assert np.abs((found - (200, 500, 0)) * (512 / 400) - face).mean() < 2.5


def test_several_faces_come_largest_first(astronaut: np.ndarray) -> None:
    closer = cv2.resize(astronaut, (768, 768))[:512, 128:640]
    side_by_side = np.concatenate([astronaut, closer], axis=1)
    with landmark_detector("mediapipe", still=True) as detector:
        first, second = detector.detect(side_by_side)
    assert np.ptp(first[:, 0]) > 1.2 * np.ptp(second[:, 0]) and first[:, 0].mean() > 512 > second[:, 0].mean()
    with landmark_detector("mediapipe", still=True, max_faces=1) as detector:
        assert len(detector.detect(side_by_side)) == 1


def test_no_face_gives_an_empty_list() -> None:
    with landmark_detector("mediapipe") as detector:
        assert detector.detect(data.coffee()) == []


def test_the_terminal_stays_clean() -> None:
    """In a process of its own, where nothing else has woken the libraries up."""
    code = (
        "from skimage import data\n"
        "from tools.landmarks import landmark_detector\n"
        "import numpy as np\n"
        "for still in (True, False):\n"
        "    with landmark_detector('mediapipe', still) as detector:\n"
        "        detector.detect(np.zeros((90, 160, 3), np.uint8))\n"
        "        assert detector.detect(data.astronaut())\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parent.parent, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_standard_error_comes_back(capfd: pytest.CaptureFixture[str]) -> None:
    with landmark_detector("mediapipe"):
        print("still here", file=sys.stderr)
    assert capfd.readouterr().err == "still here\n"


# --- face-alignment ---


class FakeFaceAlignment(types.ModuleType):
    """Stands in for the library, whose weights are fetched on first use."""

    class LandmarksType:
        THREE_D = "3D"

    def __init__(self, faces: list[np.ndarray] | None, failure: Exception | None = None) -> None:
        super().__init__("face_alignment")
        self.faces, self.failure = faces, failure

    def FaceAlignment(self, kind: str, device: str) -> FakeFaceAlignment:
        print("Downloading: weights 0%", file=sys.stderr)
        if self.failure:
            raise self.failure
        assert (kind, device) == ("3D", "cpu")
        return self

    def get_landmarks_from_image(self, frame: np.ndarray) -> list[np.ndarray] | None:
        assert frame.dtype == np.uint8
        return self.faces


def test_face_alignment_gives_68_points_largest_face_first(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    small = np.random.default_rng(0).uniform(10, 20, (68, 3))
    fake = FakeFaceAlignment([small, small * 2, small * 3])
    monkeypatch.setitem(sys.modules, "face_alignment", fake)
    with landmark_detector("face-alignment", max_faces=2) as detector:
        found = detector.detect(np.zeros((64, 64, 3), np.uint8))
        fake.faces = None
        assert detector.detect(np.zeros((64, 64, 3), np.uint8)) == []
    assert detector.topology is IBUG_68
    assert [points.dtype for points in found] == [np.float32] * 2
    assert np.allclose(found[0], small * 3) and np.allclose(found[1], small * 2)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("failure", [URLError("no network"), RuntimeError("invalid hash value\n(expected 1)")])
def test_weights_that_cannot_be_had_are_named_in_one_line(failure: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "face_alignment", FakeFaceAlignment(None, failure))
    with pytest.raises(LandmarkBackendError, match=r"weights cannot be fetched .* or use mediapipe") as caught:
        landmark_detector("face-alignment")
    assert "\n" not in str(caught.value)


def test_a_library_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "face_alignment", None)
    with pytest.raises(LandmarkBackendError, match="pip install face-alignment"):
        landmark_detector("face-alignment")


def test_an_unknown_back_end_is_refused() -> None:
    with pytest.raises(ValueError, match="expected mediapipe or face-alignment"):
        landmark_detector("openface")
