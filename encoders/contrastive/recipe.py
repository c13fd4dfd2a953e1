"""From clips to a trained encoder with its provenance: what `talkinghead train-encoder --method se4lip|pase` does."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np

from encoders.contrastive.encoder_file import Provenance, TrainedEncoder, build_encoder
from encoders.contrastive.lip_clips import LipClip
from encoders.contrastive.retrieval import CANDIDATES, retrieval_scores, split_clip
from encoders.contrastive.se4lip import EncoderConfig, Method
from encoders.contrastive.training import ContrastiveTraining, TrainingProgress, train
from encoders.contrastive.windows import ClipWindows
from encoders.features import speech_features
from encoders.speech import SpeechEncoder


def train_contrastive_encoder(
    clips: Sequence[LipClip],
    method: Method,
    config: EncoderConfig,
    training: ContrastiveTraining,
    aligner: SpeechEncoder,
    held_out: float = 0.1,
    checkpoint: Path | None = None,
) -> Generator[TrainingProgress, None, TrainedEncoder]:
    """Trains on the first part of every clip and scores retrieval on the rest.

    Args:
        aligner: the embedded encoder; PASE takes its phones for labels.
        held_out: share at the end of every clip that is not trained on. Where no clip's is long enough to choose among
            CANDIDATES windows, the encoder has no score.
        checkpoint: see `training.train`.

    Yields:
        Progress.

    Returns:
        The encoder (the generator's value).

    Raises: as `training.train`.
    """
    parts = [split_clip(clip, held_out) for clip in clips]
    fitted = [_windows(part, method, config, aligner) for part, _ in parts]
    model = build_encoder(method, config, training.seed)
    yield from train(model, fitted, training, checkpoint)
    rest = [ClipWindows.of_spectrogram(part, config.spectrogram) for _, part in parts if len(part) > CANDIDATES]
    scored = [windows for windows in rest if len(windows.frames) >= CANDIDATES]
    scores = retrieval_scores(model, scored) if scored else None
    return TrainedEncoder(model, Provenance.of(model, config, [part for part, _ in parts], training, scores))


def heard_phones(clip: LipClip, aligner: SpeechEncoder) -> np.ndarray:
    """The likeliest phone of every frame, int [T], an index into `phones.PHONES`: PASE's labels."""
    return speech_features(clip.samples, aligner, clip.fps, len(clip)).phones.argmax(axis=1)


def _windows(clip: LipClip, method: Method, config: EncoderConfig, aligner: SpeechEncoder) -> ClipWindows:
    phones = heard_phones(clip, aligner) if method == "pase" else None
    return ClipWindows.of_spectrogram(clip, config.spectrogram, phones)
