"""The lip prior, the recalibrated targets and the measured lips they are learned on, with made-up people."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from made_up_people import FPS, TRUE_APERTURE, TRUE_WIDTH, made_up_person, made_up_speech, people
from safetensors.torch import save_file

from encoders.bundle import DEFAULT_BUNDLE
from encoders.errors import EncoderWeightsError, LipMotionFitError, SpeechInputError
from encoders.features import EXTRA_COLUMNS, SpeechFeatureTrack
from encoders.lip_prior import LipPrior, context_frames, fit_lip_prior, load_lip_prior, save_lip_prior
from encoders.measured_lips import MeasuredLips
from encoders.phones import ARTICULATORY_TARGETS, PHONES, VISEMES
from encoders.target_calibration import HAND_TARGETS, calibrated_targets

PHONE_COLUMNS = slice(4, 4 + len(PHONES))


def agreement(prior: LipPrior, lips: MeasuredLips) -> np.ndarray:
    predicted, seen = prior.predict(lips.speech), lips.motion()
    return np.array([np.corrcoef(p, s)[0, 1] for p, s in zip(predicted.T, seen.T, strict=True)])


def test_the_prior_holds_for_a_person_it_was_not_learned_on() -> None:
    stranger = made_up_person(TRUE_APERTURE, TRUE_WIDTH, seed=50)
    assert (agreement(fit_lip_prior(people()), stranger) > 0.8).all()


def test_the_prior_holds_at_another_frame_rate() -> None:
    stranger = made_up_person(TRUE_APERTURE, TRUE_WIDTH, seed=50, frames=1200, fps=Fraction(50))
    assert (agreement(fit_lip_prior(people()), stranger) > 0.75).all()


def test_predictions_have_the_spread_of_a_talking_person() -> None:
    prior = fit_lip_prior(people())
    np.testing.assert_allclose(prior.predict(made_up_speech(3000, 51)).std(axis=0), 1.0, atol=0.15)


def test_the_prior_reads_no_embedding() -> None:
    prior, speech = fit_lip_prior(people()), made_up_speech(100, 3)
    wider = SpeechFeatureTrack(np.concatenate([np.ones((100, 300), np.float32), speech.features], axis=1), FPS)
    np.testing.assert_array_equal(prior.predict(wider), prior.predict(speech))


def test_a_person_without_units_and_with_gaps_teaches_the_same() -> None:
    plain = people(2)
    blinked = [dataclasses.replace(lips, opening=1000 * lips.opening + 5) for lips in plain]
    np.testing.assert_allclose(fit_lip_prior(blinked).weights, fit_lip_prior(plain).weights, rtol=1e-3, atol=1e-4)
    opening = plain[0].opening.copy()
    opening[100:120] = np.nan
    gap = fit_lip_prior([dataclasses.replace(plain[0], opening=opening), plain[1]])
    assert np.corrcoef(gap.weights.ravel(), fit_lip_prior(plain).weights.ravel())[0, 1] > 0.98


def test_a_prediction_depends_on_its_context_only() -> None:
    prior, speech = fit_lip_prior(people(2)), made_up_speech(100, 4)
    reach = context_frames(FPS)
    changed = speech.features.copy()
    changed[50, PHONE_COLUMNS] = 0.5
    difference = np.abs(prior.predict(SpeechFeatureTrack(changed, FPS)) - prior.predict(speech)).max(axis=1)
    assert np.flatnonzero(difference > 0).tolist() == list(range(50 - reach, 50 + reach + 1))


def test_the_prior_survives_its_file(tmp_path: Path) -> None:
    prior, speech = fit_lip_prior(people(2)), made_up_speech(100, 4)
    save_lip_prior(prior, tmp_path / "prior.safetensors", {"clips": "two made-up people"})
    np.testing.assert_array_equal(load_lip_prior(tmp_path / "prior.safetensors").predict(speech), prior.predict(speech))


def test_a_prior_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(EncoderWeightsError, match="no lip prior at"):
        load_lip_prior(tmp_path / "missing.safetensors")
    save_file({"mean": fit_lip_prior(people(1)).to_tensors()["mean"]}, tmp_path / "half.safetensors")
    with pytest.raises(EncoderWeightsError, match="does not hold a lip prior"):
        load_lip_prior(tmp_path / "half.safetensors")
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    with pytest.raises(EncoderWeightsError, match="replace the file"):
        load_lip_prior(tmp_path / "junk.safetensors")


def test_misuse_is_named() -> None:
    with pytest.raises(LipMotionFitError, match="at least one clip"):
        fit_lip_prior([])
    with pytest.raises(LipMotionFitError, match="at least one clip"):
        calibrated_targets([])
    still = dataclasses.replace(people(1)[0], opening=np.zeros(600), width=np.zeros(600))
    with pytest.raises(LipMotionFitError, match="do not move"):
        fit_lip_prior([still])
    prior = dataclasses.replace(fit_lip_prior(people(1)), mean=np.zeros(10, np.float32))
    with pytest.raises(LipMotionFitError, match="expected 10 phone, viseme and articulation columns, got 56"):
        prior.predict(made_up_speech(50, 0))


def test_measured_lips_that_cannot_be_used_are_named() -> None:
    speech = made_up_speech(200, 0)
    with pytest.raises(SpeechInputError, match="one length, got 200, 199 and 200"):
        MeasuredLips(speech, np.zeros(199), np.zeros(200))
    opening = np.full(200, np.nan)
    opening[:50] = 0.0
    with pytest.raises(SpeechInputError, match=r"3 s with a face to compare sound and lips, got 2\.0 s"):
        MeasuredLips(speech, opening, np.zeros(200))


@pytest.mark.parametrize("frames", [3.0, -2.5])
def test_a_late_picture_is_brought_into_step(frames: float) -> None:
    times = np.arange(300)
    speech = made_up_speech(300, 0)
    late = MeasuredLips(speech, np.sin((times - frames) / 9), np.cos((times - frames) / 9))
    moved = late.in_step(frames)
    inside = moved.seen
    assert inside.sum() >= 296
    np.testing.assert_allclose(moved.opening[inside], np.sin(times / 9)[inside], atol=2e-3)
    np.testing.assert_allclose(moved.width[inside], np.cos(times / 9)[inside], atol=2e-3)


def test_calibration_finds_what_the_lips_do() -> None:
    aperture = np.array([t.aperture for t in HAND_TARGETS.values()])
    width = np.array([t.width for t in HAND_TARGETS.values()])
    open_s, round_a = PHONES.index("s"), PHONES.index("a")
    aperture[open_s], width[round_a] = 0.8, -0.8
    table = calibrated_targets([made_up_person(aperture, width, seed, 3000) for seed in range(3)])
    assert table["s"].aperture == pytest.approx(0.8, abs=0.12)
    assert table["a"].width == pytest.approx(-0.8, abs=0.2)
    others = [phone for phone in PHONES if phone not in ("s", "a")]
    assert np.mean([abs(table[p].aperture - HAND_TARGETS[p].aperture) for p in others]) < 0.06
    assert all(table[phone].aperture == pytest.approx(0.0, abs=1e-6) for phone in "pbm")
    for phone, target in table.items():
        assert target.aperture_dominance == HAND_TARGETS[phone].aperture_dominance
        assert target.width_dominance == HAND_TARGETS[phone].width_dominance


def test_calibration_without_evidence_keeps_the_table() -> None:
    aperture = np.array([t.aperture for t in HAND_TARGETS.values()])
    width = np.array([t.width for t in HAND_TARGETS.values()])
    table = calibrated_targets([made_up_person(aperture, width, 0, 100)])
    unheard = [p for p in PHONES if made_up_speech(100, 0).phones[:, PHONES.index(p)].sum() == 0 and p not in "pbm"]
    shared = {p: next(v for v in VISEMES.values() if p in v) for p in unheard}
    alone = [p for p in unheard if not set(shared[p]) - set(unheard)]
    assert alone
    for phone in alone:
        assert table[phone].aperture == pytest.approx(HAND_TARGETS[phone].aperture, abs=1e-6)


def test_the_shipped_table_covers_every_phone_within_range() -> None:
    assert tuple(ARTICULATORY_TARGETS) == tuple(HAND_TARGETS) == PHONES
    for target in ARTICULATORY_TARGETS.values():
        assert 0 <= target.aperture <= 1
        assert -1 <= target.width <= 1
        assert min(target.aperture_dominance, target.width_dominance) > 0
    assert all(ARTICULATORY_TARGETS[phone].aperture == 0 for phone in "pbm")


def test_the_shipped_prior_opens_for_open_vowels_and_closes_for_bilabials() -> None:
    assert DEFAULT_BUNDLE.weights.is_file()
    prior = load_lip_prior()
    opening = {}
    for phone in ("a", "m", "u", "i"):
        features = np.zeros((100, 4 + EXTRA_COLUMNS), np.float32)
        target = ARTICULATORY_TARGETS[phone]
        features[:, 4 + PHONES.index(phone)] = 1.0
        features[:, 4 + len(PHONES) + next(i for i, v in enumerate(VISEMES.values()) if phone in v)] = 1.0
        features[:, -5:-2] = target.aperture, target.width, float(phone == "m")
        opening[phone] = prior.predict(SpeechFeatureTrack(features, FPS))[50]
    assert opening["a"][0] > opening["i"][0] > opening["m"][0]
    assert opening["i"][1] > opening["u"][1]
