"""`talkinghead features` on whatever people record, and the files that it writes for other projects."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from media_samples import write_sound

import talkinghead.export_features
from encoders.acoustic.log_mel import LogMel
from encoders.bundle import DEFAULT_BUNDLE
from encoders.contrastive.encoder_file import Provenance, TrainedEncoder, build_encoder, save_encoder
from encoders.contrastive.se4lip import EncoderConfig
from encoders.contrastive.training import ContrastiveTraining
from encoders.embedding import EncoderEmbedding
from talkinghead.cli import main
from talkinghead.config import FeaturesConfig
from talkinghead.errors import SpeechFeatureError
from talkinghead.export_features import export_features
from tools.audio import read_audio
from tools.errors import AudioTooShortError, OutputError

ALWAYS = ("default", "logmel", "mfcc")


def tone(seconds: float, rate: int = 16_000, channels: int = 1) -> np.ndarray:
    t = np.arange(round(seconds * rate)) / rate
    samples = (0.3 * np.sin(2 * np.pi * 220 * t) * (1 + np.sin(2 * np.pi * 3 * t)) / 2).astype(np.float32)
    return np.repeat(samples[:, None], channels, axis=1) if channels > 1 else samples


def music(seconds: float) -> np.ndarray:
    t = np.arange(round(seconds * 16_000)) / 16_000
    notes = 220 * 2 ** (np.array([0, 4, 7, 12])[(t * 4).astype(int) % 4] / 12)
    chord = sum(np.sin(2 * np.pi * k * np.cumsum(notes) / 16_000) / k for k in (1, 2, 3))
    return (0.2 * chord + 0.1 * np.random.default_rng(0).normal(size=len(t)) * (t * 4 % 1 < 0.1)).astype(np.float32)


def with_bad_samples(seconds: float) -> np.ndarray:
    samples = tone(seconds)
    samples[3000:3100], samples[5000], samples[6000] = np.nan, np.inf, -np.inf
    return samples


RECORDINGS = {
    "silence": (np.zeros(24_000, np.float32), 16_000, "pcm_s16le", "mono"),
    "clipped": (np.clip(20 * tone(1.5), -1, 1), 16_000, "pcm_s16le", "mono"),
    "8 kHz": (tone(1.5, 8000), 8000, "pcm_s16le", "mono"),
    "96 kHz": (tone(1.5, 96_000), 96_000, "pcm_s24le", "mono"),
    "stereo": (tone(1.5, 44_100, 2), 44_100, "pcm_s16le", "stereo"),
    "5.1": (tone(1.5, 48_000, 6), 48_000, "pcm_s16le", "5.1"),
    "music": (music(1.5), 16_000, "pcm_s16le", "mono"),
    "no numbers": (with_bad_samples(1.5), 16_000, "pcm_f32le", "mono"),
}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    for name, (samples, rate, codec, layout) in RECORDINGS.items():
        write_sound(folder / f"{name}.wav", samples, rate, codec, layout)
    write_sound(folder / "blip.wav", tone(0.005), 16_000)
    (folder / "no samples.wav").write_bytes((folder / "silence.wav").read_bytes()[:44])
    return folder


def export(audio: Path, output: Path, speech: str = "default", layout: str = "talkinggaussian") -> np.ndarray:
    for _ in export_features(audio, output, FeaturesConfig(speech, layout)):
        pass
    return np.load(output, allow_pickle=False)


@pytest.mark.parametrize("speech", ALWAYS)
@pytest.mark.parametrize("name", RECORDINGS)
def test_any_recording_gives_finite_features_of_exact_length(
    recordings: Path, tmp_path: Path, name: str, speech: str
) -> None:
    features = export(recordings / f"{name}.wav", tmp_path / "x.npy", speech)
    channels = {"default": DEFAULT_BUNDLE.load().embedding_size, "logmel": 80, "mfcc": 13}[speech]
    assert features.shape == (38, 16, channels)  # 1.5 s, 75 rows
    assert features.dtype == np.float32 and np.isfinite(features).all()


@pytest.mark.parametrize("speech", ALWAYS)
@pytest.mark.parametrize(("name", "line"), [("blip", "less than half a row: give"), ("no samples", "no samples")])
def test_no_sound_is_one_clear_line(
    recordings: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], speech: str, name: str, line: str
) -> None:
    output = tmp_path / "x.npy"
    arguments = ["features", str(recordings / f"{name}.wav"), "--speech", speech, "-o", str(output)]
    assert main(arguments) == 2
    (complaint,) = (text for text in capfd.readouterr().err.splitlines() if text.startswith("talkinghead: "))
    assert line in complaint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("layout", ["talkinggaussian", "er-nerf", "synctalk"])
def test_rows_are_the_features_50_times_a_second(recordings: Path, tmp_path: Path, layout: str) -> None:
    """Window t holds rows 2 t - 8 to 2 t + 7, zeros outside the sound."""
    audio = recordings / "music.wav"
    rows = np.concatenate(list(LogMel().embedding_blocks([read_audio(audio).samples], Fraction(50), 76)))
    features = export(audio, tmp_path / "aud_hu.npy", "logmel", layout)
    np.testing.assert_allclose(features[:, 8:10].reshape(-1, 80), rows, atol=1e-5)
    assert not features[0, :8].any() and not features[-1, 10:].any()
    np.testing.assert_array_equal(features[10, 15], features[13, 9])


@pytest.mark.parametrize("layout", ["talkinggaussian", "er-nerf", "synctalk"])
def test_a_feature_as_wide_as_their_hubert_has_two_rows_a_frame(
    recordings: Path, tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wide:
        name, size = "wide", 1024

        def embedding_blocks(self, blocks: object, fps: Fraction, frame_count: int) -> list[np.ndarray]:
            assert fps == 50
            return [np.repeat(np.arange(frame_count, dtype=np.float32)[:, None], 1024, axis=1)]

    monkeypatch.setattr(talkinghead.export_features, "load_embedding", lambda speech: Wide())
    features = export(recordings / "stereo.wav", tmp_path / "aud_hu.npy", "logmel", layout)
    assert features.shape == (38, 2, 1024)
    np.testing.assert_array_equal(features[:, :, 0].ravel(), np.arange(76))


def test_the_command_says_what_to_do_with_the_file(
    recordings: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "music.npy"
    command = ["features", str(recordings / "music.wav"), "--layout", "synctalk", "-o", str(output)]
    assert main(command) == 0
    (line,) = capfd.readouterr().out.splitlines()
    channels = EncoderEmbedding(DEFAULT_BUNDLE.load()).size
    assert line.startswith(f"{output}: 38x16x{channels}; set audio_in_dim = {channels}")
    assert "--asr_model hubert" in line
    assert main(command) == 2
    assert "music.npy exists: add --overwrite" in capfd.readouterr().err
    assert main([*command[:-1], str(tmp_path / "music.bin")]) == 2
    assert "a name that ends in .npy" in capfd.readouterr().err
    assert main([*command, "--speech", "huber", "--overwrite"]) == 2
    assert "--speech takes default, logmel" in capfd.readouterr().err


def test_a_trained_encoder_is_taken_from_its_file_or_the_cache(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    audio, output = recordings / "music.wav", tmp_path / "x.npy"
    with pytest.raises(SpeechFeatureError, match=r"learned from video, .*se4lip\.safetensors.* train-encoder"):
        export(audio, output, "se4lip")
    config = EncoderConfig(layers=1, size=32)
    model = build_encoder("se4lip", config, seed=0)
    trained = TrainedEncoder(model, Provenance.of(model, config, (), ContrastiveTraining(), None))
    kept = tmp_path / "cache" / "talkinghead" / "weights" / "se4lip.safetensors"
    kept.parent.mkdir(parents=True)
    save_encoder(trained, kept)
    features = export(audio, output, "se4lip")
    assert features.shape == (38, 16, 32)
    np.testing.assert_array_equal(export(audio, output, str(kept)), features)


def test_a_stopped_export_leaves_what_was_there(recordings: Path, tmp_path: Path) -> None:
    output = tmp_path / "x.npy"
    output.write_bytes(b"an earlier result")
    job = export_features(recordings / "music.wav", output, FeaturesConfig("mfcc"))
    next(job)
    assert len(list(tmp_path.iterdir())) == 2
    job.close()
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"] and output.read_bytes() == b"an earlier result"


def test_a_full_disk_is_one_line(recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numpy.lib.format.write_array_header_1_0", full)
    with pytest.raises(OutputError, match="No space left"):
        export(recordings / "music.wav", tmp_path / "x.npy", "mfcc")
    assert list(tmp_path.iterdir()) == []


def test_memory_does_not_grow_with_the_recording(tmp_path: Path) -> None:
    peaks = []
    for seconds in (60, 180):
        audio = write_sound(tmp_path / "long.wav", tone(seconds, 8000), 8000)
        tracemalloc.start()
        for _ in export_features(audio, tmp_path / "x.npy", FeaturesConfig("logmel")):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert np.load(tmp_path / "x.npy", mmap_mode="r").shape == (4500, 16, 80)
    assert peaks[1] < 1.1 * peaks[0]


def test_sound_shorter_than_a_row_is_refused(recordings: Path, tmp_path: Path) -> None:
    with pytest.raises(AudioTooShortError):
        export(recordings / "blip.wav", tmp_path / "x.npy")
