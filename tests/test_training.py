"""Training of the embedded encoder: targets, augmentation that keeps sound and labels together, learning, resuming."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tone_voices import CLEAN, tone_voice

from encoders.phones import ARTICULATORY_TARGETS, PHONES, SILENCE
from encoders.spectrogram import MEL_BANDS
from encoders.speech import STRIDE, SpeechEncoder
from encoders.training.articulation import articulatory_trajectory
from encoders.training.augmentation import CROP_FRAMES, AugmentationConfig, Augmenter
from encoders.training.figures import held_out_figures
from encoders.training.phone_training import (
    EncodingLoss,
    PhoneTrainer,
    PhoneTrainingConfig,
    learning_rate_share,
    voice_shares,
)


def test_targets_are_reached_in_long_phones_and_blended_between() -> None:
    phones = np.repeat([SILENCE, PHONES.index("a"), PHONES.index("u"), PHONES.index("m")], 100)
    aperture, width, closure = articulatory_trajectory(phones).T
    for middle, name in ((150, "a"), (250, "u"), (350, "m")):
        target = ARTICULATORY_TARGETS[name]
        assert aperture[middle] == pytest.approx(target.aperture, abs=1e-3)
        assert width[middle] == pytest.approx(target.width, abs=1e-3)
    assert np.diff(aperture[150:250]).max() <= 1e-6  # from open to round: monotonous
    assert closure[350] == 1.0
    assert closure[:290].max() == 0.0


def test_a_dominant_phone_draws_its_neighbours() -> None:
    vowel, weak, strong = (PHONES.index(phone) for phone in ("a", "h", "w"))
    around = {name: np.repeat([vowel, middle, vowel], [50, 8, 50]) for name, middle in (("h", weak), ("w", strong))}
    widths = {name: articulatory_trajectory(phones)[54, 1] for name, phones in around.items()}
    target = ARTICULATORY_TARGETS["a"].width
    assert abs(widths["h"] - target) < 0.1 * abs(widths["w"] - target)


@pytest.mark.parametrize("speed", [0.84, 1.0, 1.2])
def test_sound_and_labels_stay_together(speed: float) -> None:
    augmenter = Augmenter([tone_voice()], np.ones(1), 4, 0, replace(CLEAN, speed=(speed, speed)))
    batch = next(iter(augmenter))
    assert batch.log_mel.shape == (4, CROP_FRAMES, MEL_BANDS)
    silent = batch.phones == SILENCE
    levels = batch.log_mel[:, ::STRIDE].amax(dim=2)
    for shift in (-4, 4):
        shifted = torch.roll(levels, shift, dims=1)
        assert _separation(levels, silent) > _separation(shifted, silent) + 0.3


def _separation(levels: torch.Tensor, silent: torch.Tensor) -> float:
    return float((levels[~silent].mean() - levels[silent].mean()) / levels.std())


def test_augmentation_is_seeded_finite_and_changes_the_sound() -> None:
    def batch(seed: int, config: AugmentationConfig) -> torch.Tensor:
        return next(iter(Augmenter([tone_voice()], np.ones(1), 8, seed, config))).log_mel

    strong = AugmentationConfig(reverberant=1.0, babble=1.0, pause=1.0, band_limited=1.0)
    assert torch.equal(batch(1, strong), batch(1, strong))
    assert torch.isfinite(batch(1, strong)).all()
    assert (batch(1, strong) - batch(1, CLEAN)).abs().mean() > 0.1


def test_a_pause_is_labelled_silent() -> None:
    talker = tone_voice()
    talker = replace(talker, phones=np.full_like(talker.phones, PHONES.index("a")))
    batch = next(iter(Augmenter([talker], np.ones(1), 4, 0, replace(CLEAN, pause=1.0))))
    silent = (batch.phones == SILENCE).float().mean(dim=1)
    assert (silent > 0.04).all()
    assert (silent < 0.5).all()


def test_gradients_reach_every_parameter() -> None:
    config = PhoneTrainingConfig(batch_size=2)
    augmenter = Augmenter([tone_voice()], np.ones(1), 2, 0)
    encoder = SpeechEncoder(channels=16, embedding_size=8)
    batch = next(iter(augmenter))
    EncodingLoss([tone_voice()], np.ones(1), config)(encoder(batch.log_mel), batch).backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_it_learns_and_goes_on_where_it_was(tmp_path: Path) -> None:
    voices = [tone_voice(), tone_voice("other", seed=1), tone_voice("stranger", seed=2, held_out=True)]
    config = PhoneTrainingConfig(steps=30, batch_size=4, warm_up=5, averaging=0.8, augmentation=CLEAN)
    trainer = PhoneTrainer(voices, config)
    events = list(trainer.run())
    assert [event.step for event in events] == list(range(1, 31))
    assert events[-1].loss < 0.5 * events[0].loss
    (figures,) = held_out_figures(voices, trainer.result())
    assert figures.voice == "stranger"
    assert figures.phone_accuracy > 0.8
    trainer.save(tmp_path / "state.safetensors")
    later = PhoneTrainer(voices, replace(config, steps=32))
    later.restore(tmp_path / "state.safetensors")
    for name, tensor in later.encoder.state_dict().items():
        assert torch.equal(tensor, trainer.encoder.state_dict()[name]), name
    assert [event.step for event in later.run()] == [31, 32]


def test_held_out_voices_are_not_trained_on() -> None:
    trainer = PhoneTrainer([tone_voice(), tone_voice("stranger", held_out=True)])
    assert [talker.voice for talker in trainer.voices] == ["whistler"]


def test_no_voice_drowns_the_others() -> None:
    engines = [replace(tone_voice(seconds=8.0), engine="espeak-ng"), tone_voice(seconds=2.0), tone_voice(seconds=8.0)]
    shares = voice_shares(engines, 0.3)
    assert shares.sum() == pytest.approx(1.0)
    assert shares[0] == pytest.approx(0.3)
    assert shares[2] == pytest.approx(2 * shares[1], rel=0.01)


def test_learning_rate_rises_and_falls() -> None:
    shares = [learning_rate_share(step, 1000, 100) for step in range(1000)]
    assert np.argmax(shares) in range(98, 102)
    assert shares[0] < 0.02
    assert shares[-1] < 0.02
