"""Training of the embedded encoder: targets, augmentation that keeps sound and labels together, learning, resuming."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from encoders.corpus.recording import VoiceRecordings
from encoders.phones import ARTICULATORY_TARGETS, PHONES, SILENCE
from encoders.spectrogram import HOP_SIZE, MEL_BANDS, SAMPLE_RATE
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

TONES_HZ = {"sil": 0.0, "m": 300.0, "a": 900.0, "i": 2500.0, "s": 5000.0}
CLEAN = AugmentationConfig(
    speed=(1.0, 1.0),
    vocal_tract=(1.0, 1.0),
    reverberant=0.0,
    noise_db=(60.0, 60.0),
    babble=0.0,
    pause=0.0,
    level_db=(0.0, 0.0),
    equaliser=0.0,
    band_limited=0.0,
    statistics=0.0,
    masked_bands=0.0,
    masked_frames=0.0,
)


def voice(name: str = "whistler", seconds: float = 20.0, seed: int = 0, held_out: bool = False) -> VoiceRecordings:
    """A voice whose phones are tones of their own, 80 to 240 ms long."""
    random = np.random.default_rng(seed)
    frames = round(seconds * SAMPLE_RATE / HOP_SIZE)
    symbols = np.repeat(random.integers(0, len(TONES_HZ), frames), random.integers(10, 30, frames))[:frames]
    hertz = np.repeat(np.array(list(TONES_HZ.values()))[symbols], HOP_SIZE)
    samples = np.sin(2 * np.pi * np.cumsum(hertz) / SAMPLE_RATE) * 0.3 * (hertz > 0)
    phones = np.array([PHONES.index(phone) for phone in TONES_HZ], np.uint8)[symbols]
    return VoiceRecordings(
        engine="tones",
        voice=name,
        language="none",
        licence="none",
        held_out=held_out,
        samples=(samples * 32767).astype(np.int16),
        phones=phones,
        lengths=np.array([frames // 2, frames - frames // 2], np.int32),
        codecs=np.array([0, 1], np.uint8),
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
    augmenter = Augmenter([voice()], np.ones(1), 4, 0, replace(CLEAN, speed=(speed, speed)))
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
        return next(iter(Augmenter([voice()], np.ones(1), 8, seed, config))).log_mel

    strong = AugmentationConfig(reverberant=1.0, babble=1.0, pause=1.0, band_limited=1.0)
    assert torch.equal(batch(1, strong), batch(1, strong))
    assert torch.isfinite(batch(1, strong)).all()
    assert (batch(1, strong) - batch(1, CLEAN)).abs().mean() > 0.1


def test_a_pause_is_labelled_silent() -> None:
    talker = voice()
    talker = replace(talker, phones=np.full_like(talker.phones, PHONES.index("a")))
    batch = next(iter(Augmenter([talker], np.ones(1), 4, 0, replace(CLEAN, pause=1.0))))
    silent = (batch.phones == SILENCE).float().mean(dim=1)
    assert (silent > 0.04).all()
    assert (silent < 0.5).all()


def test_gradients_reach_every_parameter() -> None:
    config = PhoneTrainingConfig(batch_size=2)
    augmenter = Augmenter([voice()], np.ones(1), 2, 0)
    encoder = SpeechEncoder(channels=16, embedding_size=8)
    batch = next(iter(augmenter))
    EncodingLoss([voice()], np.ones(1), config)(encoder(batch.log_mel), batch).backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_it_learns_and_goes_on_where_it_was(tmp_path: Path) -> None:
    voices = [voice(), voice("other", seed=1), voice("stranger", seed=2, held_out=True)]
    config = PhoneTrainingConfig(steps=30, batch_size=4, warm_up=5, averaging=0.8, augmentation=CLEAN)
    trainer = PhoneTrainer(voices, config)
    events = list(trainer.run())
    assert [event.step for event in events] == list(range(1, 31))
    assert events[-1].loss < 0.5 * events[0].loss
    (figures,) = held_out_figures(voices, trainer.result())
    assert figures.voice == "stranger"
    assert figures.phone_accuracy > 0.8
    assert figures.coded_phone_accuracy > 0.8
    trainer.save(tmp_path / "state.safetensors")
    later = PhoneTrainer(voices, replace(config, steps=32))
    later.restore(tmp_path / "state.safetensors")
    for name, tensor in later.encoder.state_dict().items():
        assert torch.equal(tensor, trainer.encoder.state_dict()[name]), name
    assert [event.step for event in later.run()] == [31, 32]


def test_held_out_voices_are_not_trained_on() -> None:
    trainer = PhoneTrainer([voice(), voice("stranger", held_out=True)])
    assert [talker.voice for talker in trainer.voices] == ["whistler"]


def test_no_voice_drowns_the_others() -> None:
    engines = [replace(voice(seconds=8.0), engine="espeak-ng"), voice(seconds=2.0), voice(seconds=8.0)]
    shares = voice_shares(engines, 0.3)
    assert shares.sum() == pytest.approx(1.0)
    assert shares[0] == pytest.approx(0.3)
    assert shares[2] == pytest.approx(2 * shares[1], rel=0.01)


def test_learning_rate_rises_and_falls() -> None:
    shares = [learning_rate_share(step, 1000, 100) for step in range(1000)]
    assert np.argmax(shares) in range(98, 102)
    assert shares[0] < 0.02
    assert shares[-1] < 0.02
