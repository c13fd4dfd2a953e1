"""The acoustic features by name: what each needs, whether it can be had here, and how it is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import util

from torchaudio.models import hubert_base, hubert_large, wav2vec2_base

from encoders.acoustic.deepspeech import load_deepspeech
from encoders.acoustic.log_mel import LogMel, Mfcc
from encoders.acoustic.wav2vec2 import load_wav2vec2
from encoders.acoustic.weights import WeightsFile
from encoders.acoustic.whisper_encoder import load_whisper
from encoders.embedding import SpeechEmbedding
from encoders.errors import FeatureUnavailableError

_TORCHAUDIO = "https://download.pytorch.org/torchaudio/models"
_WHISPER_BASE = "ed3a0b6b1c0edf879ad9b11b1af5a0e6ab5db9205f891f668f8b0e6c6326e34e"
"""OpenAI states the SHA-256 of a checkpoint as a part of its address."""

HUBERT = WeightsFile("hubert_fairseq_base_ls960.pth", f"{_TORCHAUDIO}/hubert_fairseq_base_ls960.pth", "MIT", 378)
HUBERT_LARGE = WeightsFile(
    "hubert_fairseq_large_ll60k_asr_ls960.pth",
    f"{_TORCHAUDIO}/hubert_fairseq_large_ll60k_asr_ls960.pth",
    "MIT",
    1270,
)
WAV2VEC2 = WeightsFile(
    "wav2vec2_fairseq_base_ls960_asr_ls960.pth",
    f"{_TORCHAUDIO}/wav2vec2_fairseq_base_ls960_asr_ls960.pth",
    "MIT",
    378,
)
WHISPER = WeightsFile(
    "whisper-base.pt",
    f"https://openaipublic.azureedge.net/main/whisper/models/{_WHISPER_BASE}/base.pt",
    "MIT",
    145,
    sha256=_WHISPER_BASE,
)
DEEPSPEECH = WeightsFile(
    "deepspeech-0.1.0/output_graph.pb",
    "https://github.com/mozilla/DeepSpeech/releases/download/v0.1.0/deepspeech-0.1.0-models.tar.gz",
    "MPL-2.0",
    archived=True,
)


@dataclass(frozen=True)
class AcousticFeature:
    """A feature and what it needs."""

    name: str
    size: int  # columns
    source: str
    build: Callable[[], SpeechEmbedding]  # once everything is there
    weights: WeightsFile | None = None
    package: str = ""  # that must be importable, from the extra of the feature's name

    def install_command(self) -> str:
        """How to install the package that is missing; empty when none is."""
        if not self.package or util.find_spec(self.package) is not None:
            return ""
        return f"pip install 'talkinghead[{self.name}]'"

    def require_package(self) -> None:
        """
        Raises:
            FeatureUnavailableError: the package is not installed.
        """
        if command := self.install_command():
            raise FeatureUnavailableError(f"the speech feature {self.name!r} needs another package: {command}")

    def load(self) -> SpeechEmbedding:
        """The feature, ready to compute. Fetches nothing (see `weights.fetch`).

        Raises:
            FeatureUnavailableError: a package or the weights are not here.
            EncoderWeightsError: the weights are damaged, or not what they were.
        """
        self.require_package()
        if self.weights is not None and not self.weights.is_present:
            raise FeatureUnavailableError(
                f"the weights of the speech feature {self.name!r} are not here: {self.weights.remedy}"
            )
        return self.build()


_FEATURES = (
    AcousticFeature("logmel", LogMel.size, "80-band log-mel spectrum", LogMel),
    AcousticFeature("mfcc", Mfcc.size, "13 mel-frequency cepstral coefficients", Mfcc),
    AcousticFeature(
        "hubert",
        768,
        "HuBERT base, last layer (torchaudio HUBERT_BASE)",
        partial(load_wav2vec2, "hubert", HUBERT, hubert_base, 768),
        HUBERT,
    ),
    AcousticFeature(
        "hubert-large",
        1024,
        "HuBERT large fine-tuned on LibriSpeech, last layer (torchaudio HUBERT_ASR_LARGE): what TalkingGaussian, "
        "ER-NeRF and SyncTalk call hubert",
        partial(load_wav2vec2, "hubert-large", HUBERT_LARGE, hubert_large, 1024, normalised=True),
        HUBERT_LARGE,
    ),
    AcousticFeature(
        "wav2vec2",
        768,
        "wav2vec 2.0 base fine-tuned on LibriSpeech, last layer (torchaudio WAV2VEC2_ASR_BASE_960H)",
        partial(load_wav2vec2, "wav2vec2", WAV2VEC2, wav2vec2_base, 768),
        WAV2VEC2,
    ),
    AcousticFeature("whisper", 512, "Whisper base, audio encoder", partial(load_whisper, WHISPER), WHISPER, "whisper"),
    AcousticFeature(
        "deepspeech",
        29,
        "DeepSpeech 0.1.0, letter logits",
        partial(load_deepspeech, DEEPSPEECH),
        DEEPSPEECH,
        "tensorflow",
    ),
)
ACOUSTIC_FEATURES: dict[str, AcousticFeature] = {feature.name: feature for feature in _FEATURES}
