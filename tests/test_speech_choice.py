"""The speech feature that drives the lips, from the fit through the avatar folder to speaking."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from demo_clip_track import demo_clip, demo_track
from fitted_demo import CONFIG, RECIPE, quick_fit
from media_samples import write_sound
from tiny_avatar import LOWER_CODES, TinyClip, save_tiny_avatar, tiny_avatar

import talkinghead.fit
import talkinghead.lip_fit
from encoders.acoustic.catalogue import ACOUSTIC_FEATURES, AcousticFeature
from encoders.acoustic.log_mel import Mfcc
from encoders.acoustic.reduction import COMPONENTS, ReducedEmbedding
from encoders.acoustic.weights import WeightsFile, verify
from encoders.bundle import DEFAULT_BUNDLE
from encoders.contrastive.adapter import AdapterConfig, SpeechAdapter
from encoders.contrastive.encoder_file import Provenance, TrainedEncoder, build_encoder, save_encoder
from encoders.contrastive.lip_clips import LipClip
from encoders.contrastive.own_clip import untrained_pair
from encoders.contrastive.recipe import train_contrastive_encoder
from encoders.contrastive.se4lip import EncoderConfig
from encoders.contrastive.speech_embedding import ContrastiveEmbedding
from encoders.contrastive.training import ContrastiveTraining
from encoders.embedding import Embedding, feature_track
from encoders.errors import EncoderWeightsError, FeatureUnavailableError
from encoders.features import EXTRA_COLUMNS
from encoders.lip_motion import LipMotionPredictor
from talkinghead.avatar import Avatar, load_avatar, save_avatar, speech_feature_of
from talkinghead.config import ACOUSTIC_SPEECH, FitConfig
from talkinghead.errors import DamagedAvatarError, SpeechFeatureError
from talkinghead.fit import fit
from talkinghead.info import describe
from talkinghead.lip_fit import FittedLips, fit_lips
from talkinghead.presets import RECIPES
from talkinghead.progress import Progress
from talkinghead.speak import speak
from talkinghead.speech_choice import fetch_weights, fitted_to_clip, lip_settings, load_embedding, restore_embedding
from tools.audio import read_audio
from tools.errors import UserError
from tools.tracked_clip import TrackedClip
from tools.video import probe

FPS = Fraction(25)
FRAMES = 100


def sound() -> np.ndarray:
    """4 s that change all the time."""
    t = np.arange(4 * 16_000) / 16_000
    return (0.2 * np.sin(2 * np.pi * (150 + 40 * np.sin(5 * t)) * t) * (1 + np.sin(9 * t)) / 2).astype(np.float32)


class Steps:
    """A wide feature without a network: 100 columns of the sound's level, each delayed a little more."""

    name, size = "steps", 100

    def embedding_blocks(self, blocks: Iterable[np.ndarray], fps: Fraction, frame_count: int) -> Iterator[np.ndarray]:
        rows = np.concatenate(list(Mfcc().embedding_blocks(blocks, fps, frame_count)))
        yield np.concatenate([np.roll(rows, shift, axis=0) for shift in range(8)], axis=1)[:, :100]


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WeightsFile:
    """The feature `steps` that needs a file of weights, which is there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "published.pt").write_bytes(b"weights")
    weights = WeightsFile("steps.pt", (tmp_path / "published.pt").as_uri(), "MIT", 1)
    monkeypatch.setitem(ACOUSTIC_FEATURES, "steps", AcousticFeature("steps", 100, "a test", Steps, weights))
    assert list(fetch_weights("steps"))
    return weights


def driven_by(embedding: Embedding, feature: str, sha256: str = "") -> Avatar:
    """A tiny avatar whose lips were fitted to the feature; it is not saved."""
    avatar = tiny_avatar(TinyClip(frames=20, fps=FPS))
    speech = feature_track(sound(), avatar.encoder, embedding, FPS, FRAMES)
    if embedding is not None and not isinstance(embedding, SpeechAdapter):
        embedding, speech = fitted_to_clip(embedding, speech, FRAMES - 20)
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(FRAMES, LOWER_CODES)).astype(np.float32)
    lips = LipMotionPredictor.fit(speech, codes, rng.random(FRAMES), lip_settings(embedding))
    facts = replace(avatar.manifest, speech_feature=feature, speech_weights_sha256=sha256)
    return replace(avatar, embedding=embedding, lips=lips, manifest=facts)


def saved(avatar: Avatar, folder: Path) -> Path:
    footage = save_tiny_avatar(folder, TinyClip(frames=20, fps=FPS)).source_video().path
    return save_avatar(avatar, footage, folder / "new.avatar").path


def hears(avatar: Avatar) -> np.ndarray:
    """The lip codes for the sound."""
    return avatar.lips.predict(feature_track(sound(), avatar.encoder, avatar.embedding, FPS, FRAMES))


def trained_file(path: Path) -> Path:
    config = EncoderConfig(layers=1, size=32)
    model = build_encoder("se4lip", config, seed=0)
    save_encoder(TrainedEncoder(model, Provenance.of(model, config, (), ContrastiveTraining(), None)), path)
    return path


def adapter() -> SpeechAdapter:
    """One that was never trained."""
    inputs = DEFAULT_BUNDLE.load().embedding_size + 3
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    return SpeechAdapter(
        method="pase",
        speech=untrained_pair("pase", inputs, 32).speech.eval().requires_grad_(False),
        input_mean=np.zeros(inputs, np.float32),
        input_scale=np.ones(inputs, np.float32),
        output_mean=np.zeros(32, np.float32),
        components=rng.normal(size=(32, 5)).astype(np.float32),
        fps=FPS,
    )


# --- the avatar folder ---


@pytest.mark.parametrize("feature", ["mfcc", "logmel"])
def test_an_avatar_hears_by_its_own_feature(tmp_path: Path, feature: str) -> None:
    original = driven_by(load_embedding(feature), feature)
    loaded = load_avatar(saved(original, tmp_path))
    assert loaded.embedding.name == feature == speech_feature_of(loaded.path)
    np.testing.assert_array_equal(hears(loaded), hears(original))
    assert any(feature in fact.value for fact in describe(loaded.path) if fact.name == "lips driven by")
    audio = write_sound(tmp_path / "speech.wav", sound()[:16_000], 16_000)
    list(speak(loaded, audio, tmp_path / "said.mp4"))
    assert probe(tmp_path / "said.mp4").frame_count == 25


def test_an_adapter_lies_in_the_folder(tmp_path: Path) -> None:
    original = driven_by(adapter(), "pase")
    loaded = load_avatar(saved(original, tmp_path))
    assert isinstance(loaded.embedding, SpeechAdapter) and loaded.embedding.method == "pase"
    np.testing.assert_array_equal(hears(loaded), hears(original))


def test_a_trained_encoder_is_copied_into_the_folder(tmp_path: Path) -> None:
    file = trained_file(tmp_path / "my encoder.safetensors")
    original = driven_by(load_embedding(str(file)), "trained")
    folder = saved(original, tmp_path)
    file.unlink()
    np.testing.assert_array_equal(hears(load_avatar(folder)), hears(original))
    (folder / "trained_encoder.safetensors").unlink()
    with pytest.raises(DamagedAvatarError, match=r"trained_encoder\.safetensors is missing"):
        load_avatar(folder)


def test_large_weights_stay_outside_and_must_be_what_they_were(steps: WeightsFile, tmp_path: Path) -> None:
    original = driven_by(load_embedding("steps"), "steps", verify(steps))
    assert isinstance(original.embedding, ReducedEmbedding) and original.embedding.size == COMPONENTS
    folder = saved(original, tmp_path)
    np.testing.assert_array_equal(hears(load_avatar(folder)), hears(original))
    assert b"weights" not in b"".join(path.read_bytes() for path in folder.glob("*.safetensors"))[-100:]
    steps.path.write_bytes(b"others")
    with pytest.raises(SpeechFeatureError, match=r"driven by 'steps': .*steps\.pt\.sha256 beside it"):
        load_avatar(folder)
    steps.path.with_name("steps.pt.sha256").unlink()  # trusted anew, but not what the avatar was fitted with
    with pytest.raises(SpeechFeatureError, match=r"had SHA-256 .* get the weights that it was fitted with"):
        load_avatar(folder)
    steps.path.unlink()
    with pytest.raises(SpeechFeatureError, match=r"weights .* are not here: download .*published\.pt"):
        load_avatar(folder)


def test_a_feature_of_a_later_release(tmp_path: Path) -> None:
    avatar = driven_by(None, "default")
    folder = saved(replace(avatar, manifest=replace(avatar.manifest, speech_feature="telepathy")), tmp_path)
    with pytest.raises(SpeechFeatureError, match="'telepathy', which this talkinghead does not know: update it"):
        load_avatar(folder)


@pytest.mark.parametrize(
    "tensors", [{"mean": torch.zeros(80)}, {"mean": torch.zeros(3), "projection": torch.ones(3, 64)}]
)
def test_a_reduction_that_is_not_the_features(tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    with pytest.raises((KeyError, ValueError)):
        restore_embedding("logmel", "", tensors, tmp_path)


# --- the fit ---


@pytest.mark.parametrize("speech", ["mfcc", "logmel", "trained"])
def test_the_lips_read_the_chosen_feature_alone(speech: str, tmp_path: Path) -> None:
    """Articulatory targets, phones and the rest may change: only silence and closures are taken from them."""
    chosen = str(trained_file(tmp_path / "t.safetensors")) if speech == "trained" else speech
    lips = finished(fit_lips(demo_clip(), demo_track(), load_embedding(chosen), FitConfig(speech=chosen)))
    track = talkinghead.lip_fit.clip_features(demo_clip(), lips.encoder, lips.embedding, lips.delay_frames)
    assert track.embedding.shape[1] == lips.embedding.size
    other = track.features.copy()
    other[:, -EXTRA_COLUMNS:-3] = np.random.default_rng(0).random((len(track), EXTRA_COLUMNS - 3))
    same = lips.predictor.predict(replace(track, features=other))
    np.testing.assert_allclose(same, lips.predictor.predict(track), atol=1e-4)
    assert lips.predictor.predict(track).std(axis=0).max() > 0


def finished(job: Generator[Progress, None, FittedLips]) -> FittedLips:
    try:
        while True:
            next(job)
    except StopIteration as done:
        return done.value


def test_a_fit_with_an_adapter_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(talkinghead.lip_fit, "AdapterConfig", partial(AdapterConfig, size=16, columns=4, steps=3))
    with quick_fit():
        monkeypatch.setitem(RECIPES, "fast", replace(RECIPE, fitting=replace(RECIPE.fitting, steps=2)))
        events = list(fit(demo_clip().path, tmp_path / "a.avatar", replace(CONFIG, speech="se4lip")))
    assert [event.done for event in events if event.stage == "adapting (se4lip)"] == [1, 2, 3]
    avatar = load_avatar(tmp_path / "a.avatar")
    assert isinstance(avatar.embedding, SpeechAdapter) and avatar.manifest.speech_feature == "se4lip"
    samples = read_audio(demo_clip().path).samples
    track = feature_track(samples, avatar.encoder, avatar.embedding, FPS, 50)
    assert track.embedding.shape[1] == avatar.encoder.embedding_size + 4
    assert np.isfinite(avatar.lips.predict(track)).all()


def test_an_adapter_learns_from_the_fitted_frames_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def listening(lips: object, speech: object, config: object) -> Generator[None, None, SpeechAdapter]:
        seen.extend((len(lips), len(speech)))
        return adapter()
        yield

    monkeypatch.setattr(talkinghead.lip_fit, "fit_adapter", listening)
    clip: TrackedClip = demo_track()
    finished(fit_lips(demo_clip(), clip, None, FitConfig(speech="pase")))
    assert seen == [clip.fitted_frames, clip.fitted_frames]


@pytest.mark.parametrize("network", ["local", "global"])
def test_an_encoder_of_the_persons_own_is_fitted_and_lies_in_the_folder(
    network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned_from: list[LipClip] = []

    def watched(clips: list[LipClip], *arguments: object, **options: object) -> Generator[object, None, TrainedEncoder]:
        learned_from.extend(clips)
        return train_contrastive_encoder(clips, *arguments, **options)

    monkeypatch.setattr(talkinghead.lip_fit, "train_contrastive_encoder", watched)
    monkeypatch.setattr(talkinghead.lip_fit, "OWN_STEPS", 2)
    name, clip = f"talklip-{network}", demo_track()
    lips = finished(fit_lips(demo_clip(), clip, None, FitConfig(speech=name)))
    assert isinstance(lips.embedding, ContrastiveEmbedding) and lips.embedding.name == name
    assert lips.speech.embedding.shape == (demo_clip().frame_count, lips.embedding.size), "in the default's place"
    (seen,) = learned_from
    assert len(seen) == clip.fitted_frames and len(seen.samples) == round(clip.fitted_frames / seen.fps * 16_000)
    loaded = load_avatar(saved(driven_by(lips.embedding, name), tmp_path))
    assert loaded.embedding.name == name == loaded.manifest.speech_feature
    np.testing.assert_array_equal(hears(loaded), hears(driven_by(lips.embedding, name)))
    (loaded.path / "trained_encoder.safetensors").unlink()
    with pytest.raises(DamagedAvatarError, match=r"trained_encoder\.safetensors is missing"):
        load_avatar(loaded.path)


def test_what_is_missing_is_told_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(talkinghead.fit, "track_clip", lambda *arguments: pytest.fail("tracked"))
    gone = WeightsFile("gone.pt", (tmp_path / "gone.pt").as_uri(), "MIT", 1)
    monkeypatch.setitem(ACOUSTIC_FEATURES, "hubert", replace(ACOUSTIC_FEATURES["hubert"], weights=gone))
    monkeypatch.setattr("encoders.acoustic.catalogue.util.find_spec", lambda package: None)
    cases = {
        "hubert": (EncoderWeightsError, "cannot be fetched"),
        "whisper": (FeatureUnavailableError, r"talkinghead\[whisper\]"),
        "deepspeech": (FeatureUnavailableError, r"talkinghead\[deepspeech\]"),
        str(tmp_path / "none.safetensors"): (EncoderWeightsError, "no encoder at"),
    }
    for speech, (error, line) in cases.items():
        with pytest.raises(error, match=line):
            list(fit(demo_clip().path, tmp_path / "new.avatar", FitConfig(speech=speech)))
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == []


def test_the_names_are_those_of_the_catalogue() -> None:
    assert tuple(ACOUSTIC_FEATURES) == ACOUSTIC_SPEECH
    with pytest.raises(UserError, match=r"--speech takes default, logmel, .* got 'Hubert'"):
        FitConfig(speech="Hubert")
