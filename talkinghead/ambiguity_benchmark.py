"""Which speech features tell /d/ from /t/, which look alike on the lips? SE4Lip's Fig. 4, as a picture and as figures.

    python -m talkinghead.ambiguity_benchmark VOICE... --picture ambiguity.png [--trained se4lip.safetensors ...]

The voices are files of the synthetic corpus (`talkinghead train-encoder` leaves them in its work folder): their phones
are known exactly. Features of pretrained networks are in the picture where their weights are at hand.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tyro

from encoders.acoustic.catalogue import ACOUSTIC_FEATURES
from encoders.bundle import DEFAULT_BUNDLE
from encoders.contrastive.ambiguity import ALIKE, DIFFERENT, LabelledSpeech, PhoneRows, ambiguity_scores, phone_rows
from encoders.contrastive.ambiguity_figure import draw_ambiguity
from encoders.contrastive.encoder_file import load_encoder
from encoders.contrastive.speech_embedding import ContrastiveEmbedding
from encoders.corpus.recording import load_recordings
from encoders.embedding import EncoderEmbedding, SpeechEmbedding
from encoders.errors import EncoderWeightsError, FeatureUnavailableError


def run(
    voices: tyro.conf.Positional[tuple[Path, ...]],
    picture: Path,
    trained: tuple[Path, ...] = (),
    seconds: float = 300.0,
) -> str:
    """Draw the picture and give the distances.

    Args:
        voices: files of the corpus, of voices that no encoder was trained on.
        picture: file to write.
        trained: weights that `talkinghead train-encoder` made.
        seconds: of each voice.
    """
    speech = [LabelledSpeech.of_recordings(load_recordings(voice), seconds) for voice in voices]
    phones = sorted({*ALIKE, *DIFFERENT})
    rows = {
        name: _joined([phone_rows(embedding, one, phones) for one in speech])
        for name, embedding in _features(trained).items()
    }
    draw_ambiguity(rows, picture)
    lines = [f"{'feature':24s} /d/-/t/ /d/-/b/ ratio"]
    for name, one in rows.items():
        scores = ambiguity_scores(one)
        lines.append(f"{name:24s} {scores.alike:7.2f} {scores.different:7.2f} {scores.ratio:5.2f}")
    return "\n".join(lines)


def _features(trained: tuple[Path, ...]) -> dict[str, SpeechEmbedding]:
    """The default encoder, what is trained, and the acoustic features that can be computed here."""
    features: dict[str, SpeechEmbedding] = {"default": EncoderEmbedding(DEFAULT_BUNDLE.load())}
    features |= {path.stem: ContrastiveEmbedding(load_encoder(path)) for path in trained}
    for name, feature in ACOUSTIC_FEATURES.items():
        try:
            features[name] = feature.load()
        except (EncoderWeightsError, FeatureUnavailableError):
            continue  # its weights are not here: the picture is without it
    return features


def _joined(parts: list[PhoneRows]) -> PhoneRows:
    return PhoneRows(np.concatenate([part.rows for part in parts]), np.concatenate([part.phones for part in parts]))


if __name__ == "__main__":
    print(tyro.cli(run))
