"""Does a speech feature tell apart what the lips do not? The question of SE4Lip's Fig. 4.

/d/ and /t/ differ in the throat only: features for lips should have them close together. How far apart two phones are
is measured by the distance of their means over the spread within each; and since a feature that tells nothing at all
has everything close together, the distance is compared with that of /d/ and /b/, which do differ on the lips. The
figure's pictures are PCA and t-SNE; the numbers are ours, the paper gives none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from encoders.corpus.recording import VoiceRecordings
from encoders.corpus.timing import LABEL_RATE
from encoders.embedding import SpeechEmbedding
from encoders.phones import PHONES
from encoders.spectrogram import SAMPLE_RATE

ALIKE = ("d", "t")
"""Two phones that look alike..."""
DIFFERENT = ("d", "b")
"""...and two that differ on the lips, both voiced stops."""
MINIMUM_ROWS = 20
ROW_RATE = Fraction(100)
"""Rows per second that are asked of a feature: one is within 5 ms of any moment."""


@dataclass(frozen=True)
class LabelledSpeech:
    """Speech of one voice with the phone of every moment."""

    samples: np.ndarray  # float32 [N] at 16 kHz
    phones: np.ndarray  # int [M] indices into PHONES, at label_rate
    label_rate: float  # labels per second; label k belongs to k / label_rate s

    @classmethod
    def of_recordings(cls, recordings: VoiceRecordings, seconds: float) -> LabelledSpeech:
        """The first seconds of a voice of the synthetic corpus."""
        count = min(round(seconds * LABEL_RATE), len(recordings.phones))
        samples = recordings.samples[: round(count * SAMPLE_RATE / LABEL_RATE)]
        return cls(samples.astype(np.float32) / 32768.0, recordings.phones[:count].astype(int), LABEL_RATE)


@dataclass(frozen=True)
class PhoneRows:
    """What a feature says in the middle of single phones."""

    rows: np.ndarray  # float32 [n, D]
    phones: np.ndarray  # int [n] indices into PHONES

    def of(self, phone: str) -> np.ndarray:
        """The rows of one phone."""
        return self.rows[self.phones == PHONES.index(phone)]


@dataclass(frozen=True)
class AmbiguityScores:
    """How far apart a feature holds phones, in within-class spreads."""

    alike: float  # /d/ and /t/: small is good for lips
    different: float  # /d/ and /b/: large is good for lips

    @property
    def ratio(self) -> float:
        """Distance of what looks alike over that of what does not: 0 for an ideal lip feature."""
        return self.alike / self.different if self.different > 0 else float("inf")


def phone_rows(
    embedding: SpeechEmbedding, speech: LabelledSpeech, phones: Sequence[str], rate: Fraction = ROW_RATE
) -> PhoneRows:
    """One row for every time one of the phones is said, from its middle.

    Args:
        rate: rows per second; a feature that belongs to a clip, such as a person's adapter, needs the clip's.
    """
    labels = speech.phones
    borders = np.flatnonzero(np.diff(labels)) + 1
    begins, ends = np.concatenate([[0], borders]), np.concatenate([borders, [len(labels)]])
    wanted = np.isin(labels[begins], [PHONES.index(phone) for phone in phones])
    middles = (begins[wanted] + ends[wanted] - 1) / 2 / speech.label_rate
    count = int(len(speech.samples) / SAMPLE_RATE * rate)
    frames = np.clip((middles * float(rate)).astype(int), 0, count - 1)
    taken, done = [np.zeros((0, embedding.size), np.float32)], 0
    for block in embedding.embedding_blocks([speech.samples], rate, count):
        inside = (frames >= done) & (frames < done + len(block))
        taken.append(block[frames[inside] - done])
        done += len(block)
    return PhoneRows(np.concatenate(taken), labels[begins[wanted]].astype(int))


def ambiguity_scores(rows: PhoneRows) -> AmbiguityScores:
    """
    Raises:
        ValueError: a phone occurs less than MINIMUM_ROWS times.
    """
    for phone in {*ALIKE, *DIFFERENT}:
        if len(rows.of(phone)) < MINIMUM_ROWS:
            raise ValueError(f"expected /{phone}/ {MINIMUM_ROWS} times or more, got it {len(rows.of(phone))} times")
    return AmbiguityScores(
        separation(*(rows.of(phone) for phone in ALIKE)), separation(*(rows.of(phone) for phone in DIFFERENT))
    )


def separation(one: np.ndarray, other: np.ndarray) -> float:
    """Distance between two classes' means over the root mean square distance of their members from their own mean.

    What chance alone puts between the means of so many rows is taken off, so that two halves of one class are at 0.
    Rotating or scaling the feature as a whole changes nothing. Rows are [n, D] and [m, D].
    """
    one, other = one.astype(np.float64), other.astype(np.float64)
    spreads = [float(((rows - rows.mean(axis=0)) ** 2).sum() / (len(rows) - 1)) for rows in (one, other)]
    by_chance = spreads[0] / len(one) + spreads[1] / len(other)
    squared = float(((one.mean(axis=0) - other.mean(axis=0)) ** 2).sum()) - by_chance
    within = sum(spreads) / 2
    return float(np.sqrt(max(squared, 0.0) / within)) if within > 0 else 0.0
