"""The portrait behind the demo clip: crop, landmarks, depth, matte and the background without the person.

The picture is the one of Rear Admiral Grace Hopper that matplotlib carries (United States Navy, public domain).
Coordinates are pixels of the 512x512 crop, x right, y down, z away from the viewer in the same scale; the first pixel
reaches from 0 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import matplotlib.cbook
import mediapipe as mp
import numpy as np
from scipy.interpolate import RBFInterpolator

SIZE = 512
"""Width and height of the clip, px."""
TEXTURE_SCALE = 2
"""Texture pixels per pixel of the clip: enough that moving the portrait does not blur it."""
CROP = (10, 6, 490)
"""Left, top and side of the square that is cut from the picture, px: leaves room for the cap to move."""

FACE_SIDE_LANDMARKS = (234, 454)
CHIN_LANDMARK = 152
UPPER_INNER_LIP = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
LOWER_INNER_LIP = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)


@dataclass(frozen=True)
class Portrait:
    """A still picture, taken apart so that the person can be moved before the background."""

    texture: np.ndarray
    """RGB uint8 [1024, 1024, 3]: the crop at TEXTURE_SCALE."""
    matte: np.ndarray
    """float32 [1024, 1024] in [0, 1]: 1 on the person."""
    plate: np.ndarray
    """RGB uint8 [512, 512, 3]: the background, filled in where the person stands."""
    landmarks: np.ndarray
    """float64 [478, 3] px: MediaPipe's face landmarks, z relative to the head's centre; the inner lips touch."""

    def depth(self, points: np.ndarray) -> np.ndarray:
        """Depth of the person's surface at points [N, 2] px, relative to the head's centre, px [N].

        A smooth surface through the landmarks; around the face it runs back to rough depths of cap, hair, neck and
        shoulders, which a head turning by a few degrees does not give away.
        """
        left, right = (self.landmarks[i] for i in FACE_SIDE_LANDMARKS)
        centre_x, width = (left[0] + right[0]) / 2, right[0] - left[0]
        brow_y, chin_y = self.landmarks[:, 1].min(), self.landmarks[CHIN_LANDMARK, 1]
        side_z = (left[2] + right[2]) / 2
        around = np.array(
            [
                *((centre_x + dx * width, brow_y - 35, 0.1 * side_z + abs(dx) * side_z) for dx in (-0.5, 0, 0.5)),
                *((centre_x + dx * width, 0, side_z) for dx in (-0.4, 0, 0.4)),
                *((centre_x + dx * width, y, 1.3 * side_z) for dx in (-0.65, 0.65) for y in (brow_y, left[1], chin_y)),
                *((centre_x + dx * width, chin_y + 45, 0.9 * side_z) for dx in (-0.25, 0, 0.25)),
                *((x, y, 1.3 * side_z) for x in (0, SIZE) for y in (0, SIZE / 2, SIZE)),
                *((centre_x + dx * width, SIZE, 0.7 * side_z) for dx in (-0.5, 0, 0.5)),
            ]
        )
        known = np.concatenate([self.landmarks, around])
        surface = RBFInterpolator(known[:, :2], known[:, 2], kernel="thin_plate_spline", smoothing=20.0)
        return surface(points).clip(known[:, 2].min(), 1.3 * side_z)


def load_portrait() -> Portrait:
    """Cut, analyse and take apart the portrait. The same result at every call."""
    path = matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    left, top, side = CROP
    crop = cv2.imread(str(path))[top : top + side, left : left + side, ::-1]
    image = cv2.resize(crop, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    texture = cv2.resize(crop, (SIZE * TEXTURE_SCALE, SIZE * TEXTURE_SCALE), interpolation=cv2.INTER_LANCZOS4)
    landmarks = _detect_landmarks(image)
    matte = _person_matte(image, cap_bottom=int(landmarks[:, 1].min()))
    near_person = cv2.dilate((matte > 0.02).astype(np.uint8), _disc(19)).astype(bool)
    return Portrait(
        texture=texture,
        matte=cv2.resize(matte, texture.shape[:2], interpolation=cv2.INTER_LINEAR),
        plate=_fill(image, near_person),
        landmarks=landmarks,
    )


def _detect_landmarks(image: np.ndarray) -> np.ndarray:
    """MediaPipe's 478 landmarks of an RGB picture, px, z zero in the mean, facing inner lips on one point."""
    with mp.solutions.face_mesh.FaceMesh(static_image_mode=True, refine_landmarks=True) as mesh:
        faces = mesh.process(image).multi_face_landmarks
    landmarks = np.array([(point.x, point.y, point.z) for point in faces[0].landmark]) * SIZE
    upper, lower = list(UPPER_INNER_LIP), list(LOWER_INNER_LIP)
    landmarks[upper] = landmarks[lower] = (landmarks[upper] + landmarks[lower]) / 2
    return landmarks - [0, 0, landmarks[:, 2].mean()]


def _disc(diameter: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter))


def _person_matte(image: np.ndarray, cap_bottom: int) -> np.ndarray:
    """Matte of the person, float32 in [0, 1]: MediaPipe's segmentation, its border moved onto the picture's edges.

    The white of the cap, above row `cap_bottom`, is taken for background in places: gaps in it are closed.
    """
    with mp.solutions.selfie_segmentation.SelfieSegmentation(model_selection=0) as segmenter:
        likely = segmenter.process(image).segmentation_mask
    labels = np.where(likely > 0.5, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[cv2.erode((likely > 0.9).astype(np.uint8), _disc(15)) == 1] = cv2.GC_FGD
    labels[cv2.dilate((likely > 0.1).astype(np.uint8), _disc(15)) == 0] = cv2.GC_BGD
    cv2.setRNGSeed(0)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(np.ascontiguousarray(image), labels, None, *models, 4, cv2.GC_INIT_WITH_MASK)
    person = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    person = cv2.morphologyEx(person, cv2.MORPH_OPEN, _disc(9))
    person[:cap_bottom] = cv2.morphologyEx(person, cv2.MORPH_CLOSE, _disc(61))[:cap_bottom]
    return cv2.GaussianBlur(cv2.dilate(person, _disc(3)).astype(np.float32), (0, 0), 1.2)


def _fill(image: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """`image` with the masked pixels replaced by a smooth continuation: averages of ever coarser known pixels."""
    colour = np.where(hole[..., None], 0, image).astype(np.float32)
    weight = (~hole).astype(np.float32)
    filled, known = colour.copy(), weight > 0
    sigma = 1.0
    while not known.all():
        near = cv2.GaussianBlur(weight, (0, 0), sigma)
        reached = ~known & (near > 0.05)
        blurred = cv2.GaussianBlur(colour, (0, 0), sigma)
        filled[reached] = blurred[reached] / near[reached, None]
        known |= reached
        sigma *= 1.5
    filled[hole] = cv2.GaussianBlur(filled, (0, 0), 5.0)[hole]
    return filled.round().clip(0, 255).astype(np.uint8)
