"""The person's matte on a real photograph, and the mouth mask against exact areas."""

from __future__ import annotations

import numpy as np
import pytest
from skimage import data, transform

from tools.landmarks import IBUG_68, MEDIAPIPE_478, FaceTopology
from tools.segmentation import PersonSegmenter, inner_mouth_mask


def test_the_person_is_found_and_the_background_left_out(capfd: pytest.CaptureFixture[str]) -> None:
    picture = data.astronaut()
    with PersonSegmenter() as segmenter:
        matte = segmenter.person_matte(picture)
        again = segmenter.person_matte(picture)
        wide = segmenter.person_matte(np.pad(picture, ((0, 0), (200, 200), (0, 0)), mode="edge"))
    assert matte.shape == picture.shape[:2] and matte.dtype == np.float32
    assert matte.min() >= 0 and matte.max() <= 1
    assert matte[90:180, 200:250].min() > 0.9, "face"
    assert matte[400:, 200:300].mean() > 0.98, "chest"
    assert matte[:300, 480:].max() < 0.5, "the model of the shuttle"
    assert np.array_equal(matte, again), "each frame is taken by itself"
    assert wide.shape == (512, 912)
    assert capfd.readouterr() == ("", "")


def mouth(topology: FaceTopology, centre: tuple[float, float], radius: float) -> np.ndarray:
    """Landmarks whose inner lips form a circle, sampled as finely as the topology does."""
    landmarks = np.zeros((topology.count, 3), np.float32)
    angles = np.linspace(0, 2 * np.pi, len(topology.inner_lips), endpoint=False)
    landmarks[list(topology.inner_lips), 0] = centre[0] + radius * np.cos(angles)
    landmarks[list(topology.inner_lips), 1] = centre[1] + radius * np.sin(angles)
    return landmarks


@pytest.mark.parametrize("topology", [MEDIAPIPE_478, IBUG_68], ids=lambda topology: topology.name)
def test_the_mouth_mask_has_the_area_and_centre_of_the_polygon(topology: FaceTopology) -> None:
    corners, radius, centre = len(topology.inner_lips), 40.0, (90.3, 60.6)
    mask = inner_mouth_mask(mouth(topology, centre, radius), topology, (130, 200))
    area = corners / 2 * radius**2 * np.sin(2 * np.pi / corners)
    assert mask.dtype == np.uint8 and mask.shape == (130, 200) and set(np.unique(mask)) == {0, 1}
    assert mask.sum() == pytest.approx(area, rel=0.05)
    rows, columns = np.nonzero(mask)
    assert (columns.mean() + 0.5, rows.mean() + 0.5) == pytest.approx(centre, abs=0.3)


def test_the_mouth_mask_agrees_with_a_scaled_one() -> None:
    """Whatever the size of the frame, the mask covers the same part of the face."""
    landmarks = mouth(MEDIAPIPE_478, (50, 40), 20)
    small = inner_mouth_mask(landmarks, MEDIAPIPE_478, (80, 100))
    large = inner_mouth_mask(landmarks * 4, MEDIAPIPE_478, (320, 400))
    shrunk = transform.downscale_local_mean(large.astype(float), (4, 4)) > 0.5
    assert np.logical_xor(shrunk, small > 0).sum() < 0.1 * small.sum()


def test_a_mouth_outside_the_frame_gives_an_empty_mask() -> None:
    mask = inner_mouth_mask(mouth(MEDIAPIPE_478, (-100, -100), 20), MEDIAPIPE_478, (50, 60))
    assert mask.sum() == 0
