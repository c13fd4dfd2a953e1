"""The inside of the mouth: dark cavity, tongue and two rows of teeth, painted once and moved as flat pictures."""

from __future__ import annotations

import cv2
import numpy as np

from talkinghead.demo_clip.animation import FaceRig, FrameState, project, unproject
from talkinghead.demo_clip.portrait import SIZE, Portrait

PAINT_SCALE = 6
"""Painted pixels per portrait pixel."""
HALF_WIDTH, TOP, BOTTOM = 46, -14, 50
"""Extent of the pictures around the middle of the closed lips, portrait px."""
BEHIND_LIPS = 12.0
"""Distance from the lips back to the teeth, units."""

UPPER_WIDTHS = (11.0, 8.5, 8.0, 6.0, 5.0)
"""Seen widths of the upper teeth from the middle outwards, portrait px."""
LOWER_WIDTHS = (7.0, 7.0, 7.0, 6.0, 5.0)
ENAMEL = (238, 202, 170)
GUM = (150, 84, 80)
TONGUE = (168, 88, 82)
CAVITY = (64, 27, 24)


class MouthInterior:
    """Draws the inside of the mouth behind the sheet of the face."""

    def __init__(self, portrait: Portrait, rig: FaceRig, supersampling: int) -> None:
        self._rig = rig
        self._scale = supersampling
        corners = np.array([[-HALF_WIDTH, TOP], [HALF_WIDTH, TOP], [HALF_WIDTH, BOTTOM], [-HALF_WIDTH, BOTTOM]])
        depth = portrait.depth(rig.mouth_centre[None]) + BEHIND_LIPS
        self._corners = unproject(rig.mouth_centre + corners, depth.repeat(4))
        self._painted_corners = ((corners - [-HALF_WIDTH, TOP]) * PAINT_SCALE - 0.5).astype(np.float32)
        self._cavity, self._lower, self._upper = _paint_cavity(), _paint_lower(), _paint_upper()

    def render(self, state: FrameState) -> tuple[np.ndarray, np.ndarray]:
        """Colour float32 [S, S, 3] and cover float32 [S, S] at the supersampled size."""
        at_rest, with_jaw = self._corners, self._rig.move_with_jaw(self._corners, state.opening)
        light = np.float32(0.62 + 0.38 * min(state.opening / 0.7, 1.0))
        picture = self._warp(self._cavity, at_rest, state)
        for layer, corners in ((self._lower, with_jaw), (self._upper, at_rest)):
            over = self._warp(layer, corners, state)
            over[..., :3] *= light
            picture = over + picture * (1 - over[..., 3:])
        return picture[..., :3], picture[..., 3]

    def _warp(self, layer: np.ndarray, corners: np.ndarray, state: FrameState) -> np.ndarray:
        """A painted layer as the camera sees it with its corners at `corners` [4, 3], premultiplied."""
        pose = state.head_to_camera
        seen = project(corners @ pose[:3, :3].T + pose[:3, 3]) * self._scale - 0.5
        homography = cv2.getPerspectiveTransform(self._painted_corners, seen.astype(np.float32))
        return cv2.warpPerspective(layer, homography, (SIZE * self._scale,) * 2, flags=cv2.INTER_AREA)


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """Portrait px relative to the middle of the closed lips, at every painted pixel."""
    x = np.arange(-HALF_WIDTH, HALF_WIDTH, 1 / PAINT_SCALE, dtype=np.float32) + 0.5 / PAINT_SCALE
    y = np.arange(TOP, BOTTOM, 1 / PAINT_SCALE, dtype=np.float32) + 0.5 / PAINT_SCALE
    return np.meshgrid(x, y)


def _layer(colour: np.ndarray, cover: np.ndarray) -> np.ndarray:
    """Premultiplied RGBA with the edges softened, float32."""
    rgba = np.dstack([colour * cover[..., None], cover]).astype(np.float32)
    return cv2.GaussianBlur(rgba, (0, 0), 0.5 * PAINT_SCALE)


def _paint_cavity() -> np.ndarray:
    x, y = _grid()
    depth = np.exp(-((x / 30) ** 2) - (((y - 8) / 18) ** 2))
    return np.dstack([np.multiply.outer(1 - 0.55 * depth, np.float32(CAVITY)), np.ones_like(x)]).astype(np.float32)


def _paint_lower() -> np.ndarray:
    """Tongue and lower teeth, which move with the jaw."""
    x, y = _grid()
    tongue = ((x / 25) ** 2 + ((y - 4) / 12) ** 2 < 1).astype(np.float32)
    colour = np.multiply.outer(0.5 + 0.35 * np.clip((y + 3) / 20, 0, 1), np.float32(TONGUE))
    painted = _layer(colour * (1 - 0.15 * np.exp(-((x / 3) ** 2)))[..., None], tongue)
    teeth = _teeth(x, -y, LOWER_WIDTHS, edge=1.5, length=9.0, curve=0.010)
    teeth[..., :3] *= 0.82
    return teeth + painted * (1 - teeth[..., 3:])


def _paint_upper() -> np.ndarray:
    """Upper teeth and gum, fixed to the head."""
    x, y = _grid()
    return _teeth(x, y, UPPER_WIDTHS, edge=4.0, length=13.0, curve=0.006)


def _teeth(
    x: np.ndarray, y: np.ndarray, widths: tuple[float, ...], edge: float, length: float, curve: float
) -> np.ndarray:
    """A row of teeth whose cutting edge is at y = `edge` in the middle, the gum `length` px above it.

    `curve` bends the row's edge up towards the sides, px per px squared.
    """
    bounds = np.concatenate([[0], np.cumsum(widths)])
    tooth = np.clip(np.searchsorted(bounds, np.abs(x), side="right") - 1, 0, len(widths) - 1)
    left, width = bounds[tooth], np.array(widths)[tooth]
    across = 2 * (np.abs(x) - left) / width - 1
    cutting_edge = edge - curve * x**2 - 1.2 * np.abs(across) ** 4
    in_row = np.abs(x) < bounds[-1]
    enamel = in_row & (y < cutting_edge) & (y > edge - length + 2.5 * np.abs(across) ** 2)
    gum = in_row & (y <= edge - length + 2.5 * np.abs(across) ** 2)
    recede = np.sqrt(np.clip(1 - (x / (1.12 * bounds[-1])) ** 2, 0.05, 1))
    rounded = 1 - 0.28 * np.abs(across) ** 6
    shade = recede * rounded * (0.7 + 0.3 * np.clip((y - edge + length) / length, 0, 1))
    colour = np.where(gum[..., None], np.float32(GUM), np.float32(ENAMEL)) * shade[..., None]
    return _layer(colour, (enamel | gum).astype(np.float32))
