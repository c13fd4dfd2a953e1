"""The loss of a step's window with its gradient, written out.

Autograd takes some eighty short operations for it; written out they are two filters and two passes over the pixels.
"""

from __future__ import annotations

import cv2
import numpy as np
from numba import njit

from render.losses import C1, C2, DETAIL_FLOOR, LUMA, SIGMA, WINDOW, LossWeights

_KERNEL = cv2.getGaussianKernel(WINDOW, SIGMA, cv2.CV_32F)
_EDGE = WINDOW // 2
_LUMA = np.array(LUMA, np.float32)


def window_loss_and_gradient(
    rendered: np.ndarray, target: np.ndarray, weights: LossWeights
) -> tuple[float, np.ndarray]:
    """`render.losses.window_loss` of two pictures [3, H, W], float32 in [0, 1], and its gradient in the first."""
    similarity, similarity_gradient = _dssim(rendered, target)
    difference, difference_gradient = _detail_difference(rendered, target)
    loss = weights.dssim * similarity + weights.detail * difference
    along_luma = (np.float32(weights.detail) * _LUMA)[:, None, None] * difference_gradient
    return loss, np.float32(weights.dssim) * similarity_gradient + along_luma


def _dssim(rendered: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray]:
    products = np.stack([rendered, target, rendered * rendered, target * target, rendered * target])
    moments = _valid(_filtered(products))
    slopes = np.empty_like(moments[:3])
    total = _similarities(moments, slopes)
    count = moments[0].size
    along_mean, along_square, along_product = _filtered(_surrounded(slopes))
    gradient = along_mean + 2 * rendered * along_square + target * along_product
    return (1 - total / count) / 2, gradient * np.float32(-0.5 / count)


def _detail_difference(rendered: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray]:
    """The loss and its gradient [H, W] in the luma of the rendered picture."""
    laplacian = np.stack([_laplacian(_grey(picture)) for picture in (rendered, target)])
    strength = np.sqrt(_valid(_filtered(laplacian * laplacian)) + np.float32(DETAIL_FLOOR**2))
    difference = strength[0] - strength[1]
    slope = np.sign(difference) / (strength[0] * np.float32(difference.size))
    return float(np.abs(difference).mean()), _laplacian(laplacian[0] * _filtered(_surrounded(slope[None]))[0])


def _grey(picture: np.ndarray) -> np.ndarray:
    """[3, H, W] -> [H, W]. Not a product of matrices: a linear-algebra library would wake its threads for it, and they
    spin long after."""
    red, green, blue = _LUMA
    return red * picture[0] + green * picture[1] + blue * picture[2]


def _laplacian(grey: np.ndarray) -> np.ndarray:
    """With the border repeated. It is its own adjoint: no pixel's weight in another differs from the other's in it."""
    return cv2.Laplacian(grey, cv2.CV_32F, borderType=cv2.BORDER_REPLICATE)


def _filtered(planes: np.ndarray) -> np.ndarray:
    """The window of SSIM over planes [..., H, W]. They are filtered as one tall picture, so that what is within
    `_EDGE` px of a plane's border holds something of its neighbours."""
    tall = planes.reshape(-1, planes.shape[-1])
    return cv2.sepFilter2D(tall, cv2.CV_32F, _KERNEL, _KERNEL, borderType=cv2.BORDER_CONSTANT).reshape(planes.shape)


def _valid(planes: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(planes[..., _EDGE:-_EDGE, _EDGE:-_EDGE])


def _surrounded(planes: np.ndarray) -> np.ndarray:
    """The adjoint of `_valid`: zeros around, which also keep the planes of `_filtered` apart."""
    return np.pad(planes, [(0, 0)] * (planes.ndim - 2) + [(_EDGE, _EDGE)] * 2)


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _similarities(moments, slopes):
    """Sum of SSIM over moments [5, C, h, w] of two pictures a and b: means of a, b, aa, bb, ab; its derivatives in the
    first, third and fifth of them."""
    c1, c2, two = np.float32(C1), np.float32(C2), np.float32(2)
    total = 0.0
    channels, height, width = moments.shape[1:]
    for c in range(channels):
        for y in range(height):
            row = np.float32(0)
            for x in range(width):
                a, b = moments[0, c, y, x], moments[1, c, y, x]
                squares, product = a * a + b * b, a * b
                luminance, luminance_scale = two * product + c1, squares + c1
                structure = two * (moments[4, c, y, x] - product) + c2
                structure_scale = moments[2, c, y, x] + moments[3, c, y, x] - squares + c2
                scale = np.float32(1) / (luminance_scale * structure_scale)
                similarity = luminance * structure * scale
                row += similarity
                slopes[0, c, y, x] = two * (
                    b * (structure - luminance) * scale
                    - a * similarity * (np.float32(1) / luminance_scale - np.float32(1) / structure_scale)
                )
                slopes[1, c, y, x] = -similarity / structure_scale
                slopes[2, c, y, x] = two * luminance * scale
            total += row
    return total
