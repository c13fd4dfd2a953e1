"""From clean synthetic speech to what encoders meet: rooms, noise, other talkers, equalisers, quiet and cut-off bands.

Everything is done on short crops [B, CROP_SAMPLES] and their mel power; the spectrum is then normalised by the same
running statistics as at inference (`encoders.normalisation`), started from perturbed ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from encoders.corpus.recording import VoiceRecordings
from encoders.normalisation import MEMORY_S, SpeechStatistics
from encoders.phones import SILENCE
from encoders.spectrogram import FFT_SIZE, HOP_SIZE, MEL_BANDS, SAMPLE_RATE, mel_filter_bank
from encoders.speech import STRIDE
from encoders.training.articulation import articulatory_trajectory

CROP_FRAMES = 500
CROP_SAMPLES = CROP_FRAMES * HOP_SIZE
_NOISE_COLOURS = 64
_ROOM_SAMPLES = 6400


@dataclass(frozen=True)
class AugmentationConfig:
    """Shares are of the crops; pairs are the ends of uniform distributions."""

    speed: tuple[float, float] = (0.84, 1.2)
    """Playback speed: tempo, pitch and formants together."""
    vocal_tract: tuple[float, float] = (0.88, 1.13)
    """Warping of the mel filters: vocal-tract length perturbation (Jaitly and Hinton 2013)."""
    reverberant: float = 0.35
    """Share that is heard in a room."""
    reverberation_s: tuple[float, float] = (0.05, 0.5)
    """Time in which the room's sound decays by 60 dB."""
    noise_db: tuple[float, float] = (5.0, 50.0)
    """Signal-to-noise ratio of coloured noise."""
    babble: float = 0.25
    """Share with other talkers in the background."""
    babble_db: tuple[float, float] = (8.0, 25.0)
    pause: float = 0.15
    """Share in which a stretch of up to 1.5 s holds no speech, only the noise."""
    level_db: tuple[float, float] = (-30.0, 0.0)
    equaliser: float = 1.5
    """Largest gain of the random equaliser, nepers of power."""
    band_limited: float = 0.2
    """Share without the upper mel bands."""
    statistics: float = 0.3
    """Standard deviation of the error of the running mean at the crop's beginning, nepers."""
    masked_bands: float = 0.2
    masked_frames: float = 0.2
    """Shares with masked bands and frames (SpecAugment, Park et al. 2019)."""


@dataclass(frozen=True)
class TrainingBatch:
    """Crops as the network sees them."""

    log_mel: Tensor  # [B, T, MEL_BANDS] normalised, T = CROP_FRAMES
    phones: Tensor  # int64 [B, T / STRIDE]
    articulation: Tensor  # [B, T / STRIDE, 3]


class Augmenter:
    """An endless, seeded stream of training batches."""

    def __init__(
        self,
        voices: Sequence[VoiceRecordings],
        shares: np.ndarray,
        batch_size: int,
        seed: int,
        config: AugmentationConfig | None = None,
    ) -> None:
        """`shares` [V] are the probabilities of the voices."""
        self.voices = voices
        self.shares = shares
        self.batch_size = batch_size
        self.config = config or AugmentationConfig()
        self.random = np.random.default_rng(seed)
        self.trajectories = [articulatory_trajectory(voice.phones) for voice in voices]
        self.noises = np.stack([self._coloured_noise() for _ in range(_NOISE_COLOURS)])
        self.filters = [mel_filter_bank(warp=warp) for warp in np.linspace(*self.config.vocal_tract, 9)]
        self.window = torch.hann_window(FFT_SIZE)

    def __iter__(self) -> Iterator[TrainingBatch]:
        """Batches for ever."""
        while True:
            yield self._batch()

    def _batch(self) -> TrainingBatch:
        chosen = self.random.choice(len(self.voices), self.batch_size, p=self.shares)
        samples, phones, articulation = (np.stack(parts) for parts in zip(*map(self._crop, chosen), strict=True))
        samples = self._in_rooms(samples)
        talkers = samples
        for crop, labels, targets in zip(samples, phones, articulation, strict=True):
            self._add_pause(crop, labels, targets)
        samples = samples + self._background(talkers)
        power = self._equalised(self._mel_power(samples * self._levels()))
        log_mel = self._masked(self._normalised(power))
        return TrainingBatch(
            torch.from_numpy(log_mel),
            torch.from_numpy(phones[:, ::STRIDE].astype(np.int64)),
            torch.from_numpy(articulation[:, ::STRIDE].copy()),
        )

    def _chance(self, share: float) -> np.ndarray:
        """[B, 1] 1 for crops that are chosen, 0 for the others."""
        return (self.random.random((self.batch_size, 1)) < share).astype(np.float32)

    def _uniform(self, ends: tuple[float, float]) -> np.ndarray:
        """[B, 1]"""
        return self.random.uniform(*ends, (self.batch_size, 1)).astype(np.float32)

    def _crop(self, voice_index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Samples [CROP_SAMPLES], phones [CROP_FRAMES], articulation [CROP_FRAMES, 3] from anywhere, at any speed."""
        voice = self.voices[voice_index]
        speed = self.random.uniform(*self.config.speed)
        needed = int(CROP_SAMPLES * speed) + 2 * HOP_SIZE
        first = int(self.random.integers(0, max(1, len(voice.phones) - needed // HOP_SIZE))) * HOP_SIZE
        source = np.asarray(voice.samples[first : first + needed], np.float32) / 32768.0
        samples = np.interp(np.arange(CROP_SAMPLES) * speed, np.arange(len(source)), source).astype(np.float32)
        frames = first // HOP_SIZE + np.round(np.arange(CROP_FRAMES) * speed).astype(int)
        frames = np.minimum(frames, len(voice.phones) - 1)
        return samples, np.asarray(voice.phones[frames]), self.trajectories[voice_index][frames]

    def _in_rooms(self, samples: np.ndarray) -> np.ndarray:
        times = np.arange(_ROOM_SAMPLES) / SAMPLE_RATE
        decay = np.exp(-6.9 * times / self._uniform(self.config.reverberation_s))
        tail = self.random.standard_normal((self.batch_size, _ROOM_SAMPLES)) * decay
        tail *= self.random.uniform(0.02, 0.12, (self.batch_size, 1)) * self._chance(self.config.reverberant)
        tail[:, : SAMPLE_RATE // 500] = 0.0
        tail[:, 0] = 1.0
        size = CROP_SAMPLES + _ROOM_SAMPLES
        rooms = torch.fft.rfft(torch.from_numpy(tail.astype(np.float32)), size)
        return torch.fft.irfft(torch.fft.rfft(torch.from_numpy(samples), size) * rooms, size)[:, :CROP_SAMPLES].numpy()

    def _add_pause(self, samples: np.ndarray, phones: np.ndarray, articulation: np.ndarray) -> None:
        """Silences a stretch of one crop in place, now and then."""
        if self.random.random() >= self.config.pause:
            return
        first = int(self.random.integers(0, CROP_FRAMES - 25))
        last = first + int(self.random.integers(25, 190))
        samples[first * HOP_SIZE : last * HOP_SIZE] = 0.0
        silent = np.full(CROP_FRAMES, SILENCE)
        phones[first:last] = SILENCE
        articulation[first:last] = articulatory_trajectory(silent)[first:last]

    def _background(self, talkers: np.ndarray) -> np.ndarray:
        """Noise and babble [B, CROP_SAMPLES] for the crops [B, CROP_SAMPLES]."""
        deviation = talkers.std(axis=1, keepdims=True) + 1e-4
        chosen = self.random.integers(0, _NOISE_COLOURS, self.batch_size)
        noise = self.noises[chosen] * 10 ** (-self._uniform(self.config.noise_db) / 20)
        others = (np.roll(talkers, 1, axis=0) + np.roll(talkers, 5, axis=0)[:, ::-1]) / (2**0.5 * deviation.mean())
        babble = others * 10 ** (-self._uniform(self.config.babble_db) / 20) * self._chance(self.config.babble)
        return deviation * (noise + babble)

    def _levels(self) -> np.ndarray:
        return 10 ** (self._uniform(self.config.level_db) / 20)

    def _mel_power(self, samples: np.ndarray) -> Tensor:
        """[B, CROP_FRAMES, MEL_BANDS] through a vocal tract of random length each."""
        spectrum = torch.stft(
            torch.from_numpy(samples), FFT_SIZE, HOP_SIZE, window=self.window, pad_mode="constant", return_complex=True
        )
        power = spectrum.abs().square().transpose(1, 2)[:, :CROP_FRAMES]
        chosen = self.random.integers(0, len(self.filters), self.batch_size)
        return torch.stack([crop @ self.filters[index] for crop, index in zip(power, chosen, strict=True)])

    def _equalised(self, power: Tensor) -> np.ndarray:
        gains = np.empty((self.batch_size, 1, MEL_BANDS), np.float32)
        for gain in gains[:, 0]:
            knots = self.random.uniform(-1, 1, 6) * self.random.uniform(0, self.config.equaliser)
            gain[:] = np.interp(np.linspace(0, 5, MEL_BANDS), np.arange(6), knots)
            if self.random.random() < self.config.band_limited:
                cut = int(self.random.integers(40, 78))
                gain[cut:] -= np.minimum(10.0, 0.6 * np.arange(MEL_BANDS - cut))
        return power.numpy() * np.exp(gains)

    def _normalised(self, power: np.ndarray) -> np.ndarray:
        """[B, CROP_FRAMES, MEL_BANDS] by running statistics that start from somewhat wrong ones."""
        frames = power.transpose(1, 0, 2)
        own = SpeechStatistics.of(frames)
        shape = (self.batch_size, 6)
        wrong = self.random.standard_normal(shape) * self.config.statistics * self._chance(0.7)
        wrong = np.stack([np.interp(np.linspace(0, 5, MEL_BANDS), np.arange(6), knots) for knots in wrong])
        weight = self.random.uniform(1.0, MEMORY_S, self.batch_size) * SAMPLE_RATE / HOP_SIZE
        statistics = SpeechStatistics(own.level * np.exp(wrong.mean(axis=1)), own.mean + wrong, weight)
        rows = np.empty(frames.shape, np.float32)
        for row, frame in zip(rows, frames, strict=True):
            row[:], _, statistics = statistics.hear(frame)
        return rows.transpose(1, 0, 2).copy()

    def _masked(self, log_mel: np.ndarray) -> np.ndarray:
        for crop in log_mel:
            if self.random.random() < self.config.masked_bands:
                first = int(self.random.integers(0, MEL_BANDS - 8))
                crop[:, first : first + int(self.random.integers(2, 9))] = 0.0
            if self.random.random() < self.config.masked_frames:
                first = int(self.random.integers(0, CROP_FRAMES - 30))
                crop[first : first + int(self.random.integers(4, 16))] = 0.0
        return log_mel

    def _coloured_noise(self) -> np.ndarray:
        """[CROP_SAMPLES] of unit deviation, its spectrum falling by 0 to 6.6 dB per octave."""
        spectrum = np.fft.rfft(self.random.standard_normal(CROP_SAMPLES))
        spectrum *= (np.arange(len(spectrum)) + 8.0) ** -self.random.uniform(0.0, 1.1)
        noise = np.fft.irfft(spectrum, CROP_SAMPLES)
        return (noise / noise.std()).astype(np.float32)
