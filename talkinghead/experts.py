"""Which experts judge a person's driven mouth, how they are made ready, and what is learned from them."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from encoders.contrastive.lip_clips import LipClip
from encoders.contrastive.training import TrainingProgress
from encoders.experts.auto_avsr_reader import AutoAvsrReader, load_auto_avsr
from encoders.experts.discriminator import DiscriminatorConfig, DiscriminatorExpert
from encoders.experts.reading import ReadingConfig, ReadingExpert, VisemeLipReader
from encoders.experts.sync_expert import SyncConfig, train_sync_expert
from encoders.experts.viseme_file import load_reader
from encoders.experts.viseme_reader import VisemeReader
from encoders.experts.viseme_training import VisemeTraining, train_reader
from encoders.features import SpeechFeatureTrack
from encoders.lip_motion import HeardFrames
from encoders.lip_residual import HIDDEN
from render.head_model import HeadModel
from talkinghead.config import OUTSIDE_READER, VISEME_READER, FitConfig
from talkinghead.driven_fit import DrivenClip, DrivenConfig, WeightedExpert, fit_driven
from talkinghead.lip_clips import landmark_transforms
from talkinghead.lip_fit import FittedLips, fit_predictor, fitted_lip_clip
from talkinghead.progress import Progress, relayed
from talkinghead.speech_choice import lip_settings
from tools.tracked_clip import TrackedClip
from tools.video import VideoInfo

Result = TypeVar("Result")
Part = TypeVar("Part", SyncConfig, VisemeTraining, ReadingConfig, DiscriminatorConfig)
MOST_FRAMES = 3000
"""Frames of a long clip, from its start, that experts are trained on and that are driven."""


@dataclass(frozen=True)
class ExpertsConfig:
    """How experts are made, how much what they say counts, and how the mouth learns from it."""

    driven: DrivenConfig = field(default_factory=DrivenConfig)
    """How the mouth learns to be driven."""
    sync_weight: float = 0.01
    """Of the sync expert's loss (Speech2Lip Eq. 6)..."""
    reading_weight: float = 0.03
    """...of the reading expert's (TalkLip Eq. 4 and 6)..."""
    discriminator_weight: float = 0.002
    """...and of the discriminator's (TalkLip Eq. 2), in units of the absolute difference of pictures."""
    sync: SyncConfig = field(default_factory=SyncConfig)
    """How the sync expert is trained."""
    reader: VisemeTraining = field(default_factory=VisemeTraining)
    """How a person's own lip reader is trained."""
    reading: ReadingConfig = field(default_factory=ReadingConfig)
    """What of a reading counts."""
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    """How the discriminator learns. All seeds are added to the fit's."""


def judged_lips(
    info: VideoInfo, clip: TrackedClip, model: HeadModel, lips: FittedLips, recipe: ExpertsConfig, config: FitConfig
) -> Generator[Progress, None, FittedLips]:
    """Lets the experts that were asked for judge the mouth as speech drives it; the model's motion fields change.

    Returns:
        The lips as they learned from that (the generator's value).

    Raises:
        UnjudgedClipError: the face is not seen long enough at a time.
        LipClipError, FeatureUnavailableError, EncoderWeightsError: an expert cannot be made.
    """
    count = min(clip.fitted_frames, MOST_FRAMES)
    mouths = fitted_lip_clip(info, clip, count)
    speech = SpeechFeatureTrack(lips.speech.features[:count], lips.speech.fps)
    experts = yield from _experts(mouths, speech, recipe, config)
    transforms = landmark_transforms(clip.landmarks[:count], clip.topology, info)
    heard = _heard_elsewhere(clip, lips, speech, recipe.driven.folds)
    job = DrivenClip(clip, mouths, transforms, heard, lips.predictor)
    return replace(lips, predictor=(yield from fit_driven(job, model, experts, recipe.driven, config.seed)))


def _heard_elsewhere(clip: TrackedClip, lips: FittedLips, speech: SpeechFeatureTrack, folds: int) -> HeardFrames:
    """What drives each frame, by a regression that was fitted without the part of the clip it lies in."""
    heard, settings = lips.predictor.hear(speech), lip_settings(lips.embedding)
    codes = np.empty_like(heard.codes)
    edges = np.linspace(0, len(speech), folds + 1).round().astype(int)
    for part in map(slice, edges[:-1], edges[1:]):
        codes[part] = fit_predictor(clip, lips.speech, settings, without=part).hear(speech).codes[part]
    return replace(heard, codes=codes)


def _experts(
    mouths: LipClip, speech: SpeechFeatureTrack, recipe: ExpertsConfig, config: FitConfig
) -> Generator[Progress, None, list[WeightedExpert]]:
    """Those that were asked for, trained on the person where they need it."""
    found = []
    if "sync" in config.experts:
        job = train_sync_expert(mouths, speech, seeded(recipe.sync, config))
        found.append(WeightedExpert((yield from _trained("sync expert", job)), recipe.sync_weight))
    if "reading" in config.experts:
        reading = yield from _reading_expert(mouths, speech, recipe, config)
        found.append(WeightedExpert(reading, recipe.reading_weight))
    if "discriminator" in config.experts:
        judge = DiscriminatorExpert(seeded(recipe.discriminator, config), torch.device("cpu"))
        found.append(WeightedExpert(judge, recipe.discriminator_weight))
    return found


def seeded(part: Part, config: FitConfig) -> Part:
    """A part of a recipe whose seed is the fit's and its own."""
    return replace(part, seed=part.seed + config.seed)


def chosen_reader(config: FitConfig) -> AutoAvsrReader | VisemeReader | None:
    """The lip reader that was asked for; None where the person's own is trained, or none is needed.

    Raises:
        FeatureUnavailableError: its weights are not here.
        EncoderWeightsError: its file is missing, damaged or no lip reader.
    """
    if "reading" not in config.experts or config.reader == VISEME_READER:
        return None
    return load_auto_avsr() if config.reader == OUTSIDE_READER else load_reader(Path(config.reader))[0]


def _reading_expert(
    mouths: LipClip, speech: SpeechFeatureTrack, recipe: ExpertsConfig, config: FitConfig
) -> Generator[Progress, None, ReadingExpert]:
    reader = chosen_reader(config)
    if reader is None:
        job = train_reader([mouths], [speech], seeded(recipe.reader, config))
        reader = yield from _trained("lip reader", job)
    if isinstance(reader, VisemeReader):
        reader = VisemeLipReader(reader, mouths, speech)
    return ReadingExpert(reader, mouths.fps, HIDDEN, seeded(recipe.reading, config))


def _trained(name: str, job: Generator[TrainingProgress, None, Result]) -> Generator[Progress, None, Result]:
    return (yield from relayed(job, lambda event: Progress(name, event.step, event.steps, f"loss {event.loss:.3f}")))
