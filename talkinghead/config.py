"""What a user may choose. A field's docstring is its --help text; nothing heavy is imported, so --help is quick."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tools.errors import UserError

Preset = Literal["fast", "standard", "best"]
Backend = Literal["auto", "torch", "numba", "gsplat"]
LandmarkBackend = Literal["mediapipe", "face-alignment"]
FeatureLayout = Literal["talkinggaussian", "er-nerf", "synctalk"]
DEFAULT_SPEECH = "default"
ACOUSTIC_SPEECH = ("logmel", "mfcc", "hubert", "hubert-large", "wav2vec2", "whisper", "deepspeech")
ADAPTER_SPEECH = ("se4lip", "pase")
TRAINED_SPEECH_SUFFIX = ".safetensors"
EVALUATION_HOLDOUT = 0.2
LARGEST_HOLDOUT = 0.5
SMALLEST_RESOLUTION, LARGEST_RESOLUTION = 64, 2048


@dataclass(frozen=True)
class FitConfig:
    """How an avatar is learned."""

    preset: Preset = "standard"
    """Time or quality: how long the head is fitted (see the README for the figures)."""
    seed: int = 0
    """Everything random follows from it: on a CPU the same seed gives the same avatar."""
    holdout: float = 0.0
    """Share of the clip, at its end and 30 s at most, that is kept out of the fit for `evaluate`: 0 to 0.5."""
    resolution: int = 512
    """Side of the square around the face that is learned, px; a smaller face is not enlarged."""
    face: int = 1
    """Which face, when several are seen: 1 is the largest."""
    landmarks: LandmarkBackend = "mediapipe"
    """What finds the face: MediaPipe comes with the package, face-alignment fetches weights on first use."""
    speech: str = DEFAULT_SPEECH
    """What the lips are driven by. default comes with the package; se4lip and pase adapt it to this person's lips.
    logmel, mfcc, hubert, hubert-large, wav2vec2, whisper and deepspeech are for comparison (`talkinghead doctor` says
    what they need), and so is a FILE.safetensors of `talkinghead train-encoder`."""
    backend: Backend = "auto"
    """Rasterizer: auto takes the fastest that runs here (see `talkinghead doctor`)."""
    restart: bool = False
    """Begin anew: use neither the tracking nor the unfinished fit that an earlier run left beside the avatar."""

    def __post_init__(self) -> None:
        _require("--holdout", self.holdout, 0, LARGEST_HOLDOUT)
        _require("--resolution", self.resolution, SMALLEST_RESOLUTION, LARGEST_RESOLUTION)
        _require("--face", self.face, 1, None)
        _require("--seed", self.seed, 0, None)
        _require_speech(self.speech)


@dataclass(frozen=True)
class SpeakConfig:
    """How the video is made."""

    backend: Backend = "auto"
    """Rasterizer: auto takes the fastest that runs here (see `talkinghead doctor`)."""
    codec: Literal["libx264", "libx265"] = "libx264"
    """Video encoder: H.264 plays everywhere, H.265 is smaller."""
    crf: int = 16
    """Constant rate factor: 0 is lossless, 16 looks like the original, 23 is visibly compressed; 51 is the most."""
    effort: Literal["ultrafast", "veryfast", "fast", "medium", "slow"] = "veryfast"
    """Encoding effort: slower makes smaller files of the same quality."""

    def __post_init__(self) -> None:
        _require("--crf", self.crf, 0, 51)


@dataclass(frozen=True)
class FeaturesConfig:
    """Which speech features are written, and for whom."""

    speech: str = DEFAULT_SPEECH
    """default, logmel, mfcc, hubert, hubert-large, wav2vec2, whisper, deepspeech, or a FILE.safetensors of `talkinghead
    train-encoder`; se4lip and pase are such files, looked for in the cache folder."""
    layout: FeatureLayout = "talkinggaussian"
    """Project that reads the file."""

    def __post_init__(self) -> None:
        _require_speech(self.speech)


@dataclass(frozen=True)
class EvaluateConfig:
    """How an avatar is measured."""

    fit: FitConfig = field(default_factory=lambda: FitConfig(holdout=EVALUATION_HOLDOUT))
    """How a video is fitted first; an avatar is measured as it is."""


@dataclass(frozen=True)
class TrainEncoderConfig:
    """How a speech encoder is trained."""

    method: Literal["phones", "se4lip", "pase", "lip-prior"] = "phones"
    """What to train: phones, the embedded encoder, on speech that this machine's synthesisers speak; se4lip or pase, on
    the lips in videos; lip-prior, the small map from what the embedded encoder hears to anybody's lips, on videos."""
    steps: int | None = None
    """Batches; by default 8000 (phones) or 20000 (se4lip, pase)."""
    seed: int = 0
    """Everything random follows from it."""
    holdout: float = 0.2
    """Share of every video, at its end, that is not learned from but measured on: 0 to 0.5."""
    spectrogram: Literal["stft", "mel"] = "stft"
    """What SE4Lip and PASE hear: 257 linear bins as in the paper, or 80 mel bands."""
    network: Literal["gru", "cnn"] = "gru"
    """How they hear it: the paper's recurrent network, or a convolutional one."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where SE4Lip and PASE are trained."""

    def __post_init__(self) -> None:
        _require("--holdout", self.holdout, 0, LARGEST_HOLDOUT)
        _require("--seed", self.seed, 0, None)
        if self.steps is not None:
            _require("--steps", self.steps, 1, None)


@dataclass(frozen=True)
class AblationConfig:
    """How the variants of SE4Lip's Table 6 are trained, all alike."""

    steps: int = 300
    """Batches of each variant; the paper trains far longer."""
    seed: int = 0
    """Everything random follows from it."""
    holdout: float = 0.2
    """Share of every video, at its end, that is measured on: 0.05 to 0.5."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where to train."""

    def __post_init__(self) -> None:
        _require("--steps", self.steps, 1, None)
        _require("--seed", self.seed, 0, None)
        _require("--holdout", self.holdout, 0.05, LARGEST_HOLDOUT)


def _require_speech(speech: str) -> None:
    """
    Raises:
        UserError: there is no such speech feature.
    """
    names = (DEFAULT_SPEECH, *ACOUSTIC_SPEECH, *ADAPTER_SPEECH)
    if speech not in names and not speech.endswith(TRAINED_SPEECH_SUFFIX):
        raise UserError(f"--speech takes {', '.join(names)} or a {TRAINED_SPEECH_SUFFIX} file, got {speech!r}")


def _require(option: str, value: float, least: float, most: float | None) -> None:
    """
    Raises:
        UserError: the value is out of its range, or no number.
    """
    if not value >= least or (most is not None and value > most):
        expected = f"{least} or more" if most is None else f"{least} to {most}"
        raise UserError(f"{option} takes {expected}, got {value}")
