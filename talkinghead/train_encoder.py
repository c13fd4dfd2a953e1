"""`talkinghead train-encoder`: the embedded encoder from Debian's speech synthesisers, lip encoders from videos.

phones      sentences -> encoders.corpus -> encoders.training     the embedded default
se4lip, pase, talklip   videos -> lip clips   -> encoders.contrastive   SE4Lip, PASE, TalkLip
lip-prior      videos -> measured lips   -> encoders.lip_prior    from what is heard to how lips move
reader, observer   videos -> lip clips   -> encoders.experts      lip readers
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np

from encoders.bundle import DEFAULT_BUNDLE, save_encoder
from encoders.contrastive import encoder_file
from encoders.contrastive.lip_clips import LipClip
from encoders.contrastive.recipe import train_contrastive_encoder
from encoders.contrastive.retrieval import TABLE_6, GridRow, table_6_row
from encoders.contrastive.se4lip import EncoderConfig, Method
from encoders.contrastive.talklip import PAPER_CONFIGS
from encoders.contrastive.training import ContrastiveTraining, TrainingProgress
from encoders.corpus.build import build_corpus
from encoders.corpus.recording import VoiceRecordings, load_corpus
from encoders.experts.viseme_file import Kind, save_lip_reader
from encoders.experts.viseme_recipe import train_lip_reader
from encoders.lip_figures import agreement
from encoders.lip_prior import fit_lip_prior, save_lip_prior
from encoders.measured_lips import MeasuredLips
from encoders.phones import PHONES
from encoders.speech import SpeechEncoder
from encoders.training.figures import held_out_figures, mean_figures
from encoders.training.phone_training import PhoneTrainer, PhoneTrainingConfig
from talkinghead.file_record import FileRecord
from talkinghead.lip_clips import read_lip_clip
from talkinghead.lip_measurement import in_step, measure_lips
from talkinghead.outputs import work_folder
from talkinghead.progress import Progress, relayed
from talkinghead.training_config import AblationConfig, TrainEncoderConfig
from talkinghead.video_folder import read_folder

CHECKPOINT_S = 120.0
STATE = "training.safetensors"
LIP_READERS = get_args(Kind)


def train_encoder(
    videos: Path | None, output: Path, config: TrainEncoderConfig
) -> Generator[Progress, None, tuple[str, ...]]:
    """Trains by any method and writes the weights; a training that was stopped goes on where it was.

    Returns:
        Why videos were left out, a line each (the generator's value).

    Raises:
        MissingEngineError: a synthesiser, voice or text is not installed (method phones).
        CorpusError: a synthesiser fails, or a file of the corpus is damaged.
        LipClipError, UserError: the videos cannot be learned from.
    """
    if videos is None:
        yield from _train_on_phones(output, config)
        return ()
    if config.method == "lip-prior":
        return (yield from _train_lip_prior(videos, output, config))
    folder = yield from read_folder(videos, read_lip_clip)
    if config.method in LIP_READERS:
        yield from _train_lip_reader(folder.found, output, config)
    else:
        yield from _train_on_lips(folder.found, output, config)
    return folder.refused


def _train_on_phones(output: Path, config: TrainEncoderConfig) -> Iterator[Progress]:
    work = work_folder(output)
    for event in build_corpus(work / "corpus"):
        yield Progress("speaking", event.done, event.total, f"{event.voice.engine} {event.voice.name}")
    voices = load_corpus(work / "corpus")
    training = PhoneTrainingConfig(seed=config.seed)
    trainer = PhoneTrainer(voices, replace(training, steps=config.steps or training.steps))
    state = work / STATE
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
    save_encoder(encoder, output, phone_provenance(encoder, voices, trainer.config))
    yield Progress("measuring", 1, 1)


def phone_provenance(
    encoder: SpeechEncoder, voices: Sequence[VoiceRecordings], config: PhoneTrainingConfig
) -> dict[str, str]:
    """What the weights were trained on, and what they know of voices they never heard."""
    trained = [voice for voice in voices if not voice.held_out]
    figures = held_out_figures(voices, encoder)
    rounded = [
        {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(one).items()}
        for one in (*figures, mean_figures(figures))
    ]
    return {
        "name": DEFAULT_BUNDLE.name,
        "training_data": "synthetic speech only, with the synthesisers' own phone timing",
        "voices": json.dumps([f"{voice.engine} {voice.voice}" for voice in trained]),
        "languages": " ".join(sorted({voice.language for voice in trained})),
        "engine_licences": json.dumps({f"{voice.engine} {voice.voice}": voice.licence for voice in voices}),
        "hours": f"{sum(voice.seconds for voice in trained) / 3600:.1f}",
        "held_out": json.dumps(rounded),
        "phones": " ".join(PHONES),
        "parameters": str(sum(parameter.numel() for parameter in encoder.parameters())),
        "training": json.dumps(asdict(config)),
        "licence": DEFAULT_BUNDLE.licence,
    }


def _train_lip_prior(
    videos: Path, output: Path, config: TrainEncoderConfig
) -> Generator[Progress, None, tuple[str, ...]]:
    encoder = DEFAULT_BUNDLE.load()

    def measured(video: Path) -> Generator[Progress, None, tuple[str, MeasuredLips]]:
        yield Progress(f"lips in {video.name}", 0, 1)
        return FileRecord.of(video).sha256, measure_lips(video, encoder, 1.0 - config.holdout)

    folder = yield from read_folder(videos, measured)
    people = in_step(lips for _, lips in folder.found)
    provenance = {
        "clips": json.dumps([sha256 for sha256, _ in folder.found]),
        "data": "neither pictures nor sound of the clips are stored",
        "seconds": f"{sum(lips.seen.sum() / lips.fps for lips in people):.1f}",
        "holdout": str(config.holdout),
        "left_out": json.dumps(_left_out(people)),
        "encoder": DEFAULT_BUNDLE.name,
        "encoder_sha256": FileRecord.of(DEFAULT_BUNDLE.weights).sha256,
        "licence": DEFAULT_BUNDLE.licence,
    }
    prior = fit_lip_prior(people)
    save_lip_prior(prior, output, provenance)
    return folder.refused


def _left_out(people: Sequence[MeasuredLips]) -> dict[str, float]:
    """Mean r of opening and width of people that the prior was learned without; empty for a single person."""
    if len(people) < 2:
        return {}
    found = [
        agreement(fit_lip_prior([*people[:index], *people[index + 1 :]]).predict(lips.speech), lips)
        for index, lips in enumerate(people)
    ]
    return {name: round(float(np.mean([getattr(one, name) for one in found])), 3) for name in ("opening", "width")}


def _train_on_lips(clips: Sequence[LipClip], output: Path, config: TrainEncoderConfig) -> Iterator[Progress]:
    method: Method = config.method
    network = PAPER_CONFIGS.get(config.network) or EncoderConfig(config.spectrogram, config.network)
    training = ContrastiveTraining(seed=config.seed, device=config.device)
    training = replace(training, steps=config.steps or training.steps)
    state = work_folder(output) / STATE
    state.parent.mkdir(exist_ok=True)
    job = train_contrastive_encoder(clips, method, network, training, DEFAULT_BUNDLE.load(), config.holdout, state)
    encoder = yield from relayed(job, lambda event: _progress("training", event))
    encoder_file.save_encoder(encoder, output)
    state.unlink(missing_ok=True)
    state.parent.rmdir()


def _train_lip_reader(clips: Sequence[LipClip], output: Path, config: TrainEncoderConfig) -> Iterator[Progress]:
    kind: Kind = "observer" if config.method == "observer" else "reader"
    job = train_lip_reader(kind, clips, DEFAULT_BUNDLE.load(), config.holdout, config.seed, config.steps)
    network, provenance = yield from relayed(job, lambda event: _progress("training", event, "visemes"))
    save_lip_reader(network, provenance, output)


@dataclass(frozen=True)
class Table6:
    """SE4Lip's Table 6 on a folder of videos."""

    rows: tuple[GridRow, ...]
    refused: tuple[str, ...]  # why a video was left out, a line each


def table_6(videos: Path, config: AblationConfig) -> Generator[Progress, None, Table6]:
    """Trains every variant of SE4Lip's Table 6 with the same schedule, seed and windows.

    Raises:
        LipClipError, UserError: the videos cannot be learned from.
    """
    folder = yield from read_folder(videos, read_lip_clip)
    training = ContrastiveTraining(steps=config.steps, seed=config.seed, device=config.device)
    rows = []
    for variant in TABLE_6:
        for event in table_6_row(variant, folder.found, training, config.holdout):
            if isinstance(event, GridRow):
                rows.append(event)
            else:
                yield _progress(f"{variant.spectrogram} + {variant.network}", event)
    return Table6(tuple(rows), folder.refused)


def _progress(stage: str, event: TrainingProgress, what: str = "pairs") -> Progress:
    return Progress(stage, event.step, event.steps, f"loss {event.loss:.3f}, {what} {event.accuracy:.2f}")
