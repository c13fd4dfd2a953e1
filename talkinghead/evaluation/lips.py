"""How near the lips are to the real ones, as a detector sees them that looks at every row alike."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np

from talkinghead.evaluation.faces import RowFaces
from talkinghead.evaluation.instruments import Drive, Measure, ObservedFrame
from tools import lip_closures, metrics
from tools.action_units import LOWER_UNITS, UPPER_UNITS, action_unit_error, action_units
from tools.face_topology import FaceTopology
from tools.landmarks import LandmarkDetector, largest_face

LARGEST_LAG = 6
"""Frames by which the lips may be looked for early or late."""
IN_PLACE, FREE = "", "_free"
"""Endings of measures: of the picture as `speak` shows it in the footage, and of the head alone over the background."""
NEEDS_NO_TRUTH = ("mean_opening", "closures", "head_jitter")
"""What is said of lips whose words the clip does not show."""
_CLOSED = f"inner lips within {lip_closures.CLOSURE_GAP} inter-ocular distances of the real ones' 5th percentile"
_AUE = (
    "hundredths of the inter-ocular distance, with the head's pose removed: squared difference from the source, mean "
    "over frames, summed over units, as TalkingGaussian's AUE is of OpenFace's intensities, which these are not"
)


class LipInstrument:
    """Landmark distance, mouth opening and width, landmark-based action units, closures, jitter.

    Args:
        detector: looks at every picture of every row anew; without it MediaPipe's landmarks are taken (`RowFaces`).
    """

    def __init__(self, detector: LandmarkDetector | None = None) -> None:
        self._detector = detector
        self.judge = (detector or RowFaces).topology
        """The landmarks that every row is measured on, whatever the avatar was tracked with."""
        self.measures = (*_distances(IN_PLACE, self.judge), *_distances(FREE, self.judge), *_SERIES)

    def observer(self, drive: Drive, stack: ExitStack) -> _LipObserver:
        """See `Instrument.observer`."""
        return _LipObserver(self._detector, self.judge, drive.has_truth)


class _LipObserver:
    def __init__(self, detector: LandmarkDetector | None, judge: FaceTopology, has_truth: bool) -> None:
        self._detector, self._judge, self._has_truth = detector, judge, has_truth
        self._in_place: list[np.ndarray] = []  # landmarks [K, 3]
        self._free: list[np.ndarray] = []

    def see(self, frame: ObservedFrame) -> None:
        if self._detector is None:
            self._in_place.append(frame.landmarks)
            self._free.append(frame.free_landmarks)
        else:
            self._in_place.append(largest_face(self._detector, frame.in_place))
            self._free.append(largest_face(self._detector, frame.free))

    def figures(self, truth: _LipObserver) -> dict[str, float]:
        judge = self._judge
        in_place, free, source = np.stack(self._in_place), np.stack(self._free), np.stack(truth._in_place)
        shape = metrics.mean_shape(source)
        figures = {
            **_distance_figures(IN_PLACE, in_place, source, shape, judge),
            **_distance_figures(FREE, free, source, shape, judge),
            **_series_figures(in_place, source, shape, judge),
        }
        if not self._has_truth:
            figures |= {name: math.nan for name in figures if name not in NEEDS_NO_TRUTH}
        return figures


def _distances(ending: str, judge: FaceTopology) -> tuple[Measure, ...]:
    """The measures of `_distance_figures`."""
    where = ", of the head alone" if ending else ""
    lmd = f"mean distance from the source's of the mouth's 20 points of the 68-point mark-up, {judge.name}'s"
    opening = f"Pearson's r of the distance of the inner lips, with the head's pose removed{where}"
    width = f"Pearson's r of the distance of the mouth's corners, with the head's pose removed{where}"
    lower = f"{', '.join(LOWER_UNITS)} by landmarks{where}, {_AUE}"
    measures = (
        Measure(f"lmd_px{ending}", f"{lmd}{where} (LMD, Chen et al. 2018)", "px", "low", is_of_lips=True),
        Measure(
            f"lmd_centred_px{ending}", f"{lmd}, less their mean in each frame{where}", "px", "low", is_of_lips=True
        ),
        Measure(f"mouth_opening_r{ending}", opening, best="high", is_of_lips=True),
        Measure(f"mouth_width_r{ending}", width, best="high", is_of_lips=True),
        Measure(f"landmark_aue_lower{ending}", lower, best="low", is_of_lips=True),
    )
    if ending == IN_PLACE:  # above the blended region the footage is seen: nothing of the avatar's
        return measures
    upper = f"{', '.join(UPPER_UNITS)} by landmarks{where}, {_AUE}"
    return (*measures, Measure("landmark_aue_upper_free", upper, best="low"))


def _distance_figures(
    ending: str, track: np.ndarray, source: np.ndarray, shape: np.ndarray, judge: FaceTopology
) -> dict[str, float]:
    def correlation(series: Callable[..., np.ndarray]) -> float:
        return metrics.pearson(series(track, shape, judge), series(source, shape, judge))

    upper, lower = action_unit_error(action_units(track, shape, judge), action_units(source, shape, judge))
    figures = {
        f"lmd_px{ending}": metrics.landmark_distance(track, source, judge.mouth_68),
        f"lmd_centred_px{ending}": metrics.centred_landmark_distance(track, source, judge.mouth_68),
        f"mouth_opening_r{ending}": correlation(metrics.mouth_opening),
        f"mouth_width_r{ending}": correlation(metrics.mouth_width),
        f"landmark_aue_lower{ending}": lower,
    }
    return figures if ending == IN_PLACE else figures | {"landmark_aue_upper_free": upper}


_SERIES = (
    Measure("mouth_amplitude", "standard deviation of the opening, output / source", best="one"),
    Measure("mouth_lag_frames", "frames by which the output's opening is late: the shift of highest r", "frames"),
    Measure("mean_opening", "mean opening, 0 the real lips' 5th percentile, 1 their 95th"),
    Measure("closures", f"times that the output's lips close: {_CLOSED}"),
    Measure("closure_recall", "share of the real closures that the output closes on, within a frame", best="high"),
    Measure("closure_precision", "share of the output's closures that the real lips close on", best="high"),
    Measure("head_jitter", "second difference of the landmarks that follow the skull, output / source", best="one"),
)


def _series_figures(
    track: np.ndarray, source: np.ndarray, shape: np.ndarray, judge: FaceTopology
) -> dict[str, float]:
    """Figures of `_SERIES`, in place."""
    opening, real = (metrics.mouth_opening(seen, shape, judge) for seen in (track, source))
    closures = lip_closures.closure_scores(opening, real, lip_closures.closure_threshold(real))
    jitter, real_jitter = (metrics.head_jitter(seen, judge.stable) for seen in (track, source))
    return {
        "mouth_amplitude": metrics.amplitude_ratio(opening, real),
        "mouth_lag_frames": metrics.best_lag(opening, real, LARGEST_LAG),
        "mean_opening": lip_closures.mean_opening(opening, real),
        "closures": float(closures.predicted),
        "closure_recall": closures.recall,
        "closure_precision": closures.precision,
        "head_jitter": jitter / real_jitter if real_jitter else math.nan,
    }
