"""Speech features at video frame times, computed in chunks so that memory stays flat for hours of audio.

Normalisation. Recording level and equaliser are removed: the spectrum is floored FLOOR times below the *reference
level*, the mean mel power of the NORMALISATION_S seconds around a frame, and the mean log-mel spectrum of the same
seconds, speech weighted above silence, is subtracted. Windows are moved inwards at the ends of the signal; a shorter
signal is one window. In long pauses the reference follows the loudest speech so far and the mean of the last speech is
held, so that room noise is not taken for speech. None of this depends on how the samples are cut into blocks. The
recurrent network sees CONTEXT_S seconds on both sides of every chunk; chunk length then changes the
features by less than 0.05 (root mean square; an embedding column has unit variance).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch

from encoders.errors import SpeechInputError
from encoders.phones import ARTICULATORS, PHONES, SILENCE, VISEMES
from encoders.spectrogram import HOP_SIZE, MEL_BANDS, SAMPLE_RATE, mel_filter_bank, mel_power_blocks
from encoders.speech import FRAME_RATE, STRIDE, SpeechEncoder
from encoders.streaming import at_frame_times, context_chunks, padded, with_window_means

NORMALISATION_S = 20.0
CHUNK_S = 60.0
CONTEXT_S = 10.0
FLOOR = 1e-5
"""Of the reference level (-50 dB): below it recordings hold noise only."""
REFERENCE_DROP = 0.1
"""The reference level stays within 10 dB of the loudest so far."""
QUIETEST_REFERENCE = 1e-4
"""Mel power of a recording at about -63 dB of full scale: what is quieter throughout is silence."""
LOG_MEL_SCALE = 2.5
"""About the standard deviation of log-mel speech."""
AUDIBLE_DB = -35.0
"""Level, relative to the reference, at which a frame is as likely speech as silence..."""
AUDIBLE_WIDTH_DB = 5.0
"""...and the width of the transition."""
SILENCE_WEIGHT = 0.1
"""Weight of silent frames in the mean spectrum; audible frames weigh 1."""
MINIMUM_SPEECH_S = 1.0
"""Seconds of audible speech that a window must hold for its mean spectrum to be used."""

_WINDOW = round(NORMALISATION_S * SAMPLE_RATE / HOP_SIZE)
_MINIMUM_WEIGHT = SILENCE_WEIGHT * _WINDOW + MINIMUM_SPEECH_S * SAMPLE_RATE / HOP_SIZE
EXTRA_COLUMNS = len(PHONES) + len(VISEMES) + len(ARTICULATORS) + 2
"""Columns of a track behind the embedding."""
_POSTERIORS = -EXTRA_COLUMNS
_VISEMES = _POSTERIORS + len(PHONES)
_ARTICULATION = _VISEMES + len(VISEMES)


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
    spectrum = _normalised_spectrum(padded(blocks, math.ceil(frame_count / fps * SAMPLE_RATE)))
    chunk = max(1, round(chunk_s * FRAME_RATE)) * STRIDE
    context = round(CONTEXT_S * FRAME_RATE) * STRIDE
    encoded = (
        _encode(encoder, piece.rows)[piece.begin // STRIDE : -(-piece.end // STRIDE)]
        for piece in context_chunks(spectrum, chunk, context)
    )
    return at_frame_times(encoded, FRAME_RATE, 0.0, fps, frame_count)


def _normalised_spectrum(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Rows [n, MEL_BANDS + 1]: normalised log-mel, then the log level relative to the reference."""
    last_speech: np.ndarray | None = None
    for rows, means, weights in with_window_means(_levelled_spectrum(blocks), _WINDOW, _speech_weights):
        holds_speech = weights[:, 0] >= _MINIMUM_WEIGHT
        latest = np.maximum.accumulate(np.where(holds_speech, np.arange(1, len(rows) + 1), 0))
        fallback = means if last_speech is None else last_speech
        means = np.where(latest[:, None] > 0, means[latest - 1], fallback)
        if latest[-1] > 0:
            last_speech = means[-1]
        log_mel = (rows - means)[:, :MEL_BANDS] / LOG_MEL_SCALE
        yield np.concatenate([log_mel, rows[:, MEL_BANDS:]], axis=1)


def _levelled_spectrum(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Rows [n, MEL_BANDS + 1]: log-mel above the floor, then the log level relative to the reference."""
    loudest = QUIETEST_REFERENCE
    power_blocks = mel_power_blocks(blocks, mel_filter_bank())
    for power, means, _ in with_window_means(power_blocks, _WINDOW, _equal_weights):
        mean_level = means.mean(axis=1, keepdims=True)
        loudest_so_far = np.maximum(np.maximum.accumulate(mean_level), loudest)
        loudest = loudest_so_far[-1]
        reference = np.maximum(mean_level, REFERENCE_DROP * loudest_so_far)
        level = power.mean(axis=1, keepdims=True) / reference
        yield np.log(np.concatenate([power + FLOOR * reference, level + FLOOR], axis=1))


def _equal_weights(rows: np.ndarray) -> np.ndarray:
    return np.ones(len(rows), rows.dtype)


def _speech_weights(levelled: np.ndarray) -> np.ndarray:
    return SILENCE_WEIGHT + (1.0 - SILENCE_WEIGHT) * _audibility(levelled[:, MEL_BANDS])


def _audibility(log_level: np.ndarray) -> np.ndarray:
    """Probability in [0, 1] that a frame of this level, relative to the reference, is loud enough to be speech."""
    decibels = log_level * (10.0 / math.log(10.0))
    return 1.0 / (1.0 + np.exp((AUDIBLE_DB - decibels) / AUDIBLE_WIDTH_DB))


@torch.inference_mode()
def _encode(encoder: SpeechEncoder, spectrum: np.ndarray) -> np.ndarray:
    """Feature rows [ceil(n / STRIDE), D] at FRAME_RATE for normalised spectrum rows [n, MEL_BANDS + 1]."""
    encoding = encoder(torch.from_numpy(spectrum[None, :, :MEL_BANDS]))
    articulation = encoding.articulation[0].numpy().copy()
    articulation[:, 2] = encoding.articulation[0, :, 2].sigmoid().numpy()
    log_level = spectrum[::STRIDE, MEL_BANDS]
    phones = encoding.phone_logits[0].softmax(dim=-1).numpy()
    visemes = encoding.viseme_logits[0].softmax(dim=-1).numpy()
    voice_activity = (1.0 - phones[:, SILENCE]) * _audibility(log_level)
    levels = np.stack([log_level, voice_activity], axis=1)
    return np.concatenate([encoding.embedding[0].numpy(), phones, visemes, articulation, levels], axis=1)
