"""How near the pictures are to the source, and how sharp."""

from __future__ import annotations

import math
from collections import defaultdict
from contextlib import ExitStack

import numpy as np

from talkinghead.evaluation.instruments import Drive, Measure, ObservedFrame
from tools import picture_quality

_PSNR = "peak signal-to-noise ratio (tools.picture_quality.psnr)"
_SSIM = "structural similarity (Wang et al. 2004, Eq. 13)"
_MS_SSIM = "multi-scale structural similarity (Wang et al. 2003, Eq. 7)"
_CPBD = "sharpness, cumulative probability of blur detection (CPBD, Narvekar & Karam 2011)"
COMPOSITE = "of the crop with the blended region replaced, as speak does it"
_HULL = "of the crop with the convex hull of the face landmarks replaced"
WHOLE = "of the head render over the background plate, nothing pasted"
MOUTH = f"around the lips, in whole blocks of {picture_quality.CPBD_BLOCK} px, as speak does it"
_OF_OUTPUT = ("composite_cpbd", "whole_cpbd", "mouth_cpbd", "mouth_sharpness")
"""What describes a row whether or not the clip shows how it ought to look."""


class PictureInstrument:
    """PSNR, SSIM, MS-SSIM and sharpness."""

    measures = (
        Measure("composite_psnr", f"{_PSNR} {COMPOSITE}", "dB", "high"),
        Measure("composite_ssim", f"{_SSIM} {COMPOSITE}", best="high"),
        Measure("composite_ms_ssim", f"{_MS_SSIM} {COMPOSITE}", best="high"),
        Measure("composite_cpbd", f"{_CPBD} {COMPOSITE}", best="high"),
        Measure("hull_psnr", f"{_PSNR} {_HULL}", "dB", "high"),
        Measure("hull_ssim", f"{_SSIM} {_HULL}", best="high"),
        Measure("face_psnr", f"{_PSNR} inside that hull only", "dB", "high"),
        Measure("whole_psnr", f"{_PSNR} {WHOLE}", "dB", "high"),
        Measure("whole_ssim", f"{_SSIM} {WHOLE}", best="high"),
        Measure("whole_ms_ssim", f"{_MS_SSIM} {WHOLE}", best="high"),
        Measure("whole_cpbd", f"{_CPBD} {WHOLE}", best="high"),
        Measure("mouth_psnr", f"{_PSNR} {MOUTH}", "dB", "high"),
        Measure("mouth_ssim", f"{_SSIM} {MOUTH}", best="high"),
        Measure("mouth_cpbd", f"{_CPBD} {MOUTH}", best="high"),
        Measure(
            "mouth_sharpness",
            "variance of the Laplacian around the lips, output / source (Pech-Pacheco et al. 2000)",
            best="one",
        ),
    )

    def observer(self, drive: Drive, stack: ExitStack) -> _PictureObserver:
        """See `Instrument.observer`."""
        return _PictureObserver(drive.has_truth)


class _PictureObserver:
    def __init__(self, has_truth: bool) -> None:
        self._has_truth = has_truth
        self._values: defaultdict[str, list[float]] = defaultdict(list)

    def see(self, frame: ObservedFrame) -> None:
        source, mouth = frame.source, mouth_blocks(frame)
        pasted = np.where(frame.face[..., None], frame.free, source)
        composite_ssim, composite_ms_ssim = picture_quality.ssim_and_ms_ssim(frame.in_place, source)
        whole_ssim, whole_ms_ssim = picture_quality.ssim_and_ms_ssim(frame.free, source)
        seen = {
            "composite_psnr": picture_quality.psnr(frame.in_place, source),
            "composite_ssim": composite_ssim,
            "composite_ms_ssim": composite_ms_ssim,
            "composite_cpbd": picture_quality.cpbd(frame.in_place),
            "hull_psnr": picture_quality.psnr(pasted, source),
            "hull_ssim": picture_quality.ssim(pasted, source),
            "face_psnr": picture_quality.psnr(frame.free, source, frame.face),
            "whole_psnr": picture_quality.psnr(frame.free, source),
            "whole_ssim": whole_ssim,
            "whole_ms_ssim": whole_ms_ssim,
            "whole_cpbd": picture_quality.cpbd(frame.free),
            "mouth_psnr": picture_quality.psnr(frame.in_place[mouth], source[mouth]),
            "mouth_ssim": picture_quality.ssim(frame.in_place[mouth], source[mouth]),
            "mouth_cpbd": picture_quality.cpbd(frame.in_place[mouth]),
            "mouth_sharpness": picture_quality.laplacian_variance(frame.in_place[frame.mouth]),
        }
        for name, value in seen.items():
            self._values[name].append(value)

    def figures(self, truth: _PictureObserver) -> dict[str, float]:
        means = {name: float(np.mean(values)) for name, values in self._values.items()}
        sharpness = float(np.mean(truth._values["mouth_sharpness"]))
        means["mouth_sharpness"] = means["mouth_sharpness"] / sharpness if sharpness else math.nan
        if not self._has_truth:
            means |= {name: math.nan for name in means if name not in _OF_OUTPUT}
        return means


def mouth_blocks(frame: ObservedFrame) -> tuple[slice, slice]:
    """Rows and columns around the source's lips, widened to whole blocks; all of a picture that is smaller."""
    rows, columns = (_widened(part, side) for part, side in zip(frame.mouth, frame.source.shape[:2], strict=True))
    return rows, columns


def _widened(part: slice, side: int) -> slice:
    block = picture_quality.CPBD_BLOCK
    length = min(-(-(part.stop - part.start) // block) * block, side)
    start = min(max(0, (part.start + part.stop - length) // 2), side - length)
    return slice(start, start + length)
