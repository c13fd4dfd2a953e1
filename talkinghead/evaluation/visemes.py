"""How many visemes of what is heard an observer reads from the lips of a row (after TalkLip, Sec. 4.1)."""

from __future__ import annotations

from contextlib import ExitStack
from fractions import Fraction

import numpy as np

from encoders.bundle import DEFAULT_BUNDLE
from encoders.contrastive.lip_clips import LIP_HEIGHT, LIP_WIDTH
from encoders.experts.observer import VisemeObserver
from encoders.experts.viseme_file import LipReaderProvenance, load_observer
from encoders.experts.viseme_training import viseme_accuracy
from encoders.features import speech_features
from encoders.speech import SpeechEncoder
from talkinghead.config import EvaluateConfig
from talkinghead.evaluation.instruments import Drive, Measure, ObservedFrame
from talkinghead.lip_clips import small_mouth
from talkinghead.lip_fit import delayed

PIECE = 1000
"""Frames that are read at once, 14 MB: a long clip does not fill the memory."""


class VisemeInstrument:
    """Accuracy of an observer."""

    measures = (
        Measure(
            "viseme_accuracy",
            "share of frames whose viseme, as the default encoder hears it, is read from the lips in place by an "
            "observer that no fit has learned from (after Wang et al., TalkLip, Sec. 4.1); the mean over the visemes "
            "that occur, without silence; guessing gives one by their number, 0.07 for all 14",
            best="high",
            is_of_lips=True,
        ),
    )

    def __init__(self, observer: VisemeObserver, fps: Fraction) -> None:
        """Makes the instrument.

        Args:
            fps: frames per second of the clip.
        """
        self._observer, self._fps, self._encoder = observer, fps, DEFAULT_BUNDLE.load()

    def observer(self, drive: Drive, stack: ExitStack) -> _VisemeRow:
        """See `Instrument.observer`."""
        return _VisemeRow(self._observer, self._encoder, self._fps, drive)


class _VisemeRow:
    def __init__(self, observer: VisemeObserver, encoder: SpeechEncoder, fps: Fraction, drive: Drive) -> None:
        self._observer, self._encoder, self._fps, self._drive = observer, encoder, fps, drive
        self._first: int | None = None  # number of the frame that is shown when the sound begins
        self._mouths: list[np.ndarray | None] = []  # None: no face; of the piece that is not read yet
        self._read: list[np.ndarray] = []  # visemes of the pieces before it, -1 without a face

    def see(self, frame: ObservedFrame) -> None:
        if self._first is None:
            self._first = frame.number
        while self._count < frame.number - self._first:
            self._take(None)
        is_placed = np.isfinite(frame.lower_face).all()
        self._take(small_mouth(frame.in_place, frame.lower_face) if is_placed else None)

    def figures(self, truth: _VisemeRow) -> dict[str, float]:
        self._read_piece()
        read = np.concatenate([np.zeros(0, int), *self._read])
        samples = delayed(self._drive.samples, self._drive.delay_frames, self._fps)
        said = speech_features(samples, self._encoder, self._fps, len(read)).visemes.argmax(axis=1)
        return {"viseme_accuracy": viseme_accuracy(read[read >= 0], said[read >= 0])}

    @property
    def _count(self) -> int:
        return len(self._mouths) + sum(map(len, self._read))

    def _take(self, mouth: np.ndarray | None) -> None:
        self._mouths.append(mouth)
        if len(self._mouths) == PIECE:
            self._read_piece()

    def _read_piece(self) -> None:
        seen = np.array([mouth is not None for mouth in self._mouths], bool)
        read = np.full(len(seen), -1)
        if seen.any():
            unseen = np.zeros((LIP_HEIGHT, LIP_WIDTH, 3), np.uint8)
            mouths = np.stack([unseen if mouth is None else mouth for mouth in self._mouths])
            read[seen] = self._observer.read(mouths, seen, self._fps)[seen]
        self._read.append(read)
        self._mouths = []


def given_observer(config: EvaluateConfig) -> tuple[VisemeObserver, LipReaderProvenance] | None:
    """
    Raises:
        EncoderWeightsError: its file is missing, damaged or no observer.
    """
    return None if config.observer is None else load_observer(config.observer)


def viseme_reading(config: EvaluateConfig, fps: Fraction) -> list[VisemeInstrument]:
    """The instrument, if an observer is given; see `given_observer` for what it raises."""
    given = given_observer(config)
    return [] if given is None else [VisemeInstrument(given[0], fps)]


def viseme_protocol(config: EvaluateConfig) -> dict[str, str]:
    """What is said of it beside the figure; nothing if no observer is given."""
    given = given_observer(config)
    if given is None:
        return {}
    return {"observer": f"trained on {', '.join(clip.name for clip in given[1].clips)}"}
