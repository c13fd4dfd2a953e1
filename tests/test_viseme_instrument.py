"""The observer as a measure: which pictures it gets, with which sound they are compared, and what it is without."""

from __future__ import annotations

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from tiny_reading import legible_clip, value_of

from encoders.contrastive.lip_clips import LIP_HEIGHT, LIP_WIDTH, LipClip
from encoders.errors import EncoderWeightsError
from encoders.experts.observer import VisemeObserver, train_observer
from encoders.experts.viseme_file import LipReaderProvenance, save_lip_reader
from encoders.experts.viseme_training import VisemeTraining
from encoders.features import SpeechFeatureTrack
from talkinghead.config import EvaluateConfig
from talkinghead.evaluate import evaluate
from talkinghead.evaluation import visemes
from talkinghead.evaluation.faces import RowFaces
from talkinghead.evaluation.instruments import Drive, ObservedFrame
from talkinghead.evaluation.visemes import VisemeInstrument

FPS = Fraction(25)
ONTO = np.array([[0.5, 0.0, -10.0], [0.0, 0.5, -8.0]])
"""The lower face is 192 x 96 px of the pictures, from (20, 16) on."""
HOP = 640
"""Samples in a frame."""
Person = tuple[LipClip, SpeechFeatureTrack]


@pytest.fixture(scope="module")
def observer() -> VisemeObserver:
    clip, speech = legible_clip()
    return value_of(train_observer([clip], [speech], VisemeTraining(steps=100, runs=2)))


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch) -> Person:
    """Unseen mouths, whose sound counts the frames up; it is heard as what the mouths say."""
    clip, speech = legible_clip(seconds=5.0, seed=4)

    def heard(samples: np.ndarray, encoder: object, fps: Fraction, count: int) -> SpeechFeatureTrack:
        lasting = np.pad(samples, (0, HOP * len(clip)), "edge")
        return SpeechFeatureTrack(speech.features[lasting[HOP // 2 :: HOP][:count].astype(int)], fps)

    monkeypatch.setattr(visemes, "speech_features", heard)
    return clip, speech


def sound(count: int) -> np.ndarray:
    return np.repeat(np.arange(count, dtype=np.float32), HOP)


def accuracy(
    observer: VisemeObserver, mouths: np.ndarray, numbers: np.ndarray, drive: Drive, unseen: tuple[int, ...] = ()
) -> float:
    """Of a row that shows these mouths in bigger pictures, numbered so."""
    area = (np.ones((160, 240), bool), (slice(0, 9), slice(0, 9)))
    with ExitStack() as stack:
        row = VisemeInstrument(observer, FPS).observer(drive, stack)
        for number, mouth in zip(numbers, mouths, strict=True):
            picture = np.full((160, 240, 3), 90, np.uint8)
            picture[16 : 16 + 2 * LIP_HEIGHT, 20 : 20 + 2 * LIP_WIDTH] = mouth.repeat(2, axis=0).repeat(2, axis=1)
            onto = ONTO if number not in unseen else ONTO * np.nan
            row.see(ObservedFrame(int(number), 0 * picture, picture, 0 * picture, *area, RowFaces(stack), onto))
        return row.figures(row)["viseme_accuracy"]


def test_lips_that_say_what_is_heard_are_read(observer: VisemeObserver, person: Person) -> None:
    clip, _ = person
    drive, numbers = Drive("row", np.zeros((len(clip), 2)), sound(len(clip))), 300 + np.arange(len(clip))
    assert accuracy(observer, clip.mouths, numbers, drive) > 0.8
    assert accuracy(observer, np.roll(clip.mouths, 37, axis=0), numbers, drive) < 0.5


def test_frames_that_are_missing_or_have_no_face_move_nothing(observer: VisemeObserver, person: Person) -> None:
    clip, _ = person
    kept = np.flatnonzero(np.arange(len(clip)) % 50 < 40)
    drive = Drive("row", np.zeros((len(kept), 2)), sound(len(clip)))
    assert accuracy(observer, clip.mouths[kept], kept, drive, unseen=tuple(range(60, 70))) > 0.75


def test_a_long_row_is_read_in_pieces(
    observer: VisemeObserver, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, _ = person
    monkeypatch.setattr(visemes, "PIECE", 60)
    drive = Drive("row", np.zeros((len(clip), 2)), sound(len(clip)))
    assert accuracy(observer, clip.mouths, np.arange(len(clip)), drive) > 0.75


def test_sound_that_comes_early_is_delayed(observer: VisemeObserver, person: Person) -> None:
    clip, _ = person
    early = sound(len(clip))[12 * HOP :]
    in_step, out_of_step = (
        accuracy(
            observer,
            clip.mouths,
            np.arange(len(clip)),
            Drive("row", np.zeros((len(clip), 2)), early, delay_frames=delay),
        )
        for delay in (12.0, 0.0)
    )
    assert in_step > 0.75 and out_of_step < 0.5


def test_a_row_without_a_face_has_no_accuracy(observer: VisemeObserver, person: Person) -> None:
    clip, _ = person
    numbers = np.arange(len(clip))
    drive = Drive("row", np.zeros((len(clip), 2)), sound(len(clip)))
    assert np.isnan(accuracy(observer, clip.mouths, numbers, drive, unseen=tuple(numbers)))


def test_without_the_option_nothing_is_added() -> None:
    assert visemes.viseme_reading(EvaluateConfig(), FPS) == []
    assert visemes.viseme_protocol(EvaluateConfig()) == {}


def test_with_it_there_is_a_column_and_its_origin(observer: VisemeObserver, tmp_path: Path) -> None:
    path = tmp_path / "observer.safetensors"
    clip, _ = legible_clip()
    save_lip_reader(observer, LipReaderProvenance.of("observer", [clip], VisemeTraining(), None), path)
    config = EvaluateConfig(observer=path)
    (instrument,) = visemes.viseme_reading(config, FPS)
    (column,) = instrument.measures
    assert (column.name, column.best, column.is_of_lips) == ("viseme_accuracy", "high", True)
    assert visemes.viseme_protocol(config) == {"observer": "trained on legible.mp4"}


def test_a_wrong_observer_is_told_before_anything_is_fitted(tmp_path: Path) -> None:
    with pytest.raises(EncoderWeightsError, match="no lip reader at"):
        next(evaluate(tmp_path / "no such clip.mp4", EvaluateConfig(observer=tmp_path / "none.safetensors")))
