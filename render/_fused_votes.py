"""What every Gaussian says about a Gauss-Newton step of the registration, in one pass over them.

The formulas are those of `registration.reference_normal_equations`, which defines them. Slopes are taken around each
Gaussian's pixel only, where the reference filters whole pictures.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

RIGID = 12
"""Unknowns of the two bones."""


class PicturePair(NamedTuple):
    """What is compared."""

    seen: np.ndarray  # [H, H] grey levels of the render
    wanted: np.ndarray  # [H, H] of the picture
    focal: float  # px; the principal point is the middle
    noise: float  # grey levels; twice as much counts half


class Voters(NamedTuple):
    """The Gaussians that are asked."""

    points: np.ndarray  # [P] their numbers
    torso: np.ndarray  # [P] how far each hangs on the torso, 0 to 1
    basis: np.ndarray  # [F, 3, C] how the first F of them move with the expression, head's axes


@njit(cache=True, nogil=True, fastmath={"contract", "nsz", "arcp"}, error_model="numpy", boundscheck=False)
def weighted_votes(
    pictures: PicturePair, voters: Voters, means: np.ndarray, bones: np.ndarray, votes: np.ndarray
) -> None:
    """Fills `votes` [P, RIGID + C + 1]: how the grey level at each point changes with every unknown, and at the end by
    how much it is too large, both times the square root of the point's weight; 0 outside the picture.

    Args:
        means: [N, 3] all Gaussians in the camera's axes.
        bones: [15] the head's rotation by rows, its translation, the torso's translation.
    """
    seen, wanted, focal, noise = pictures
    points, torso, basis = voters
    side = seen.shape[0]
    codes = basis.shape[2]
    rotation = bones[:9].reshape(3, 3)
    for row in range(points.size):
        votes[row] = 0
        x, y, z = means[points[row]]
        across, down = x / z, y / z
        column, line = focal * across + (side - 1) / 2, focal * down + (side - 1) / 2
        # The slopes need a pixel on every side of the four around the point.
        if not (1 <= column < side - 2 and 1 <= line < side - 2):
            continue
        left, top = int(column), int(line)
        difference, slope_x, slope_y = _sampled(seen, wanted, left, top, column - left, line - top)
        root = 1 / math.sqrt(1 + (difference / (2 * noise)) ** 2) / noise
        # How the grey level at a point's pixel changes when the point moves in space.
        grey_x, grey_y = root * focal / z * slope_x, root * focal / z * slope_y
        grey_z = -(grey_x * across + grey_y * down)
        for bone in range(2):
            share = torso[row] if bone else 1 - torso[row]
            px, py, pz = x - bones[9 + 3 * bone], y - bones[10 + 3 * bone], z - bones[11 + 3 * bone]
            gx, gy, gz = share * grey_x, share * grey_y, share * grey_z
            first = 6 * bone
            votes[row, first] = py * gz - pz * gy
            votes[row, first + 1] = pz * gx - px * gz
            votes[row, first + 2] = px * gy - py * gx
            votes[row, first + 3], votes[row, first + 4], votes[row, first + 5] = gx, gy, gz
        if row < basis.shape[0]:
            hx = grey_x * rotation[0, 0] + grey_y * rotation[1, 0] + grey_z * rotation[2, 0]
            hy = grey_x * rotation[0, 1] + grey_y * rotation[1, 1] + grey_z * rotation[2, 1]
            hz = grey_x * rotation[0, 2] + grey_y * rotation[1, 2] + grey_z * rotation[2, 2]
            for code in range(codes):
                votes[row, RIGID + code] = (
                    hx * basis[row, 0, code] + hy * basis[row, 1, code] + hz * basis[row, 2, code]
                )
        votes[row, RIGID + codes] = root * difference


@njit(inline="always")
def _sampled(
    seen: np.ndarray, wanted: np.ndarray, left: int, top: int, right_share: float, lower_share: float
) -> tuple[float, float, float]:
    """Difference of two pictures, and the mean picture's slopes (Sobel), between four pixels."""
    difference = slope_x = slope_y = np.float32(0)
    for lower in range(2):
        line = top + lower
        for right in range(2):
            column = left + right
            share = (right_share if right else 1 - right_share) * (lower_share if lower else 1 - lower_share)
            difference += share * (seen[line, column] - wanted[line, column])
            to_left = to_right = above = below = np.float32(0)
            for step in range(-1, 2):
                weight = np.float32(2 - abs(step))
                to_left += weight * (seen[line + step, column - 1] + wanted[line + step, column - 1])
                to_right += weight * (seen[line + step, column + 1] + wanted[line + step, column + 1])
                above += weight * (seen[line - 1, column + step] + wanted[line - 1, column + step])
                below += weight * (seen[line + 1, column + step] + wanted[line + 1, column + step])
            slope_x += share * (to_right - to_left) / 16
            slope_y += share * (below - above) / 16
    return difference, slope_x, slope_y
