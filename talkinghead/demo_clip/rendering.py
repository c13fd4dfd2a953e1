"""Frames of the sample person: the portrait as a 3D sheet, cut open along the lips, before mouth and background."""

from __future__ import annotations

import cv2
import numba
import numpy as np

from talkinghead.demo_clip.animation import LOWER_LIDS, UPPER_LIDS, FaceRig, FrameState, project, unproject
from talkinghead.demo_clip.interior import MouthInterior
from talkinghead.demo_clip.portrait import SIZE, TEXTURE_SCALE, Portrait

STEP = 4
"""Distance of the sheet's vertices, px."""
MARGIN = 8
"""How far the sheet reaches beyond the picture, px, so that a swaying torso leaves no gap at its border."""
SUPERSAMPLING = 2


class FrameRenderer:
    """Renders frame states of one portrait."""

    def __init__(self, portrait: Portrait, rig: FaceRig) -> None:
        self._portrait = portrait
        self._rig = rig
        self._points, self._below, self._triangles = _cut_sheet(rig)
        self._canonical = unproject(self._points, portrait.depth(self._points))
        self._lids = [_EyeLid(portrait, np.array(u), np.array(v)) for u, v in zip(UPPER_LIDS, LOWER_LIDS, strict=True)]
        self._interior = MouthInterior(portrait, rig, SUPERSAMPLING)

    def render(self, state: FrameState) -> np.ndarray:
        """The picture of one frame, RGB uint8 [512, 512, 3]."""
        in_camera = self._rig.place(self._points, self._below, self._canonical, state)
        pixels = np.column_stack([project(in_camera) * SUPERSAMPLING, in_camera[:, 2]])
        source = _rasterize_source(pixels, self._triangles, self._points, SIZE * SUPERSAMPLING)
        hit = (source[..., 0] > -2 * MARGIN).astype(np.float32)
        texture_at = source * TEXTURE_SCALE - 0.5  # remap counts from pixel centres
        texture = self._portrait.texture.copy()
        for lid in self._lids:
            lid.close(texture, state.blink)
        colour, alpha = (
            cv2.remap(layer, texture_at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            for layer in (texture.astype(np.float32), self._portrait.matte)
        )
        alpha *= hit
        inside, inside_alpha = self._interior.render(state)
        colour = colour * alpha[..., None] + inside * (inside_alpha * (1 - alpha))[..., None]
        alpha = alpha + inside_alpha * (1 - alpha)
        colour, alpha = (cv2.resize(layer, (SIZE, SIZE), interpolation=cv2.INTER_AREA) for layer in (colour, alpha))
        frame = colour + self._portrait.plate * (1 - alpha[..., None])
        return frame.round().clip(0, 255).astype(np.uint8)


class _EyeLid:
    """Closes one eye by painting skin from beneath it over the open part; the eye lies too deep behind the spectacles
    for its lid to be pulled down."""

    def __init__(self, portrait: Portrait, upper: np.ndarray, lower: np.ndarray) -> None:
        self._upper, self._lower = (portrait.landmarks[ids, :2] * TEXTURE_SCALE for ids in (upper, lower))
        rim = np.concatenate([self._upper, self._lower])
        pad = 10 * TEXTURE_SCALE
        (left, top), (right, bottom) = (rim.min(axis=0) - pad).astype(int), (rim.max(axis=0) + pad).astype(int)
        self._box = np.s_[top:bottom, left:right]
        self._corner = np.array([left, top])
        drop = int(1.3 * np.linalg.norm(self._lower - self._upper, axis=1).max())
        beneath = portrait.texture[top + drop : bottom + drop, left:right].astype(np.float32)
        skin = cv2.GaussianBlur(beneath, (0, 0), 1.5)
        outline = self._in_box(np.concatenate([self._upper, self._lower[::-1]]))
        eye = cv2.fillPoly(np.zeros(skin.shape[:2], np.uint8), [outline], 1)
        around = cv2.dilate(eye, np.ones((9, 9), np.uint8)) - cv2.dilate(eye, np.ones((3, 3), np.uint8))
        tint = portrait.texture[self._box][around == 1].mean(axis=0) / skin[eye == 1].mean(axis=0)
        self._skin = skin * tint

    def _in_box(self, points: np.ndarray) -> np.ndarray:
        """Texture points [N, 2] as whole pixels of the painted box."""
        return (points - self._corner).round().astype(np.int32)

    def close(self, texture: np.ndarray, blink: float) -> None:
        """Lower the lid by the share `blink`, in place."""
        if blink <= 0:
            return
        edge = self._upper + blink * (self._lower - self._upper)
        above = self._upper - [0, 3 * TEXTURE_SCALE]
        polygon = self._in_box(np.concatenate([above, edge[::-1]]))
        shape = self._skin.shape[:2]
        cover = cv2.GaussianBlur(cv2.fillPoly(np.zeros(shape, np.float32), [polygon], 1.0), (0, 0), 2.0)[..., None]
        line = cv2.polylines(np.zeros(shape, np.float32), [self._in_box(edge)], False, 1.0, thickness=3)
        line = 0.6 * cv2.GaussianBlur(line, (0, 0), 1.2)[..., None]
        painted = texture[self._box] * (1 - cover) + self._skin * cover
        texture[self._box] = painted * (1 - line * cover)


def _cut_sheet(rig: FaceRig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices [V, 2] px, which of them hang on the lower lip [V] and triangles [F, 3] of the portrait's sheet.

    A grid with one row bent onto the line of the lips; between the corners of the mouth that row exists twice.
    """
    axis = np.arange(-MARGIN, SIZE + MARGIN + 1, STEP, dtype=np.float64)
    x, y = np.meshgrid(axis, axis)
    seam = int(np.abs(axis - rig.mouth_centre[1]).argmin())
    y += (rig.lip_line(axis) - axis[seam]) * np.exp(-(((y - axis[seam]) / 60) ** 2))
    points = np.column_stack([x.ravel(), y.ravel()])
    count = len(axis)
    index = np.arange(count * count).reshape(count, count)
    below = (np.arange(count) > seam).repeat(count)
    opens = np.flatnonzero(np.abs(axis - rig.mouth_centre[0]) < rig.mouth_half_width)
    lower_seam = index[seam].copy()
    lower_seam[opens] = len(points) + np.arange(len(opens))
    points = np.concatenate([points, points[index[seam, opens]]])
    below = np.concatenate([below, np.ones(len(opens), bool)])
    top, bottom = index[:-1].copy(), index[1:]
    top[seam] = lower_seam
    corners = top[:, :-1], top[:, 1:], bottom[:, :-1], bottom[:, 1:]
    a, b, c, d = (corner.ravel() for corner in corners)
    return points, below, np.concatenate([np.column_stack([a, b, c]), np.column_stack([b, d, c])])


@numba.njit(cache=True)
def _rasterize_source(pixels: np.ndarray, triangles: np.ndarray, source: np.ndarray, size: int) -> np.ndarray:
    """Source point of the nearest surface at every pixel's centre: float32 [size, size, 2], -1000 where there is none.

    `pixels` [V, 3] holds image positions (px, the first pixel's centre at 0.5) and depths of the sheet's vertices,
    `source` [V, 2] the values to interpolate over its `triangles` [F, 3].
    """
    nearest = np.full((size, size), np.inf)
    found = np.full((size, size, 2), -1000.0, np.float32)
    for face in range(triangles.shape[0]):
        i, j, k = triangles[face]
        (ax, ay, az), (bx, by, bz), (cx, cy, cz) = pixels[i], pixels[j], pixels[k]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0.0:
            continue
        for row in range(max(int(min(ay, by, cy) - 0.5), 0), min(int(max(ay, by, cy) + 0.5), size - 1) + 1):
            for column in range(max(int(min(ax, bx, cx) - 0.5), 0), min(int(max(ax, bx, cx) + 0.5), size - 1) + 1):
                px, py = column + 0.5, row + 0.5
                v = ((px - ax) * (cy - ay) - (py - ay) * (cx - ax)) / area
                w = ((bx - ax) * (py - ay) - (by - ay) * (px - ax)) / area
                u = 1.0 - v - w
                depth = u * az + v * bz + w * cz
                if u >= -1e-9 and v >= -1e-9 and w >= -1e-9 and depth < nearest[row, column]:
                    nearest[row, column] = depth
                    for axis in range(2):
                        found[row, column, axis] = u * source[i, axis] + v * source[j, axis] + w * source[k, axis]
    return found
