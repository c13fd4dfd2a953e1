"""Synthesised speech with known phone timing, and the mouth movements that belong to it.

Flite (Carnegie Mellon University, a BSD-like licence) speaks and reports when each phone ends. Each phone asks for an
opening and a width of the mouth; neighbouring phones compete for it by dominance, as in Cohen and Massaro, "Modeling
coarticulation in synthetic visual speech", 1993.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from talkinghead.demo_clip.truth import TimedPhone
from tools.errors import UserError

VOICE = "slt"


class FliteError(UserError):
    """Flite is missing or could not speak."""


@dataclass(frozen=True)
class Utterance:
    """Synthesised speech."""

    samples: np.ndarray
    """int16 [N], mono."""
    sample_rate: int
    phones: tuple[TimedPhone, ...]


@dataclass(frozen=True)
class MouthTrajectory:
    """What the mouth does, one value per time."""

    opening: np.ndarray
    """[T] in [0, 1]: 0 closed, 1 the widest vowel."""
    width: np.ndarray
    """[T] in [-1, 1]: -1 rounded, 0 at rest, 1 spread."""


@dataclass(frozen=True)
class Articulation:
    """What one phone asks of the mouth, and how strongly it insists."""

    opening: float
    width: float = 0.0
    opening_dominance: float = 1.0
    width_dominance: float = 0.5


_CLOSED = Articulation(0.0, opening_dominance=3.0, width_dominance=0.2)
_LABIODENTAL = Articulation(0.10, 0.1, 2.0)
_ALVEOLAR = Articulation(0.26, 0.1, 0.5, 0.2)
_SIBILANT = Articulation(0.20, 0.3, 1.2)
_POSTALVEOLAR = Articulation(0.27, -0.6, 1.0, 1.2)
_VELAR = Articulation(0.34, 0.0, 0.3, 0.1)
_OPEN = Articulation(0.98, 0.0, 1.2, 0.8)
_MID = Articulation(0.60, 0.3, 1.0, 0.8)
_SPREAD = Articulation(0.32, 0.9, 1.0, 1.0)
_LAX_SPREAD = Articulation(0.40, 0.5, 1.0, 0.8)
_CENTRAL = Articulation(0.42, 0.0, 0.7, 0.4)
_ROUND = Articulation(0.24, -1.0, 1.1, 1.5)
_LAX_ROUND = Articulation(0.34, -0.7, 1.0, 1.0)
_OPEN_ROUND = Articulation(0.72, -0.5, 1.0, 1.0)

ARTICULATION: dict[str, tuple[Articulation, ...]] = {
    **dict.fromkeys(("p", "b", "m"), (_CLOSED,)),
    **dict.fromkeys(("f", "v"), (_LABIODENTAL,)),
    **dict.fromkeys(("t", "d", "n", "l", "th", "dh", "dx"), (_ALVEOLAR,)),
    **dict.fromkeys(("s", "z"), (_SIBILANT,)),
    **dict.fromkeys(("sh", "zh", "ch", "jh"), (_POSTALVEOLAR,)),
    **dict.fromkeys(("k", "g", "ng", "hh"), (_VELAR,)),
    "pau": (Articulation(0.0, 0.0, 0.8, 0.4),),
    "r": (Articulation(0.28, -0.4, 0.6, 0.7),),
    "er": (Articulation(0.38, -0.3, 0.8, 0.8),),
    "w": (Articulation(0.12, -1.0, 1.8, 2.0),),
    "y": (Articulation(0.26, 0.5, 0.6, 0.7),),
    "aa": (_OPEN,),
    "ae": (Articulation(0.85, 0.4),),
    "ah": (_MID,),
    "ax": (_CENTRAL,),
    "eh": (_MID,),
    "ih": (_LAX_SPREAD,),
    "iy": (_SPREAD,),
    "ao": (_OPEN_ROUND,),
    "uh": (_LAX_ROUND,),
    "uw": (_ROUND,),
    "aw": (_OPEN, _LAX_ROUND),
    "ay": (_OPEN, _LAX_SPREAD),
    "ey": (_MID, _SPREAD),
    "ow": (_OPEN_ROUND, _ROUND),
    "oy": (_OPEN_ROUND, _LAX_SPREAD),
}
"""Flite's English phones; a diphthong is two targets of equal length."""

COARTICULATION_S = 0.04
"""Standard deviation of a phone's influence in time."""
CLOSURE_S = 0.016
"""The same for the closed lips of /p b m/, which no neighbour may open."""
_STEP_S = 0.004


def synthesise(text: str) -> Utterance:
    """Let Flite say `text`. Raises FliteError when it is not installed or fails."""
    flite = shutil.which("flite")
    if flite is None:
        raise FliteError("making the demo clip needs the speech synthesiser Flite: install it (apt install flite)")
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder) / "speech.wav"
        command = [flite, "-voice", VOICE, "-psdur", "-t", text, "-o", str(recording)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode != 0:
            raise FliteError(f"flite ended with exit code {run.returncode}: {run.stderr.strip()}")
        with wave.open(str(recording)) as reader:
            samples = np.frombuffer(reader.readframes(reader.getnframes()), dtype="<i2").astype(np.int16)
            sample_rate = reader.getframerate()
    names, ends = zip(*(entry.rsplit(":", 1) for entry in run.stdout.split()), strict=True)
    times = [0.0, *map(float, ends)]
    return Utterance(samples, sample_rate, tuple(map(TimedPhone, names, times[:-1], times[1:])))


def write_wave(path: Path, samples: np.ndarray, sample_rate: int) -> None:
    """Write mono int16 samples [N] as a WAV file."""
    with wave.open(str(path), "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(sample_rate)
        writer.writeframes(samples.astype("<i2").tobytes())


def mouth_trajectory(phones: tuple[TimedPhone, ...], times: np.ndarray) -> MouthTrajectory:
    """Opening and width of the mouth at `times` [T], seconds. Outside the recording the mouth is at rest."""
    grid = np.arange(-0.5, max(times.max(), phones[-1].end_s) + 0.5, _STEP_S)
    rest = ARTICULATION["pau"][0]
    targets = np.tile([rest.opening, rest.width, rest.opening_dominance, rest.width_dominance], (len(grid), 1))
    closed = np.zeros(len(grid))
    for phone in phones:
        parts = ARTICULATION[phone.phone]
        bounds = np.linspace(phone.start_s, phone.end_s, len(parts) + 1)
        for part, start, end in zip(parts, bounds[:-1], bounds[1:], strict=True):
            during = (grid >= start) & (grid < end)
            targets[during] = part.opening, part.width, part.opening_dominance, part.width_dominance
            closed[during] = part is _CLOSED
    opening = _dominance_blend(targets[:, 0], targets[:, 2])
    width = _dominance_blend(targets[:, 1], targets[:, 3])
    opening *= 1 - np.minimum(1.3 * _smooth(closed, CLOSURE_S), 1)
    return MouthTrajectory(np.interp(times, grid, opening), np.interp(times, grid, width))


def _smooth(values: np.ndarray, sigma_s: float) -> np.ndarray:
    """Gaussian average along the time grid; the ends are held."""
    reach = int(np.ceil(4 * sigma_s / _STEP_S))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * _STEP_S / sigma_s) ** 2)
    return np.convolve(np.pad(values, reach, mode="edge"), kernel / kernel.sum(), mode="valid")


def _dominance_blend(targets: np.ndarray, dominance: np.ndarray) -> np.ndarray:
    return _smooth(targets * dominance, COARTICULATION_S) / _smooth(dominance, COARTICULATION_S)
