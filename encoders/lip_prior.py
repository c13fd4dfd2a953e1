"""The generic lip prior: from what the encoder hears to how anybody's lips move.

The articulatory targets of the encoder come from a table; real lips are not as regular. The prior is a ridge
regression, learned on clips of a few people, from phone and viseme probabilities and articulatory targets, each blurred
over a short and a longer time, to the opening and the width of the mouth. It has some two hundred weights and knows
nobody's face, so that it holds for people and, as far as phones do, for languages never seen. It reads no embedding: it
works beside any. Pictures and sound of the clips are not stored, only the weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from scipy.ndimage import gaussian_filter1d

from encoders.bundle import write_weights
from encoders.errors import EncoderWeightsError, LipMotionFitError
from encoders.features import SpeechFeatureTrack
from encoders.measured_lips import MeasuredLips, without_trend
from encoders.phones import ARTICULATORS, PHONES, VISEMES

DEFAULT_LIP_PRIOR = Path(__file__).parent / "weights" / "lip_prior.safetensors"
"""The shipped prior, for the default encoder's features."""
BLURS_S = (0.03, 0.08)
"""Standard deviations of the two blurs, seconds: about a consonant and a syllable."""
REACH = 2.5
"""Blurs end at this many standard deviations: the prior looks 0.2 s ahead."""
RIDGES = (30.0, 100.0)
"""Penalty on the squared weights of opening and width, inputs and outputs being of unit spread. The targets are near
the truth already, nearer for width, so that phones and visemes correct them only where it pays."""
_RARE = 0.03  # added to spreads, so that phones that are hardly ever heard get no large weights
_GROUPS = (len(PHONES), len(VISEMES), len(ARTICULATORS))  # columns that share the ridge: each group has unit variance


@dataclass(frozen=True)
class LipPrior:
    """A linear map from blurred speech features to normalised lip motion."""

    mean: np.ndarray  # float32 [F] of the inputs, over the people it was learned on
    weights: np.ndarray  # float32 [len(BLURS_S) * F, 2]

    def predict(self, speech: SpeechFeatureTrack) -> np.ndarray:
        """Opening and width float32 [T, 2], in standard deviations of a talking person; 0 is the mean of speech.

        Row t depends on `context_frames` rows on either side; beyond the ends the outermost row is repeated.

        Raises:
            LipMotionFitError: the features have other columns than those the prior was learned on.
        """
        inputs = _inputs(speech)
        if inputs.shape[1] != len(self.mean):
            raise LipMotionFitError(
                f"expected {len(self.mean)} phone, viseme and articulation columns, got {inputs.shape[1]}; "
                "learn the lip prior anew for this encoder"
            )
        return (_blurred(inputs - self.mean, float(speech.fps)) @ self.weights).astype(np.float32)

    def to_tensors(self) -> dict[str, torch.Tensor]:
        """The state for a safetensors file."""
        return {"mean": torch.from_numpy(self.mean), "weights": torch.from_numpy(self.weights)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor]) -> LipPrior:
        """Restore a prior from `to_tensors`.

        Raises:
            KeyError: a tensor is missing.
        """
        return cls(tensors["mean"].numpy(), tensors["weights"].numpy())


def context_frames(fps: Fraction) -> int:
    """Rows on either side that a prediction depends on."""
    return _radius(max(BLURS_S) * float(fps))


def fit_lip_prior(people: Sequence[MeasuredLips]) -> LipPrior:
    """Learn a prior from clips, of different people if it is to hold for another one.

    Long clips count with the square root of their length. Both sides are freed of posture first; the map is linear, so
    that it holds for features as they are.

    Args:
        people: their sound must be in step with the picture (see `av_offset`).

    Raises:
        LipMotionFitError: no clip is given, or no lips move.
    """
    if not people:
        raise LipMotionFitError("expected at least one clip to learn the lip prior from, got none")
    inputs = [_inputs(lips.speech) for lips in people]
    mean = np.mean([columns[lips.seen].mean(axis=0) for columns, lips in zip(inputs, people, strict=True)], axis=0)
    x, y = _pairs([columns - mean for columns in inputs], people)
    scale = (x.std(axis=0) + _RARE) * np.tile(np.sqrt(np.repeat(_GROUPS, _GROUPS)), len(BLURS_S))
    z = x / scale
    solved = [
        np.linalg.solve(z.T @ z + ridge * np.eye(len(scale)), z.T @ series)
        for ridge, series in zip(RIDGES, y.T, strict=True)
    ]
    weights = np.stack(solved, axis=1)
    spread = (z @ weights).std(axis=0)
    if (spread == 0).any():
        raise LipMotionFitError("the lips in these clips do not move with the sound; use clips of people talking")
    weights /= scale[:, None] * spread
    return LipPrior(mean.astype(np.float32), weights.astype(np.float32))


def save_lip_prior(prior: LipPrior, path: Path, provenance: Mapping[str, str]) -> None:
    """Write a prior with its provenance (clips, encoder, figures) as safetensors metadata."""
    write_weights(prior.to_tensors(), path, provenance)


def load_lip_prior(path: Path = DEFAULT_LIP_PRIOR) -> LipPrior:
    """Read a prior.

    Raises:
        EncoderWeightsError: the file is missing or damaged.
    """
    try:
        return LipPrior.from_tensors(load_file(path))
    except FileNotFoundError as error:
        raise EncoderWeightsError(f"no lip prior at {path}; reinstall the package") from error
    except (SafetensorError, KeyError) as error:
        raise EncoderWeightsError(f"{path} does not hold a lip prior ({error}); replace the file") from error


def _inputs(speech: SpeechFeatureTrack) -> np.ndarray:
    """The columns that the prior reads, [T, F]: they are the default encoder's, whatever the embedding is."""
    return np.concatenate([speech.phones, speech.visemes, speech.articulation], axis=1)


def _pairs(inputs: Sequence[np.ndarray], people: Sequence[MeasuredLips]) -> tuple[np.ndarray, np.ndarray]:
    """Blurred inputs [N, D] and lip motion [N, 2] of all seen frames, without posture.

    Everybody's lip motion has unit spread; rows of a clip are weighted by the fourth root of how short it is.
    """
    mean_length = np.mean([lips.seen.sum() for lips in people])
    heard, moved = [], []
    for columns, lips in zip(inputs, people, strict=True):
        weight = (mean_length / lips.seen.sum()) ** 0.25
        motion = lips.motion()[lips.seen]
        moved.append(weight * motion / (motion.std(axis=0) + 1e-9))
        heard.append(weight * without_trend(_blurred(columns, lips.fps), lips.fps)[lips.seen])
    return np.concatenate(heard), np.concatenate(moved)


def _blurred(inputs: np.ndarray, fps: float) -> np.ndarray:
    """[T, len(BLURS_S) * F] the inputs [T, F] blurred over each time."""
    deviations = [blur * fps for blur in BLURS_S]
    return np.concatenate(
        [gaussian_filter1d(inputs, d, axis=0, mode="nearest", radius=_radius(d)) for d in deviations], axis=1
    )


def _radius(deviation: float) -> int:
    return max(1, round(REACH * deviation))
