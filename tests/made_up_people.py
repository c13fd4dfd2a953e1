"""People whose lips follow per-phone targets, for tests of what is learned from people."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from scipy.ndimage import gaussian_filter1d

from encoders.features import EXTRA_COLUMNS, SpeechFeatureTrack
from encoders.measured_lips import MeasuredLips
from encoders.phones import APERTURE_BLENDING_S, ARTICULATORY_TARGETS, PHONES, VISEMES, WIDTH_BLENDING_S

FPS = Fraction(25)


def made_up_speech(frames: int, seed: int, fps: Fraction = FPS) -> SpeechFeatureTrack:
    """Phones of about 0.1 s in random order, heard without doubt and without pause; an embedding of noise."""
    random = np.random.default_rng(seed)
    labels = np.repeat(random.integers(0, len(PHONES), frames), max(1, round(0.1 * float(fps))))[:frames]
    features = np.zeros((frames, 4 + EXTRA_COLUMNS), np.float32)
    features[:, :4] = random.standard_normal((frames, 4))
    features[np.arange(frames), 4 + labels] = 1.0
    viseme = {phone: index for index, phones in enumerate(VISEMES.values()) for phone in phones}
    features[np.arange(frames), 4 + len(PHONES) + np.array([viseme[PHONES[label]] for label in labels])] = 1.0
    features[:, -5:-3] = random.random((frames, 2))
    features[:, -1] = 1.0
    return SpeechFeatureTrack(features, fps)


def made_up_person(
    aperture: np.ndarray, width: np.ndarray, seed: int, frames: int = 600, fps: Fraction = FPS
) -> MeasuredLips:
    """Lips that follow per-phone targets [P], scaled, on a smile that drifts and under noise."""
    speech = made_up_speech(frames, seed, fps)
    random = np.random.default_rng(100 + seed)
    smile = np.sin(np.linspace(0, 5, frames))
    series = []
    for targets, dominances, blending_s in (
        (aperture, [t.aperture_dominance for t in ARTICULATORY_TARGETS.values()], APERTURE_BLENDING_S),
        (width, [t.width_dominance for t in ARTICULATORY_TARGETS.values()], WIDTH_BLENDING_S),
    ):
        weights = gaussian_filter1d(speech.phones * np.array(dominances), blending_s * float(fps), axis=0)
        blended = (weights / weights.sum(axis=1, keepdims=True)) @ targets
        noise = 0.3 * blended.std() * random.standard_normal(frames)
        series.append(random.uniform(0.5, 2.0) * (blended + noise) + smile)
    return MeasuredLips(speech, *series)


TRUE_APERTURE = np.random.default_rng(0).random(len(PHONES))
TRUE_WIDTH = np.random.default_rng(1).uniform(-1, 1, len(PHONES))


def people(count: int = 4) -> list[MeasuredLips]:
    return [made_up_person(TRUE_APERTURE, TRUE_WIDTH, seed) for seed in range(count)]
