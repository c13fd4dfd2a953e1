"""What a trained encoder knows of voices it has never heard: the figures in a bundle's provenance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from fractions import Fraction

import numpy as np

from encoders.corpus.recording import VoiceRecordings
from encoders.features import CHUNK_S, SpeechFeatureTrack, encoded_blocks
from encoders.phones import VISEME_OF_PHONE
from encoders.speech import FRAME_RATE, STRIDE, SpeechEncoder
from encoders.training.articulation import articulatory_trajectory

_VISEME_OF = np.array(VISEME_OF_PHONE)


@dataclass(frozen=True)
class VoiceFigures:
    """Of one held-out voice, over encoder frames (62.5 per second)."""

    voice: str
    engine: str
    minutes: float
    phone_accuracy: float
    viseme_accuracy: float
    aperture_r: float  # Pearson's r between the articulatory head and the targets of the true phones
    width_r: float
    closure_f1: float  # frames of /p b m/: harmonic mean of precision and recall


def held_out_figures(voices: Sequence[VoiceRecordings], encoder: SpeechEncoder) -> tuple[VoiceFigures, ...]:
    """Figures of every held-out voice, through the product's own feature path."""
    return tuple(_figures(voice, encoder) for voice in voices if voice.held_out)


def mean_figures(figures: Sequence[VoiceFigures]) -> VoiceFigures:
    """The mean over voices, each counting the same."""
    names = [item.name for item in fields(VoiceFigures) if item.name not in ("voice", "engine", "minutes")]
    means = {name: float(np.mean([getattr(one, name) for one in figures])) for name in names}
    return VoiceFigures("mean", "all", sum(one.minutes for one in figures), **means)


def _figures(voice: VoiceRecordings, encoder: SpeechEncoder) -> VoiceFigures:
    targets = articulatory_trajectory(voice.phones)[::STRIDE]
    phones = voice.phones[::STRIDE]
    samples = voice.samples.astype(np.float32) / 32768.0
    rows = np.concatenate(list(encoded_blocks([samples], encoder, CHUNK_S)))[: len(phones)]
    heard = SpeechFeatureTrack(rows, Fraction(FRAME_RATE))
    closed, heard_closed = targets[:, 2] > 0.5, heard.articulation[:, 2] > 0.5
    return VoiceFigures(
        voice=voice.voice,
        engine=voice.engine,
        minutes=len(phones) / FRAME_RATE / 60.0,
        phone_accuracy=float((heard.phones.argmax(axis=1) == phones).mean()),
        viseme_accuracy=float((heard.visemes.argmax(axis=1) == _VISEME_OF[phones]).mean()),
        aperture_r=float(np.corrcoef(heard.articulation[:, 0], targets[:, 0])[0, 1]),
        width_r=float(np.corrcoef(heard.articulation[:, 1], targets[:, 1])[0, 1]),
        closure_f1=float(2 * (closed & heard_closed).sum() / max(1, closed.sum() + heard_closed.sum())),
    )
