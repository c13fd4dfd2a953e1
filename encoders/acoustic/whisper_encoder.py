"""Whisper (Radford et al. 2022): the output of its audio encoder. Needs the extra `talkinghead[whisper]`.

The encoder takes windows of exactly 30 s, so a chunk is heard with 5 s on both sides and silence where there is no
more sound. It gives 50 rows per second, row j centred on sample 320 j.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor, nn

from encoders.acoustic.weights import WeightsFile, load_checkpoint, load_state
from encoders.embedding import samples_for_frames
from encoders.spectrogram import SAMPLE_RATE
from encoders.streaming import at_frame_times, context_chunks

STRIDE = 320
"""Samples per row."""
CHUNK_S, CONTEXT_S = 20, 5
WINDOW = (CHUNK_S + 2 * CONTEXT_S) * SAMPLE_RATE
_AUDIO_SIZES = ("mels", "audio_ctx", "audio_state", "audio_head", "audio_layer")
"""What Whisper's AudioEncoder is built from, in its order."""
_PREFIX = "encoder."


@dataclass(frozen=True)
class WhisperEmbedding:
    """The audio encoder of any Whisper network."""

    encoder: nn.Module  # [1, bands, 2 L] -> [1, L, size] with L = WINDOW / STRIDE
    log_mel: Callable[[Tensor], Tensor]  # samples [n] -> [bands, n / 160]
    size: int
    name: str = "whisper"

    def embedding_blocks(self, blocks: Iterable[np.ndarray], fps: Fraction, frame_count: int) -> Iterator[np.ndarray]:
        """See `SpeechEmbedding`."""
        samples = samples_for_frames(blocks, fps, frame_count)
        context = CONTEXT_S * SAMPLE_RATE
        pieces = context_chunks(samples, CHUNK_S * SAMPLE_RATE, context, context)
        rows = (self._encode(piece.rows)[piece.begin // STRIDE : -(-piece.end // STRIDE)] for piece in pieces)
        return at_frame_times(rows, SAMPLE_RATE / STRIDE, 0.0, fps, frame_count)

    @torch.inference_mode()
    def _encode(self, samples: np.ndarray) -> np.ndarray:
        """Rows [WINDOW / STRIDE, size] of up to WINDOW samples."""
        window = torch.from_numpy(np.pad(samples, (0, WINDOW - len(samples))))
        return self.encoder(self.log_mel(window)[None])[0].numpy()


def load_whisper(file: WeightsFile) -> WhisperEmbedding:
    """The audio encoder of an official checkpoint.

    Raises:
        EncoderWeightsError: the file is missing, damaged or no Whisper checkpoint.
        ImportError: openai-whisper is not installed.
    """
    from whisper.audio import log_mel_spectrogram
    from whisper.model import AudioEncoder

    checkpoint = load_checkpoint(file)
    try:
        sizes, state = checkpoint["dims"], checkpoint["model_state_dict"]
        encoder = AudioEncoder(*(sizes[f"n_{name}"] for name in _AUDIO_SIZES))
    except (KeyError, TypeError) as error:
        raise file.unusable(f"is no Whisper checkpoint ({error!r})") from error
    state = {key.removeprefix(_PREFIX): value.float() for key, value in state.items() if key.startswith(_PREFIX)}
    load_state(encoder, state, file)
    return WhisperEmbedding(encoder.eval().requires_grad_(False), log_mel_spectrogram, sizes["n_audio_state"])
