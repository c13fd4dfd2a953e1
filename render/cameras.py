"""The pinhole camera that Gaussians are projected with."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Camera:
    """A pinhole camera without lens distortion.

    Frames: camera space has OpenCV axes (x to the right, y down, z forward, away from the viewer). Pixel (column, row)
    covers [column, column + 1) x [row, row + 1), so its centre lies at (column + 0.5, row + 0.5); the centre of a
    principal point in the middle of the image is (width / 2, height / 2).

    `world_to_camera` maps homogeneous world coordinates to camera space; its last row is taken to be (0, 0, 0, 1).
    `fx`, `fy` are the focal lengths and `cx`, `cy` the principal point, all in pixels.

    Raises:
        ValueError: a shape, a size or a focal length that no camera can have.
    """

    world_to_camera: Tensor  # [4, 4]
    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    def __post_init__(self) -> None:
        if tuple(self.world_to_camera.shape) != (4, 4):
            raise ValueError(f"world_to_camera must have shape (4, 4), got {tuple(self.world_to_camera.shape)}")
        if self.width < 1 or self.height < 1:
            raise ValueError(f"the image must be at least 1 x 1 px, got {self.width} x {self.height}")
        intrinsics = (self.fx, self.fy, self.cx, self.cy)
        if not all(math.isfinite(value) for value in intrinsics) or self.fx <= 0 or self.fy <= 0:
            raise ValueError(
                f"focal lengths must be positive and everything finite, got (fx, fy, cx, cy) = {intrinsics} px"
            )

    @property
    def intrinsic_matrix(self) -> Tensor:
        """K of `pixel ~ K @ camera_point`, [3, 3], px, with the dtype and device of `world_to_camera`."""
        rows = [[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]]
        return torch.tensor(rows, dtype=self.world_to_camera.dtype, device=self.world_to_camera.device)
