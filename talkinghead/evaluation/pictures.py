"""How near the pictures are to the source."""

from __future__ import annotations

import math
from collections import defaultdict
from contextlib import ExitStack

import numpy as np

from talkinghead.evaluation.instruments import Drive, Measure, ObservedFrame
from tools import metrics

_PSNR = "peak signal-to-noise ratio (tools.metrics.psnr)"
_SSIM = "structural similarity (Wang et al. 2004, Eq. 13)"
_COMPOSITE = "of the crop with the blended region replaced, as speak does it"
_HULL = "of the crop with the convex hull of the face landmarks replaced"
_WHOLE = "of the head render over the background plate, nothing pasted"


class PictureInstrument:
    """PSNR, SSIM and sharpness."""

    measures = (
        Measure("composite_psnr", f"{_PSNR} {_COMPOSITE}", "dB", "high"),
        Measure("composite_ssim", f"{_SSIM} {_COMPOSITE}", best="high"),
        Measure("hull_psnr", f"{_PSNR} {_HULL}", "dB", "high"),
        Measure("hull_ssim", f"{_SSIM} {_HULL}", best="high"),
        Measure("face_psnr", f"{_PSNR} inside that hull only", "dB", "high"),
        Measure("whole_psnr", f"{_PSNR} {_WHOLE}", "dB", "high"),
        Measure("whole_ssim", f"{_SSIM} {_WHOLE}", best="high"),
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
        source, pasted = frame.source, np.where(frame.face[..., None], frame.free, frame.source)
        seen = {
            "composite_psnr": metrics.psnr(frame.in_place, source),
            "composite_ssim": metrics.ssim(frame.in_place, source),
            "hull_psnr": metrics.psnr(pasted, source),
            "hull_ssim": metrics.ssim(pasted, source),
            "face_psnr": metrics.psnr(frame.free, source, frame.face),
            "whole_psnr": metrics.psnr(frame.free, source),
            "whole_ssim": metrics.ssim(frame.free, source),
            "mouth_sharpness": metrics.laplacian_variance(frame.in_place[frame.mouth]),
        }
        for name, value in seen.items():
            self._values[name].append(value)

    def figures(self, truth: _PictureObserver) -> dict[str, float]:
        means = {name: float(np.mean(values)) for name, values in self._values.items()}
        sharpness = float(np.mean(truth._values["mouth_sharpness"]))
        means["mouth_sharpness"] = means["mouth_sharpness"] / sharpness if sharpness else math.nan
        if not self._has_truth:
            means |= {name: math.nan for name in means if name != "mouth_sharpness"}
        return means
