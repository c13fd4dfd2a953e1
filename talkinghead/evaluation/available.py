"""Which instruments measure an avatar on this machine."""

from __future__ import annotations

from talkinghead.config import EvaluateConfig
from talkinghead.evaluation.instruments import Instrument
from talkinghead.evaluation.lips import LipInstrument
from talkinghead.evaluation.pictures import PictureInstrument
from tools.errors import LandmarkBackendError
from tools.landmarks import landmark_detector


def instruments(config: EvaluateConfig) -> tuple[list[Instrument], list[str]]:
    """The instruments, and a sentence for each that cannot be used, with the remedy."""
    lips, notes = _lip_instrument(config)
    return [PictureInstrument(), lips], notes


def _lip_instrument(config: EvaluateConfig) -> tuple[LipInstrument, list[str]]:
    if config.lip_landmarks == "mediapipe":
        return LipInstrument(), []
    try:
        return LipInstrument(landmark_detector(config.lip_landmarks, max_faces=1)), []
    except LandmarkBackendError as error:
        return LipInstrument(), [f"lips are measured on MediaPipe's landmarks: {error}"]
