"""Running normalisation: what it takes out, what it holds on to, and that cutting the stream leaves no trace."""

from __future__ import annotations

import numpy as np
import pytest

from encoders.normalisation import LOG_MEL_SCALE, SpeechStatistics, normalised
from encoders.spectrogram import HOP_SIZE, MEL_BANDS, SAMPLE_RATE

PER_SECOND = SAMPLE_RATE // HOP_SIZE


def speech(seconds: float, seed: int = 0, tilt: float = 0.0) -> np.ndarray:
    """Mel power [n, MEL_BANDS] that comes in syllables, about 0 dB loud."""
    random = np.random.default_rng(seed)
    frames = round(seconds * PER_SECOND)
    syllables = np.repeat(random.uniform(-3, 1, frames // 12 + 1), 12)[:frames]
    spectrum = np.linspace(0, tilt, MEL_BANDS) + 0.5 * random.standard_normal((frames, MEL_BANDS))
    return np.exp(syllables[:, None] + spectrum).astype(np.float32)


def rows(power: np.ndarray, start: SpeechStatistics | None = None, size: int = 10**6) -> np.ndarray:
    blocks = np.split(power, range(size, len(power), size))
    return np.concatenate(list(normalised(blocks, start)))


@pytest.mark.parametrize("size", [1, 77, 2500, 2501])
@pytest.mark.parametrize("known", [False, True])
def test_cutting_the_stream_changes_nothing(size: int, known: bool) -> None:
    power = speech(23.0)
    start = SpeechStatistics.of(speech(5.0, seed=1)) if known else None
    np.testing.assert_array_equal(rows(power, start, size), rows(power, start))


def test_level_and_equaliser_are_taken_out() -> None:
    power = speech(8.0)
    equaliser = np.exp(np.linspace(1.0, -2.0, MEL_BANDS))
    np.testing.assert_allclose(rows(1e-2 * power), rows(power), atol=2e-3)
    difference = rows(equaliser * power)[:, :MEL_BANDS] - rows(power)[:, :MEL_BANDS]
    assert np.abs(difference).mean() < 0.05


def test_speech_has_zero_mean_and_its_level_is_the_reference() -> None:
    output = rows(speech(20.0, tilt=-4.0))
    loud = output[:, MEL_BANDS] > -3.0
    assert np.abs(output[loud, :MEL_BANDS].mean(axis=0)).max() < 0.1
    assert np.log(np.exp(output[loud, MEL_BANDS]).mean()) == pytest.approx(0.0, abs=0.3)


def test_room_noise_in_a_long_pause_is_not_learned() -> None:
    before, after = speech(10.0), speech(5.0, seed=2)
    noise = np.full((60 * PER_SECOND, MEL_BANDS), 1e-5, np.float32)
    with_pause = rows(np.concatenate([before, noise, after]))
    without = rows(np.concatenate([before, after]), SpeechStatistics.of(before))
    assert np.abs(with_pause[-len(after) :] - without[-len(after) :]).max() < 0.2
    assert with_pause[len(before) : -len(after), MEL_BANDS].max() < -9.0


def test_speech_after_noise_counts_at_once() -> None:
    noise = 1e-3 * speech(30.0, seed=3)
    loud = speech(10.0, tilt=-4.0)
    output = rows(np.concatenate([noise, loud]))[-len(loud) :]
    settled = output[3 * PER_SECOND :, :MEL_BANDS] - rows(loud)[3 * PER_SECOND :, :MEL_BANDS]
    assert np.abs(settled.mean(axis=0)).max() * LOG_MEL_SCALE < 0.7


def test_digital_silence_is_finite_and_silent() -> None:
    output = rows(np.zeros((200, MEL_BANDS), np.float32))
    assert np.isfinite(output).all()
    assert output[:, MEL_BANDS].max() < -11.0


def test_streams_in_step_are_those_alone() -> None:
    both = np.stack([speech(3.0, seed=4), 0.1 * speech(3.0, seed=5, tilt=2.0)], axis=1)
    together = SpeechStatistics.of(both)
    alone = [SpeechStatistics.of(both[:, stream]) for stream in range(2)]
    for frame in both:
        log_mel, _, together = together.hear(frame)
        for stream in range(2):
            expected, _, alone[stream] = alone[stream].hear(frame[stream])
            np.testing.assert_allclose(log_mel[stream], expected, rtol=1e-6, atol=1e-9)
