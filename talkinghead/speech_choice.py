"""The speech feature that drives an avatar's lips: chosen by name for a fit, and found again for the avatar.

Whatever is chosen, silence, closures and the audio-video offset are heard by the default encoder (see
`encoders.embedding`). Where another feature takes the place of the default's, the lip-motion regression reads it alone,
neither the articulatory targets nor the lip prior, so that comparisons between features are fair; se4lip and pase as
adapters stand behind the default's, which they are made from. TalkLip's encoders hear for themselves, learned from this
person's lips alone, and take the default's place.

Pretrained networks are not copied into the avatar: it keeps the SHA-256 of their weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from encoders.acoustic.catalogue import ACOUSTIC_FEATURES
from encoders.acoustic.reduction import ReducedEmbedding, reduced
from encoders.acoustic.weights import fetch, verify
from encoders.contrastive.adapter import SpeechAdapter
from encoders.contrastive.encoder_file import TrainedEncoder, load_encoder
from encoders.contrastive.speech_embedding import ContrastiveEmbedding
from encoders.embedding import Embedding, SpeechEmbedding
from encoders.errors import EncoderWeightsError, FeatureUnavailableError
from encoders.features import EXTRA_COLUMNS, SpeechFeatureTrack
from encoders.lip_motion import LipMotionSettings
from talkinghead.config import ADAPTER_SPEECH, DEFAULT_SPEECH, TALKLIP_SPEECH, TRAINED_SPEECH_SUFFIX
from talkinghead.errors import SpeechFeatureError
from talkinghead.progress import Progress

TRAINED_SPEECH = "trained"
"""What a manifest calls a feature that was given as a file, of which the avatar holds a copy..."""
COPIED_SPEECH = (TRAINED_SPEECH, *TALKLIP_SPEECH)
"""...as of those that were learned from its clip."""
_MEGABYTE = 1_000_000


def fetch_weights(speech: str) -> Iterator[Progress]:
    """Downloads what the feature needs and is not here yet.

    Raises:
        FeatureUnavailableError: it needs a package that is not installed.
        EncoderWeightsError: it cannot be downloaded; says how to get it by hand.
    """
    feature = ACOUSTIC_FEATURES.get(speech)
    if feature is None or feature.weights is None:
        return
    feature.require_package()
    for event in fetch(feature.weights):
        total = None if event.total is None else event.total // _MEGABYTE
        yield Progress(f"fetching {speech} (MB)", event.done // _MEGABYTE, total)


def load_embedding(speech: str) -> SpeechEmbedding | None:
    """The feature, ready to compute; None where the default encoder's embedding is used, with or without an adapter,
    and where it is learned from the clip.

    Raises:
        FeatureUnavailableError, EncoderWeightsError: what it needs is not here, or damaged.
    """
    if speech in (DEFAULT_SPEECH, *ADAPTER_SPEECH, *TALKLIP_SPEECH):
        return None
    if speech.endswith(TRAINED_SPEECH_SUFFIX):
        return ContrastiveEmbedding(load_encoder(Path(speech)))
    return ACOUSTIC_FEATURES[speech].load()


def name_in_manifest(speech: str) -> str:
    """What an avatar calls the feature: where a file was on the machine of the fit says nothing elsewhere."""
    return TRAINED_SPEECH if speech.endswith(TRAINED_SPEECH_SUFFIX) else speech


def fitted_to_clip(
    embedding: SpeechEmbedding, speech: SpeechFeatureTrack, fitted_frames: int
) -> tuple[SpeechEmbedding, SpeechFeatureTrack]:
    """What drives one person's lips, and the clip's features by it.

    A wide feature is reduced to what varies most in the fitted part of the clip's features `speech`.
    """
    narrow = reduced(embedding, speech.embedding[:fitted_frames])
    if not isinstance(narrow, ReducedEmbedding):
        return embedding, speech
    rows = np.concatenate([narrow.project(speech.embedding), speech.features[:, -EXTRA_COLUMNS:]], axis=1)
    return narrow, SpeechFeatureTrack(rows, speech.fps)


def weights_sha256(speech: str) -> str:
    """SHA-256 of the weights that the feature reads from outside the avatar; empty when there are none."""
    feature = ACOUSTIC_FEATURES.get(speech)
    return "" if feature is None or feature.weights is None else verify(feature.weights)


def lip_settings(embedding: Embedding) -> LipMotionSettings:
    """How the lip-motion regression is fitted to the feature."""
    if embedding is None or isinstance(embedding, SpeechAdapter):
        return LipMotionSettings()
    return LipMotionSettings(articulation=0.0, prior=0.0)


def embedding_tensors(embedding: Embedding) -> dict[str, Tensor]:
    """What was fitted of the feature to the person."""
    return embedding.to_tensors() if isinstance(embedding, SpeechAdapter | ReducedEmbedding) else {}


def trained_encoder(embedding: Embedding) -> TrainedEncoder | None:
    """The encoder that the avatar must hold a copy of, if any."""
    inner = embedding.inner if isinstance(embedding, ReducedEmbedding) else embedding
    return inner.encoder if isinstance(inner, ContrastiveEmbedding) else None


def restore_embedding(speech: str, sha256: str, tensors: Mapping[str, Tensor], trained: Path) -> Embedding:
    """The feature of an avatar.

    Args:
        speech, sha256: as `name_in_manifest` and `weights_sha256` gave them.
        tensors: as `embedding_tensors` gave them.
        trained: the copy of a trained encoder, if the feature is one of COPIED_SPEECH.

    Raises:
        SpeechFeatureError: the feature, or its weights as they were, are not here.
        KeyError, ValueError: the tensors are not those of the feature.
        EncoderWeightsError: what the avatar holds of the feature is damaged.
    """
    if speech in ADAPTER_SPEECH:
        return SpeechAdapter.from_tensors(speech, tensors)
    inner = load_embedding(str(trained)) if speech in COPIED_SPEECH else _outside_embedding(speech, sha256)
    return ReducedEmbedding.from_tensors(inner, tensors) if inner and tensors else inner


def _outside_embedding(speech: str, sha256: str) -> SpeechEmbedding | None:
    if speech != DEFAULT_SPEECH and speech not in ACOUSTIC_FEATURES:
        raise SpeechFeatureError(f"the avatar is driven by {speech!r}, which this talkinghead does not know: update it")
    try:
        embedding, found = load_embedding(speech), weights_sha256(speech)
    except (FeatureUnavailableError, EncoderWeightsError) as error:
        raise SpeechFeatureError(f"the avatar is driven by {speech!r}: {error}") from error
    if found != sha256:
        raise SpeechFeatureError(
            f"the avatar was fitted with weights of {speech!r} that had SHA-256 {sha256}, and those here have {found}: "
            "get the weights that it was fitted with, or fit it anew"
        )
    return embedding
