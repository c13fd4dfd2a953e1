"""How near the lips are to the real ones, as a detector sees them that follows each row as a video of its own."""

from __future__ import annotations

import math
from contextlib import ExitStack

import numpy as np

from talkinghead.evaluation.instruments import Drive, Measure, ObservedFrame
from tools import lip_closures, metrics
from tools.face_topology import MEDIAPIPE_478
from tools.landmarks import LandmarkDetector, landmark_detector

LARGEST_LAG = 6
"""Frames by which the lips may be looked for early or late."""
JUDGE = MEDIAPIPE_478
"""The landmarks that every row is measured on, whatever the avatar was tracked with."""
_LMD = "mean distance of the 40 lip landmarks of MediaPipe from the source's (LMD, Chen et al. 2018)"
_CENTRED = f"{_LMD}, after subtracting their mean in each frame"
_OPENING_R = "Pearson's r of the inner lips' distance, with the head's pose removed"
_CLOSED = f"inner lips within {lip_closures.CLOSURE_GAP} inter-ocular distances of the real ones' 5th percentile"


class LipInstrument:
    """Landmark distance, mouth opening, closures, jitter."""

    measures = (
        Measure("lmd_px", _LMD, "px", "low", is_of_lips=True),
        Measure("lmd_centred_px", _CENTRED, "px", "low", is_of_lips=True),
        Measure("mouth_opening_r", _OPENING_R, best="high", is_of_lips=True),
        Measure("lmd_px_free", f"{_LMD}, of the head alone", "px", "low", is_of_lips=True),
        Measure("lmd_centred_px_free", f"{_CENTRED}, of the head alone", "px", "low", is_of_lips=True),
        Measure("mouth_opening_r_free", f"{_OPENING_R}, of the head alone", best="high", is_of_lips=True),
        Measure("mouth_amplitude", "standard deviation of the opening, output / source", best="one"),
        Measure("mouth_lag_frames", "frames by which the output's opening is late: the shift of highest r", "frames"),
        Measure("mean_opening", "mean opening, 0 the real lips' 5th percentile, 1 their 95th"),
        Measure("closures", f"times that the output's lips close: {_CLOSED}"),
        Measure("closure_recall", "share of the real closures that the output closes on, within a frame", best="high"),
        Measure("closure_precision", "share of the output's closures that the real lips close on", best="high"),
        Measure(
            "head_jitter",
            "second difference of the landmarks that follow the skull, output / source",
            best="one",
        ),
    )

    def observer(self, drive: Drive, stack: ExitStack) -> _LipObserver:
        """See `Instrument.observer`."""
        in_place, free = (stack.enter_context(landmark_detector("mediapipe", max_faces=1)) for _ in range(2))
        return _LipObserver(in_place, free, drive.has_truth)


class _LipObserver:
    def __init__(self, in_place: LandmarkDetector, free: LandmarkDetector, has_truth: bool) -> None:
        self._detectors = (in_place, free)
        self._has_truth = has_truth
        self._in_place: list[np.ndarray] = []  # landmarks [K, 3]
        self._free: list[np.ndarray] = []

    def see(self, frame: ObservedFrame) -> None:
        pictures, tracks = (frame.in_place, frame.free), (self._in_place, self._free)
        for detector, picture, track in zip(self._detectors, pictures, tracks, strict=True):
            faces = detector.detect(picture)
            track.append(faces[0] if faces else np.full((detector.topology.count, 3), np.nan, np.float32))

    def figures(self, truth: _LipObserver) -> dict[str, float]:
        in_place, free, source = np.stack(self._in_place), np.stack(self._free), np.stack(truth._in_place)
        faces = source[np.isfinite(source).all(axis=(1, 2))]
        shape = faces.mean(axis=0) if len(faces) else np.full_like(source[0], np.nan)
        real, opening = (metrics.mouth_opening(track, shape, JUDGE) for track in (source, in_place))
        closures = lip_closures.closure_scores(opening, real, lip_closures.closure_threshold(real))
        jitter, real_jitter = (metrics.head_jitter(track, JUDGE.stable) for track in (in_place, source))
        figures = {
            "lmd_px": metrics.landmark_distance(in_place, source, JUDGE.lips),
            "lmd_centred_px": metrics.centred_landmark_distance(in_place, source, JUDGE.lips),
            "mouth_opening_r": metrics.pearson(opening, real),
            "lmd_px_free": metrics.landmark_distance(free, source, JUDGE.lips),
            "lmd_centred_px_free": metrics.centred_landmark_distance(free, source, JUDGE.lips),
            "mouth_opening_r_free": metrics.pearson(metrics.mouth_opening(free, shape, JUDGE), real),
            "mouth_amplitude": metrics.amplitude_ratio(opening, real),
            "mouth_lag_frames": metrics.best_lag(opening, real, LARGEST_LAG),
            "mean_opening": lip_closures.mean_opening(opening, real),
            "closures": float(closures.predicted),
            "closure_recall": closures.recall,
            "closure_precision": closures.precision,
            "head_jitter": jitter / real_jitter if real_jitter else math.nan,
        }
        if not self._has_truth:
            figures |= {name: math.nan for name in figures if name not in ("mean_opening", "closures", "head_jitter")}
        return figures
