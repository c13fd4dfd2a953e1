"""DeepSpeech (Hannun et al. 2014) as AD-NeRF, ER-NeRF and TalkingGaussian use it: the letter logits of Mozilla's 0.1.0.

That release is a frozen TensorFlow graph; Mozilla's own runtime ended with Python 3.9, so TensorFlow runs it (the extra
`talkinghead[deepspeech]`). The graph reads 26 MFCC of `python_speech_features` every 20 ms with 9 neighbours on both
sides, normalised over the recording; here, so that memory stays flat, over a chunk with its context.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from scipy.fft import dct

from encoders.acoustic.weights import WeightsFile, verify
from encoders.embedding import samples_for_frames
from encoders.spectrogram import SAMPLE_RATE
from encoders.streaming import at_frame_times, context_chunks

LETTERS = 29
STRIDE = 320
"""Samples per row: every second MFCC frame."""
FRAME, HOP, FFT_SIZE, COEFFICIENTS = 400, 160, 512, 26
NEIGHBOURS = 9
CHUNK_S, CONTEXT_S = 60, 5
INT16_FULL_SCALE = 32768.0
PRE_EMPHASIS, LIFTER = 0.97, 22
_GRAPH_NODES = ("logits", "input_node", "input_lengths")

GraphRunner = Callable[[np.ndarray], np.ndarray]
"""Inputs float32 [n, (2 * NEIGHBOURS + 1) * COEFFICIENTS] -> logits [n, LETTERS]."""


@dataclass(frozen=True)
class DeepSpeechEmbedding:
    """Letter logits: 28 symbols and the blank."""

    run_graph: GraphRunner
    name: str = "deepspeech"
    size: int = LETTERS

    def embedding_blocks(self, blocks: Iterable[np.ndarray], fps: Fraction, frame_count: int) -> Iterator[np.ndarray]:
        """See `SpeechEmbedding`."""
        samples = samples_for_frames(blocks, fps, frame_count)
        context = CONTEXT_S * SAMPLE_RATE
        pieces = context_chunks(samples, CHUNK_S * SAMPLE_RATE, context, context)
        rows = (
            self.run_graph(graph_inputs(piece.rows))[piece.begin // STRIDE : -(-piece.end // STRIDE)]
            for piece in pieces
        )
        return at_frame_times(rows, SAMPLE_RATE / STRIDE, FRAME / 2 / SAMPLE_RATE, fps, frame_count)


def graph_inputs(samples: np.ndarray) -> np.ndarray:
    """What the graph reads for samples [n]: float32 [m, 494], zero mean and unit variance over all numbers."""
    rows = mfcc(samples * INT16_FULL_SCALE)[::2]
    padded = np.pad(rows, ((NEIGHBOURS, NEIGHBOURS), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * NEIGHBOURS + 1, axis=0)  # [m, 26, 19]
    inputs = windows.transpose(0, 2, 1).reshape(len(rows), -1)
    return ((inputs - inputs.mean()) / (inputs.std() or 1.0)).astype(np.float32)


def mfcc(samples: np.ndarray) -> np.ndarray:
    """[m, 26] cepstral coefficients every 10 ms, as `python_speech_features.mfcc(samples, numcep=26)` defines them.

    Frames of 25 ms without a window, pre-emphasis, 26 mel filters with edges at whole FFT bins, natural logarithm,
    orthonormal DCT-II, sine lifter, and the logarithm of the frame's energy in place of c0.
    """
    emphasised = np.append(samples[:1], samples[1:] - PRE_EMPHASIS * samples[:-1]).astype(np.float64)
    count = 1 + max(0, -(-(len(samples) - FRAME) // HOP))
    emphasised = np.pad(emphasised, (0, max(0, (count - 1) * HOP + FRAME - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(emphasised, FRAME)[::HOP][:count]
    power = np.abs(np.fft.rfft(frames, FFT_SIZE)) ** 2 / FFT_SIZE
    spectrum = _logarithm(power @ _filter_bank())
    cepstrum = dct(spectrum, type=2, norm="ortho", axis=1)
    cepstrum *= 1.0 + LIFTER / 2 * np.sin(np.pi * np.arange(COEFFICIENTS) / LIFTER)
    cepstrum[:, 0] = _logarithm(power.sum(axis=1))
    return cepstrum


def _logarithm(values: np.ndarray) -> np.ndarray:
    return np.log(np.where(values == 0, np.finfo(float).eps, values))


def _filter_bank() -> np.ndarray:
    """[FFT_SIZE // 2 + 1, COEFFICIENTS] triangles from 0 Hz to half the sample rate."""
    top = 2595.0 * np.log10(1.0 + SAMPLE_RATE / 2 / 700.0)
    hertz = 700.0 * (10.0 ** (np.linspace(0.0, top, COEFFICIENTS + 2) / 2595.0) - 1.0)
    edges = np.floor((FFT_SIZE + 1) * hertz / SAMPLE_RATE)
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    bins = np.arange(FFT_SIZE // 2 + 1)[:, None]
    rising = (bins - lower) / (centre - lower)
    falling = (upper - bins) / (upper - centre)
    return np.maximum(0.0, np.minimum(rising, falling))


def load_deepspeech(file: WeightsFile) -> DeepSpeechEmbedding:
    """The network of the frozen graph in `file`.

    Raises:
        EncoderWeightsError: the file is missing, damaged or another graph.
        ImportError: TensorFlow is not installed.
    """
    import tensorflow
    from google.protobuf.message import DecodeError

    verify(file)
    definition, graph = tensorflow.compat.v1.GraphDef(), tensorflow.Graph()
    try:
        definition.ParseFromString(file.path.read_bytes())
        with graph.as_default():
            tensorflow.import_graph_def(definition, name="")
        logits, node, lengths = (graph.get_tensor_by_name(f"{name}:0") for name in _GRAPH_NODES)
    except (DecodeError, KeyError, ValueError) as error:
        raise file.unusable(f"is not the graph of DeepSpeech 0.1.0 ({error})") from error
    session = tensorflow.compat.v1.Session(graph=graph)
    return DeepSpeechEmbedding(
        lambda inputs: session.run(logits, {node: inputs[None], lengths: [len(inputs)]})[:, 0]  # [n, 1, LETTERS]
    )
