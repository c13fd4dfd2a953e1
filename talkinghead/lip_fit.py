"""The part of a fit that listens: from a tracked clip and its sound to what moves the lips."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from encoders.av_offset import estimate_offset
from encoders.bundle import DEFAULT_BUNDLE
from encoders.contrastive.adapter import AdapterConfig, SpeechAdapter, fit_adapter
from encoders.contrastive.lip_clips import LipClip
from encoders.contrastive.recipe import train_contrastive_encoder
from encoders.contrastive.speech_embedding import ContrastiveEmbedding
from encoders.contrastive.talklip import OWN_CONFIGS, OWN_RATE, OWN_STEPS
from encoders.contrastive.training import ContrastiveTraining
from encoders.embedding import Embedding, SpeechEmbedding, feature_track
from encoders.errors import SpeechInputError
from encoders.features import SpeechFeatureTrack
from encoders.lip_motion import LipMotionPredictor, LipMotionSettings
from encoders.speech import SpeechEncoder
from talkinghead.config import ADAPTER_SPEECH, TALKLIP_SPEECH, FitConfig
from talkinghead.lip_clips import lip_clip_of_track
from talkinghead.progress import Progress, relayed
from talkinghead.speech_choice import fitted_to_clip, lip_settings
from tools.audio import SAMPLE_RATE, read_audio
from tools.metrics import mouth_opening
from tools.tracked_clip import TrackedClip
from tools.video import VideoInfo, read_frames


@dataclass(frozen=True)
class FittedLips:
    """What turns sound into this person's lip motion."""

    encoder: SpeechEncoder
    embedding: Embedding  # that was chosen, as it is fitted to this person
    predictor: LipMotionPredictor
    delay_frames: float  # by which the clip's own sound comes too early for its lips
    speech: SpeechFeatureTrack  # of the clip


def fit_lips(
    info: VideoInfo, clip: TrackedClip, embedding: SpeechEmbedding | None, config: FitConfig
) -> Generator[Progress, None, FittedLips]:
    """Learns how the person's lips move to their own speech, from the fitted part of the clip.

    Args:
        embedding: what `load_embedding(config.speech)` gave.
    """
    encoder = DEFAULT_BUNDLE.load()
    speech = clip_features(info, encoder, None, 0.0)
    delay_frames = sound_delay(clip, speech)
    if delay_frames or embedding:
        speech = clip_features(info, encoder, embedding, delay_frames)
    fitted: Embedding = None
    if embedding is not None:
        fitted, speech = fitted_to_clip(embedding, speech, clip.fitted_frames)
    elif config.speech in ADAPTER_SPEECH:
        fitted = yield from _fit_adapter(info, clip, speech, AdapterConfig(config.speech, seed=config.seed))
        speech = fitted.extended(speech)
    elif config.speech in TALKLIP_SPEECH:
        encoder_of_person = yield from _fit_talklip(info, clip, encoder, delay_frames, config)
        speech = clip_features(info, encoder, encoder_of_person, delay_frames)
        fitted, speech = fitted_to_clip(encoder_of_person, speech, clip.fitted_frames)
    return FittedLips(encoder, fitted, fit_predictor(clip, speech, lip_settings(fitted)), delay_frames, speech)


def _fit_adapter(
    info: VideoInfo, clip: TrackedClip, speech: SpeechFeatureTrack, config: AdapterConfig
) -> Generator[Progress, None, SpeechAdapter]:
    count = clip.fitted_frames
    lips = fitted_lip_clip(info, clip, count)
    job = fit_adapter(lips, SpeechFeatureTrack(speech.features[:count], speech.fps), config)
    stage = f"adapting ({config.method})"
    return (
        yield from relayed(job, lambda event: Progress(stage, event.step, event.steps, f"loss {event.loss:.3f}"))
    )


def _fit_talklip(
    info: VideoInfo, clip: TrackedClip, aligner: SpeechEncoder, delay_frames: float, config: FitConfig
) -> Generator[Progress, None, ContrastiveEmbedding]:
    lips = fitted_lip_clip(info, clip, clip.fitted_frames)
    heard = replace(lips, samples=delayed(lips.samples, delay_frames, info.fps))
    fitted = heard.part(0, len(heard))  # without the sound that follows
    network = OWN_CONFIGS[config.speech.removeprefix("talklip-")]
    training = ContrastiveTraining(OWN_STEPS, learning_rate=OWN_RATE, seed=config.seed)
    job = train_contrastive_encoder([fitted], "talklip", network, training, aligner, held_out=0.0)
    stage = f"learning to hear ({config.speech})"
    trained = yield from relayed(job, lambda event: Progress(stage, event.step, event.steps, f"loss {event.loss:.3f}"))
    return ContrastiveEmbedding(trained)


def fitted_lip_clip(info: VideoInfo, clip: TrackedClip, count: int) -> LipClip:
    """The lower faces in the first `count` frames of a tracked clip, with their sound."""
    crops = (clip.crop.cut(frame) for frame in read_frames(info, 0, count))
    return lip_clip_of_track(info, crops, clip.landmarks[:count], clip.topology)


def clip_features(
    info: VideoInfo, encoder: SpeechEncoder, embedding: Embedding, delay_frames: float
) -> SpeechFeatureTrack:
    """Speech features of a clip's own sound at its frame times, the sound delayed by so many frames."""
    samples = delayed(read_audio(info.path).samples, delay_frames, info.fps)
    return feature_track(samples, encoder, embedding, info.fps, info.frame_count)


def delayed(samples: np.ndarray, frames: float, fps: Fraction) -> np.ndarray:
    """Samples [n] that come so many frames later, or earlier where that is negative."""
    delay = round(frames * SAMPLE_RATE / float(fps))
    return np.concatenate([np.zeros(delay, np.float32), samples]) if delay > 0 else samples[-delay:]


def fit_predictor(
    clip: TrackedClip, speech: SpeechFeatureTrack, settings: LipMotionSettings, without: slice = slice(0, 0)
) -> LipMotionPredictor:
    """The map from speech features of the clip to its lower-face codes, learned where it is fitted and a face seen.

    Args:
        without: frames that are left out.
    """
    codes = clip.expression.lower.copy()
    codes[clip.fitted_frames :] = np.nan
    codes[without] = np.nan
    codes[~clip.found] = np.nan
    opening = mouth_opening(clip.landmarks, clip.shape.points, clip.topology)
    return LipMotionPredictor.fit(speech, codes, opening, settings)


def sound_delay(clip: TrackedClip, speech: SpeechFeatureTrack) -> float:
    """Frames by which the sound must be delayed to match the lips of the fitted part; 0 when that cannot be told."""
    fitted = slice(0, clip.fitted_frames)
    points, ring = clip.landmarks[fitted], clip.topology.inner_lips
    opening = mouth_opening(points, clip.shape.points, clip.topology)
    width = np.linalg.norm(points[:, ring[0], :2] - points[:, ring[len(ring) // 2], :2], axis=1)
    try:
        offset = estimate_offset(SpeechFeatureTrack(speech.features[fitted], speech.fps), opening, width)
    except SpeechInputError:  # the face is seen too briefly
        return 0.0
    return offset.correction


def delay_findings(delay_frames: float, fps: Fraction) -> tuple[str, ...]:
    """What to tell the user about the clip's sound."""
    if not delay_frames:
        return ()
    milliseconds = 1000 * delay_frames / float(fps)
    when = "late" if milliseconds > 0 else "early"
    return (f"the picture is {abs(milliseconds):.0f} ms {when} against the sound: corrected for learning the lips",)
