"""A trained contrastive encoder as speech features: its embedding at video frame times, of any length of sound."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from encoders.contrastive.encoder_file import TrainedEncoder
from encoders.contrastive.speech_inputs import SPECTROGRAMS, spectrogram_rows, window_blocks
from encoders.contrastive.speech_paths import embedded
from encoders.embedding import samples_for_frames


@dataclass(frozen=True)
class ContrastiveEmbedding:
    """Meets `encoders.embedding.SpeechEmbedding`. A row is what Eq. 5 compares with the lips of these five frames."""

    encoder: TrainedEncoder

    @property
    def name(self) -> str:
        """se4lip, pase, talklip-local or talklip-global."""
        facts = self.encoder.provenance
        return f"{facts.method}-{facts.config.network}" if facts.method == "talklip" else facts.method

    @property
    def size(self) -> int:
        """Columns of a row."""
        return self.encoder.model.size

    def embedding_blocks(self, blocks: Iterable[np.ndarray], fps: Fraction, frame_count: int) -> Iterator[np.ndarray]:
        """See `SpeechEmbedding.embedding_blocks`; 20 s of spectrogram are held for its normalisation."""
        padded = samples_for_frames(blocks, fps, frame_count)
        spectrogram = self.encoder.provenance.config.spectrogram
        rows, timing = spectrogram_rows(padded, spectrogram), SPECTROGRAMS[spectrogram].timing
        for windows in window_blocks(rows, timing, fps, frame_count):
            yield embedded(self.encoder.model.speech, windows)
