"""The embedded encoder and its features: parity with torch's own STFT, streaming, silence and bad input."""

from __future__ import annotations

import dataclasses
import json
import math
import wave
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from encoders.bundle import DEFAULT_BUNDLE
from encoders.corpus.voices import HELD_OUT_VARIANTS, VARIANTS
from encoders.errors import EncoderWeightsError, SpeechInputError
from encoders.features import (
    LIVE_CHUNK_S,
    SpeechFeatureTrack,
    live_feature_blocks,
    speech_feature_blocks,
    speech_features,
)
from encoders.normalisation import SpeechStatistics
from encoders.phones import PHONES, SILENCE, VISEMES
from encoders.spectrogram import (
    FFT_SIZE,
    HIGHEST_HZ,
    HOP_SIZE,
    LOWEST_HZ,
    MEL_BANDS,
    SAMPLE_RATE,
    mel_filter_bank,
    mel_power_blocks,
)
from encoders.speech import FRAME_RATE, FUTURE_FRAMES, LOOKAHEAD_S, PAST_FRAMES, PAST_S, SpeechEncoder
from encoders.streaming import context_chunks, with_window_means

FPS = Fraction(25)


@pytest.fixture(scope="module")
def encoder() -> SpeechEncoder:
    return DEFAULT_BUNDLE.load()


@pytest.fixture(scope="module")
def recording(shared: Path) -> np.ndarray:
    """Eight seconds of a man speaking English."""
    with wave.open(str(shared / "audio" / "english_male_16k.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (SAMPLE_RATE, 2, 2)
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).reshape(-1, 2)
    return samples.mean(axis=1, dtype=np.float32) / 32768


def babble(seconds: float, seed: int = 0) -> np.ndarray:
    """Speech-like sound: a buzz through two wandering resonances, with pauses."""
    random = np.random.default_rng(seed)
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    knots = np.arange(0, seconds + 0.3, 0.15)
    wander = lambda low, high: np.interp(time, knots, random.uniform(low, high, len(knots)))  # noqa: E731
    pitch = 2 * np.pi * np.cumsum(wander(90, 160)) / SAMPLE_RATE
    harmonics = np.arange(1, 30)[:, None]
    frequency = harmonics * wander(90, 160)
    first, second = wander(250, 800), wander(900, 2300)
    envelope = 1 / (1 + ((frequency - first) / 120) ** 2) + 0.5 / (1 + ((frequency - second) / 200) ** 2)
    loudness = np.clip(wander(-0.5, 1.0), 0, 1)
    return (0.1 * loudness * (envelope * np.sin(harmonics * pitch)).sum(axis=0)).astype(np.float32)


def cut(samples: np.ndarray, size: int) -> list[np.ndarray]:
    return np.split(samples, range(size, len(samples), size))


def track(blocks: list[np.ndarray], encoder: SpeechEncoder, frames: int, **settings: float) -> np.ndarray:
    return np.concatenate(list(speech_feature_blocks(blocks, encoder, FPS, frames, **settings)))


def test_inventory() -> None:
    assert sorted(phone for phones in VISEMES.values() for phone in phones) == sorted(PHONES)
    assert (len(PHONES), len(VISEMES)) == (38, 15)


def test_bundle_carries_its_provenance(encoder: SpeechEncoder) -> None:
    provenance = DEFAULT_BUNDLE.provenance()
    assert "synthetic speech only" in provenance["training_data"]
    assert float(provenance["hours"]) > 12
    assert provenance["phones"].split() == list(PHONES)
    assert int(provenance["parameters"]) == sum(parameter.numel() for parameter in encoder.parameters())
    assert DEFAULT_BUNDLE.weights.stat().st_size <= 4e6
    assert not encoder.training


def test_bundle_knows_voices_it_never_heard() -> None:
    """Of two engines and more, none of them among the voices it was trained on."""
    provenance = DEFAULT_BUNDLE.provenance()
    *voices, mean = json.loads(provenance["held_out"])
    assert {figures["engine"] for figures in voices} == {"espeak-ng", "festival", "flite"}
    trained = set(json.loads(provenance["voices"]))
    assert not trained & {f"{one['engine']} {one['voice']}" for one in voices if one["engine"] != "espeak-ng"}
    assert not set(HELD_OUT_VARIANTS) & set(VARIANTS)
    assert mean["phone_accuracy"] >= 0.78
    assert mean["viseme_accuracy"] >= 0.85
    assert mean["closure_f1"] >= 0.80


def test_bundle_refuses_missing_damaged_and_foreign_weights(tmp_path: Path) -> None:
    missing = dataclasses.replace(DEFAULT_BUNDLE, weights=tmp_path / "none.safetensors")
    with pytest.raises(EncoderWeightsError, match="no encoder weights"):
        missing.load()
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(DEFAULT_BUNDLE.weights.read_bytes()[:1000])
    with pytest.raises(EncoderWeightsError, match="does not hold the weights"):
        dataclasses.replace(DEFAULT_BUNDLE, weights=damaged).load()
    foreign = tmp_path / "foreign.safetensors"
    state = load_file(DEFAULT_BUNDLE.weights)
    del state["phone_anchors"]
    save_file(state, foreign)
    with pytest.raises(EncoderWeightsError, match="phone_anchors"):
        dataclasses.replace(DEFAULT_BUNDLE, weights=foreign).load()


def test_mel_filters_are_means_around_rising_centres() -> None:
    filters = mel_filter_bank()
    torch.testing.assert_close(filters.sum(dim=0), torch.ones(MEL_BANDS))
    hertz = torch.arange(FFT_SIZE // 2 + 1) * SAMPLE_RATE / FFT_SIZE
    centres = hertz @ filters
    assert (centres.diff() >= 0).all()
    assert (hertz[filters.sum(dim=1) > 0] >= LOWEST_HZ - SAMPLE_RATE / FFT_SIZE).all()
    assert (hertz[filters.sum(dim=1) > 0] <= HIGHEST_HZ + SAMPLE_RATE / FFT_SIZE).all()


@pytest.mark.parametrize("size", [1, 77, 128, 5000, 10**6])
def test_streamed_mel_power_is_torch_stft_of_the_whole(size: int) -> None:
    samples = babble(0.3) if size < 77 else babble(2.0)
    filters = mel_filter_bank()
    spectrum = torch.stft(
        torch.from_numpy(samples),
        FFT_SIZE,
        HOP_SIZE,
        window=torch.hann_window(FFT_SIZE),
        center=True,
        pad_mode="constant",
        return_complex=True,
    )
    expected = (spectrum.abs().square().T @ filters).numpy()
    streamed = np.concatenate(list(mel_power_blocks(cut(samples, size), filters)))
    assert len(streamed) == len(samples) // HOP_SIZE + 1
    np.testing.assert_allclose(streamed, expected, rtol=1e-3, atol=1e-6 * expected.max())


@pytest.mark.parametrize("rows", [1, 30, 200])
@pytest.mark.parametrize("block", [1, 13, 400])
def test_window_means_against_direct_sums(rows: int, block: int) -> None:
    values = np.random.default_rng(0).standard_normal((rows, 3)).astype(np.float32)
    window = 41
    found = list(with_window_means(cut(values, block), window))
    np.testing.assert_array_equal(np.concatenate([part for part, _ in found]), values)
    means = np.concatenate([part for _, part in found])
    for row in range(rows):
        start = int(np.clip(row - window // 2, 0, max(0, rows - window)))
        expected = values[start : start + window].mean(axis=0)
        np.testing.assert_allclose(means[row], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("block", [1, 7, 64, 1000])
def test_chunks_cover_the_stream_with_full_context(block: int) -> None:
    values = np.arange(101)[:, None]
    position = 0
    for chunk in context_chunks(cut(values, block), chunk=16, past=5, future=3):
        core = chunk.rows[chunk.begin : chunk.end, 0]
        np.testing.assert_array_equal(core, np.arange(position, position + len(core)))
        assert chunk.begin == min(5, position)
        assert len(chunk.rows) - chunk.end == min(3, 101 - position - len(core))
        assert len(chunk.rows) <= 16 + 5 + 3
        position += len(core)
    assert position == 101


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001), Fraction(60)])
def test_features_lie_at_frame_centres(encoder: SpeechEncoder, fps: Fraction) -> None:
    """The energy of a 40 ms burst peaks in a frame that shows its time."""
    moment = 2.0
    time = np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE
    samples = (np.exp(-0.5 * ((time - moment) / 0.02) ** 2) * np.sin(6000 * time)).astype(np.float32)
    speech = speech_features(samples, encoder, fps, round(4 * fps))
    assert len(speech) == round(4 * fps)
    centre = (np.argmax(speech.log_energy) + 0.5) / float(fps)
    assert abs(centre - moment) <= max(0.5 / float(fps), 0.5 / FRAME_RATE) + 1e-9


@pytest.mark.parametrize(("block", "chunk_s"), [(3777, 1000.0), (100_000, 6.0), (1600, 0.2)])
def test_blocks_and_chunks_leave_no_trace(encoder: SpeechEncoder, block: int, chunk_s: float) -> None:
    samples = babble(30.0)
    whole = track([samples], encoder, 750, chunk_s=1000.0)
    assert whole.shape == (750, 122)
    np.testing.assert_allclose(track(cut(samples, block), encoder, 750, chunk_s=chunk_s), whole, atol=1e-3)


def test_an_encoder_frame_depends_on_the_stated_stretch_of_sound() -> None:
    encoder = SpeechEncoder(channels=8).eval()
    spectrum = torch.randn(1, 120, MEL_BANDS, requires_grad=True)
    encoder(spectrum).embedding[0, 30, 0].backward()
    seen = spectrum.grad[0].abs().sum(dim=1).nonzero().flatten()
    assert (int(seen.min()), int(seen.max())) == (60 - PAST_FRAMES, 60 + FUTURE_FRAMES)
    assert PAST_S <= 0.4
    assert LOOKAHEAD_S + 1 / FRAME_RATE <= 0.2  # a video frame lies between two encoder frames


def test_a_live_stream_gives_what_the_file_gives(encoder: SpeechEncoder, recording: np.ndarray) -> None:
    """From the first frame on where the speaker is known, after some seconds of speech where not."""
    speaker = SpeechStatistics.of(np.concatenate(list(mel_power_blocks([recording], mel_filter_bank()))))
    file = speech_features(recording, encoder, FPS, 200)
    live = np.concatenate(list(live_feature_blocks(cut(recording, 640), encoder, FPS, speaker)))
    assert len(live) in (199, 200)
    np.testing.assert_allclose(live[:195], file.features[:195], atol=1e-3)
    stranger = SpeechFeatureTrack(np.concatenate(list(live_feature_blocks(cut(recording, 640), encoder, FPS))), FPS)
    for column in range(2):
        heard = stranger.articulation[75:195, column], file.articulation[75:195, column]
        assert np.corrcoef(*heard)[0, 1] > 0.95


def test_a_live_frame_comes_after_the_stated_latency(encoder: SpeechEncoder, recording: np.ndarray) -> None:
    pushed = 0

    def microphone() -> Iterator[np.ndarray]:
        nonlocal pushed
        for block in cut(recording, 160):
            pushed += len(block)
            yield block

    frames = 0
    latest = 0.0
    for rows in live_feature_blocks(microphone(), encoder, FPS):
        frames += len(rows)
        if pushed < len(recording):
            latest = max(latest, pushed / SAMPLE_RATE - (frames - len(rows) + 0.5) / FPS)
    assert frames >= 199
    assert latest <= LOOKAHEAD_S + 1 / FRAME_RATE + LIVE_CHUNK_S + 0.01


def test_memory_does_not_grow_with_the_audio(encoder: SpeechEncoder) -> None:
    """Features arrive while samples are still being read: no more than a chunk and the first statistics are held."""
    read = 0

    def blocks():
        nonlocal read
        for _ in range(150):
            read += 1
            yield np.zeros(SAMPLE_RATE, np.float32)

    stream = speech_feature_blocks(blocks(), encoder, FPS, 150 * 25, chunk_s=10.0)
    first = next(stream)
    assert len(first) > 0
    assert read <= 20 + 10 + 2
    assert len(first) + sum(len(block) for block in stream) == 150 * 25


def test_level_and_equaliser_do_not_matter(encoder: SpeechEncoder, recording: np.ndarray) -> None:
    loud = speech_features(recording, encoder, FPS, 200)
    quiet = speech_features(0.05 * recording, encoder, FPS, 200)
    np.testing.assert_allclose(quiet.features, loud.features, atol=2e-2)
    clipped = speech_features(np.clip(4 * recording, -1, 1), encoder, FPS, 200)
    assert np.corrcoef(clipped.articulation[:, 0], loud.articulation[:, 0])[0, 1] > 0.9


def test_columns_have_their_meaning(encoder: SpeechEncoder, recording: np.ndarray) -> None:
    pause = np.zeros(2 * SAMPLE_RATE, np.float32)
    speech = speech_features(np.concatenate([recording, pause, recording]), encoder, FPS, 450)
    assert speech.embedding.shape == (450, 64)
    assert speech.articulation.shape == (450, 3)
    assert speech.voice_activity[50:150].mean() > 0.8
    assert speech.voice_activity[205:245].max() < 0.2
    np.testing.assert_allclose(speech.phones.sum(axis=1), 1.0, atol=1e-3)
    np.testing.assert_allclose(speech.visemes.sum(axis=1), 1.0, atol=1e-3)
    assert (speech.phones[205:245].argmax(axis=1) == SILENCE).all()
    assert speech.log_energy[50:150].mean() > speech.log_energy[205:245].mean() + 5
    assert speech.articulation[:, 2].min() >= 0
    assert speech.articulation[:, 2].max() <= 1


def test_room_noise_in_a_long_pause_is_not_speech(encoder: SpeechEncoder, recording: np.ndarray) -> None:
    """Normalising a pause by itself would turn its noise into speech: 45 s of noise 50 dB down."""
    samples = np.concatenate([recording, np.zeros(45 * SAMPLE_RATE, np.float32), recording])
    noise = np.random.default_rng(0).standard_normal(len(samples)).astype(np.float32)
    samples = samples + 10 ** (-50 / 20) * recording.std() * noise
    speech = speech_features(samples, encoder, FPS, 61 * 25)
    assert speech.voice_activity[25 * 10 : 25 * 52].mean() < 0.25
    assert speech.voice_activity[25 * 55 : 25 * 60].mean() > 0.7


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(0, np.float32),
        np.zeros(1, np.float64),
        np.zeros(3 * SAMPLE_RATE, np.float32),
        np.full(3 * SAMPLE_RATE, 1.0, np.float32),
        np.sign(np.sin(np.arange(3 * SAMPLE_RATE, dtype=np.float32))),
        1e-30 * np.ones(3 * SAMPLE_RATE, np.float32),
        babble(1.0),
    ],
    ids=["empty", "one sample", "silence", "constant", "square", "denormal", "short"],
)
def test_strange_audio_gives_finite_features_of_exact_length(encoder: SpeechEncoder, samples: np.ndarray) -> None:
    for frames in (0, 1, 75):
        speech = speech_features(samples, encoder, FPS, frames)
        assert speech.features.shape == (frames, 122)
        assert speech.features.dtype == np.float32
        assert np.isfinite(speech.features).all()


def test_silence_is_not_speech(encoder: SpeechEncoder) -> None:
    assert speech_features(np.zeros(3 * SAMPLE_RATE, np.float32), encoder, FPS, 75).voice_activity.max() < 0.1


def test_bad_samples_are_named(encoder: SpeechEncoder) -> None:
    samples = babble(1.0)
    samples[8000] = math.nan
    with pytest.raises(SpeechInputError, match=r"sample 8000 \(0\.50 s\) is not a finite number"):
        track(cut(samples, 3000), encoder, 25)
    with pytest.raises(SpeechInputError, match=r"shape \[n\], got shape \[100, 2\]"):
        speech_features(np.zeros((100, 2), np.float32), encoder, FPS, 25)
    with pytest.raises(SpeechInputError, match="int16"):
        speech_features(np.zeros(100, np.int16), encoder, FPS, 25)
    with pytest.raises(SpeechInputError, match="fps > 0"):
        speech_features(samples, encoder, Fraction(0), 25)


def test_track_is_frozen_and_sized(encoder: SpeechEncoder) -> None:
    speech = SpeechFeatureTrack(np.zeros((4, 122), np.float32), FPS)
    assert len(speech) == 4
    with pytest.raises(dataclasses.FrozenInstanceError):
        speech.fps = Fraction(30)
