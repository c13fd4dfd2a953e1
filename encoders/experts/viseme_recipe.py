"""From clips to a lip reader with its provenance: what `talkinghead train-encoder --method reader|observer` does."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace

import numpy as np

from encoders.contrastive.lip_clips import LipClip
from encoders.contrastive.retrieval import split_clip
from encoders.contrastive.training import TrainingProgress
from encoders.experts.observer import OBSERVER_TRAINING, VisemeObserver, train_observer
from encoders.experts.viseme_file import Kind, LipReaderProvenance
from encoders.experts.viseme_reader import VisemeReader
from encoders.experts.viseme_training import (
    HeldOutReading,
    VisemeTraining,
    held_out_reading,
    read_visemes,
    train_reader,
)
from encoders.features import SpeechFeatureTrack, speech_features
from encoders.speech import SpeechEncoder

PEOPLE_STEPS = 100
"""Batches for each person beyond the first: there is more to learn."""


def lip_reader_training(kind: Kind, people: int, seed: int, steps: int | None = None) -> VisemeTraining:
    """How a lip reader is trained on clips of so many people; arguments as for `train_lip_reader`."""
    training = VisemeTraining() if kind == "reader" else OBSERVER_TRAINING
    return replace(training, seed=training.seed + seed, steps=steps or training.steps + PEOPLE_STEPS * (people - 1))


def train_lip_reader(
    kind: Kind, clips: Sequence[LipClip], aligner: SpeechEncoder, held_out: float, seed: int, steps: int | None = None
) -> Generator[TrainingProgress, None, tuple[VisemeReader | VisemeObserver, LipReaderProvenance]]:
    """Trains on the first part of every clip and measures on the rest.

    Args:
        aligner: the embedded encoder, which says what is heard.
        held_out: share at the end of every clip that is not trained on.
        seed: is added to that of the kind, so that readers and observers never share one.
        steps: batches; by default the kind's for one clip, and PEOPLE_STEPS for each other.

    Returns:
        The network and where it comes from (the generator's value).

    Raises:
        LipClipError: a clip shows hardly a face.
    """
    training = lip_reader_training(kind, len(clips), seed, steps)
    parts = [split_clip(clip, held_out) for clip in clips]
    tracks = [speech_features(clip.samples, aligner, clip.fps, len(clip)) for clip in clips]
    fitted = [part for part, _ in parts]
    heard = [
        SpeechFeatureTrack(track.features[: len(part)], part.fps) for track, part in zip(tracks, fitted, strict=True)
    ]
    train = train_reader if kind == "reader" else train_observer
    network = yield from train(fitted, heard, training)
    rest = [
        (part, track.visemes[-len(part) :].argmax(axis=1))
        for (_, part), track in zip(parts, tracks, strict=True)
        if part.seen.any()
    ]
    return network, LipReaderProvenance.of(kind, fitted, training, _measured(network, rest))


def _measured(
    network: VisemeReader | VisemeObserver, rest: Sequence[tuple[LipClip, np.ndarray]]
) -> HeldOutReading | None:
    """How well clips are read, of whose every frame the viseme is known."""
    read = [
        network.read(part.mouths, part.seen, part.fps)
        if isinstance(network, VisemeObserver)
        else read_visemes(network, part.mouths, part.seen, part.fps)
        for part, _ in rest
    ]
    if not rest:
        return None
    seen = np.concatenate([part.seen for part, _ in rest])
    said = np.concatenate([visemes for _, visemes in rest])
    return held_out_reading(np.concatenate(read)[seen], said[seen])
