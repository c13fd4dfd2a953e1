"""`talkinghead train-encoder`: the embedded encoder from nothing but Debian's packages, or lip encoders from videos.

    engines' sentences -> encoders.corpus -> encoders.training    -> weights   (phones)
    videos -> tracked lips and sound      -> encoders.contrastive -> weights   (se4lip, pase)
                                          -> encoders.lip_prior   -> weights   (lip-prior)
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from encoders.bundle import save_encoder
from encoders.corpus.build import build_corpus
from encoders.corpus.recording import VoiceRecordings, load_corpus
from encoders.phones import PHONES
from encoders.speech import SpeechEncoder
from encoders.training.figures import held_out_figures, mean_figures
from encoders.training.phone_training import PhoneTrainer, PhoneTrainingConfig
from talkinghead.progress import Progress

CHECKPOINT_S = 120.0


def train_phone_encoder(output: Path, work: Path, config: PhoneTrainingConfig) -> Iterator[Progress]:
    """Makes the corpus and the embedded encoder; what is there already, speech or training state, is gone on from.

    Args:
        output: weights to write (safetensors).
        work: folder for the corpus (1.5 GB) and the training state.

    Raises:
        MissingEngineError: a synthesiser, voice or text is not installed.
        CorpusError: a synthesiser fails, or a file of the corpus is damaged.
    """
    for event in build_corpus(work / "corpus"):
        yield Progress("speaking", event.done, event.total, f"{event.voice.engine} {event.voice.name}")
    voices = load_corpus(work / "corpus")
    trainer = PhoneTrainer(voices, config)
    state = work / "training.safetensors"
    if state.exists():
        trainer.restore(state)
    saved = time.monotonic()
    for event in trainer.run():
        detail = f"loss {event.loss:.3f}, phones {event.phone_accuracy:.2f}"
        yield Progress("training", event.step, event.steps, detail)
        if time.monotonic() - saved > CHECKPOINT_S:
            trainer.save(state)
            saved = time.monotonic()
    trainer.save(state)
    yield Progress("measuring", 0, 1)
    encoder = trainer.result()
    save_encoder(encoder, output, provenance(encoder, voices, config))
    yield Progress("measuring", 1, 1)


def provenance(
    encoder: SpeechEncoder, voices: Sequence[VoiceRecordings], config: PhoneTrainingConfig
) -> dict[str, str]:
    """What the weights were trained on and what they know of voices they never heard."""
    trained = [voice for voice in voices if not voice.held_out]
    figures = held_out_figures(voices, encoder)
    rounded = [
        {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(one).items()}
        for one in (*figures, mean_figures(figures))
    ]
    return {
        "name": "synthetic-phones",
        "training_data": "synthetic speech only, with the synthesisers' own phone timing",
        "engines": " ".join(sorted({voice.engine for voice in trained})),
        "voices": " ".join(sorted(voice.voice for voice in trained)),
        "languages": " ".join(sorted({voice.language for voice in trained})),
        "engine_licences": json.dumps({voice.voice: voice.licence for voice in voices}),
        "hours": f"{sum(len(voice.samples) for voice in trained) / 16000 / 3600:.1f}",
        "held_out": json.dumps(rounded),
        "phones": " ".join(PHONES),
        "parameters": str(sum(parameter.numel() for parameter in encoder.parameters())),
        "training": json.dumps(asdict(config)),
        "licence": "Apache-2.0",
    }
