"""Measures of pictures: how near one is to another, and how sharp it is. Numpy in, float out; every definition is cited
where it is implemented."""

from __future__ import annotations

import math

import cv2
import numpy as np

SSIM_SIGMA = 1.5  # px; with SSIM_RADIUS the 11 x 11 window of Wang et al. 2004, section III-C
SSIM_RADIUS = 5
SSIM_K1, SSIM_K2 = 0.01, 0.03
_STRIP = 64  # rows that are looked at together: they fit into the processor's cache
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, section 3.2, fine to coarse
MS_SSIM_SMALLEST = (2 * SSIM_RADIUS << len(MS_SSIM_WEIGHTS) - 1) + 1  # px: the coarsest scale holds one window

CPBD_BLOCK = 64  # px
_EDGE_BLOCK = 0.002  # share of edge pixels above which a block is measured
_LOW_CONTRAST = 50  # grey values
_JUST_NOTICEABLE_LOW, _JUST_NOTICEABLE = 5, 3  # px, in blocks of low contrast and in others
_CANNY_SIGMA = 1.0  # px
_CANNY = (1, 1)  # thresholds of the 3 x 3 Sobel gradient, in grey values: any edge at all


def psnr(picture: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio in dB: 10 log10(peak^2 / mean squared error); infinite for identical pictures.

    Args:
        picture, truth: [H, W, C] or [H, W], uint8 (peak 255) or float in [0, 1] (peak 1).
        mask: [H, W] bool or weights: only these pixels count.

    Raises:
        ValueError: shapes or types differ, or the mask is empty.
    """
    _check_pair(picture, truth)
    difference = np.atleast_3d(cv2.absdiff(picture, truth)).astype(np.float32)
    if mask is None:
        error = float(np.square(difference, out=difference).mean(dtype=np.float64))
    elif mask.shape != difference.shape[:2] or not mask.any():
        raise ValueError(f"expected a mask of shape {list(picture.shape[:2])} with a pixel set, got {list(mask.shape)}")
    else:
        error = float(np.average(np.square(difference[mask > 0]).mean(axis=1), weights=mask[mask > 0]))
    return math.inf if error == 0 else 10 * math.log10(_peak(truth) ** 2 / error)


def ssim(picture: np.ndarray, truth: np.ndarray) -> float:
    """Structural similarity (Wang et al. 2004, Eq. 13), the mean over pixels and channels; 1 is identical.

    Gaussian window of 11 x 11 px and standard deviation 1.5 px; pixels whose window leaves the picture do not count.

    Args:
        picture, truth: [H, W, C] or [H, W], at least 11 px each way, uint8 or float in [0, 1].

    Raises:
        ValueError: shapes or types differ, or the picture is smaller than the window.
    """
    _check_pair(picture, truth)
    similarity, _ = _mean_similarity(np.atleast_3d(picture), np.atleast_3d(truth), _peak(truth))
    return float(similarity.mean())


def ms_ssim(picture: np.ndarray, truth: np.ndarray) -> float:
    """Multi-scale structural similarity, as in `ssim_and_ms_ssim`."""
    return ssim_and_ms_ssim(picture, truth)[1]


def ssim_and_ms_ssim(picture: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """`ssim`, and for little more the multi-scale structural similarity of Wang et al. 2003 ("Multi-scale structural
    similarity for image quality assessment", Eq. 7), of each channel, then their mean; 1 is identical.

    Five scales with the weights of section 3.2, each the means over 2 x 2 px of the one before (an odd last row or
    column stands for two); negative means count as 0. Where a picture is smaller than `MS_SSIM_SMALLEST` (161 px) the
    coarsest scale holds no window: the measure is undefined, NaN. Fewer scales would be another measure of that name.

    Args, Raises: see `ssim`.
    """
    _check_pair(picture, truth)
    peak = _peak(truth)
    x, y = np.atleast_3d(picture), np.atleast_3d(truth)
    similarity, structure = _mean_similarity(x, y, peak)
    first = float(similarity.mean())
    if min(x.shape[:2]) < MS_SSIM_SMALLEST:
        return first, math.nan
    *finer, coarsest = MS_SSIM_WEIGHTS
    product = np.ones(x.shape[2])
    for weight in finer:
        product *= np.maximum(structure, 0) ** weight
        x, y = _halved(x), _halved(y)
        similarity, structure = _mean_similarity(x, y, peak)
    return first, float((product * np.maximum(similarity, 0) ** coarsest).mean())


def _halved(picture: np.ndarray) -> np.ndarray:
    """Means over 2 x 2 px, float32."""
    height, width = picture.shape[:2]
    even = cv2.copyMakeBorder(picture.astype(np.float32), 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    return np.atleast_3d(cv2.resize(even, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))


def _mean_similarity(picture: np.ndarray, truth: np.ndarray, peak: float) -> tuple[np.ndarray, np.ndarray]:
    """Means over the pixels of each channel [C] of the structural similarity and of its contrast and structure alone.

    Raises:
        ValueError: the picture is smaller than the window.
    """
    height, width = (side - 2 * SSIM_RADIUS for side in picture.shape[:2])
    if min(height, width) <= 0:
        raise ValueError(f"expected at least {2 * SSIM_RADIUS + 1} px each way, got {list(picture.shape[:2])}")
    rows, columns = _around_differences(picture, truth)
    if rows.stop == rows.start:
        return np.ones(picture.shape[2]), np.ones(picture.shape[2])
    inner, sums = slice(SSIM_RADIUS, -SSIM_RADIUS), np.zeros((2, picture.shape[2]))
    for top in range(rows.start, min(rows.stop, picture.shape[0]) - 2 * SSIM_RADIUS, _STRIP):
        strip = (slice(top, min(top + _STRIP + 2 * SSIM_RADIUS, rows.stop)), columns)
        terms = _similarity(picture[strip], truth[strip], peak)
        sums += [(term[inner, inner] - 1).sum(axis=(0, 1), dtype=np.float64) for term in terms]
    similarity, structure = 1 + sums / (height * width)
    return similarity, structure


def _around_differences(picture: np.ndarray, truth: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns that hold every pixel whose window sees a difference, with these windows; outside of them the
    similarity is 1."""
    differs = np.atleast_3d(picture != truth)
    channels = differs.shape[2]
    left, top, width, height = cv2.boundingRect(differs.reshape(len(differs), -1).view(np.uint8))
    if not height:
        return slice(0, 0), slice(0, 0)
    right, bottom, reach = -(-(left + width) // channels), top + height, 2 * SSIM_RADIUS
    return slice(max(0, top - reach), bottom + reach), slice(max(0, left // channels - reach), right + reach)


def _similarity(picture: np.ndarray, truth: np.ndarray, peak: float) -> tuple[np.ndarray, np.ndarray]:
    """Structural similarity around every pixel, and its contrast and structure alone, float32 [H, W, C]; nearer to the
    border than the window's radius they mean nothing."""
    middle = np.float32(peak / 2)  # variances are differences of squares: small squares lose fewer digits
    x, y = (np.atleast_3d(part).astype(np.float32) - middle for part in (picture, truth))

    def local_mean(values: np.ndarray) -> np.ndarray:
        window = (2 * SSIM_RADIUS + 1, 2 * SSIM_RADIUS + 1)
        return np.atleast_3d(cv2.GaussianBlur(values, window, SSIM_SIGMA))

    mean_x, mean_y = local_mean(x), local_mean(y)
    product, squares = mean_x * mean_y, mean_x**2 + mean_y**2
    covariance = local_mean(x * y) - product
    variances = local_mean(x * x + y * y) - squares
    c1, c2 = (SSIM_K1 * peak) ** 2, (SSIM_K2 * peak) ** 2
    # The means of the pictures themselves: (mean_x + middle)(mean_y + middle) and the sum of their squares.
    lifted = middle * (mean_x + mean_y + middle)
    luminance = (2 * (product + lifted) + c1) / (squares + 2 * lifted + c1)
    structure = (2 * covariance + c2) / (variances + c2)
    return luminance * structure, structure


def _check_pair(picture: np.ndarray, truth: np.ndarray) -> None:
    if picture.shape != truth.shape or picture.dtype != truth.dtype:
        raise ValueError(
            f"expected two pictures of one shape and type, got {list(picture.shape)} of {picture.dtype} "
            f"and {list(truth.shape)} of {truth.dtype}"
        )


def _peak(picture: np.ndarray) -> float:
    return 255.0 if picture.dtype == np.uint8 else 1.0


def laplacian_variance(picture: np.ndarray) -> float:
    """Sharpness: the variance of the Laplacian of the grey picture (Pech-Pacheco et al. 2000, "Diatom autofocusing in
    brightfield microscopy"; the kernel 0 1 0, 1 -4 1, 0 1 0). picture: [H, W, 3] uint8."""
    return float(cv2.Laplacian(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())


def cpbd(picture: np.ndarray) -> float:
    """Sharpness by the cumulative probability of blur detection (Narvekar & Karam 2011, "A No-Reference Image Blur
    Metric Based on the Cumulative Probability of Blur Detection (CPBD)", section III): 0 blurred to 1 sharp.

    In every whole block of 64 x 64 px that shows edges, blur is detected at an edge of width w with the probability
    1 - exp(-(w / w_jnb)^3.6) (Eq. 2); w_jnb, the width of just noticeable blur, is 5 px where the block's contrast is
    50 grey values or less and 3 px elsewhere. The measure is the share of edge pixels where this is at most 63 %, the
    probability at w = w_jnb: where w is no more than w_jnb, whatever the exponent.

    Edges are upright ones of the Sobel operator, their widths those of Marziliano et al. 2004. What the paper leaves
    open is as in the Python package cpbd 1.0.7, so that figures compare: the square of the Sobel response must exceed
    twice the root of its mean square over the picture. Without an edge it is 0.

    Args:
        picture: [H, W, 3] uint8.
    """
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    limits = np.kron(_just_noticeable_widths(grey), np.ones((CPBD_BLOCK, CPBD_BLOCK), np.uint8))
    measured = _upright_edges(grey)[: limits.shape[0], : limits.shape[1]] & (limits > 0)
    rows, columns = np.nonzero(measured)
    values = grey.astype(np.int16)
    slope_x = values[rows, columns + 1] - values[rows, columns - 1]
    slope_y = values[rows + 1, columns] - values[rows - 1, columns]
    level = np.abs(slope_y) <= math.tan(math.pi / 8) * np.abs(slope_x)  # within 22.5 degrees
    rows, columns = rows[level], columns[level]
    widths = _edge_widths(values, rows, columns, np.sign(slope_x[level]))
    return float((widths <= limits[rows, columns]).mean()) if len(rows) else 0.0


def _upright_edges(grey: np.ndarray) -> np.ndarray:
    """[H, W] bool: where the horizontal Sobel response is strong, and a peak along the row or the column."""
    response = cv2.Sobel(grey, cv2.CV_32F, 1, 0, scale=1 / 8, borderType=cv2.BORDER_REFLECT)
    strength = response * response
    strength[strength <= 2 * math.sqrt(strength.mean(dtype=np.float64))] = 0
    middle = strength[1:-1, 1:-1]
    in_row = (middle > strength[1:-1, :-2]) & (middle > strength[1:-1, 2:])
    in_column = (middle > strength[:-2, 1:-1]) & (middle > strength[2:, 1:-1])
    edges = np.zeros(grey.shape, bool)
    edges[1:-1, 1:-1] = in_row | in_column
    return edges


def _edge_widths(values: np.ndarray, rows: np.ndarray, columns: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """[E] px from the minimum to the maximum beside each edge pixel, along its row; signs: 1 where the edge rises."""
    padded = cv2.copyMakeBorder(values, 0, 0, 1, 1, cv2.BORDER_REPLICATE)  # nothing rises or falls beyond the border
    values, start = padded.ravel(), rows * padded.shape[1] + columns + 1
    widths = np.zeros(len(rows), int)
    for step in (-1, 1):
        active, place = np.arange(len(rows)), start + step
        while active.size:
            widths[active] += 1
            goes_on = (values[place + step] - values[place]) * signs[active] * step > 0
            active, place = active[goes_on], place[goes_on] + step
    return widths


def _just_noticeable_widths(grey: np.ndarray) -> np.ndarray:
    """Of every whole block; 0 where a block has too few edges to be measured."""
    blurred = cv2.GaussianBlur(grey, (0, 0), _CANNY_SIGMA)
    canny = cv2.Canny(blurred, *_CANNY, L2gradient=True) > 0
    blocks, edges = _blocks(grey), _blocks(canny)
    contrast = blocks.max(axis=(1, 3)) - blocks.min(axis=(1, 3))
    widths = np.where(contrast <= _LOW_CONTRAST, _JUST_NOTICEABLE_LOW, _JUST_NOTICEABLE)
    return np.where(edges.mean(axis=(1, 3)) > _EDGE_BLOCK, widths, 0).astype(np.uint8)


def _blocks(picture: np.ndarray) -> np.ndarray:
    """[H, W] -> [H // 64, 64, W // 64, 64]."""
    down, across = (side // CPBD_BLOCK for side in picture.shape)
    whole = picture[: down * CPBD_BLOCK, : across * CPBD_BLOCK]
    return whole.reshape(down, CPBD_BLOCK, across, CPBD_BLOCK)
