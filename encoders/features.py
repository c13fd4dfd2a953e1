"""Speech features at video frame times, computed in chunks so that memory stays flat for hours of audio.

    samples -> mel power -> running normalisation -> SpeechEncoder -> rows at video frame times

Everything but the first statistics of the normalisation depends on a bounded stretch of sound around a frame (see
`speech.PAST_S` and `speech.LOOKAHEAD_S`), which every chunk is given: neither chunks nor blocks leave a trace.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch

from encoders.errors import SpeechInputError
from encoders.normalisation import SpeechStatistics, audibility, normalised
from encoders.phones import ARTICULATORS, PHONES, SILENCE, VISEMES
from encoders.spectrogram import MEL_BANDS, SAMPLE_RATE, mel_filter_bank, mel_power_blocks
from encoders.speech import FRAME_RATE, FUTURE_FRAMES, PAST_FRAMES, STRIDE, SpeechEncoder
from encoders.streaming import at_frame_times, context_chunks, padded

CHUNK_S = 60.0
"""Seconds of audio per pass of the network over a file..."""
LIVE_CHUNK_S = 0.032
"""...and over a live stream."""
EXTRA_COLUMNS = len(PHONES) + len(VISEMES) + len(ARTICULATORS) + 2
"""Columns of a track behind the embedding."""
_POSTERIORS = -EXTRA_COLUMNS
_VISEMES = _POSTERIORS + len(PHONES)
_ARTICULATION = _VISEMES + len(VISEMES)
_BILABIAL = list(VISEMES).index("bilabial")
_PAST = -(-PAST_FRAMES // STRIDE) * STRIDE  # chunks start at a spectrogram frame that is an encoder frame


@dataclass(frozen=True)
class SpeechFeatureTrack:
    """Speech features at video frame times; row t belongs to time (t + 0.5) / fps s, the middle of frame t."""

    features: np.ndarray  # float32 [T, D]: embedding and EXTRA_COLUMNS more, as the properties name them
    fps: Fraction  # frames per second

    def __len__(self) -> int:
        return len(self.features)

    @property
    def embedding(self) -> np.ndarray:
        """[T, D - EXTRA_COLUMNS] the encoder's embedding."""
        return self.features[:, :_POSTERIORS]

    @property
    def phones(self) -> np.ndarray:
        """[T, len(PHONES)] probabilities of the phones."""
        return self.features[:, _POSTERIORS:_VISEMES]

    @property
    def visemes(self) -> np.ndarray:
        """[T, len(VISEMES)] probabilities of the visemes."""
        return self.features[:, _VISEMES:_ARTICULATION]

    @property
    def articulation(self) -> np.ndarray:
        """[T, 3] aperture (0 closed to 1 open), width (-1 rounded to 1 spread), probability of a /p b m/ closure."""
        return self.features[:, _ARTICULATION:-2]

    @property
    def heard(self) -> np.ndarray:
        """[T, F] what lips are learned from: embedding and articulatory targets."""
        return np.concatenate([self.embedding, self.articulation], axis=1)

    @property
    def log_energy(self) -> np.ndarray:
        """[T] natural logarithm of power relative to the reference level."""
        return self.features[:, -2]

    @property
    def voice_activity(self) -> np.ndarray:
        """[T] probability of speech in [0, 1]."""
        return self.features[:, -1]


def speech_features(samples: np.ndarray, encoder: SpeechEncoder, fps: Fraction, frame_count: int) -> SpeechFeatureTrack:
    """The features of a whole signal [n]. See `speech_feature_blocks` for arguments and errors."""
    blocks = list(speech_feature_blocks([samples], encoder, fps, frame_count))
    empty = np.zeros((0, encoder.embedding_size + EXTRA_COLUMNS), np.float32)
    return SpeechFeatureTrack(np.concatenate([empty, *blocks]), fps)


def speech_feature_blocks(
    blocks: Iterable[np.ndarray],
    encoder: SpeechEncoder,
    fps: Fraction,
    frame_count: int,
    chunk_s: float = CHUNK_S,
) -> Iterator[np.ndarray]:
    """Features of a stream of samples, in constant memory.

    Args:
        blocks: mono float arrays [n] of consecutive samples at SAMPLE_RATE, any lengths. What frames need beyond the
            last sample is silence.
        encoder: in evaluation mode.
        fps: video frames per second, exact.
        frame_count: video frames wanted in total.
        chunk_s: seconds of audio per pass of the network.

    Yields:
        float32 [n, D] blocks, `frame_count` rows in all, columns as in `SpeechFeatureTrack`.

    Raises:
        SpeechInputError: samples are not mono finite floats, or fps or frame_count is out of range.
    """
    if fps <= 0 or frame_count < 0:
        raise SpeechInputError(f"expected fps > 0 and frame_count >= 0, got {fps} and {frame_count}")
    samples = padded(blocks, math.ceil(frame_count / fps * SAMPLE_RATE))
    return at_frame_times(encoded_blocks(samples, encoder, chunk_s), FRAME_RATE, 0.0, fps, frame_count)


def live_feature_blocks(
    blocks: Iterable[np.ndarray], encoder: SpeechEncoder, fps: Fraction, start: SpeechStatistics | None = None
) -> Iterator[np.ndarray]:
    """Features of a live stream: row t comes as soon as the sound up to (t + 0.5) / fps + latency has come.

    They are those of the same samples in a file, once the running normalisation has heard some seconds of speech; with
    the statistics of the speaker as `start`, from the first row on.

    Args:
        blocks, encoder, fps: as for `speech_feature_blocks`; the stream ends when `blocks` does.
        start: what is known about the speaker before the stream starts; None: nothing.

    Yields:
        float32 [n, D] blocks.

    Raises:
        SpeechInputError: samples are not mono finite floats, or fps is out of range.
    """
    if fps <= 0:
        raise SpeechInputError(f"expected fps > 0, got {fps}")
    rows = encoded_blocks(blocks, encoder, LIVE_CHUNK_S, start or encoder.typical_speech)
    return at_frame_times(rows, FRAME_RATE, 0.0, fps, None)


def encoded_blocks(
    samples: Iterable[np.ndarray], encoder: SpeechEncoder, chunk_s: float, start: SpeechStatistics | None = None
) -> Iterator[np.ndarray]:
    """Feature rows at FRAME_RATE, float32 [n, D], for blocks of samples [n]; see `speech_feature_blocks`."""
    spectrum = normalised(mel_power_blocks(samples, mel_filter_bank()), start)
    chunk = max(1, round(chunk_s * FRAME_RATE)) * STRIDE
    for piece in context_chunks(spectrum, chunk, _PAST, FUTURE_FRAMES):
        yield _encode(encoder, piece.rows)[piece.begin // STRIDE : -(-piece.end // STRIDE)]


@torch.inference_mode()
def _encode(encoder: SpeechEncoder, spectrum: np.ndarray) -> np.ndarray:
    """Feature rows [ceil(n / STRIDE), D] at FRAME_RATE for normalised spectrum rows [n, MEL_BANDS + 1]."""
    encoding = encoder(torch.from_numpy(spectrum[None, :, :MEL_BANDS]))
    log_level = spectrum[::STRIDE, MEL_BANDS]
    phones = encoding.phone_logits[0].softmax(dim=-1).numpy()
    visemes = encoding.viseme_logits[0].softmax(dim=-1).numpy()
    articulation = encoding.articulation[0].numpy().copy()
    # Real lips close where both heads hear a closure; one alone is wrong more often.
    articulation[:, 2] = np.minimum(encoding.articulation[0, :, 2].sigmoid().numpy(), visemes[:, _BILABIAL])
    voice_activity = (1.0 - phones[:, SILENCE]) * audibility(log_level)
    levels = np.stack([log_level, voice_activity], axis=1)
    return np.concatenate([encoding.embedding[0].numpy(), phones, visemes, articulation, levels], axis=1)
