"""How much of the speech can be read from the lips: word error rate of a lip-reading model (TalkLip, Sec. 4.1).

The models that the field uses (AV-HuBERT, Auto-AVSR) come with code and weights under licences that do not allow to
pass them on, so the reader is a program of the user's: it gets a video's name and prints the words.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO

from talkinghead.config import EvaluateConfig
from talkinghead.errors import LipReaderError
from talkinghead.evaluation.instruments import Drive, Measure, ObservedFrame
from tools.errors import MissingFileError, UnreadableFileError
from tools.transcripts import word_errors, words
from tools.video_writer import VideoWriter

VIDEO = "{video}"
"""Stands in the reader's command for the video."""
LIMIT_S = 900.0
_SAID_BYTES = 1 << 16  # of what the reader says the end is enough
_READ = "of what an outside lip-reading model reads in the crop as speak shows it (Wang et al., TalkLip, Sec. 4.1)"


@dataclass(frozen=True)
class LipReader:
    """A program that transcribes a video of a face."""

    arguments: tuple[str, ...]
    limit_s: float = LIMIT_S
    """It is ended when it takes longer for one video."""

    @classmethod
    def of(cls, command: str) -> LipReader:
        """A reader from a command as one types it; no shell sees it.

        Raises:
            LipReaderError: the command is not one, says nowhere where the video's name goes, or is no program here.
        """
        try:
            arguments = tuple(shlex.split(command))
        except ValueError as error:
            raise LipReaderError(f"--lip-reader {command!r} is no command ({error}): check its quotes") from error
        if not any(VIDEO in argument for argument in arguments):
            raise LipReaderError(
                f"--lip-reader {command!r} does not say where the video goes: give it as 'python infer.py {VIDEO}'"
            )
        if shutil.which(arguments[0]) is None:
            raise LipReaderError(f"--lip-reader: there is no program {arguments[0]}; check the name, or give its path")
        return cls(arguments)

    def read(self, video: Path) -> str:
        """The last line that the program prints; blank if it can read nothing.

        Raises:
            LipReaderError: it cannot be started, takes too long, ends with an error, or prints nothing at all.
        """
        command = [argument.replace(VIDEO, str(video)) for argument in self.arguments]
        with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as complained:
            try:
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=said, stderr=complained, start_new_session=True
                )
            except OSError as error:
                raise LipReaderError(f"the lip reader cannot be started ({error}): check --lip-reader") from error
            try:
                code = process.wait(self.limit_s)
            except subprocess.TimeoutExpired as error:
                raise LipReaderError(
                    f"the lip reader took more than {self.limit_s:g} s for one video: give it a faster one, or a GPU"
                ) from error
            finally:
                _end_session(process)
            printed, complaints = _end_of(said).splitlines(), list(filter(str.strip, _end_of(complained).splitlines()))
        if code != 0:
            reason = complaints[-1].strip() if complaints else "it said nothing"
            raise LipReaderError(
                f"the lip reader ended with exit code {code} ({reason}): run its command by hand on a video first"
            )
        if not printed:
            raise LipReaderError("the lip reader printed nothing: expected the words as the last line it prints")
        return printed[-1].strip()


class LipReadingInstrument:
    """Word error rate and word accuracy."""

    measures = (
        Measure("lip_reading_wer", f"word error rate {_READ}; may be above 1", best="low", is_of_lips=True),
        Measure("lip_reading_accuracy", f"share of right words {_READ}", best="high", is_of_lips=True),
    )

    def __init__(self, reader: LipReader, transcript: str | None, fps: Fraction) -> None:
        """Makes the instrument.

        Args:
            transcript: the words that the clip says where it is measured; None: those read in the clip itself count.
            fps: of the videos that the reader gets.
        """
        self._reader, self._transcript, self._fps = reader, transcript, fps

    def observer(self, drive: Drive, stack: ExitStack) -> _LipReadingObserver:
        """See `Instrument.observer`."""
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="talkinghead-lip-reading-")))
        transcript = self._transcript if drive.has_truth else ""
        return _LipReadingObserver(
            self._reader, transcript, folder / "face.mp4", self._fps, stack.enter_context(ExitStack())
        )


class _LipReadingObserver:
    def __init__(
        self, reader: LipReader, transcript: str | None, video: Path, fps: Fraction, recording: ExitStack
    ) -> None:
        self._reader, self._transcript = reader, transcript
        self._video, self._fps, self._recording = video, fps, recording
        self._writer: VideoWriter | None = None
        self._read: str | None = None

    def see(self, frame: ObservedFrame) -> None:
        if self._writer is None:
            height, width = frame.in_place.shape[:2]
            self._writer = self._recording.enter_context(VideoWriter(self._video, width, height, self._fps))
        self._writer.write(frame.in_place)

    def figures(self, truth: _LipReadingObserver) -> dict[str, float]:
        said = truth.reading() if self._transcript is None else self._transcript
        errors = word_errors(said, self.reading() if words(said) else "")
        return {"lip_reading_wer": errors.rate, "lip_reading_accuracy": errors.accuracy}

    def reading(self) -> str:
        """What the reader reads in this row: asked once."""
        if self._read is None:
            self._recording.close()
            self._read = self._reader.read(self._video)
        return self._read


def lip_reader(config: EvaluateConfig) -> tuple[LipReader, str | None] | None:
    """The reader and the words that are said, as far as they are given.

    Raises:
        LipReaderError: see `LipReader.of`; or the transcript holds no words.
        MissingFileError, UnreadableFileError: the transcript is no text file.
    """
    if config.lip_reader is None:
        return None
    transcript = None if config.transcript is None else _read_transcript(config.transcript)
    return LipReader.of(config.lip_reader), transcript


def lip_reading(config: EvaluateConfig, fps: Fraction) -> list[LipReadingInstrument]:
    """The instrument, if a lip reader is given; see `lip_reader` for what it raises."""
    given = lip_reader(config)
    return [] if given is None else [LipReadingInstrument(*given, fps)]


def lip_reading_protocol(config: EvaluateConfig) -> dict[str, str]:
    """What is said of it beside the figures; nothing if no lip reader is given."""
    if config.lip_reader is None:
        return {}
    words_of = "what the reader reads in the clip itself" if config.transcript is None else config.transcript.name
    return {"lip_reader": config.lip_reader, "words_to_read": words_of}


def _read_transcript(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise MissingFileError(f"{path} does not exist: check the name given with --transcript") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableFileError(f"{path} cannot be read as text ({error}): give a UTF-8 text file") from error
    if not words(text):
        raise LipReaderError(f"{path} holds no words: write down what is said, or leave --transcript away")
    return text


def _end_session(process: subprocess.Popen[bytes]) -> None:
    """Ends the reader, and whatever it started that still runs."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _end_of(file: IO[bytes]) -> str:
    file.seek(max(0, file.seek(0, os.SEEK_END) - _SAID_BYTES))
    return file.read().decode(errors="replace")
