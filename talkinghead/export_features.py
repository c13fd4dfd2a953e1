"""`talkinghead features`: speech features in the .npy files that the papers' renderers read."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from encoders.acoustic.layouts import LAYOUTS, ROW_RATE, ROWS_PER_FRAME, window_size, windows
from encoders.acoustic.weights import weights_folder
from encoders.bundle import DEFAULT_BUNDLE
from encoders.embedding import EncoderEmbedding, SpeechEmbedding
from talkinghead.config import ADAPTER_SPEECH, TALKLIP_SPEECH, TRAINED_SPEECH_SUFFIX, FeaturesConfig
from talkinghead.errors import SpeechFeatureError
from talkinghead.progress import Progress
from talkinghead.speech_choice import fetch_weights, load_embedding
from tools.audio import frame_count, probe_audio, read_audio_blocks
from tools.errors import AudioTooShortError, OutputError

AUDIO_BLOCK_S = 10.0


@dataclass(frozen=True)
class ExportedFeatures:
    """What was written, and what to do with it."""

    shape: tuple[int, int, int]  # frames, rows of each, channels
    instructions: str


def export_features(audio: Path, output: Path, config: FeaturesConfig) -> Generator[Progress, None, ExportedFeatures]:
    """Writes the features of a recording; a file of that name is replaced when the new one is complete.

    Memory does not grow with the length of the recording. Frame t of the file belongs to the video frame at
    (t + 0.5) / 25 s, its rows are 20 ms apart; see `encoders.acoustic.layouts`.

    Returns:
        What was written (the generator's value).

    Raises:
        AudioTooShortError: the recording lasts less than a row.
        SpeechFeatureError: the feature is learned from video, and has not been.
        FeatureUnavailableError, EncoderWeightsError: what the feature needs is not here, or damaged.
        UserError: other subclasses; the recording cannot be read, or the file not be written.
    """
    yield from fetch_weights(config.speech)
    embedding = _embedding(config.speech)
    duration_s = probe_audio(audio).duration_s
    frames = -(-frame_count(duration_s, ROW_RATE) // ROWS_PER_FRAME)
    if not frames:
        raise AudioTooShortError(f"{audio} lasts {float(duration_s):.3f} s, less than half a row: give longer speech")
    samples = (block.samples for block in read_audio_blocks(audio, AUDIO_BLOCK_S))
    rows = embedding.embedding_blocks(samples, ROW_RATE, ROWS_PER_FRAME * frames)
    shape = (frames, window_size(embedding.size), embedding.size)
    yield from _write(output, shape, windows(rows, embedding.size))
    return ExportedFeatures(shape, LAYOUTS[config.layout].instructions(embedding.size))


def _embedding(speech: str) -> SpeechEmbedding:
    if speech in (*ADAPTER_SPEECH, *TALKLIP_SPEECH):
        kept = weights_folder() / f"{speech}{TRAINED_SPEECH_SUFFIX}"
        if not kept.is_file():
            raise SpeechFeatureError(
                f"{speech!r} is learned from video, and {kept} is not there: train it with 'talkinghead train-encoder "
                f"--method {speech.replace('-', ' --network ')}', and keep its file there or give it with --speech"
            )
        speech = str(kept)
    return load_embedding(speech) or EncoderEmbedding(DEFAULT_BUNDLE.load())


def _write(output: Path, shape: tuple[int, int, int], blocks: Iterator[np.ndarray]) -> Iterator[Progress]:
    temporary = output.with_name(f".{output.name}.unfinished")
    try:
        with temporary.open("wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            done = 0
            yield Progress("features", done, shape[0])
            for block in blocks:
                file.write(block.astype("<f4").tobytes())
                done += len(block)
                yield Progress("features", done, shape[0])
        temporary.replace(output)
    except OSError as error:
        raise OutputError(f"cannot write {output} ({error.strerror}): free space or choose another place") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
