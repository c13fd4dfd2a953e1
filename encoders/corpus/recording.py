"""One voice's training speech: 16 kHz sound with a phone for every spectrogram frame, in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from encoders.corpus.timing import LABEL_RATE, SAMPLES_PER_LABEL
from encoders.errors import CorpusError

FORMAT = "talkinghead-corpus-1"
_TENSORS = ("samples", "phones", "lengths", "codecs")
_DTYPES = {"I16": np.dtype("<i2"), "U8": np.dtype("u1"), "I32": np.dtype("<i4")}
_LARGEST_HEADER = 1 << 20


@dataclass(frozen=True)
class VoiceRecordings:
    """All utterances of a voice, one after the other."""

    engine: str
    voice: str
    language: str
    licence: str
    held_out: bool
    """Only for figures, never for training."""
    samples: np.ndarray
    """int16 [N] at 16 kHz; each utterance begins at a multiple of 128 samples."""
    phones: np.ndarray
    """uint8 [N // 128], indices into `encoders.phones.PHONES`; label k is the phone at sample 128 * k."""
    lengths: np.ndarray
    """int32 [U], labels of each utterance; the sum is len(phones)."""
    codecs: np.ndarray
    """uint8 [U], what the utterance went through: 0 nothing, else 1 + an index into `codecs.CODECS`."""
    recipe: str = ""
    """What decides the contents; a file of another recipe is made again."""

    def __post_init__(self) -> None:
        labels = len(self.phones)
        if len(self.samples) != labels * SAMPLES_PER_LABEL or self.lengths.sum() != labels:
            raise CorpusError(
                f"{self.voice}: expected {SAMPLES_PER_LABEL} samples for each label and the labels of all utterances, "
                f"got {len(self.samples)} samples, {labels} labels and {self.lengths.sum()} in utterances"
            )

    @property
    def seconds(self) -> float:
        """Duration of all utterances."""
        return len(self.phones) / LABEL_RATE

    def utterances(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Samples int16 [128 * n] and phones uint8 [n] of one utterance after the other (views)."""
        ends = np.cumsum(self.lengths)
        for start, end in zip(ends - self.lengths, ends, strict=True):
            yield self.samples[start * SAMPLES_PER_LABEL : end * SAMPLES_PER_LABEL], self.phones[start:end]


def save_recordings(recordings: VoiceRecordings, path: Path) -> None:
    """Writes the file beside its place and moves it there, so that a file that exists is complete."""
    temporary = path.with_suffix(".part")
    save_file(
        {name: np.ascontiguousarray(getattr(recordings, name)) for name in _TENSORS},
        temporary,
        {
            "format": FORMAT,
            "engine": recordings.engine,
            "voice": recordings.voice,
            "language": recordings.language,
            "licence": recordings.licence,
            "held_out": "yes" if recordings.held_out else "no",
            "recipe": recordings.recipe,
        },
    )
    temporary.replace(path)


def load_recordings(path: Path) -> VoiceRecordings:
    """Maps one voice's file into memory: nothing is read until it is used.

    Raises:
        CorpusError: the file is not a voice's recordings.
    """
    try:
        with path.open("rb") as file:
            header_size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(header_size, _LARGEST_HEADER)))
        metadata = header["__metadata__"]
        if metadata["format"] != FORMAT:
            raise CorpusError(f"{path} is of the format {metadata['format']!r}, expected {FORMAT!r}; delete it")
        data = np.memmap(path, np.uint8, "r", 8 + header_size)
        tensors = {}
        for name in _TENSORS:
            start, end = header[name]["data_offsets"]
            tensors[name] = data[start:end].view(_DTYPES[header[name]["dtype"]]).reshape(header[name]["shape"])
        return VoiceRecordings(
            metadata["engine"], metadata["voice"], metadata["language"], metadata["licence"],
            metadata["held_out"] == "yes", recipe=metadata["recipe"], **tensors,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorpusError(f"{path} is not a corpus file ({error!r}); delete it and build the corpus again") from error


def load_corpus(folder: Path) -> tuple[VoiceRecordings, ...]:
    """All voices of a folder, by file name.

    Raises:
        CorpusError: the folder has none, or one is damaged.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise CorpusError(f"{folder} holds no training speech; build the corpus there first")
    return tuple(load_recordings(file) for file in files)
