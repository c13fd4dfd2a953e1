"""Voices for training tests: every phone is a tone of its own, so that little training tells them apart."""

from __future__ import annotations

import numpy as np

from encoders.corpus.recording import VoiceRecordings
from encoders.phones import PHONES
from encoders.spectrogram import HOP_SIZE, SAMPLE_RATE
from encoders.training.augmentation import AugmentationConfig

TONES_HZ = {"sil": 0.0, "m": 300.0, "a": 900.0, "i": 2500.0, "s": 5000.0}
CLEAN = AugmentationConfig(
    speed=(1.0, 1.0),
    vocal_tract=(1.0, 1.0),
    reverberant=0.0,
    noise_db=(60.0, 60.0),
    babble=0.0,
    pause=0.0,
    level_db=(0.0, 0.0),
    equaliser=0.0,
    band_limited=0.0,
    statistics=0.0,
    masked_bands=0.0,
    masked_frames=0.0,
)


def tone_voice(name: str = "whistler", seconds: float = 20.0, seed: int = 0, held_out: bool = False) -> VoiceRecordings:
    """A voice whose phones are tones of their own, 80 to 240 ms long."""
    random = np.random.default_rng(seed)
    frames = round(seconds * SAMPLE_RATE / HOP_SIZE)
    symbols = np.repeat(random.integers(0, len(TONES_HZ), frames), random.integers(10, 30, frames))[:frames]
    hertz = np.repeat(np.array(list(TONES_HZ.values()))[symbols], HOP_SIZE)
    samples = np.sin(2 * np.pi * np.cumsum(hertz) / SAMPLE_RATE) * 0.3 * (hertz > 0)
    phones = np.array([PHONES.index(phone) for phone in TONES_HZ], np.uint8)[symbols]
    return VoiceRecordings(
        engine="tones",
        voice=name,
        language="none",
        licence="none",
        held_out=held_out,
        samples=(samples * 32767).astype(np.int16),
        phones=phones,
        lengths=np.array([frames // 2, frames - frames // 2], np.int32),
        codecs=np.array([0, 1], np.uint8),
    )
