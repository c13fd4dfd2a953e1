"""Lip readers: what they learn, what they are measured by, their files, and how far reader and observer are apart."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_reading import legible_clip, value_of
from torch import nn

from encoders.bundle import DEFAULT_BUNDLE
from encoders.contrastive.lip_clips import LIP_HEIGHT, LIP_WIDTH, LipClip
from encoders.errors import EncoderWeightsError, LipClipError
from encoders.experts.observer import OBSERVER_TRAINING, ObserverNetwork, VisemeObserver, train_observer
from encoders.experts.viseme_file import (
    LipReaderProvenance,
    load_observer,
    load_reader,
    read_provenance,
    save_lip_reader,
)
from encoders.experts.viseme_reader import VisemeReader, reached, reading_frames, shown
from encoders.experts.viseme_recipe import train_lip_reader
from encoders.experts.viseme_training import (
    LabelledMouths,
    VisemeTraining,
    held_out_reading,
    read_visemes,
    train_reader,
    viseme_accuracy,
)
from encoders.features import SpeechFeatureTrack
from encoders.phones import VISEMES

QUICK = VisemeTraining(steps=80, runs=2, learning_rate=4e-3)
Person = tuple[LipClip, SpeechFeatureTrack]


@pytest.fixture(scope="module")
def person() -> Person:
    return legible_clip()


@pytest.fixture(scope="module")
def unseen() -> Person:
    return legible_clip(seconds=6.0, seed=7)


@pytest.fixture(scope="module")
def reader(person: Person) -> VisemeReader:
    clip, speech = person
    return value_of(train_reader([clip], [speech], QUICK))


@pytest.fixture(scope="module")
def observer(person: Person) -> VisemeObserver:
    clip, speech = person
    return value_of(train_observer([clip], [speech], replace(OBSERVER_TRAINING, steps=100, runs=2)))


def accuracy_of(reader: VisemeReader, clip: LipClip, speech: SpeechFeatureTrack) -> float:
    read = read_visemes(reader, clip.mouths, clip.seen, clip.fps)
    return viseme_accuracy(read, speech.visemes.argmax(axis=1))


def test_a_reader_reads_what_it_has_not_seen(reader: VisemeReader, unseen: Person) -> None:
    assert accuracy_of(reader, *unseen) > 0.8


def test_an_observer_does_too_and_tells_lips_of_other_moments(observer: VisemeObserver, unseen: Person) -> None:
    clip, speech = unseen
    assert observer.accuracy(clip.mouths, clip.seen, speech) > 0.8
    shuffled = np.roll(clip.mouths, 37, axis=0)
    assert observer.accuracy(shuffled, clip.seen, speech) < 0.5


@pytest.mark.parametrize("fps", [Fraction(25, 2), Fraction(30000, 1001), Fraction(50)])
def test_other_frame_rates(reader: VisemeReader, observer: VisemeObserver, fps: Fraction) -> None:
    clip, speech = legible_clip(fps=fps, seed=3)
    assert accuracy_of(reader, clip, speech) > 0.75
    assert observer.accuracy(clip.mouths, clip.seen, speech) > 0.75


def test_steps_of_reading_lie_in_the_pictures_that_are_shown_then() -> None:
    for fps in (Fraction(25), Fraction(25, 2), Fraction(24), Fraction(30000, 1001), Fraction(60)):
        frames = reading_frames(200, fps)
        moments = (np.arange(len(frames)) + 0.5) / 25
        assert (frames / float(fps) <= moments + 1e-9).all() and (moments < (frames + 1) / float(fps)).all()
        assert frames[-1] < 200 and abs(len(frames) / 25 - 200 / fps) < 0.04 + 1e-9
    assert reading_frames(200, Fraction(25)).tolist() == list(range(200))


def test_what_is_shown_is_the_deviation_from_the_still_face() -> None:
    still = torch.rand(3, LIP_HEIGHT, LIP_WIDTH)
    assert shown(still[None, None], still).shape == (1, 1, 3, 24, 48)
    assert not shown(still[None], still).any()
    torch.testing.assert_close(shown(still[None] + 0.1, still), torch.full((1, 3, 24, 48), 0.4))


def test_reached() -> None:
    marked = torch.tensor([0, 0, 0, 1, 0, 0, 0, 0]).bool()
    assert reached(marked, 2).tolist() == [False, True, True, True, True, True, False, False]


@pytest.mark.parametrize("network", [VisemeReader(), ObserverNetwork()])
def test_shapes(network: nn.Module) -> None:
    reading = network.eval()(torch.zeros(2, 24, 3, 24, 48))
    assert reading.context.shape == (2, 24, network.size) and reading.logits.shape == (2, 24, len(VISEMES))


def test_accuracy_is_the_mean_over_visemes_without_silence() -> None:
    said = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2])
    read = np.array([5, 5, 5, 5, 1, 1, 1, 0, 2, 0])
    assert viseme_accuracy(read, said) == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert np.isnan(viseme_accuracy(read[:4], said[:4]))
    for guess in (1, 2):
        assert viseme_accuracy(np.full(10, guess), said) == 0.5, "guessing gives one by their number"


def test_held_out_figures() -> None:
    figures = held_out_reading(np.array([1, 1, 1, 0, 9]), np.array([1, 1, 2, 1, 0]))
    assert figures is not None
    assert (figures.accuracy, figures.guessing) == (pytest.approx((2 / 3 + 0) / 2), 0.5)
    assert (figures.frames_right, figures.commonest, figures.frames) == (0.5, 0.75, 4)
    assert held_out_reading(np.array([3]), np.array([0])) is None


def test_frames_without_a_face_teach_and_count_nothing(person: Person, observer: VisemeObserver) -> None:
    clip, speech = person
    unseen = np.arange(len(clip)) % 50 < 20
    mouths = np.where(unseen[:, None, None, None], np.uint8(0), clip.mouths)
    hidden = replace(clip, mouths=mouths, seen=~unseen)
    labelled = LabelledMouths.of(hidden, speech)
    expected = torch.from_numpy(clip.mouths[~unseen]).float().mean(dim=0).permute(2, 0, 1) / 255
    torch.testing.assert_close(labelled.still, expected)
    losses = [event.loss for event in train_reader([hidden], [speech], replace(QUICK, steps=2))]
    wrong = speech.features.copy()
    wrong[unseen] = np.roll(wrong[unseen], 3, axis=0)
    assert losses == [
        event.loss for event in train_reader([hidden], [SpeechFeatureTrack(wrong, speech.fps)], replace(QUICK, steps=2))
    ]
    assert np.isnan(observer.accuracy(mouths, np.zeros(len(clip), bool), speech))


def test_a_seed_is_a_reader(person: Person) -> None:
    clip, speech = person
    torch.manual_seed(5)
    first = value_of(train_reader([clip], [speech], replace(QUICK, steps=3)))
    state = torch.random.get_rng_state()
    again = value_of(train_reader([clip], [speech], replace(QUICK, steps=3)))
    other = value_of(train_reader([clip], [speech], replace(QUICK, steps=3, seed=1)))
    assert torch.equal(state, torch.random.get_rng_state()), "nothing outside is drawn from"
    weights = [network.visemes.weight for network in (first, again, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_an_observer_can_be_no_expert(observer: VisemeObserver) -> None:
    assert not any(hasattr(observer, name) for name in ("loss", "learn", "learned", "parameters", "forward"))
    with pytest.raises(TypeError):
        observer.read(torch.zeros(50, LIP_HEIGHT, LIP_WIDTH, 3, requires_grad=True), np.ones(50, bool), Fraction(25))


def test_reader_and_observer_share_nothing() -> None:
    assert OBSERVER_TRAINING.seed != VisemeTraining().seed
    modules = [{type(one) for one in network.modules()} for network in (VisemeReader(), ObserverNetwork())]
    assert nn.Conv3d in modules[0] and nn.Conv3d not in modules[1]
    assert nn.GRU in modules[1] and nn.GRU not in modules[0]


def test_too_short_a_clip() -> None:
    clip, speech = legible_clip(seconds=1.5)
    with pytest.raises(LipClipError, match=r"needs 50 pictures of a face, 25 a second, and legible\.mp4 has 38"):
        next(train_reader([clip], [speech], QUICK))


def provenance(person: Person, kind: str = "reader") -> LipReaderProvenance:
    return LipReaderProvenance.of(kind, [person[0]], QUICK, held_out_reading(np.array([1, 2]), np.array([1, 1])))


def test_a_reader_and_an_observer_come_back_from_their_files(
    tmp_path: Path, reader: VisemeReader, observer: VisemeObserver, person: Person, unseen: Person
) -> None:
    clip, speech = unseen
    save_lip_reader(reader, provenance(person), tmp_path / "reader.safetensors")
    save_lip_reader(observer, provenance(person, "observer"), tmp_path / "observer.safetensors")
    restored, facts = load_reader(tmp_path / "reader.safetensors")
    assert facts == provenance(person) == read_provenance(tmp_path / "reader.safetensors")
    assert not any(parameter.requires_grad for parameter in restored.parameters()) and not restored.training
    assert accuracy_of(restored, clip, speech) == accuracy_of(reader, clip, speech)
    again, _ = load_observer(tmp_path / "observer.safetensors")
    assert again.accuracy(clip.mouths, clip.seen, speech) == observer.accuracy(clip.mouths, clip.seen, speech)


def test_an_expert_is_never_taken_for_an_observer(tmp_path: Path, reader: VisemeReader, person: Person) -> None:
    path = tmp_path / "reader.safetensors"
    save_lip_reader(reader, provenance(person), path)
    with pytest.raises(EncoderWeightsError, match=r"--method observer at .*, got one of --method reader"):
        load_observer(path)


def test_damaged_files(tmp_path: Path, reader: VisemeReader, person: Person) -> None:
    path = tmp_path / "reader.safetensors"
    with pytest.raises(EncoderWeightsError, match="no lip reader at"):
        load_reader(path)
    save_lip_reader(reader, provenance(person), path)
    whole, tensors = path.read_bytes(), load_file(path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EncoderWeightsError, match="is damaged"):
        load_reader(path)
    path.write_bytes(whole.replace(b'\\"kind\\": \\"reader\\"', b'\\"kind\\": \\"breeds\\"'))
    with pytest.raises(EncoderWeightsError, match="is damaged"):
        load_reader(path)
    save_file(tensors, path)
    with pytest.raises(EncoderWeightsError, match="holds no lip reader"):
        load_reader(path)
    narrow = VisemeReader(width=8)
    save_lip_reader(narrow, provenance(person), path)
    with pytest.raises(EncoderWeightsError, match=r"holds \[16, 8, 3, 3\] under blocks.0.first.weight, expected"):
        load_reader(path)


def test_the_recipe_holds_out_the_end_of_every_clip() -> None:
    clip, _ = legible_clip(seconds=6.0)
    noise = 0.1 * np.random.default_rng(0).standard_normal(len(clip.samples)).astype(np.float32)
    job = train_lip_reader("observer", [replace(clip, samples=noise)], DEFAULT_BUNDLE.load(), 0.25, 3, steps=2)
    network, facts = value_of(job)
    assert isinstance(network, VisemeObserver)
    assert facts.clips[0].duration_s == pytest.approx(4.5, abs=0.05)
    assert (facts.kind, facts.training.seed, facts.training.steps) == ("observer", 1003, 2)
    assert facts.held_out is None or facts.held_out.frames <= 38
