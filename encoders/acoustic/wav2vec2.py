"""HuBERT (Hsu et al. 2021) and wav2vec 2.0 (Baevski et al. 2020), with the weights of torchaudio's bundles.

Features are the output of the last transformer layer: 50 rows per second, row j from samples 320 j to 320 j + 399.
The networks were trained on utterances of some seconds and attend to all they are given: a chunk is heard with
CONTEXT_S seconds on both sides, which also bounds the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch.nn import functional
from torchaudio.models import Wav2Vec2Model

from encoders.acoustic.weights import WeightsFile, load_checkpoint, load_state
from encoders.embedding import samples_for_frames
from encoders.spectrogram import SAMPLE_RATE
from encoders.streaming import at_frame_times, context_chunks

STRIDE = 320
"""Samples per row of the convolutional front end..."""
RECEPTIVE_FIELD = 400
"""...and samples that a row sees."""
CHUNK_S = 20
CONTEXT_S = 5
_FIRST_ROW_S = RECEPTIVE_FIELD / 2 / SAMPLE_RATE


@dataclass(frozen=True)
class Wav2Vec2Embedding:
    """Any network of torchaudio's Wav2Vec2Model class."""

    name: str
    model: Wav2Vec2Model
    size: int  # of the transformer
    normalised: bool = False  # trained on waveforms of zero mean and unit variance
    chunk_s: int = CHUNK_S

    def embedding_blocks(self, blocks: Iterable[np.ndarray], fps: Fraction, frame_count: int) -> Iterator[np.ndarray]:
        """See `SpeechEmbedding`."""
        samples = samples_for_frames(blocks, fps, frame_count, minimum=RECEPTIVE_FIELD)
        context = CONTEXT_S * SAMPLE_RATE
        pieces = context_chunks(samples, self.chunk_s * SAMPLE_RATE, context, context)
        rows = (self._encode(piece.rows)[piece.begin // STRIDE : -(-piece.end // STRIDE)] for piece in pieces)
        return at_frame_times(rows, SAMPLE_RATE / STRIDE, _FIRST_ROW_S, fps, frame_count)

    @torch.inference_mode()
    def _encode(self, samples: np.ndarray) -> np.ndarray:
        """Rows [(n - RECEPTIVE_FIELD) // STRIDE + 1, size] of samples [n]."""
        waveform = torch.from_numpy(samples)[None]
        if self.normalised:
            waveform = functional.layer_norm(waveform, waveform.shape)
        output, _ = self.model(waveform)
        return output[0].numpy()


def load_wav2vec2(
    name: str, file: WeightsFile, factory: Callable[[], Wav2Vec2Model], size: int, normalised: bool = False
) -> Wav2Vec2Embedding:
    """A network with the weights in `file`, whose recognition head (the bundle's `aux`) is not needed.

    Args:
        factory: a torchaudio.models function, such as `hubert_base`.
        normalised: as `_normalize_waveform` of the bundle.

    Raises:
        EncoderWeightsError: the file is missing, damaged or made for another architecture.
    """
    model = factory()
    state = {key: tensor for key, tensor in load_checkpoint(file).items() if not key.startswith("aux.")}
    load_state(model, state, file)
    return Wav2Vec2Embedding(name, model.eval().requires_grad_(False), size, normalised)
