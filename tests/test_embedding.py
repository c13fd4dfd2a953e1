"""Another embedding in place of the default encoder's: rows stay in step however the two streams are cut."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest

from encoders.bundle import DEFAULT_BUNDLE
from encoders.embedding import feature_blocks, feature_track
from encoders.errors import SpeechInputError
from encoders.features import EXTRA_COLUMNS, speech_features
from encoders.spectrogram import SAMPLE_RATE
from encoders.streaming import at_frame_times, padded

FPS = Fraction(30000, 1001)


@dataclass(frozen=True)
class Counting:
    """An embedding whose row t is (t, -t), in blocks of `block` rows once all sound has come."""

    block: int
    name: str = "counting"
    size: int = 2

    def embedding_blocks(self, blocks: Iterable[np.ndarray], fps: Fraction, frame_count: int) -> Iterator[np.ndarray]:
        for _ in blocks:
            pass
        rows = np.stack([np.arange(frame_count), -np.arange(frame_count)], axis=1).astype(np.float32)
        for start in range(0, frame_count, self.block):
            yield rows[start : start + self.block]
            yield rows[:0]


def noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(0).normal(scale=0.1, size=round(seconds * SAMPLE_RATE)).astype(np.float32)


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_rows_of_both_stay_in_step(block: int) -> None:
    encoder, samples = DEFAULT_BUNDLE.load(), noise(3.0)
    own = speech_features(samples, encoder, FPS, 90).features
    joined = feature_track(samples, encoder, Counting(block), FPS, 90)
    np.testing.assert_array_equal(joined.embedding[:, 0], np.arange(90))
    np.testing.assert_array_equal(joined.features[:, -EXTRA_COLUMNS:], own[:, -EXTRA_COLUMNS:])


def test_without_another_embedding_the_track_is_the_encoders() -> None:
    encoder, samples = DEFAULT_BUNDLE.load(), noise(1.0)
    expected = speech_features(samples, encoder, FPS, 30).features
    np.testing.assert_array_equal(feature_track(samples, encoder, None, FPS, 30).features, expected)


def test_no_frames_is_an_empty_track() -> None:
    assert feature_track(noise(0), DEFAULT_BUNDLE.load(), Counting(1), FPS, 0).features.shape == (0, 2 + EXTRA_COLUMNS)


def test_an_error_of_either_comes_through() -> None:
    with pytest.raises(SpeechInputError, match="not a finite number"):
        list(feature_blocks([np.full(1600, np.nan, np.float32)], DEFAULT_BUNDLE.load(), Counting(5), FPS, 3))


@pytest.mark.parametrize("block", [1, 3, 50])
@pytest.mark.parametrize("first_s", [0.0, 0.0125])
def test_a_ramp_is_interpolated_exactly(block: int, first_s: float) -> None:
    rate, count = 50.0, 120
    times = first_s + np.arange(count) / rate
    blocks = (times[start : start + block, None] for start in range(0, count, block))
    frames = np.concatenate(list(at_frame_times(blocks, rate, first_s, FPS, 80)))[:, 0]
    wanted = np.clip((np.arange(80) + 0.5) / float(FPS), times[0], times[-1])
    np.testing.assert_allclose(frames, wanted, atol=1e-6)


@pytest.mark.parametrize("minimum", [0, 100, 40_000])
def test_padding_adds_silence_only_where_it_is_missing(minimum: int) -> None:
    stream = np.concatenate(list(padded([np.ones(60), np.ones(60)], minimum)))
    assert len(stream) == max(120, minimum)
    assert stream[:120].all() and not stream[120:].any()
