"""A contrastive encoder trained on one person's clip, from what the embedded encoder hears in it.

Eight layers of GRU learn little from twenty seconds. Here a GRU of one layer reads the embedded encoder's embedding and
articulatory targets, five frames at a time, and is trained against Table 2's lip encoder (at a fraction of its width)
by SE4Lip's or PASE's own loss. All of this is ours; the papers train their encoders once.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch

from encoders.contrastive.encoder_file import encoder_class
from encoders.contrastive.lip_clips import WINDOW_S, LipClip
from encoders.contrastive.se4lip import Method, SE4Lip
from encoders.contrastive.speech_inputs import RowTiming
from encoders.contrastive.training import ContrastiveTraining, TrainingProgress, train
from encoders.contrastive.windows import ClipWindows
from encoders.errors import LipClipError
from encoders.features import SpeechFeatureTrack


@dataclass(frozen=True)
class OwnPair:
    """A speech and a lip encoder of one person, frozen, with what they were trained on."""

    model: SE4Lip
    windows: ClipWindows  # whose rows are the inputs as the speech side takes them
    input_mean: np.ndarray  # float32 [F]
    input_scale: np.ndarray  # float32 [F] divisor


def train_on_own_clip(
    clip: LipClip, speech: SpeechFeatureTrack, method: Method, size: int, training: ContrastiveTraining
) -> Generator[TrainingProgress, None, OwnPair]:
    """Trains both encoders on a person's clip; the seed of `training` decides their first weights too.

    Args:
        clip: T frames; those with `seen` False are not used.
        speech: the embedded encoder's features of the same T frames.
        size: columns of the joint space; the lip encoder's width follows it.

    Yields:
        Progress.

    Returns:
        The encoders in evaluation mode (the generator's value).

    Raises:
        LipClipError: lengths differ, or too few frames are seen.
    """
    if len(clip) != len(speech):
        raise LipClipError(f"expected features of as many frames as the clip has, {len(clip)}, got {len(speech)}")
    inputs = speech.heard
    mean, scale = inputs[clip.seen].mean(axis=0), inputs[clip.seen].std(axis=0) + 1e-3
    rows = ((inputs - mean) / scale).astype(np.float32)
    windows = ClipWindows(clip, rows, frame_row_timing(clip.fps), speech.phones.argmax(axis=1))
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(training.seed)
        model = untrained_pair(method, inputs.shape[1], size)
    yield from train(model, [windows], training)
    model.requires_grad_(False)
    return OwnPair(model, windows, mean.astype(np.float32), scale.astype(np.float32))


def untrained_pair(method: Method, inputs: int, size: int) -> SE4Lip:
    """Both encoders for rows of `inputs` columns."""
    return encoder_class(method)(inputs, network="gru", layers=1, size=size)


def frame_row_timing(fps: Fraction) -> RowTiming:
    """Feature rows at video frame times; a window lasts as long as the paper's."""
    return RowTiming(float(fps), 0.5 / float(fps), 2 * int(WINDOW_S / 2 * fps) + 1)
