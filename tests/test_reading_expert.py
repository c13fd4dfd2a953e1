"""The reading expert: TalkLip's Eq. 4 to 6 against a plain reading of them, and what of a run counts."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from finite_differences import driven_scene, slope_errors
from tiny_reading import judged_run, legible_clip, value_of
from torch import Tensor
from torch.nn import functional

from encoders.contrastive.lip_clips import LipClip
from encoders.contrastive.losses import sound_contrast
from encoders.errors import LipClipError
from encoders.experts.judged import JudgedMouths
from encoders.experts.reading import ReadingConfig, ReadingExpert, VisemeLipReader, apart
from encoders.experts.viseme_reader import VisemeReader, shown
from encoders.experts.viseme_training import VisemeTraining, train_reader
from encoders.features import SpeechFeatureTrack

FPS = Fraction(25)
ONLY_READING, ONLY_CONTRAST = ReadingConfig(contrast=0.0), ReadingConfig(reading=0.0, contrast=1.0)
Person = tuple[LipClip, SpeechFeatureTrack]


def seed() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def person() -> Person:
    return legible_clip()


@pytest.fixture(scope="module")
def network(person: Person) -> VisemeReader:
    clip, speech = person
    return value_of(train_reader([clip], [speech], VisemeTraining(steps=80, runs=2, learning_rate=4e-3)))


@pytest.fixture(scope="module")
def reader(network: VisemeReader, person: Person) -> VisemeLipReader:
    return VisemeLipReader(network, *person)


def expert(reader: VisemeLipReader, config: ReadingConfig = ONLY_READING, fps: Fraction = FPS) -> ReadingExpert:
    return ReadingExpert(reader, fps, 6, config)


def with_mouths(judged: JudgedMouths, mouths: Tensor) -> JudgedMouths:
    return replace(judged, mouths=mouths)


def test_other_lips_than_what_is_said_cost_more(reader: VisemeLipReader, person: Person) -> None:
    clip, _ = person
    right, wrong = [], []
    for first in range(0, 200, 24):
        judged = judged_run(clip, first, slice(4, 20))
        others = judged_run(clip, first + 20, slice(4, 20)).real
        mixed = torch.where(judged.rendered[:, None, None, None], others, judged.real)
        right.append(expert(reader).loss(judged, seed()).item())
        wrong.append(expert(reader).loss(with_mouths(judged, mixed), seed()).item())
    assert np.mean(right) < 1.0 < math.log(15) < np.mean(wrong)


def test_following_its_gradient_makes_lips_say_what_is_heard(reader: VisemeLipReader, person: Person) -> None:
    clip, speech = person
    judged = judged_run(clip, 40, slice(4, 20))
    drawn = judged.real.mean(dim=0, keepdim=True).repeat(24, 1, 1, 1).requires_grad_(True)  # lips that never move
    optimizer = torch.optim.Adam([drawn], 0.02)
    for _ in range(60):
        mixed = torch.where(judged.rendered[:, None, None, None], drawn, judged.real)
        optimizer.zero_grad()
        expert(reader).loss(with_mouths(judged, mixed), seed()).backward()
        optimizer.step()
    logits = reader.network(shown(mixed.detach(), reader.still)[None]).logits[0]
    said = torch.from_numpy(speech.visemes[judged.frames].argmax(axis=1))
    assert (logits.argmax(dim=1) == said)[judged.rendered].float().mean() > 0.9


def test_equation_4_by_hand(reader: VisemeLipReader, person: Person) -> None:
    clip, speech = person
    judged = judged_run(clip, 30, slice(10, 12))
    logits = reader.network(shown(judged.mouths, reader.still)[None]).logits[0]
    said = torch.from_numpy(speech.visemes[30:54].argmax(axis=1))
    within = slice(10 - VisemeReader.REACH, 12 + VisemeReader.REACH)
    expected = functional.cross_entropy(logits[within], said[within])
    torch.testing.assert_close(expert(reader).loss(judged, seed()), expected)


def test_no_reading_beyond_the_reach_depends_on_a_rendered_picture(reader: VisemeLipReader, person: Person) -> None:
    judged = judged_run(person[0], 30, slice(12, 13))
    mouths = judged.mouths.detach().clone()
    mouths[12] = 0.5
    before, after = (
        reader.network(shown(pictures, reader.still)[None]).logits[0] for pictures in (judged.real, mouths)
    )
    changed = (before != after).any(dim=1).nonzero()[:, 0].tolist()
    assert changed == list(range(12 - VisemeReader.REACH, 12 + VisemeReader.REACH + 1))


def test_equation_6_by_hand() -> None:
    generator = seed()
    sounds, lips = (functional.normalize(torch.randn(4, 8, generator=generator), dim=1) for _ in range(2))
    steps, temperature = torch.tensor([0, 2, 3, 9]), 0.3
    terms = []
    for i in range(4):
        right = math.exp(float(sounds[i] @ lips[i]) / temperature)
        wrong = [
            math.exp(float(sounds[i] @ sounds[j]) / temperature) for j in range(4) if abs(steps[i] - steps[j]) >= 3
        ]
        terms.append(-math.log(right / (right + sum(wrong))))
    assert float(sound_contrast(sounds, lips, apart(steps), temperature)) == pytest.approx(sum(terms) / 4, rel=1e-5)


def test_what_is_normalised_before_and_after_the_layers_has_no_length(reader: VisemeLipReader, person: Person) -> None:
    judged = judged_run(person[0], 30, slice(4, 20))
    judging = expert(reader, ONLY_CONTRAST)
    loss = judging.loss(judged, seed())
    louder = replace(judged, heard=7.0 * judged.heard)
    torch.testing.assert_close(judging.loss(louder, seed()), loss)


def test_the_layers_learn_to_tell_which_sound_goes_with_which_lips(reader: VisemeLipReader, person: Person) -> None:
    clip, speech = person
    judging = expert(reader, ONLY_CONTRAST)
    optimizer = torch.optim.Adam(judging.learned(), 1e-2)
    losses = []
    for step in range(80):
        first = 24 * (step % 8)
        spoken = torch.from_numpy(speech.visemes[first : first + 24])
        heard = torch.stack([spoken[:, index] for index in (0, 1, 9, 11, 13, 14)], dim=1)
        optimizer.zero_grad()
        loss = judging.loss(replace(judged_run(clip, first, slice(2, 22)), heard=heard), seed())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-8:]) < np.mean(losses[:8]) - 0.5


def test_gradients_reach_what_is_heard_and_seen_but_not_the_reader(reader: VisemeLipReader, person: Person) -> None:
    judged = judged_run(person[0], 30, slice(4, 20))
    judging = expert(reader, ReadingConfig())
    judging.loss(judged, seed()).backward()
    assert judged.heard.grad[judged.rendered].abs().amin(dim=0).max() > 0
    assert judged.heard.grad[~judged.rendered].abs().max() == 0
    assert judged.mouths.grad[judged.rendered].abs().amax(dim=(1, 2, 3)).min() > 0
    assert not any(parameter.requires_grad for parameter in reader.network.parameters())
    learned = {id(parameter) for parameter in judging.learned()}
    assert learned == {id(parameter) for parameter in judging.parameters() if parameter.requires_grad}


def test_nothing_rendered_costs_nothing(reader: VisemeLipReader, person: Person) -> None:
    loss = expert(reader).loss(judged_run(person[0], 30, slice(0, 0)), seed())
    assert loss.item() == 0 and not loss.requires_grad


def test_a_single_rendered_frame_has_a_finite_loss_and_gradient(reader: VisemeLipReader, person: Person) -> None:
    judged = judged_run(person[0], 30, slice(7, 8))
    loss = expert(reader, ReadingConfig()).loss(judged, seed())
    loss.backward()
    assert loss.isfinite() and judged.mouths.grad.isfinite().all()


@pytest.mark.parametrize("fps", [Fraction(25, 2), Fraction(30000, 1001), Fraction(50)])
def test_other_frame_rates_are_read_at_the_moments_of_their_pictures(network: VisemeReader, fps: Fraction) -> None:
    clip, speech = legible_clip(fps=fps)
    reader = VisemeLipReader(network, clip, speech)
    judged = judged_run(clip, 10, slice(0, 48), count=48)
    assert expert(reader, fps=fps).loss(judged, seed()) < 1.2
    assert expert(reader, fps=fps).loss(replace(judged, frames=judged.frames + 20), seed()) > 2.5


def test_a_seed_is_a_loss(reader: VisemeLipReader, person: Person) -> None:
    judged = judged_run(person[0], 30, slice(4, 20))
    first, again = (expert(reader, ReadingConfig(seed=3)).loss(judged, seed()).item() for _ in range(2))
    other = expert(reader, ReadingConfig(seed=4)).loss(judged, seed()).item()
    assert first == again != other


def test_features_of_another_clip(network: VisemeReader, person: Person) -> None:
    clip, speech = person
    with pytest.raises(LipClipError, match=r"expected features of the 250 frames of legible\.mp4, got 100"):
        VisemeLipReader(network, clip, SpeechFeatureTrack(speech.features[:100], FPS))


@pytest.mark.parametrize("config", [ONLY_READING, ONLY_CONTRAST], ids=["equation 4", "equation 6"])
def test_gradients_reach_the_motion_fields_as_finite_differences_say(
    network: VisemeReader, person: Person, config: ReadingConfig
) -> None:
    scene = driven_scene(frames=6)
    clip, _ = person
    state = torch.random.get_rng_state()
    judging = expert(VisemeLipReader(copy.deepcopy(network), *person), config).double()
    judged = judged_run(clip, 30, slice(1, 6), count=6)
    real, heard = judged.real.double(), judged.heard.detach().double()

    def loss(mouths: Tensor) -> Tensor:
        mixed = torch.where(judged.rendered[:, None, None, None], mouths, real)
        return judging.loss(JudgedMouths(mixed, real, judged.rendered, judged.frames, heard), seed())

    assert slope_errors(scene, loss) < 1e-4
    assert torch.equal(torch.random.get_rng_state(), state), "nothing outside is drawn from"
