"""Which instruments measure an avatar on this machine."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from fractions import Fraction

from talkinghead.config import EvaluateConfig
from talkinghead.evaluation.instruments import Instrument, Measure
from talkinghead.evaluation.lips import LipInstrument
from talkinghead.evaluation.perceptual import perceptual_instruments
from talkinghead.evaluation.pictures import PictureInstrument
from talkinghead.evaluation.reading import lip_reading
from talkinghead.evaluation.sync import sync_instrument
from talkinghead.evaluation.visemes import viseme_reading
from talkinghead.progress import Progress
from tools.errors import LandmarkBackendError
from tools.landmarks import landmark_detector


@dataclass(frozen=True)
class Available:
    """What can be measured here."""

    instruments: tuple[Instrument, ...]
    notes: tuple[str, ...]
    """A sentence for each that cannot be used, with the remedy."""

    @property
    def measures(self) -> tuple[Measure, ...]:
        """What they measure, in the order of the table."""
        return tuple(measure for instrument in self.instruments for measure in instrument.measures)


def available(config: EvaluateConfig, fps: Fraction) -> Generator[Progress, None, Available]:
    """The instruments for clips of a frame rate. Weights that they lack are fetched; once is enough for many avatars.

    Raises:
        UserError: see `talkinghead.evaluation.reading.lip_reader`.
        EncoderWeightsError: see `talkinghead.evaluation.visemes.viseme_reading`.
    """
    lips, lip_notes = _lip_instrument(config)
    reading = lip_reading(config, fps)
    perceptual, perceptual_notes = yield from perceptual_instruments()
    sync, sync_notes = yield from sync_instrument(fps)
    instruments = (PictureInstrument(), lips, *reading, *viseme_reading(config, fps), *perceptual, sync)
    return Available(instruments, (*lip_notes, *perceptual_notes, *sync_notes))


def _lip_instrument(config: EvaluateConfig) -> tuple[LipInstrument, list[str]]:
    if config.lip_landmarks == "mediapipe":
        return LipInstrument(), []
    try:
        return LipInstrument(landmark_detector(config.lip_landmarks, max_faces=1)), []
    except LandmarkBackendError as error:
        return LipInstrument(), [f"lips are measured on MediaPipe's landmarks: {error}"]
