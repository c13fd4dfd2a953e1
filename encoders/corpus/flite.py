"""Speech of flite with its segment times (`flite -psdur`), American English phones."""

from __future__ import annotations

import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from scipy.io import wavfile

from encoders.corpus.utterances import Segment, Utterance, at_sample_rate
from encoders.errors import CorpusError, MissingEngineError

PACKAGE = "flite"
MEAN_PITCH_HZ = {"slt": 175.0, "awb": 130.0, "rms": 105.0, "kal": 105.0, "kal16": 105.0}
"""Voice -> mean pitch of its own speech, which the utterances' pitch is drawn around."""

_TEMPO = (0.8, 1.25)
_PITCH = (0.8, 1.3)
_LONGEST_S = 120.0


def check_flite() -> None:
    """Raises MissingEngineError where the program is not installed."""
    if shutil.which("flite") is None:
        raise MissingEngineError("flite", (PACKAGE,))


def speak(texts: Iterator[str], voice: str, generator: random.Random) -> Iterator[Utterance]:
    """Says the texts one after the other, each at a random tempo and mean pitch.

    Args:
        texts: English; may be endless.
        voice: a key of `MEAN_PITCH_HZ`.
        generator: draws tempo and pitch.

    Raises:
        MissingEngineError: flite is not installed.
        CorpusError: flite failed.
    """
    check_flite()
    with tempfile.TemporaryDirectory() as folder:
        for text in texts:
            stretch = generator.uniform(*_TEMPO)
            pitch = MEAN_PITCH_HZ[voice] * generator.uniform(*_PITCH)
            yield _speak(text, voice, stretch, pitch, Path(folder) / "speech.wav")


def _speak(text: str, voice: str, stretch: float, pitch_hz: float, wave: Path) -> Utterance:
    options = ("--setf", f"duration_stretch={stretch:.3f}", "--setf", f"int_f0_target_mean={pitch_hz:.1f}")
    command = ["flite", "-voice", voice, "-psdur", *options, "-t", text, "-o", str(wave)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST_S)
    if run.returncode != 0:
        raise CorpusError(f"flite's voice {voice} failed on {text!r}: {run.stderr.strip()[-200:]}")
    segments = []
    for token in run.stdout.split():
        symbol, _, end = token.rpartition(":")
        segments.append(Segment(symbol, float(end)))
    rate, pcm = wavfile.read(wave)
    return Utterance(at_sample_rate(pcm, rate), tuple(segments), "en")
