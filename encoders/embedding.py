"""Any speech embedding in place of the default encoder's: the interface, and how the two are joined into one track.

Silence, closures and the audio-video offset always come from the default encoder's columns behind the embedding (see
`features.SpeechFeatureTrack`): few embeddings say what they hear in words that lips can be closed by.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np

from encoders.contrastive.adapter import SpeechAdapter
from encoders.errors import SpeechInputError
from encoders.features import EXTRA_COLUMNS, SpeechFeatureTrack, speech_feature_blocks
from encoders.spectrogram import SAMPLE_RATE, checked_samples
from encoders.speech import SpeechEncoder
from encoders.streaming import padded


class SpeechEmbedding(Protocol):
    """Speech features of any kind at video frame times, in constant memory."""

    @property
    def name(self) -> str:
        """What `--speech` calls it."""
        ...

    @property
    def size(self) -> int:
        """Columns of a row."""
        ...

    def embedding_blocks(
        self, blocks: Iterable[np.ndarray], fps: Fraction, frame_count: int
    ) -> Iterator[np.ndarray]:
        """Rows at video frame times: row t belongs to (t + 0.5) / fps s.

        Args:
            blocks: mono float arrays [n] of consecutive 16 kHz samples, any lengths; how the stream is cut into them
                changes nothing. What frames need beyond the last sample is silence.
            fps: video frames per second, exact.
            frame_count: video frames wanted.

        Yields:
            float32 [m, size], `frame_count` rows in all.

        Raises:
            SpeechInputError: samples are not mono finite floats, or fps or frame_count is out of range.
        """
        ...


@dataclass(frozen=True)
class EncoderEmbedding:
    """The default encoder's own embedding, where one is asked for by itself."""

    encoder: SpeechEncoder
    name: str = "default"

    @property
    def size(self) -> int:
        """Columns of a row."""
        return self.encoder.embedding_size

    def embedding_blocks(self, blocks: Iterable[np.ndarray], fps: Fraction, frame_count: int) -> Iterator[np.ndarray]:
        """See `SpeechEmbedding`."""
        for rows in speech_feature_blocks(blocks, self.encoder, fps, frame_count):
            yield rows[:, :-EXTRA_COLUMNS]


Embedding = SpeechEmbedding | SpeechAdapter | None
"""What stands in the embedding columns of a track: features of their own, the default encoder's with those of a
person's adapter behind them, or the default encoder's alone."""


def embedding_size(encoder: SpeechEncoder, embedding: Embedding) -> int:
    """Embedding columns of a track."""
    if isinstance(embedding, SpeechAdapter):
        return encoder.embedding_size + embedding.components.shape[1]
    return encoder.embedding_size if embedding is None else embedding.size


def feature_blocks(
    blocks: Iterable[np.ndarray], encoder: SpeechEncoder, embedding: Embedding, fps: Fraction, frame_count: int
) -> Iterator[np.ndarray]:
    """Blocks of a `SpeechFeatureTrack` with the chosen embedding.

    Encoder and embedding read the same stream of samples; what one has read further than the other waits, a minute or
    two at most.

    Yields:
        float32 [n, embedding_size + EXTRA_COLUMNS], `frame_count` rows in all.

    Raises:
        SpeechInputError: as `speech_feature_blocks`.
    """
    if embedding is None or isinstance(embedding, SpeechAdapter):
        features = speech_feature_blocks(blocks, encoder, fps, frame_count)
        yield from features if embedding is None else embedding.extended_blocks(features)
        return
    ours, theirs = itertools.tee(blocks)
    columns = speech_feature_blocks(ours, encoder, fps, frame_count)
    for own, other in _cut_alike(embedding.embedding_blocks(theirs, fps, frame_count), columns):
        yield np.concatenate([own, other[:, -EXTRA_COLUMNS:]], axis=1)


def feature_track(
    samples: np.ndarray, encoder: SpeechEncoder, embedding: Embedding, fps: Fraction, frame_count: int
) -> SpeechFeatureTrack:
    """The features of a whole signal [n]. See `feature_blocks`."""
    empty = np.zeros((0, embedding_size(encoder, embedding) + EXTRA_COLUMNS), np.float32)
    return SpeechFeatureTrack(
        np.concatenate([empty, *feature_blocks([samples], encoder, embedding, fps, frame_count)]), fps
    )


def samples_for_frames(
    blocks: Iterable[np.ndarray], fps: Fraction, frame_count: int, minimum: int = 0
) -> Iterator[np.ndarray]:
    """What an embedding reads: float32 blocks, followed by silence up to the end of the last frame wanted.

    Args:
        minimum: samples that there must be in any case.

    Raises:
        SpeechInputError: fps or frame_count is out of range; or, while iterating, samples are not mono finite floats.
    """
    if fps <= 0 or frame_count < 0:
        raise SpeechInputError(f"expected fps > 0 and frame_count >= 0, got {fps} and {frame_count}")
    return padded(_checked(blocks), max(minimum, math.ceil(frame_count / fps * SAMPLE_RATE)))


def _checked(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    position = 0
    for block in blocks:
        yield checked_samples(block, position)
        position += len(block)


def _cut_alike(
    first: Iterable[np.ndarray], second: Iterator[np.ndarray]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Two streams with as many rows, in pairs of blocks of one length."""
    right = np.empty((0, 0), np.float32)
    for left in first:
        while len(left):
            while not len(right):
                right = next(second)
            count = min(len(left), len(right))
            yield left[:count], right[:count]
            left, right = left[count:], right[count:]
