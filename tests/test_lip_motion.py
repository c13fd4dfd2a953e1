"""The lip-motion predictor: regression against its textbook form, drift, amplitude, silence, streaming, real clips."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up_people import made_up_speech, people
from safetensors.torch import load_file, save_file

from encoders.drift_regression import DriftRegressionSettings, cross_validated, kernel, regression_weights
from encoders.errors import LipMotionFitError
from encoders.features import SpeechFeatureTrack
from encoders.lip_motion import LipMotionPredictor, LipMotionSettings
from encoders.lip_prior import fit_lip_prior
from encoders.lip_residual import LipResidual
from encoders.phones import PHONES, VISEMES

FPS = Fraction(25)
EMBEDDING = 16
CODES = 4


def smooth_noise(random: np.random.Generator, frames: int, columns: int, deviation: float) -> np.ndarray:
    """Unit-variance noise with a correlation time of `deviation` frames."""
    taper = np.exp(-0.5 * (np.arange(-40, 41) / deviation) ** 2)
    white = random.standard_normal((frames + 80, columns))
    smoothed = np.stack([np.convolve(column, taper, "valid") for column in white.T], axis=1)
    return smoothed / smoothed.std(axis=0)


@dataclasses.dataclass(frozen=True)
class Talker:
    """Speech features and lip-motion codes with a known relation."""

    speech: SpeechFeatureTrack
    codes: np.ndarray  # [T, CODES] with noise and drift
    heard: np.ndarray  # [T, CODES] the part that follows from the speech


def talker(frames: int = 500, drift: float = 0.0, seed: int = 0, fps: Fraction = FPS) -> Talker:
    random = np.random.default_rng(seed)
    inputs = smooth_noise(random, frames, EMBEDDING + 3, 1.5)
    inputs[:, -1] = 0.0  # no /p b m/ closures
    posteriors = np.zeros((frames, len(PHONES) + len(VISEMES)))
    levels = np.stack([np.zeros(frames), np.ones(frames)], axis=1)
    columns = (inputs[:, :EMBEDDING], posteriors, inputs[:, EMBEDDING:], levels)
    features = np.concatenate(columns, axis=1).astype(np.float32)
    mixing = random.standard_normal((EMBEDDING + 3, CODES)) / np.sqrt(EMBEDDING + 3)
    heard = inputs @ mixing
    codes = heard + 0.2 * random.standard_normal(heard.shape) + drift * smooth_noise(random, frames, CODES, 25.0)
    return Talker(SpeechFeatureTrack(features, fps), codes.astype(np.float32), heard)


def with_silence(speech: SpeechFeatureTrack, silent: slice) -> SpeechFeatureTrack:
    features = speech.features.copy()
    features[silent, -1] = 0.0
    return SpeechFeatureTrack(features, speech.fps)


def held_out_correlation(example: Talker, settings: LipMotionSettings, fitted: int = 400) -> float:
    codes = example.codes.copy()
    codes[fitted:] = np.nan
    predicted = LipMotionPredictor.fit(example.speech, codes, codes[:, 0], settings).predict(example.speech)
    return float(np.corrcoef(predicted[fitted:, 0], example.heard[fitted:, 0])[0, 1])


def test_regression_is_the_gaussian_process_posterior() -> None:
    random = np.random.default_rng(0)
    settings = DriftRegressionSettings()
    inputs, unseen = random.standard_normal((12, 5)), random.standard_normal((3, 5))
    times, targets = np.arange(12) / 25.0, random.standard_normal((12, 2))

    def covariance(a: np.ndarray, b: np.ndarray) -> float:
        local = settings.local * np.exp(-np.sum((a - b) ** 2) / (2 * settings.local_scale**2))
        return settings.constant + settings.linear * float(a @ b) + local

    signal = np.array([[covariance(a, b) for b in inputs] for a in inputs])
    noise = settings.noise * np.eye(12)
    noise += [[settings.drift * np.exp(-abs(s - t) / settings.drift_s) for t in times] for s in times]
    cross = np.array([[covariance(a, b) for b in inputs] for a in unseen])
    expected = cross @ np.linalg.inv(signal + noise) @ targets
    weights = regression_weights(kernel(inputs, inputs, settings), times, targets, settings)
    np.testing.assert_allclose(kernel(unseen, inputs, settings) @ weights, expected, rtol=1e-8)


def test_cross_validation_does_not_see_the_block_it_predicts() -> None:
    random = np.random.default_rng(1)
    settings = DriftRegressionSettings()
    inputs, times = random.standard_normal((100, 5)), np.arange(100) / 25.0
    covariance = kernel(inputs, inputs, settings)
    targets = random.standard_normal((100, 2))
    first = cross_validated(covariance, times, targets, settings)
    targets[40:60] += 100.0
    second = cross_validated(covariance, times, targets, settings)
    np.testing.assert_allclose(second[40:60], first[40:60])
    assert np.abs(second[:20] - first[:20]).max() > 1.0


def test_it_learns_a_known_relation() -> None:
    assert held_out_correlation(talker(), LipMotionSettings()) > 0.9


def test_modelling_the_drift_pays_when_there_is_drift() -> None:
    settings = LipMotionSettings()
    white = dataclasses.replace(settings, regression=DriftRegressionSettings(drift=0.0, noise=0.85))
    gains = [
        held_out_correlation(talker(drift=2.0, seed=seed), settings)
        - held_out_correlation(talker(drift=2.0, seed=seed), white)
        for seed in range(5)
    ]
    assert np.mean(gains) > 0.05
    assert min(gains) > 0.0


def test_amplitude_of_the_opening_is_restored() -> None:
    example = talker(drift=1.0)
    codes = example.codes.copy()
    codes[400:] = np.nan
    spreads = {}
    for amplitude in (0.0, 1.0):
        settings = LipMotionSettings(amplitude=amplitude)
        predicted = LipMotionPredictor.fit(example.speech, codes, codes[:, 0], settings).predict(example.speech)
        spreads[amplitude] = predicted[400:].std(axis=0) / codes[:400].std(axis=0)
    assert spreads[0.0][0] < 0.75
    assert spreads[1.0][0] == pytest.approx(1.0, abs=0.25)


def test_an_opening_that_cannot_be_heard_is_not_raised() -> None:
    example = talker()
    codes = np.random.default_rng(5).standard_normal(example.codes.shape).astype(np.float32)
    raised = LipMotionPredictor.fit(example.speech, codes, codes[:, 0], LipMotionSettings(amplitude=1.0))
    plain = LipMotionPredictor.fit(example.speech, codes, codes[:, 0], LipMotionSettings(amplitude=0.0))
    np.testing.assert_array_equal(raised.weights, plain.weights)


def test_a_code_that_cannot_be_heard_stays_near_its_mean() -> None:
    example = talker()
    codes = example.codes.copy()
    codes[:, 2] = np.random.default_rng(6).standard_normal(len(codes))
    predicted = LipMotionPredictor.fit(example.speech, codes, codes[:, 0], LipMotionSettings(amplitude=0.0)).predict(
        talker(seed=7).speech
    )
    spread = predicted.std(axis=0) / codes.std(axis=0)
    assert spread[2] < 0.15
    assert (spread[[0, 1, 3]] > 0.5).all()


def test_the_closed_mouth_lies_on_the_regression_of_the_codes_on_the_opening() -> None:
    example = talker()
    opening = example.codes[:, 0] + 3.0
    codes = example.codes.copy()
    closed = np.argsort(opening)[:25]
    codes[closed[:5], 1] += 20.0  # a grimace in a few of the closed frames
    predictor = LipMotionPredictor.fit(example.speech, codes, opening)
    expected = [np.polyval(np.polyfit(opening, code, 1), opening[closed].mean()) for code in codes.T]
    np.testing.assert_allclose(predictor.closed_code, expected, rtol=1e-4, atol=1e-4)
    assert predictor.closed_code[1] < codes[closed, 1].mean() - 1.0


def test_a_short_clip_leans_on_the_prior() -> None:
    """Lips that do what people's lips do: four seconds are enough with the prior, too little without."""
    speech, prior = made_up_speech(800, 0), fit_lip_prior(people())
    motion = prior.predict(speech)
    random = np.random.default_rng(0)
    heard = motion @ random.standard_normal((2, CODES))
    codes = (heard + random.standard_normal((800, CODES))).astype(np.float32)
    codes[100:] = np.nan
    opening = np.where(np.arange(800) < 100, motion[:, 0], np.nan)
    agreement = {}
    for weight in (0.0, 1.0):
        settings = LipMotionSettings(prior=weight, amplitude=0.0)
        predicted = LipMotionPredictor.fit(speech, codes, opening, settings, prior).predict(speech)
        pairs = zip(predicted[100:].T, heard[100:].T, strict=True)
        agreement[weight] = np.mean([np.corrcoef(found, true)[0, 1] for found, true in pairs])
    assert agreement[1.0] > 0.9
    assert agreement[0.0] < agreement[1.0] - 0.2


def test_prior_and_articulation_can_be_left_out(tmp_path: Path) -> None:
    """The embedding alone then drives the lips, as in a comparison of embeddings."""
    example = talker()
    settings = LipMotionSettings(prior=0.0, articulation=0.0)
    predictor = LipMotionPredictor.fit(example.speech, example.codes, example.codes[:, 0], settings)
    save_file(predictor.to_tensors(), tmp_path / "lips.safetensors")
    assert not any(name.startswith("prior.") for name in load_file(tmp_path / "lips.safetensors"))
    predictor = LipMotionPredictor.from_tensors(load_file(tmp_path / "lips.safetensors"))
    features = example.speech.features.copy()
    features[:, EMBEDDING:-3] += np.random.default_rng(0).random(features[:, EMBEDDING:-3].shape).astype(np.float32)
    changed = predictor.predict(SpeechFeatureTrack(features, FPS))
    np.testing.assert_allclose(changed, predictor.predict(example.speech), atol=1e-4)
    features[:, 0] += 1.0
    assert np.abs(predictor.predict(SpeechFeatureTrack(features, FPS)) - changed).max() > 0.1


def test_frames_without_codes_are_not_used() -> None:
    example = talker()
    codes = example.codes.copy()
    codes[50:80, 1] = np.nan
    opening = codes[:, 0].copy()
    opening[100:110] = np.nan
    reference = LipMotionPredictor.fit(example.speech, codes, opening)
    changed = codes.copy()
    changed[50:80, 0] = 1e6
    changed[100:110] = -1e6
    np.testing.assert_array_equal(LipMotionPredictor.fit(example.speech, changed, opening).weights, reference.weights)
    assert len(reference.support) == 500 - 40


def test_predictions_stay_within_what_was_fitted() -> None:
    example = talker()
    predictor = LipMotionPredictor.fit(example.speech, example.codes, example.codes[:, 0])
    shouting = SpeechFeatureTrack(example.speech.features * np.float32(20.0), FPS)
    codes = predictor.predict(shouting)
    assert (codes >= example.codes.min(axis=0) - 1e-6).all()
    assert (codes <= example.codes.max(axis=0) + 1e-6).all()


def test_the_mouth_closes_in_silence_and_only_there() -> None:
    example = talker()
    opening = example.codes[:, 0]
    predictor = LipMotionPredictor.fit(example.speech, example.codes, opening)
    closed = predictor.closed_code
    assert closed[0] == pytest.approx(np.sort(opening)[: len(opening) // 20].mean(), rel=1e-5)
    talking = predictor.predict(example.speech)
    pausing = predictor.predict(with_silence(example.speech, slice(200, 300)))
    np.testing.assert_allclose(pausing[215:285], np.tile(closed, (70, 1)), atol=1e-3)
    np.testing.assert_allclose(pausing[:195], talking[:195], atol=1e-3)
    np.testing.assert_allclose(pausing[305:], talking[305:], atol=1e-3)
    between = slice(195, 220)
    start, end = talking[between, 0] - closed[0], pausing[between, 0] - closed[0]
    share = end[np.abs(start) > 0.3] / start[np.abs(start) > 0.3]
    assert (share >= -1e-3).all() and (share <= 1 + 1e-3).all()
    assert (np.diff(share) <= 1e-3).all()


def test_lips_are_drawn_together_at_a_heard_closure() -> None:
    example = talker()
    predictor = LipMotionPredictor.fit(example.speech, example.codes, example.codes[:, 0])
    firm, loose = (
        dataclasses.replace(predictor, settings=LipMotionSettings(closure=closure)) for closure in (0.5, 0.0)
    )
    features = example.speech.features.copy()
    features[100:103, -3] = 1.0
    speech = SpeechFeatureTrack(features, FPS)
    free, drawn = loose.predict(speech), firm.predict(speech)
    halfway = 0.5 * (free[100:103] + predictor.closed_code)
    np.testing.assert_allclose(drawn[100:103], halfway, atol=1e-5)
    np.testing.assert_array_equal(np.delete(drawn, range(100, 103), axis=0), np.delete(free, range(100, 103), axis=0))


def test_a_stop_gap_does_not_close_the_mouth() -> None:
    example = talker()
    predictor = LipMotionPredictor.fit(example.speech, example.codes, example.codes[:, 0])
    gap = predictor.predict(with_silence(example.speech, slice(200, 206)))
    np.testing.assert_allclose(gap, predictor.predict(example.speech), atol=0.02)


@pytest.mark.parametrize("size", [1, 7, 400, 5000])
def test_cutting_the_stream_changes_nothing(size: int) -> None:
    predictor = LipMotionPredictor.fit(talker().speech, talker().codes, talker().codes[:, 0])
    frames = 40 if size == 1 else 2600
    speech = with_silence(talker(frames, seed=3).speech, slice(990, 1015))
    blocks = np.split(speech.features, range(size, frames, size))
    whole = predictor.predict(speech)
    assert whole.shape == (frames, CODES)
    np.testing.assert_allclose(np.concatenate(list(predictor.predict_blocks(blocks))), whole, atol=1e-5)


def test_prediction_starts_before_the_stream_ends() -> None:
    predictor = LipMotionPredictor.fit(talker().speech, talker().codes, talker().codes[:, 0])
    features = talker(100).speech.features
    read = 0

    def blocks():
        nonlocal read
        for _ in range(100):
            read += 1
            yield features

    codes = predictor.predict_blocks(blocks())
    next(codes)
    assert read < 15
    assert sum(len(block) for block in codes) == 100 * 100 - 1000


def test_state_survives_a_safetensors_file_to_the_last_bit(tmp_path: Path) -> None:
    example = talker(fps=Fraction(30000, 1001))
    settings = LipMotionSettings(regression=DriftRegressionSettings(local=0.5), pause_s=0.3)
    predictor = LipMotionPredictor.fit(example.speech, example.codes, example.codes[:, 0], settings)
    save_file(predictor.to_tensors(), tmp_path / "lips.safetensors")
    restored = LipMotionPredictor.from_tensors(load_file(tmp_path / "lips.safetensors"))
    assert restored.settings == settings
    assert restored.fps == Fraction(30000, 1001)
    np.testing.assert_array_equal(restored.predict(example.speech), predictor.predict(example.speech))
    tensors = predictor.to_tensors()
    del tensors["support"]
    with pytest.raises(LipMotionFitError, match=r"lacks 'support'; fit the avatar again"):
        LipMotionPredictor.from_tensors(tensors)


def test_a_residual_adds_to_what_is_said_but_not_in_silence_nor_beyond_what_was_fitted(tmp_path: Path) -> None:
    made_up = talker()
    predictor = LipMotionPredictor.fit(made_up.speech, made_up.codes, made_up.codes[:, 0])
    inputs = predictor.support.shape[1]
    fresh = dataclasses.replace(predictor, residual=LipResidual(inputs, CODES))
    np.testing.assert_array_equal(fresh.predict(made_up.speech), predictor.predict(made_up.speech))
    moved = dataclasses.replace(predictor, residual=LipResidual(inputs, CODES))
    torch.nn.init.constant_(moved.residual.say.bias, 0.3)
    quiet = with_silence(made_up.speech, slice(200, 300))
    before, after = predictor.predict(quiet), moved.predict(quiet)
    inside = (before > predictor.code_range[0] + 0.4) & (before < predictor.code_range[1] - 0.4)
    inside[180:320] = False
    np.testing.assert_allclose((after - before)[inside], 0.3, atol=1e-5)
    np.testing.assert_allclose(after[240:260], before[240:260], atol=1e-6)
    assert (after <= predictor.code_range[1]).all()
    save_file(moved.to_tensors(), tmp_path / "lips.safetensors")
    restored = LipMotionPredictor.from_tensors(load_file(tmp_path / "lips.safetensors"))
    np.testing.assert_array_equal(restored.predict(quiet), after)
    damaged = moved.to_tensors() | {"residual.say.bias": torch.zeros(CODES + 1)}
    with pytest.raises(LipMotionFitError, match="does not fit their regression"):
        LipMotionPredictor.from_tensors(damaged)


def test_what_is_heard_in_parts_is_what_is_predicted() -> None:
    made_up = talker()
    predictor = LipMotionPredictor.fit(made_up.speech, made_up.codes, made_up.codes[:, 0])
    heard = predictor.hear(made_up.speech)
    spoken = predictor.spoken(torch.from_numpy(heard.codes), torch.from_numpy(heard.openness))
    np.testing.assert_allclose(spoken.numpy(), predictor.predict(made_up.speech), atol=1e-6)


def test_fitting_is_repeatable() -> None:
    first, second = (LipMotionPredictor.fit(talker().speech, talker().codes, talker().codes[:, 0]) for _ in range(2))
    np.testing.assert_array_equal(first.weights, second.weights)


def test_a_long_clip_is_thinned() -> None:
    example = talker(1000)
    settings = LipMotionSettings(maximum_frames=200)
    predictor = LipMotionPredictor.fit(example.speech, example.codes, example.codes[:, 0], settings)
    assert len(predictor.support) == 200
    predicted = predictor.predict(example.speech)
    assert np.corrcoef(predicted[:, 0], example.heard[:, 0])[0, 1] > 0.85


def test_a_mouth_that_never_moves_is_fitted_as_such() -> None:
    example = talker()
    still = np.full_like(example.codes, 0.25)
    predictor = LipMotionPredictor.fit(example.speech, still, np.zeros(len(still)))
    np.testing.assert_allclose(predictor.predict(example.speech), still, atol=1e-6)


def test_misuse_is_named() -> None:
    example = talker()
    with pytest.raises(LipMotionFitError, match="one length"):
        LipMotionPredictor.fit(example.speech, example.codes[:-1], example.codes[:, 0])
    codes = np.full_like(example.codes, np.nan)
    codes[:20] = 0.0
    with pytest.raises(LipMotionFitError, match="at least 25 frames with a face to learn lip motion from, got 20"):
        LipMotionPredictor.fit(example.speech, codes, codes[:, 0])
    predictor = LipMotionPredictor.fit(example.speech, example.codes, example.codes[:, 0])
    with pytest.raises(LipMotionFitError, match="25 frames/s, got 30"):
        predictor.predict(SpeechFeatureTrack(example.speech.features, Fraction(30)))
    with pytest.raises(LipMotionFitError, match="feature columns"):
        predictor.predict(SpeechFeatureTrack(example.speech.features[:, 1:], FPS))
