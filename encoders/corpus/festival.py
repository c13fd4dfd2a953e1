"""Speech of festival's voices with their segment times (`utt.save.segs`)."""

from __future__ import annotations

import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from scipy.io import wavfile

from encoders.corpus.utterances import Segment, Utterance, at_sample_rate
from encoders.errors import CorpusError, MissingEngineError

VOICES = Path("/usr/share/festival/voices")

_TEMPO = (0.8, 1.25)
_SENTENCES_PER_RUN = 30
_LONGEST_S = 300.0
# A sentence with a sign that the voice has no rule for fails alone: the error is caught inside festival.
_SAY = """(Parameter.set 'Duration_Stretch {stretch:.3f})
(unwind-protect
  (begin
    (set! spoken (utt.synth (Utterance Text "{text}")))
    (utt.save.wave spoken "{stem}.wav")
    (utt.save.segs spoken "{stem}.segs"))
  nil)
"""


def check_festival(voice: str, package: str) -> None:
    """Raises MissingEngineError where festival or the voice (of this Debian package) is not installed."""
    if shutil.which("festival") is None:
        raise MissingEngineError("festival", ("festival", package))
    if not any(VOICES.glob(f"*/{voice}")):
        raise MissingEngineError(f"festival's voice {voice}", (package,))


def speak(
    texts: Iterator[str], voice: str, language: str, encoding: str, generator: random.Random
) -> Iterator[Utterance]:
    """Says the texts, each at a random tempo; those that festival cannot say are left out.

    Args:
        texts: may be endless; read `_SENTENCES_PER_RUN` at a time.
        voice: festival's name, without `voice_`.
        language: of the texts.
        encoding: that the voice reads its text in; letters that it lacks are dropped.
        generator: draws the tempo.

    Raises:
        CorpusError: festival failed on a whole run.
    """
    while batch := list(islice(texts, _SENTENCES_PER_RUN)):
        with tempfile.TemporaryDirectory() as folder:
            yield from _speak_batch(batch, voice, language, encoding, generator, Path(folder))


def _speak_batch(
    texts: list[str], voice: str, language: str, encoding: str, generator: random.Random, folder: Path
) -> Iterator[Utterance]:
    script = f"(voice_{voice})\n"
    for index, text in enumerate(texts):
        script += _SAY.format(
            stretch=generator.uniform(*_TEMPO), text=text.replace("\\", "").replace('"', ""), stem=folder / str(index)
        )
    program = folder / "say.scm"
    program.write_text(script, encoding=encoding, errors="ignore")
    run = subprocess.run(["festival", "-b", str(program)], capture_output=True, timeout=_LONGEST_S)
    waves = [folder / f"{index}.wav" for index in range(len(texts))]
    if not any(wave.exists() for wave in waves):
        raise CorpusError(
            f"festival's voice {voice} said nothing (exit code {run.returncode}): "
            f"{run.stderr.decode(errors='replace').strip()[-200:]}"
        )
    for wave in waves:
        segments = wave.with_suffix(".segs")
        if wave.exists() and segments.exists():
            rate, pcm = wavfile.read(wave)
            yield Utterance(at_sample_rate(pcm, rate), _read_segments(segments), language)


def _read_segments(file: Path) -> tuple[Segment, ...]:
    """Lines `end_time colour symbol` after the header (the format of ESPS xlabel)."""
    fields = [line.split() for line in file.read_text(encoding="latin-1").splitlines()]
    return tuple(Segment(symbol, float(end)) for end, _, symbol in (entry for entry in fields if len(entry) == 3))
