"""The contrastive step on a person's own clip: a small adapter behind the embedded encoder.

The adapter is the speech side of `own_clip`. The principal components of what it says stand beside the embedded
encoder's embedding, which is ours.

What it is worth, on a 20 s clip in five folds, an adapter trained in each: among 50 windows not trained on, the lips of
a sound come first 8 % of the time and 13th on average (chance: 2 %, 25.5th); lip motion predicted with it correlates
.701 / .565 (opening / width) with the real one, .689 / .563 without, a difference within the noise; PASE's .699 / .563.

Whoever measures it on held-out frames must hold them out of `fit_adapter` too: it sees the lips of every frame given.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor, nn

from encoders.bundle import with_prefix
from encoders.contrastive.lip_clips import LipClip
from encoders.contrastive.own_clip import frame_row_timing, train_on_own_clip, untrained_pair
from encoders.contrastive.se4lip import Method
from encoders.contrastive.speech_inputs import windows_at_frames
from encoders.contrastive.speech_paths import embedded
from encoders.contrastive.training import ContrastiveTraining, TrainingProgress
from encoders.errors import EncoderWeightsError
from encoders.features import EXTRA_COLUMNS, SpeechFeatureTrack
from encoders.streaming import context_chunks

CHUNK_FRAMES = 1000


@dataclass(frozen=True)
class AdapterConfig:
    """How an adapter is fitted."""

    method: Method = "se4lip"
    """Whose loss: PASE adds the phones that the embedded encoder hears."""
    size: int = 64
    """Columns of the joint space; the lip encoder's width follows it."""
    columns: int = 8
    """Principal components that are passed on."""
    steps: int = 500
    """Batches: about a minute on two cores."""
    learning_rate: float = 1e-3
    """Of Adam. The paper's 5e-5 would take hours of steps."""
    seed: int = 0
    """Initial weights and batches."""


@dataclass(frozen=True)
class SpeechAdapter:
    """A fitted adapter. Arrays are float32; F inputs: embedding and articulatory targets."""

    method: Method
    speech: nn.Module  # windows [n, W, F] -> [n, size]
    input_mean: np.ndarray  # [F]
    input_scale: np.ndarray  # [F] divisor
    output_mean: np.ndarray  # [size]
    components: np.ndarray  # [size, columns]
    fps: Fraction

    def extended(self, speech: SpeechFeatureTrack) -> SpeechFeatureTrack:
        """The track with the adapter's columns behind its embedding."""
        empty = np.zeros((0, speech.features.shape[1] + self.components.shape[1]), np.float32)
        return SpeechFeatureTrack(np.concatenate([empty, *self.extended_blocks([speech.features])]), speech.fps)

    def extended_blocks(self, features: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The same for a stream of the embedded encoder's feature rows [m, D] at `fps`, in constant memory.

        Yields:
            float32 [n, D + columns].

        Raises:
            EncoderWeightsError: rows of another encoder.
        """
        timing = frame_row_timing(self.fps)
        reach = timing.window // 2
        for chunk in context_chunks(features, CHUNK_FRAMES, reach, reach):
            inputs = SpeechFeatureTrack(chunk.rows, self.fps).heard
            if inputs.shape[1] != len(self.input_mean):
                raise EncoderWeightsError(
                    f"the adapter takes {len(self.input_mean)} columns of speech features, got {inputs.shape[1]}; "
                    "use the encoder that it was fitted with"
                )
            rows = (inputs - self.input_mean) / self.input_scale
            windows = windows_at_frames(rows, np.arange(chunk.begin, chunk.end), self.fps, timing)
            columns = (embedded(self.speech, windows) - self.output_mean) @ self.components
            own = chunk.rows[chunk.begin : chunk.end]
            yield np.concatenate([own[:, :-EXTRA_COLUMNS], columns, own[:, -EXTRA_COLUMNS:]], axis=1)

    def to_tensors(self) -> dict[str, Tensor]:
        """The state for a safetensors file."""
        tensors = {name: torch.from_numpy(getattr(self, name)) for name in _ARRAYS}
        tensors |= {f"speech.{name}": tensor for name, tensor in self.speech.state_dict().items()}
        tensors["fps"] = torch.tensor([self.fps.numerator, self.fps.denominator])
        return tensors

    @classmethod
    def from_tensors(cls, method: Method, tensors: Mapping[str, Tensor]) -> SpeechAdapter:
        """Restore an adapter from `to_tensors`; it gives the same columns to the last bit.

        Raises:
            EncoderWeightsError: tensors are missing or do not belong together.
        """
        try:
            arrays = {name: tensors[name].numpy() for name in _ARRAYS}
            _check_shapes(arrays)
            speech = untrained_pair(method, len(arrays["input_mean"]), len(arrays["output_mean"])).speech
            speech.load_state_dict(with_prefix(tensors, "speech."))
            fps = Fraction(*tensors["fps"].tolist())
        except (KeyError, RuntimeError, ValueError) as error:
            raise EncoderWeightsError(f"the speech adapter is incomplete ({error}); fit the avatar again") from error
        return cls(method=method, speech=speech.eval().requires_grad_(False), fps=fps, **arrays)


_ARRAYS = ("input_mean", "input_scale", "output_mean", "components")


def fit_adapter(
    clip: LipClip, speech: SpeechFeatureTrack, config: AdapterConfig
) -> Generator[TrainingProgress, None, SpeechAdapter]:
    """Trains an adapter on a person's clip.

    Args:
        clip: T frames; those with `seen` False are not used.
        speech: the embedded encoder's features of the same T frames.

    Yields:
        Progress.

    Returns:
        The adapter (the generator's value).

    Raises: as `own_clip.train_on_own_clip`.
    """
    training = ContrastiveTraining(steps=config.steps, learning_rate=config.learning_rate, seed=config.seed)
    pair = yield from train_on_own_clip(clip, speech, config.method, config.size, training)
    said = embedded(pair.model.speech, pair.windows.sounds(pair.windows.frames).numpy())
    centre = said.mean(axis=0)
    _, _, directions = np.linalg.svd(said - centre, full_matrices=False)
    return SpeechAdapter(
        method=config.method,
        speech=pair.model.speech,
        input_mean=pair.input_mean,
        input_scale=pair.input_scale,
        output_mean=centre,
        components=np.ascontiguousarray(directions[: config.columns].T),
        fps=clip.fps,
    )


def _check_shapes(arrays: Mapping[str, np.ndarray]) -> None:
    """
    Raises:
        ValueError: they do not belong together.
    """
    inputs, size = arrays["input_mean"].shape, arrays["output_mean"].shape
    if len(inputs) != 1 or len(size) != 1 or arrays["input_scale"].shape != inputs:
        raise ValueError("means and scales of different sizes")
    if arrays["components"].ndim != 2 or arrays["components"].shape[:1] != size:
        raise ValueError("components of another size")
