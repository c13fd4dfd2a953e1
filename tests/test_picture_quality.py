"""Measures of pictures against scikit-image, their definitions written out, and values worked out by hand."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from scipy.ndimage import correlate1d
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from tools import picture_quality
from tools.picture_quality import CPBD_BLOCK, MS_SSIM_SMALLEST, MS_SSIM_WEIGHTS


def _pictures(dtype: type, shape: tuple[int, ...] = (48, 40, 3)) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    truth = random.random(shape)
    noisy = np.clip(truth + 0.1 * random.standard_normal(shape), 0, 1)
    if dtype is np.uint8:
        return (255 * noisy).astype(np.uint8), (255 * truth).astype(np.uint8)
    return noisy.astype(dtype), truth.astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_psnr_agrees_with_scikit_image(dtype: type) -> None:
    picture, truth = _pictures(dtype)
    expected = peak_signal_noise_ratio(truth, picture, data_range=255 if dtype is np.uint8 else 1.0)
    assert picture_quality.psnr(picture, truth) == pytest.approx(expected, abs=1e-4)


def test_psnr_of_a_known_error() -> None:
    truth = np.full((4, 4, 3), 100, np.uint8)
    assert picture_quality.psnr(truth + np.uint8(10), truth) == pytest.approx(20 * math.log10(255 / 10))
    assert picture_quality.psnr(truth, truth) == math.inf


def test_masked_psnr_sees_only_the_mask() -> None:
    truth = np.full((4, 4, 3), 100, np.uint8)
    picture = truth.copy()
    picture[:2] += 10
    mask = np.zeros((4, 4), bool)
    mask[0] = True
    assert picture_quality.psnr(picture, truth, mask) == pytest.approx(20 * math.log10(25.5))
    mask[2] = True  # as many perfect pixels: half the squared error
    assert picture_quality.psnr(picture, truth, mask) == pytest.approx(20 * math.log10(25.5) + 10 * math.log10(2))
    assert picture_quality.psnr(picture, truth, ~mask & (np.arange(4)[:, None] >= 2)) == math.inf
    with pytest.raises(ValueError, match="mask"):
        picture_quality.psnr(picture, truth, np.zeros((4, 4), bool))


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
@pytest.mark.parametrize("shape", [(48, 40, 3), (48, 40)])
def test_ssim_agrees_with_scikit_image(dtype: type, shape: tuple[int, ...]) -> None:
    picture, truth = _pictures(dtype, shape)
    expected = structural_similarity(
        truth,
        picture,
        data_range=255 if dtype is np.uint8 else 1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        channel_axis=2 if len(shape) == 3 else None,
    )
    assert picture_quality.ssim(picture, truth) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
@pytest.mark.parametrize("corner", [(0, 0), (37, 28), (20, 10)])
def test_ssim_of_a_difference_in_one_place(dtype: type, corner: tuple[int, int]) -> None:
    """Where pictures agree nothing is computed: the result is that of the whole."""
    other, truth = _pictures(dtype)
    picture, place = truth.copy(), (slice(corner[0], corner[0] + 11), slice(corner[1], corner[1] + 12))
    picture[place] = other[place]
    expected = structural_similarity(
        picture,
        truth,
        data_range=255 if dtype is np.uint8 else 1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        channel_axis=2,
    )
    assert picture_quality.ssim(picture, truth) == pytest.approx(expected, abs=1e-6) and expected < 0.999


def test_ssim_of_identical_pictures_and_of_too_small_ones() -> None:
    picture, truth = _pictures(np.uint8)
    assert picture_quality.ssim(truth, truth) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="at least 11 px"):
        picture_quality.ssim(picture[:10], truth[:10])


@pytest.mark.parametrize("measure", [picture_quality.psnr, picture_quality.ssim])
def test_pictures_that_do_not_match_are_refused(measure) -> None:
    picture, truth = _pictures(np.uint8)
    with pytest.raises(ValueError, match="one shape and type"):
        measure(picture[:-1], truth)
    with pytest.raises(ValueError, match="one shape and type"):
        measure(picture.astype(np.float32) / 255, truth)


def test_laplacian_variance_of_a_known_picture() -> None:
    flat = np.full((9, 9, 3), 80, np.uint8)
    assert picture_quality.laplacian_variance(flat) == 0.0
    spot = flat.copy()
    spot[4, 4] += 10  # -40 there, +10 at its four neighbours: mean 0
    assert picture_quality.laplacian_variance(spot) == pytest.approx((1600 + 4 * 100) / 81)


def textured(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Soft colours with detail of every size."""
    random, picture = np.random.default_rng(seed), np.zeros((height, width, 3), np.float32)
    for cells in (4, 16, 64):
        noise = random.normal(size=(cells, cells, 3)).astype(np.float32)
        picture += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(128 + 30 * picture, 0, 255).astype(np.uint8)


def spoilt(picture: np.ndarray, seed: int = 1) -> np.ndarray:
    """Softer, darker and noisy."""
    noise = np.random.default_rng(seed).normal(scale=8, size=picture.shape)
    return np.clip(0.9 * cv2.GaussianBlur(picture, (0, 0), 1.5) + noise, 0, 255).astype(np.uint8)


def ms_ssim_by_definition(picture: np.ndarray, truth: np.ndarray) -> float:
    """Wang et al. 2003, Eq. 7, in float64 with scipy's filters and no shortcut; sides that are powers of two."""
    window = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window /= window.sum()

    def mean(values: np.ndarray) -> np.ndarray:
        return correlate1d(correlate1d(values, window, axis=0), window, axis=1)[5:-5, 5:-5]

    channels = []
    for x, y in zip(np.moveaxis(picture.astype(float), 2, 0), np.moveaxis(truth.astype(float), 2, 0), strict=True):
        result = 1.0
        for scale, weight in enumerate(MS_SSIM_WEIGHTS):
            mx, my = mean(x), mean(y)
            vx, vy, vxy = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
            contrast_structure = (2 * vxy + 58.5225) / (vx + vy + 58.5225)
            luminance = (2 * mx * my + 6.5025) / (mx**2 + my**2 + 6.5025)
            last = scale == len(MS_SSIM_WEIGHTS) - 1
            result *= (contrast_structure * luminance if last else contrast_structure).mean() ** weight
            x, y = (part.reshape(len(part) // 2, 2, -1, 2).mean(axis=(1, 3)) for part in (x, y))
        channels.append(result)
    return float(np.mean(channels))


@pytest.mark.parametrize("size", [(256, 192), (192, 512)])
def test_ms_ssim_is_that_of_its_definition(size: tuple[int, int]) -> None:
    truth = textured(*size)
    picture = spoilt(truth)
    expected = ms_ssim_by_definition(picture, truth)
    assert picture_quality.ms_ssim(picture, truth) == pytest.approx(expected, abs=2e-6) and 0.3 < expected < 0.98


def test_a_difference_in_a_small_place_counts_in_all_scales() -> None:
    truth = textured(256, 256)
    picture = truth.copy()
    picture[100:140, 180:230] = spoilt(truth)[100:140, 180:230]
    expected = ms_ssim_by_definition(picture, truth)
    assert picture_quality.ms_ssim(picture, truth) == pytest.approx(expected, abs=2e-6) and expected < 0.9995


def test_both_similarities_are_had_in_one_go() -> None:
    truth = textured(200, 180)
    picture = spoilt(truth)
    both = picture_quality.ssim_and_ms_ssim(picture, truth)
    assert both == (picture_quality.ssim(picture, truth), picture_quality.ms_ssim(picture, truth))


def test_ms_ssim_of_the_same_picture_is_one_and_does_not_depend_on_the_type() -> None:
    truth = textured(256, 192)
    assert picture_quality.ms_ssim(truth, truth) == 1.0
    picture = spoilt(truth)
    as_float = picture_quality.ms_ssim((picture / 255).astype(np.float32), (truth / 255).astype(np.float32))
    assert as_float == pytest.approx(picture_quality.ms_ssim(picture, truth), abs=1e-5)


def test_a_picture_without_room_for_the_coarsest_window_has_no_ms_ssim() -> None:
    assert MS_SSIM_SMALLEST == 161  # its fourth half has 11 px, rounded up each time
    smallest, smaller = textured(161, 200), textured(160, 200)
    assert 0 < picture_quality.ms_ssim(spoilt(smallest), smallest) < 1
    ssim, ms_ssim = picture_quality.ssim_and_ms_ssim(spoilt(smaller), smaller)
    assert 0 < ssim < 1 and math.isnan(ms_ssim)


def test_a_negative_picture_has_no_multi_scale_similarity() -> None:
    truth = textured(256, 256)
    assert picture_quality.ms_ssim(255 - truth, truth) == 0.0


def edges(*steps: int, low: int = 20, rows: int = CPBD_BLOCK) -> np.ndarray:
    """[rows, 128, 3] upright edges every 32 px, up and down, that rise by these steps from pixel to pixel."""
    rise = low + np.cumsum([0] * 12 + list(steps) + [0] * (20 - len(steps)))
    row = np.tile(np.concatenate([rise, rise[::-1]]), 2)
    return np.repeat(np.tile(row, (rows, 1))[..., None], 3, axis=2).astype(np.uint8)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ((90, 90), 1.0),
        ((30, 110, 40), 1.0),  # as wide as just noticeable
        ((20, 60, 80, 20), 0.0),
        ((10, 22, 13, 5), 1.0),  # contrast of 50: five pixels go unnoticed
        ((10, 15, 17, 5, 3), 1.0),
        ((4, 8, 14, 12, 7, 5), 0.0),
        ((10, 22, 14, 5), 0.0),  # contrast of 51
    ],
)
def test_cpbd_of_hand_made_edges(steps: tuple[int, ...], expected: float) -> None:
    assert picture_quality.cpbd(edges(*steps)) == expected


def test_cpbd_is_the_share_of_edge_pixels_that_are_not_noticeably_blurred() -> None:
    picture = np.concatenate([edges(30, 110, 40), edges(20, 60, 80, 20), edges(20, 60, 80, 20)])
    assert picture_quality.cpbd(picture) == pytest.approx(1 / 3, abs=0.01)  # where blocks meet there are other edges


def test_widths_of_which_63_percent_are_noticed_are_those_up_to_the_just_noticeable_width() -> None:
    for noticeable in (3, 5):
        widths = np.arange(1, 30)
        detected = 1 - np.exp(-((widths / noticeable) ** 3.6))
        assert np.array_equal(np.round(detected, 2) <= 0.63, widths <= noticeable)


def test_blur_lowers_cpbd() -> None:
    picture = textured(256, 256)
    values = [picture_quality.cpbd(cv2.GaussianBlur(picture, (0, 0), sigma)) for sigma in (0.3, 1.0, 1.5, 3.0)]
    assert values == sorted(values, reverse=True) and values[0] > 10 * values[-1] > 0


@pytest.mark.parametrize("size", [(64, 64), (20, 200), (30, 30), (1, 1)])
def test_a_picture_without_edges_or_blocks_has_no_sharpness(size: tuple[int, int]) -> None:
    assert picture_quality.cpbd(np.full((*size, 3), 90, np.uint8)) == 0.0


def test_what_is_outside_of_whole_blocks_does_not_count() -> None:
    picture = np.concatenate([edges(30, 110, 40), edges(20, 60, 80, 20, rows=63)])
    assert picture_quality.cpbd(picture) == 1.0
