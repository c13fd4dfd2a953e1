"""Putting the rendered mouth, chin and neck into the source frame, so that nothing else of the frame changes.

The driven jaw is not where the source's jaw was. The blended region therefore reaches from under the eyes to well below
the chin: the source's chin disappears under rendered skin, and the rendered one is shown with its own neck. Where eyes
and brows are driven too, it begins above them. The region follows the pose of the head alone, so that its
border neither flickers nor moves with speech.
"""

from __future__ import annotations

import cv2
import numpy as np

from talkinghead.avatar import Avatar
from tools.face_topology import FaceTopology
from tools.tracked_clip import TOPOLOGIES, CropBox, resampled

LID_MARGIN = 0.06
"""The region begins this far under the lower lids; unit: distance from the line between the eyes to the chin..."""
BROW_MARGIN = 0.4
"""...or, with the eyes, this far above the brows, near the hair, so that the forehead is of one piece..."""
CHIN_MARGIN = 0.35
"""...and ends this far below the chin: a jaw drops by about 0.2."""
JAW_MARGIN = 0.12
"""The region is wider than the face by this share at the height of the chin: an open jaw is seen at the sides too."""
FEATHER = 0.02
"""Width of the soft border, as a share of the crop's side."""
TRIANGULATED_FRAMES = 300
"""More frames no longer change the mean face, and memory stays independent of the clip's length."""
RIDGE = 1e-4
"""Pulls a landmark to the head's centre where hardly any rotation shows its depth; relative to one frame's evidence."""


class BlendRegion:
    """The region of each frame of an avatar's footage in which the render replaces the source.

    Args:
        with_eyes: it reaches up to the forehead instead of the lower lids.

    Raises:
        ValueError: no frame has landmarks.
    """

    def __init__(self, avatar: Avatar, with_eyes: bool = False) -> None:
        self._with_eyes = with_eyes
        self._tracks = avatar.tracks
        self._topology = TOPOLOGIES[avatar.manifest.topology]
        self._focal_px, self._resolution = avatar.manifest.focal_px, avatar.manifest.crop.resolution
        seen = np.flatnonzero(np.isfinite(self._tracks.landmarks).all(axis=(1, 2)))
        chosen = seen[np.linspace(0, len(seen) - 1, min(TRIANGULATED_FRAMES, len(seen))).astype(int)]
        slopes = (self._tracks.landmarks[chosen] - self._resolution / 2) / self._focal_px
        self._points = triangulate(
            slopes, self._tracks.head_rotations[chosen], self._tracks.head_translations[chosen]
        )

    def mask(self, frame: int) -> np.ndarray:
        """uint8 [R, R]: 255 where the render is shown, 0 where the source is, soft between."""
        return self.mask_of_pose(self._tracks.head_rotations[frame], self._tracks.head_translations[frame])

    def mask_of_pose(self, rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
        """The mask of a head that may never have been filmed: [3, 3] and [3], head to camera."""
        in_camera = self._points @ rotation.T + translation
        points = in_camera[:, :2] / in_camera[:, 2:] * self._focal_px + self._resolution / 2
        return feathered_mask(region_outline(points, self._topology, self._with_eyes), self._resolution)


def triangulate(slopes: np.ndarray, rotations: np.ndarray, translations: np.ndarray) -> np.ndarray:
    """Points of a rigid head that explain their pictures best: linear triangulation with known poses.

    Hartley and Zisserman, Multiple View Geometry, Sec. 12.2 (inhomogeneous, over all frames). What moves with speech
    comes out at its mean place.

    Args:
        slopes: [F, K, 2] x / z and y / z of each point in the camera.
        rotations, translations: [F, 3, 3] and [F, 3], head to camera.

    Returns:
        [K, 3] in the head's frame.

    Raises:
        ValueError: there is no frame.
    """
    if not len(slopes):
        raise ValueError("expected landmarks in at least one frame, got none")
    # Each frame and axis: (row - slope * third row) . (point, 1) = 0
    rows = rotations[:, None, :2] - slopes[..., None] * rotations[:, None, 2:]  # [F, K, 2, 3]
    targets = slopes * translations[:, None, 2:] - translations[:, None, :2]  # [F, K, 2]
    normal = np.einsum("fkai,fkaj->kij", rows, rows, dtype=np.float64) + RIDGE * np.eye(3)
    return np.linalg.solve(normal, np.einsum("fkai,fka->ki", rows, targets, dtype=np.float64)[..., None])[..., 0]


def region_outline(points: np.ndarray, topology: FaceTopology, with_eyes: bool = False) -> np.ndarray:
    """The convex polygon [P, 2] px from under the eyes to below the chin of a face with landmarks [K, 2] px.

    It is the face's oval, cut off under the lower lids (with the eyes, above the brows), drawn out downwards and to the
    sides, more the lower it is.
    Across and down are the face's own directions in the picture, so the region turns with the head.
    """
    left, right = points[topology.left_outer_eye_corner], points[topology.right_outer_eye_corner]
    middle = (left + right) / 2
    right_to_left, eyes_to_chin = left - right, points[topology.chin] - middle
    # Cramer's rule: eye corners at (+-0.5, 0), chin at (0, 1). A linear-algebra library would wake its threads for it.
    area = _cross(right_to_left, eyes_to_chin)
    across, down = _cross(points - middle, eyes_to_chin) / area, _cross(right_to_left, points - middle) / area
    oval = list(topology.face_oval)
    brows, lids = [*topology.left_brow, *topology.right_brow], [*topology.left_eye, *topology.right_eye]
    top = down[brows].min() - BROW_MARGIN if with_eyes else down[lids].max() + LID_MARGIN
    below_eyes = np.maximum(down[oval], 0)
    lowered = np.maximum(down[oval] + CHIN_MARGIN * np.square(below_eyes), top)
    widened = across[oval] * (1 + JAW_MARGIN * np.minimum(below_eyes, 1))
    outline = middle + widened[:, None] * right_to_left + lowered[:, None] * eyes_to_chin
    return cv2.convexHull(outline.astype(np.float32))[:, 0]


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The cross product of vectors [..., 2] in the plane."""
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def feathered_mask(outline: np.ndarray, resolution: int) -> np.ndarray:
    """A convex polygon [P, 2] px as a soft mask, uint8 [R, R].

    0 outside the polygon and on the crop's border; inside it rises to 255 within `FEATHER` of the crop's side. It is
    computed from exact distances, so that it follows an outline that moves by a fraction of a pixel.
    """
    mask = np.zeros((resolution, resolution), np.uint8)
    left, top = np.clip(np.floor(outline.min(axis=0)), 0, resolution).astype(int)
    right, bottom = np.clip(np.ceil(outline.max(axis=0)), 0, resolution).astype(int)
    columns, rows = np.arange(left, right) + 0.5, np.arange(top, bottom) + 0.5
    distance = np.full((len(rows), len(columns)), np.inf, np.float32)  # to the nearest edge, px
    for normal, offset in zip(*_inward_edges(outline, resolution), strict=True):
        across, down = (normal[0] * columns + offset).astype(np.float32), (normal[1] * rows).astype(np.float32)
        np.minimum(distance, across + down[:, None], out=distance)
    depth = np.clip(distance / (FEATHER * resolution), 0, 1)
    mask[top:bottom, left:right] = np.rint(255 * depth * depth * (3 - 2 * depth))
    return mask


def _inward_edges(outline: np.ndarray, resolution: int) -> tuple[np.ndarray, np.ndarray]:
    """Normals [E, 2] and offsets [E] of a polygon's edges and of the crop's border, positive inside."""
    edges = np.roll(outline, -1, axis=0) - outline
    normals = np.stack([-edges[:, 1], edges[:, 0]], axis=1) / np.linalg.norm(edges, axis=1, keepdims=True)
    offsets = -(normals * outline).sum(axis=1)
    sides = np.sign(normals @ outline.mean(axis=0) + offsets)
    # Half a pixel inside: the centres of the outermost pixels, which shall be 0.
    border = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]]), np.array([-0.5, -0.5, resolution - 0.5, resolution - 0.5])
    return np.concatenate([normals * sides[:, None], border[0]]), np.concatenate([offsets * sides, border[1]])


def composite(frame: np.ndarray, rendered: np.ndarray, crop: CropBox, mask: np.ndarray) -> np.ndarray:
    """The source frame with the render blended in; where the mask is 0 it is the source bit for bit.

    Args:
        frame: [H, W, 3] uint8, not changed.
        rendered: [R, R, 3] uint8, the crop.
        mask: [R, R] uint8, weight of the render.

    Returns:
        [H, W, 3] uint8.
    """
    result = frame.copy()
    place = result[crop.top : crop.top + crop.side, crop.left : crop.left + crop.side]
    rendered, mask = resampled(rendered, crop.side), resampled(mask, crop.side)
    left, top, width, height = cv2.boundingRect(mask)
    if width:
        box = (slice(top, top + height), slice(left, left + width))
        place[box] = _blended(place[box], rendered[box], mask[box])
    return result


def _blended(below: np.ndarray, above: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """below + weights / 255 * (above - below), rounded; uint8 [h, w, 3] twice and [h, w]."""
    difference = cv2.subtract(above, below, dtype=cv2.CV_16S)
    change = cv2.multiply(difference, cv2.merge([weights] * 3), scale=1 / 255, dtype=cv2.CV_16S)
    return cv2.add(below, change, dtype=cv2.CV_8U)
