"""The acoustic features: their definitions, constant memory, times, and what bad input does to them."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch
from torchaudio import pipelines
from torchaudio.models import Wav2Vec2Model, hubert_base, hubert_large, wav2vec2_base, wav2vec2_model

from encoders.acoustic.catalogue import ACOUSTIC_FEATURES
from encoders.acoustic.deepspeech import LETTERS, DeepSpeechEmbedding, graph_inputs, mfcc
from encoders.acoustic.log_mel import LogMel, Mfcc
from encoders.acoustic.reduction import COMPONENTS, ReducedEmbedding, reduced
from encoders.acoustic.wav2vec2 import Wav2Vec2Embedding
from encoders.acoustic.whisper_encoder import WINDOW, WhisperEmbedding
from encoders.embedding import SpeechEmbedding
from encoders.errors import FeatureUnavailableError, SpeechInputError
from encoders.spectrogram import SAMPLE_RATE

FPS = Fraction(25)


def speech(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise and tones in syllables of about 0.25 s, float32 [n]."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    pitch = np.cumsum(120 + 40 * np.sin(2 * np.pi * 0.7 * t)) / SAMPLE_RATE
    voice = sum(np.sin(2 * np.pi * k * pitch) / k for k in range(1, 20))
    envelope = np.clip(np.sin(2 * np.pi * 2 * t + np.sin(3 * t)), 0, None)
    return (0.1 * envelope * voice + 0.002 * rng.normal(size=len(t))).astype(np.float32)


def tiny_wav2vec2(mode: str = "group_norm") -> Wav2Vec2Model:
    """A network of HuBERT's class and strides, with random weights."""
    torch.manual_seed(0)
    model = wav2vec2_model(
        extractor_mode=mode,
        extractor_conv_layer_config=[(32, 10, 5), *[(32, 3, 2)] * 4, *[(32, 2, 2)] * 2],
        extractor_conv_bias=mode == "layer_norm",
        encoder_embed_dim=48,
        encoder_projection_dropout=0.0,
        encoder_pos_conv_kernel=128,
        encoder_pos_conv_groups=16,
        encoder_num_layers=2,
        encoder_num_heads=4,
        encoder_attention_dropout=0.0,
        encoder_ff_interm_features=96,
        encoder_ff_interm_dropout=0.0,
        encoder_dropout=0.0,
        encoder_layer_norm_first=mode == "layer_norm",
        encoder_layer_drop=0.0,
        aux_num_out=None,
    )
    return model.eval()


def tiny_hubert() -> SpeechEmbedding:
    return Wav2Vec2Embedding("tiny", tiny_wav2vec2(), 48)


def tiny_whisper() -> SpeechEmbedding:
    """Mean power of every 20 ms, by way of a stand-in for Whisper's spectrum (1 band, 100 Hz) and encoder."""

    class Halving(torch.nn.Module):
        def forward(self, mel: torch.Tensor) -> torch.Tensor:
            assert mel.shape == (1, 1, WINDOW // 160)
            return mel.reshape(1, -1, 2).mean(dim=2, keepdim=True)

    return WhisperEmbedding(Halving(), lambda samples: samples.reshape(1, -1, 160).square().mean(dim=2), 1)


def tiny_deepspeech() -> SpeechEmbedding:
    weights = np.random.default_rng(0).normal(size=(494, LETTERS)).astype(np.float32) / 20
    return DeepSpeechEmbedding(lambda inputs: inputs @ weights)


MAKERS: list[Callable[[], SpeechEmbedding]] = [LogMel, Mfcc, tiny_hubert, tiny_whisper, tiny_deepspeech]


def rows_of(
    embedding: SpeechEmbedding, samples: np.ndarray, frames: int, fps: Fraction = FPS, block: int = 0
) -> np.ndarray:
    blocks = [samples] if not block else [samples[i : i + block] for i in range(0, len(samples), block)]
    return np.concatenate([np.zeros((0, embedding.size), np.float32), *embedding.embedding_blocks(blocks, fps, frames)])


@pytest.mark.parametrize("make", MAKERS)
def test_blocks_of_samples_change_nothing(make: Callable[[], SpeechEmbedding]) -> None:
    samples, embedding = speech(32.3), make()
    whole = rows_of(embedding, samples, 807)
    assert whole.dtype == np.float32 and whole.shape == (807, embedding.size)
    np.testing.assert_array_equal(rows_of(embedding, samples, 807, block=15_999), whole)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("samples", [0, 1, 399, 400, 5000])
def test_the_length_is_exact_however_short_the_sound(make: Callable[[], SpeechEmbedding], samples: int) -> None:
    embedding = make()
    for frames in (0, 1, 13):
        rows = rows_of(embedding, speech(1.0)[:samples], frames, Fraction(30000, 1001))
        assert rows.shape == (frames, embedding.size)
        assert np.isfinite(rows).all()


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("level", [0.0, 1e-4, 50.0])
def test_silence_whispers_and_overdriven_sound_stay_finite(make: Callable[[], SpeechEmbedding], level: float) -> None:
    rows = rows_of(make(), np.clip(level * speech(2.0), -1, 1), 50)
    assert np.isfinite(rows).all()


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_named(make: Callable[[], SpeechEmbedding], bad: float) -> None:
    samples = speech(1.0)
    samples[7000] = bad
    with pytest.raises(SpeechInputError, match="sample 7000 "):
        rows_of(make(), samples, 25, block=3000)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(("fps", "frames"), [(Fraction(0), 5), (FPS, -1)])
def test_impossible_frames_are_refused(make: Callable[[], SpeechEmbedding], fps: Fraction, frames: int) -> None:
    with pytest.raises(SpeechInputError, match="expected fps > 0"):
        rows_of(make(), speech(0.5), frames, fps)


@pytest.mark.parametrize("make", [LogMel, Mfcc, tiny_whisper])
def test_rows_belong_to_the_middle_of_their_frames(make: Callable[[], SpeechEmbedding]) -> None:
    """A burst of 40 ms at 1.02 s is strongest in frame 25 of 25 per second, whose middle it is."""
    samples = np.zeros(2 * SAMPLE_RATE, np.float32)
    samples[16_000:16_640] = np.random.default_rng(0).normal(scale=0.2, size=640)
    rows = rows_of(make(), samples, 50)
    assert np.argmax(rows[:, 0]) == 25


def test_hubert_rows_belong_to_the_middle_of_their_frames() -> None:
    """Its convolutions alone: the transformer mixes all times."""
    model = tiny_wav2vec2()
    model.encoder = _Passing()
    samples = np.zeros(2 * SAMPLE_RATE, np.float32)
    samples[16_000:16_640] = np.random.default_rng(0).normal(scale=0.2, size=640)
    rows = rows_of(Wav2Vec2Embedding("conv", model, 32), samples, 50)
    change = np.abs(rows - rows[0]).sum(axis=1)
    assert np.argmax(change) == 25
    assert change[:23].max() < 1e-3 * change.max()


class _Passing(torch.nn.Module):
    def forward(self, x: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
        return x


@pytest.mark.parametrize("mode", ["group_norm", "layer_norm"])
def test_cutting_into_chunks_changes_little(mode: str) -> None:
    """Chunks of 4 s with 5 s on both sides against one pass over 16 s, in units of a column's own deviation."""
    samples, model = speech(16.0), tiny_wav2vec2(mode)
    normalised = mode == "layer_norm"
    once = rows_of(Wav2Vec2Embedding("once", model, 48, normalised, chunk_s=16), samples, 400)
    cut = rows_of(Wav2Vec2Embedding("cut", model, 48, normalised, chunk_s=4), samples, 400)
    difference = (once - cut) / once.std(axis=0)
    assert 0 < np.sqrt(np.square(difference).mean()) < 0.1


def test_long_sound_is_heard_in_bounded_pieces() -> None:
    lengths: list[int] = []

    class Listening(torch.nn.Module):
        def forward(self, waveforms: torch.Tensor) -> tuple[torch.Tensor, None]:
            lengths.append(waveforms.shape[1])
            return torch.zeros(1, (waveforms.shape[1] - 400) // 320 + 1, 1), None

    embedding = Wav2Vec2Embedding("listening", Listening(), 1)
    seconds = 200
    blocks = (np.zeros(SAMPLE_RATE, np.float32) for _ in range(seconds))
    assert sum(len(rows) for rows in embedding.embedding_blocks(blocks, FPS, 25 * seconds)) == 25 * seconds
    assert max(lengths) == 30 * SAMPLE_RATE and len(lengths) == 10


@pytest.mark.parametrize(
    ("factory", "bundle"),
    [
        (hubert_base, pipelines.HUBERT_BASE),
        (hubert_large, pipelines.HUBERT_ASR_LARGE),
        (wav2vec2_base, pipelines.WAV2VEC2_ASR_BASE_960H),
    ],
)
def test_the_networks_are_those_of_torchaudios_bundles(
    factory: Callable[[], Wav2Vec2Model], bundle: pipelines.Wav2Vec2Bundle
) -> None:
    """Same tensors as the bundle's network, but its recognition head: its weights fit."""
    with torch.device("meta"):
        ours, theirs = factory(), wav2vec2_model(**bundle._params)
    expected = {name: tensor.shape for name, tensor in theirs.state_dict().items() if not name.startswith("aux.")}
    assert {name: tensor.shape for name, tensor in ours.state_dict().items()} == expected
    assert ours.encoder.transformer.layer_norm_first == theirs.encoder.transformer.layer_norm_first
    feature = next(item for item in ACOUSTIC_FEATURES.values() if item.weights and bundle._path in item.weights.url)
    assert feature.size == bundle._params["encoder_embed_dim"]
    assert feature.build.keywords.get("normalised", False) == bundle._normalize_waveform
    assert feature.build.args[2] is factory


def test_log_mel_does_not_hear_the_recording_level() -> None:
    samples = speech(12.0)
    loud, quiet = (rows_of(LogMel(), gain * samples, 300) for gain in (1.0, 0.25))
    heard = loud[:, 20] > 0
    assert np.abs(loud - quiet)[heard].mean() < 0.2


def test_mfcc_is_the_cosine_transform_of_log_mel() -> None:
    samples = speech(3.0)
    log_mel, coefficients = rows_of(LogMel(), samples, 75), rows_of(Mfcc(), samples, 75)
    bands = np.arange(80)
    basis = np.sqrt(2 / 80) * np.cos(np.pi * np.arange(13)[:, None] * (bands + 0.5) / 80)
    basis[0] /= np.sqrt(2)
    np.testing.assert_allclose(coefficients, log_mel @ basis.T, atol=1e-4)


def test_deepspeech_mfcc_agree_with_python_speech_features() -> None:
    """Values of python_speech_features 0.6, mfcc(signal, samplerate=16000, numcep=26), on a chirp."""
    t = np.arange(1600) / SAMPLE_RATE
    rows = mfcc(8000 * np.sin(2 * np.pi * (200 + 900 * t) * t))
    assert rows.shape == (9, 26)
    np.testing.assert_allclose(rows[3, :6], [18.1952, 31.2347, 20.9072, 10.8309, 0.0929, -10.4256], atol=1e-4)
    np.testing.assert_allclose(rows[8, 20:], [-1.4413, -0.6378, -0.1037, 0.0014, -0.1137, -0.1838], atol=1e-4)


def test_deepspeech_reads_nine_neighbours_on_both_sides() -> None:
    samples = speech(2.0)
    inputs, rows = graph_inputs(samples), mfcc(samples * 32768.0)[::2]
    assert inputs.shape == (len(rows), 494)
    assert abs(inputs.mean()) < 1e-4 and abs(inputs.std() - 1) < 1e-4
    middle = inputs.reshape(len(rows), 19, 26)
    np.testing.assert_array_equal(middle[30, 0], middle[21, 9])
    np.testing.assert_array_equal(middle[30, 18], middle[39, 9])
    scale = np.polyfit(rows[20], middle[20, 9], 1)
    np.testing.assert_allclose(np.polyval(scale, rows[40]), middle[40, 9], atol=1e-4)


def test_reduction_keeps_distances_and_spreads_variance_evenly() -> None:
    """Rows in a space of 40 dimensions lose nothing, and a regression that scales columns sees their distances."""
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(300, 40)) * np.geomspace(5, 0.1, 40)) @ rng.normal(size=(40, 200))
    wide = _Replaying(rows.astype(np.float32))
    narrow = reduced(wide, wide.rows)
    assert isinstance(narrow, ReducedEmbedding) and narrow.size == COMPONENTS and narrow.name == "replaying"
    projected = rows_of(narrow, speech(1.0), 300)
    scaled = (wide.rows - wide.rows.mean(axis=0)) / wide.rows.std(axis=0)
    distances = [np.linalg.norm(points[:150] - points[150:], axis=1) for points in (scaled, projected)]
    np.testing.assert_allclose(distances[1], distances[0], rtol=1e-3)
    np.testing.assert_allclose(projected.std(axis=0), projected.std(), rtol=1e-3)
    restored = ReducedEmbedding.from_tensors(wide, narrow.to_tensors())
    np.testing.assert_array_equal(rows_of(restored, speech(1.0), 300), projected)
    assert reduced(LogMel(), np.zeros((9, 80), np.float32)).size == COMPONENTS
    mfcc_feature = Mfcc()
    assert reduced(mfcc_feature, np.zeros((9, 13), np.float32)) is mfcc_feature


class _Replaying:
    name = "replaying"

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows
        self.size = rows.shape[1]

    def embedding_blocks(self, blocks: object, fps: Fraction, frame_count: int) -> list[np.ndarray]:
        return [self.rows[:frame_count]]


@pytest.mark.parametrize("name", ["whisper", "deepspeech"])
def test_a_missing_package_is_named_with_its_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("encoders.acoustic.catalogue.util.find_spec", lambda package: None)
    with pytest.raises(FeatureUnavailableError, match=rf"pip install 'talkinghead\[{name}\]'"):
        ACOUSTIC_FEATURES[name].load()
