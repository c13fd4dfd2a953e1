"""The per-person adapter: what it sees, what it adds to a track, its state."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from fractions import Fraction
from typing import TypeVar

import numpy as np
import pytest
import torch
from tiny_contrastive import made_up_clip

from encoders.contrastive.adapter import AdapterConfig, SpeechAdapter, fit_adapter
from encoders.contrastive.lip_clips import LipClip
from encoders.contrastive.own_clip import frame_row_timing
from encoders.contrastive.training import TrainingProgress
from encoders.errors import EncoderWeightsError, LipClipError
from encoders.features import EXTRA_COLUMNS, SpeechFeatureTrack

QUICK = AdapterConfig(size=16, columns=3, steps=3)
EMBEDDING = 8
T = TypeVar("T")


def _value(job: Generator[TrainingProgress, None, T]) -> T:
    while True:
        try:
            next(job)
        except StopIteration as finished:
            return finished.value


def _track(clip: LipClip, seed: int = 0) -> SpeechFeatureTrack:
    random = np.random.default_rng(seed)
    features = random.standard_normal((len(clip), EMBEDDING + EXTRA_COLUMNS)).astype(np.float32)
    return SpeechFeatureTrack(features, clip.fps)


@pytest.fixture(scope="module")
def clip() -> LipClip:
    return made_up_clip(6.0)


@pytest.fixture(scope="module", params=["se4lip", "pase"])
def adapter(request: pytest.FixtureRequest, clip: LipClip) -> SpeechAdapter:
    return _value(fit_adapter(clip, _track(clip), replace(QUICK, method=request.param)))


def test_a_track_is_extended_behind_its_embedding(adapter: SpeechAdapter, clip: LipClip) -> None:
    track = _track(clip, seed=1)
    extended = adapter.extended(track)
    assert extended.embedding.shape == (len(clip), EMBEDDING + 3)
    np.testing.assert_array_equal(extended.embedding[:, :EMBEDDING], track.embedding)
    np.testing.assert_array_equal(extended.features[:, -EXTRA_COLUMNS:], track.features[:, -EXTRA_COLUMNS:])
    assert np.isfinite(extended.features).all() and extended.features.dtype == np.float32
    assert (extended.embedding[:, EMBEDDING:].std(axis=0) > 0).all()


def test_streamed_columns_are_those_of_the_whole(adapter: SpeechAdapter, clip: LipClip) -> None:
    track = SpeechFeatureTrack(np.tile(_track(clip).features, (15, 1)), clip.fps)  # longer than a chunk
    whole = adapter.extended(track).features
    pieces = np.concatenate(list(adapter.extended_blocks(np.array_split(track.features, 41))))
    np.testing.assert_allclose(pieces, whole, atol=1e-5)
    last = adapter.extended(SpeechFeatureTrack(track.features[:100], clip.fps)).features
    np.testing.assert_allclose(last[:98], whole[:98], atol=1e-5)  # a row sees two frames ahead


def test_columns_are_uncorrelated_on_the_fitted_clip(adapter: SpeechAdapter, clip: LipClip) -> None:
    columns = adapter.extended(_track(clip)).embedding[2:-2, EMBEDDING:].astype(np.float64)
    covariance = np.cov(columns.T)
    assert np.abs(covariance - np.diag(covariance.diagonal())).max() < 1e-3 * covariance[0, 0]
    assert (np.diff(covariance.diagonal()) <= 0).all()


def test_lips_that_are_not_seen_do_not_matter(clip: LipClip) -> None:
    """Held-out frames are marked as not seen; another picture there changes nothing."""
    seen = clip.seen.copy()
    seen[100:] = False
    held_out = replace(clip, seen=seen)
    other = clip.mouths.copy()
    other[100:] = 255 - other[100:]
    one, two = (
        _value(fit_adapter(replace(held_out, mouths=mouths), _track(clip), QUICK)) for mouths in (clip.mouths, other)
    )
    np.testing.assert_array_equal(one.components, two.components)
    np.testing.assert_array_equal(one.extended(_track(clip)).features, two.extended(_track(clip)).features)


def test_the_state_comes_back_to_the_bit(adapter: SpeechAdapter, clip: LipClip) -> None:
    tensors = {name: tensor.clone() for name, tensor in adapter.to_tensors().items()}
    restored = SpeechAdapter.from_tensors(adapter.method, tensors)
    track = _track(clip, seed=2)
    np.testing.assert_array_equal(restored.extended(track).features, adapter.extended(track).features)
    assert not any(name.startswith("lips") for name in tensors)
    with pytest.raises(EncoderWeightsError, match="another size"):
        SpeechAdapter.from_tensors(adapter.method, {**tensors, "components": torch.zeros(5, 3)})
    del tensors["components"]
    with pytest.raises(EncoderWeightsError, match="components"):
        SpeechAdapter.from_tensors(adapter.method, tensors)


def test_weights_of_another_method_are_named(adapter: SpeechAdapter) -> None:
    other = "pase" if adapter.method == "se4lip" else "se4lip"
    with pytest.raises(EncoderWeightsError, match="fit the avatar again"):
        SpeechAdapter.from_tensors(other, adapter.to_tensors())


def test_the_seed_decides_and_the_rest_of_the_program_is_left_alone(clip: LipClip) -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    one = _value(fit_adapter(clip, _track(clip), QUICK))
    assert torch.equal(torch.rand(1), expected)
    two = _value(fit_adapter(clip, _track(clip), QUICK))
    np.testing.assert_array_equal(one.components, two.components)


def test_a_window_lasts_as_long_at_every_frame_rate() -> None:
    assert [frame_row_timing(Fraction(rate)).window for rate in (25, 30, 50, 60)] == [5, 7, 11, 13]


def test_other_features_are_named(adapter: SpeechAdapter, clip: LipClip) -> None:
    with pytest.raises(EncoderWeightsError, match="use the encoder"):
        list(adapter.extended_blocks([np.zeros((10, EMBEDDING + 1 + EXTRA_COLUMNS), np.float32)]))
    with pytest.raises(LipClipError, match="as many frames"):
        next(fit_adapter(clip, _track(clip.part(0, 40)), QUICK))
