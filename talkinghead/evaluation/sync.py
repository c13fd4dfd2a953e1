"""Whether the lips of a row belong to what is heard with it: LSE with SyncNet, and our own measure without it.

Neither need rank the clip itself first (`Measure.is_of_lips`): lips that are driven by sound follow it more closely
than people's do. Published figures show it too: on LRS2 TalkLip's videos have an LSE-D of 6.00, the real ones 6.45
(Wang et al. 2023, Table 7).
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack
from fractions import Fraction

import numpy as np

from encoders.bundle import DEFAULT_BUNDLE
from encoders.features import speech_features
from encoders.own_sync import UNKNOWN, own_sync
from encoders.speech import SpeechEncoder
from encoders.syncnet.clip import SyncNetClip
from encoders.syncnet.network import SYNCNET, SyncNet, load_syncnet
from talkinghead.evaluation.faces import RowFaces
from talkinghead.evaluation.instruments import Drive, Measure, ObservedFrame
from talkinghead.evaluation.optional_weights import network_or_note
from talkinghead.progress import Progress
from tools import metrics
from tools.audio import SAMPLE_RATE

_SYNCNET = "by SyncNet (Chung and Zisserman 2016), offsets up to 15 frames, as Prajwal et al. 2020 (Wav2Lip, Sec. 4.2)"
_BOXES = "faces cut around MediaPipe's landmarks, not S3FD's boxes"
_OWN = "of lip opening and width as the default encoder hears them and as they are seen, in place; not LSE"


class SyncInstrument:
    """LSE-C and LSE-D where SyncNet's weights are at hand, our own distance in any case."""

    _OWN_MEASURES = (
        Measure("own_sync_distance", f"1 - Pearson's r {_OWN}; at the best offset up to 0.4 s", best="low"),
        Measure("own_sync_offset", "seconds by which the lips are late at that offset", "s"),
    )
    _LSE_MEASURES = (
        Measure("lse_d", f"lowest mean distance of sound and lips {_SYNCNET}; {_BOXES}", best="low"),
        Measure("lse_c", f"median less lowest mean distance {_SYNCNET}; {_BOXES}", best="high"),
        Measure("lse_offset_frames", "frames of 40 ms by which the picture is late at the lowest distance", "frames"),
    )

    def __init__(self, fps: Fraction, network: SyncNet | None) -> None:
        """Makes the instrument.

        Args:
            fps: frames per second of the clip.
            network: None where its weights cannot be had: then there are no LSE measures.
        """
        self._fps, self._network, self._encoder = fps, network, DEFAULT_BUNDLE.load()
        self.measures = self._OWN_MEASURES if network is None else (*self._OWN_MEASURES, *self._LSE_MEASURES)

    def observer(self, drive: Drive, stack: ExitStack) -> _SyncObserver:
        """See `Instrument.observer`."""
        clip = None if self._network is None else SyncNetClip(self._network, self._fps)
        return _SyncObserver(clip, self._encoder, self._fps, drive.samples)


def sync_instrument(fps: Fraction) -> Generator[Progress, None, tuple[SyncInstrument, list[str]]]:
    """The instrument for clips of a frame rate, with a note where SyncNet cannot be had."""
    network, notes = yield from network_or_note(SYNCNET, load_syncnet, "lse_d and lse_c")
    return SyncInstrument(fps, network), notes


class _SyncObserver:
    def __init__(
        self,
        clip: SyncNetClip | None,
        encoder: SpeechEncoder,
        fps: Fraction,
        samples: np.ndarray,
    ) -> None:
        self._clip, self._encoder = clip, encoder
        self._fps, self._samples = fps, samples
        self._first: int | None = None  # number of the frame that is shown when the sound begins
        self._shape: np.ndarray | None = None  # the first face that was seen
        self._lips: list[tuple[float, float]] = []  # opening and width of every frame since the first

    def see(self, frame: ObservedFrame) -> None:
        if self._first is None:
            self._first = frame.number
        index = frame.number - self._first
        landmarks = frame.landmarks if np.isfinite(frame.landmarks).all() else None
        self._lips += [(np.nan, np.nan)] * (index - len(self._lips))
        self._lips.append(self._measured(landmarks))
        if self._clip is not None:
            self._clip.see(index, frame.in_place, landmarks)

    def figures(self, truth: _SyncObserver) -> dict[str, float]:
        own = UNKNOWN
        if self._lips:
            opening, width = np.array(self._lips).T
            own = own_sync(speech_features(self._samples, self._encoder, self._fps, len(opening)), opening, width)
        figures = {"own_sync_distance": own.distance, "own_sync_offset": own.offset_s}
        if self._clip is None:
            return figures
        length = round(len(self._lips) / self._fps * SAMPLE_RATE)
        scores = self._clip.scores(self._samples[:length])
        return figures | {"lse_d": scores.distance, "lse_c": scores.confidence, "lse_offset_frames": scores.offset}

    def _measured(self, landmarks: np.ndarray | None) -> tuple[float, float]:
        if landmarks is None:
            return np.nan, np.nan
        if self._shape is None:
            self._shape = landmarks
        topology = RowFaces.topology
        left, right = topology.inner_lips[0], topology.inner_lips[len(topology.inner_lips) // 2]
        opening = metrics.mouth_opening(landmarks[None], self._shape, topology)[0]
        return float(opening), _in_picture(landmarks, left, right) / _in_picture(
            landmarks, topology.left_outer_eye_corner, topology.right_outer_eye_corner
        )


def _in_picture(landmarks: np.ndarray, a: int, b: int) -> float:
    return float(np.linalg.norm(landmarks[a, :2] - landmarks[b, :2]))
