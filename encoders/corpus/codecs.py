"""Real codecs for training speech: ffmpeg encodes and decodes, and what comes back is aligned with what went in."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
from imageio_ffmpeg import get_ffmpeg_exe
from scipy.signal import correlate

from encoders.corpus.utterances import SAMPLE_RATE
from encoders.errors import CorpusError

_LONGEST_S = 120.0
_LARGEST_DELAY_S = 0.25
# Digital silence makes GSM's pitch predictor hum on after the voice; a room's noise, at -70 dB, does not.
_DITHER = 3e-4


@dataclass(frozen=True)
class Codec:
    """One way speech is sent or stored."""

    name: str
    encoder: str
    """ffmpeg's name of it."""
    container: str
    """ffmpeg's format name; one that can be written to a pipe."""
    bit_rates: tuple[int, ...]
    """[bit/s]; empty for a codec with one."""
    sample_rate: int
    """Hz that the codec works at."""


CODECS: tuple[Codec, ...] = (
    Codec("opus", "libopus", "ogg", (12_000, 16_000, 24_000, 32_000), 16_000),
    Codec("mp3", "libmp3lame", "mp3", (32_000, 48_000, 64_000), 16_000),
    Codec("amr", "libopencore_amrnb", "amr", (6_700, 7_950, 12_200), 8_000),
    Codec("gsm", "libgsm", "gsm", (), 8_000),
)
"""Telephone, call and download: each utterance's codec is an index into this plus one, 0 is none."""


def usable_codecs(codecs: Iterable[Codec] = CODECS) -> tuple[Codec, ...]:
    """Those of the codecs that an ffmpeg at hand can encode."""
    return tuple(codec for codec in codecs if _ffmpeg_with(codec.encoder) is not None)


def round_trip(samples: np.ndarray, codec: Codec, bit_rate: int | None) -> np.ndarray:
    """Encodes and decodes speech.

    Args:
        samples: float32 [n] in [-1, 1] at 16 kHz.
        codec: one of `usable_codecs`.
        bit_rate: one of the codec's; None for a codec with one.

    Returns:
        float32 [n] at 16 kHz, delayed against the input by less than a sample of the codec's rate.

    Raises:
        CorpusError: no ffmpeg can encode it, or ffmpeg failed.
    """
    ffmpeg = _ffmpeg_with(codec.encoder)
    if ffmpeg is None:
        raise CorpusError(f"no ffmpeg at hand has the encoder {codec.encoder}; leave the codec {codec.name} out")
    raw = ("-f", "f32le", "-ac", "1")
    base = (ffmpeg, "-nostdin", "-loglevel", "error")
    rate = () if bit_rate is None else ("-b:a", str(bit_rate))
    noise = np.random.default_rng(0).normal(0.0, _DITHER, len(samples))
    coded = _piped(
        (*base, *raw, "-ar", str(SAMPLE_RATE), "-i", "pipe:0", "-ar", str(codec.sample_rate), "-c:a", codec.encoder,
         *rate, "-f", codec.container, "pipe:1"),
        (samples + noise).astype("<f4").tobytes(),
    )  # fmt: skip
    decoded = _piped((*base, "-f", codec.container, "-i", "pipe:0", *raw, "-ar", str(SAMPLE_RATE), "pipe:1"), coded)
    return aligned(np.frombuffer(decoded, "<f4"), samples)


def aligned(delayed: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """What a codec returned, moved to where it correlates most with what went in and cut or padded to its length.

    Args:
        delayed: float32 [m], late (or early) by at most `_LARGEST_DELAY_S`.
        reference: float32 [n].

    Returns:
        float32 [n].
    """
    limit = round(_LARGEST_DELAY_S * SAMPLE_RATE)
    correlation = correlate(delayed, reference, method="fft")
    zero = len(reference) - 1
    first = max(0, zero - limit)
    delay = int(np.argmax(correlation[first : zero + limit + 1])) + first - zero
    moved = delayed[max(delay, 0) :]
    moved = np.concatenate([np.zeros(max(-delay, 0), np.float32), moved])[: len(reference)]
    return np.pad(moved, (0, len(reference) - len(moved)))


@cache
def _ffmpeg_with(encoder: str) -> str | None:
    """An ffmpeg with the encoder: the installed one, else the one that imageio-ffmpeg brings."""
    for program in (shutil.which("ffmpeg"), get_ffmpeg_exe()):
        if program is not None:
            listing = _piped((program, "-hide_banner", "-loglevel", "error", "-encoders"), b"").decode()
            if f" {encoder} " in listing:
                return program
    return None


def _piped(command: tuple[str, ...], data: bytes) -> bytes:
    run = subprocess.run(command, input=data, capture_output=True, timeout=_LONGEST_S)
    if run.returncode != 0:
        raise CorpusError(f"{' '.join(command)} failed: {run.stderr.decode(errors='replace').strip()[-300:]}")
    return run.stdout
