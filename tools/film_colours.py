"""From the RGB that a film is shown as to the film's own YCbCr: the inverse of what `tools.video` does to colours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tools.video import DIFFUSE_WHITE, TONE_MAPPING_PEAK, ColorMatrix

# ITU-R BT.601, BT.709 and BT.2020: the weights of red and blue in luma.
_LUMA_WEIGHTS: dict[ColorMatrix, tuple[float, float]] = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
}
# Linear light of BT.709 primaries in BT.2020 primaries (ITU-R BT.2087, M2).
_TO_BT2020 = np.array(
    [[0.6274039, 0.3292830, 0.0433131], [0.0690973, 0.9195404, 0.0113623], [0.0163914, 0.0880133, 0.8955953]],
    np.float32,
)
_DISPLAY_GAMMA = 2.4  # ITU-R BT.1886; what zscale takes for the transfer of BT.709
_PQ_PEAK = 10_000  # cd/m2
_HLG_PEAK = 1_000  # cd/m2, a display of ITU-R BT.2100 with system gamma 1.2
_MOBIUS_KNEE = 0.3  # of ffmpeg's filter `tonemap`: light below it stays as it is


@dataclass(frozen=True)
class FilmColours:
    """The code values of a film."""

    matrix: ColorMatrix
    is_full_range: bool
    bits: int
    """Per sample."""
    hdr: str | None = None
    """pq or hlg, where the film was tone-mapped to be shown."""

    def codes(self, rgb: np.ndarray) -> np.ndarray:
        """Unrounded YCbCr code values, float32 [H, W, 3], of uint8 RGB [H, W, 3] as `tools.video.read_frames` yields.

        HDR film: the light that tone-mapping turns into this RGB. Light that it clips is not told apart.
        """
        signal = rgb.astype(np.float32) / 255
        if self.hdr is not None:
            light = _before_tone_mapping(signal**_DISPLAY_GAMMA) @ _TO_BT2020.T
            signal = _pq(light) if self.hdr == "pq" else _hlg(light)
        red, blue = _LUMA_WEIGHTS[self.matrix]
        luma = signal @ np.array([red, 1 - red - blue, blue], np.float32)
        difference = np.stack(
            [luma, (signal[..., 2] - luma) / (2 - 2 * blue), (signal[..., 0] - luma) / (2 - 2 * red)], axis=-1
        )
        return difference * self._scale() + self._offset()

    def _scale(self) -> np.ndarray:
        if self.is_full_range:
            return np.full(3, (1 << self.bits) - 1, np.float32)
        return np.array([219, 224, 224], np.float32) * (1 << (self.bits - 8))

    def _offset(self) -> np.ndarray:
        step = 1 << (self.bits - 8)
        return np.array([0 if self.is_full_range else 16 * step, 128 * step, 128 * step], np.float32)


def _before_tone_mapping(shown: np.ndarray) -> np.ndarray:
    """Inverse of the Moebius curve of ffmpeg's `tonemap`, which scales a pixel as it does its brightest primary.

    Linear light, 1 being diffuse white.
    """
    knee, peak = _MOBIUS_KNEE, TONE_MAPPING_PEAK
    a = -knee * knee * (peak - 1) / (knee * knee - 2 * knee + peak)
    b = (knee * knee - 2 * knee * peak + peak) / (peak - 1)
    slope = (b * b + 2 * b * knee + knee * knee) / (b - a)
    brightest = np.maximum(shown.max(axis=-1, keepdims=True), 1e-6)
    source = np.where(brightest <= knee, brightest, (slope * a - brightest * b) / (brightest - slope))
    return shown * (source / brightest)


def _pq(light: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084, equations 5.2."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = np.clip(light * (DIFFUSE_WHITE / _PQ_PEAK), 0, 1) ** m1
    return ((c1 + c2 * power) / (1 + c3 * power)) ** m2


def _hlg(light: np.ndarray) -> np.ndarray:
    """ITU-R BT.2100, table 5: the inverse of the display's OOTF (of each primary, as zscale has it), then the OETF."""
    scene = np.clip(light * (DIFFUSE_WHITE / _HLG_PEAK), 0, 1) ** (1 / 1.2)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-6)) + c)
