"""From speech features to a lip-motion code: a low-capacity regression fitted on the person's own clip.

A clip of 20 s holds a few hundred frames. The map is therefore a Gaussian process of three parts: the generic prior's
opening and width, mapped linearly to this person's codes (two numbers a frame: a few seconds determine the map); a
linear map of a short window of embedding and articulatory targets, which extrapolates to any speech; and a local part,
which remembers how this person says what was heard before. Smiles and head-pose errors drift over a second or so and
cannot be heard; they are modelled as coloured noise, or the regression would spend its capacity on them.
Hyper-parameters were chosen by blocked cross-validation inside the first 80 % of six clips of different people, with
priors learned on the five others; the optimum is flat.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from fractions import Fraction

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d, maximum_filter1d
from torch import Tensor

from encoders.drift_regression import DriftRegressionSettings, cross_validated, kernel, regression_weights
from encoders.errors import LipMotionFitError
from encoders.features import EXTRA_COLUMNS, SpeechFeatureTrack
from encoders.lip_calibration import closed_mouth, opening_gain, stacking_shares
from encoders.lip_prior import LipPrior, context_frames, load_lip_prior
from encoders.lip_residual import LipResidual
from encoders.phones import ARTICULATORS
from encoders.streaming import ContextChunk, context_chunks

MINIMUM_FRAMES = 25
CHUNK_FRAMES = 1000
_WINDOW_DEVIATIONS = 3.0
_NO_WEIGHT = 1e-12  # keeps divisors finite
_LARGEST_SETTING, _LONGEST_S = 1e5, 10.0  # of a predictor that can be believed
_SILENT, _SPEAKING = 0.3, 0.7  # voice activity below and above which a frame is certain


@dataclass(frozen=True)
class LipMotionSettings:
    """How the lip-motion predictor is fitted and how it treats silence."""

    regression: DriftRegressionSettings = field(default_factory=DriftRegressionSettings)
    """Kernel and noise."""
    window_s: float = 0.048
    """Standard deviation of the Gaussian window over neighbouring frames, seconds."""
    articulation: float = 0.6
    """Weight of the articulatory targets in the kernel, relative to the embedding's; 0 leaves the embedding alone."""
    prior: float = 1.0
    """Variance that the generic lip prior explains, on the scale of the kernel's; 0 leaves the prior out."""
    amplitude: float = 1.1
    """Spread of the mouth opening, relative to the real one, that predictions are raised to in cross-validation; on
    later speech about 0.7 of it is left. More costs landmark distance (anchor clip: 1.75 px at 1, 1.80 px at 1.2)."""
    maximum_gain: float = 2.0
    """Largest factor by which the predicted opening is raised."""
    closure: float = 0.5
    """How far the mouth is drawn to its closed shape where the encoder hears a /p b m/ closure, in [0, 1]."""
    maximum_frames: int = 1500
    """Frames that the regression keeps; longer clips are thinned evenly."""
    pause_s: float = 0.24
    """The mouth keeps moving for this long before and after speech, seconds..."""
    easing_s: float = 0.06
    """...and then eases to its closed shape: standard deviation of the transition, seconds."""


@dataclass(frozen=True)
class HeardFrames:
    """What a predictor makes of n frames of speech before its `residual` and its rules for silence. float32."""

    windows: np.ndarray  # [n, W * F] weighted windows of features
    codes: np.ndarray  # [n, K]
    openness: np.ndarray  # [n] in [0, 1]: 0 draws the mouth to its closed shape


@dataclass(frozen=True)
class LipMotionPredictor:
    """A fitted map from speech features to lip-motion codes. Arrays are float32."""

    feature_mean: np.ndarray  # [F] of embedding and articulatory targets
    feature_scale: np.ndarray  # [F] divisor that gives every group its weight and windows unit mean square norm
    support: np.ndarray  # [N, W * F] weighted windows of the fitted frames
    weights: np.ndarray  # [N, K]
    prior_map: np.ndarray  # [2, K] change of code per unit of the prior's opening and width
    code_offset: np.ndarray  # [K]
    code_range: np.ndarray  # [2, K] smallest and largest code fitted: predictions stay within
    closed_code: np.ndarray  # [K] the mouth in silence
    prior: LipPrior | None  # None when settings.prior is 0
    fps: Fraction
    settings: LipMotionSettings
    residual: LipResidual | None = None  # what was learned besides from rendered mouths

    @classmethod
    def fit(
        cls,
        speech: SpeechFeatureTrack,
        codes: np.ndarray,
        opening: np.ndarray,
        settings: LipMotionSettings | None = None,
        prior: LipPrior | None = None,
    ) -> LipMotionPredictor:
        """Fit on a person's own clip.

        Args:
            speech: T frames.
            codes: [T, K] lip-motion codes. Frames that hold a NaN (no face, or held out) are not used.
            opening: [T] mouth opening in any unit: its spread sets the gain, its smallest values the closed mouth.
            prior: the shipped one when none is given. Not used when settings.prior is 0.

        Raises:
            LipMotionFitError: lengths differ, or fewer than MINIMUM_FRAMES frames can be used.
            EncoderWeightsError: the shipped prior cannot be read.
        """
        settings = settings or LipMotionSettings()
        prior = (prior or load_lip_prior()) if settings.prior > 0 else None
        used = _usable_frames(speech, codes, opening, settings.maximum_frames)
        mean, scale = _normalisation(speech, used, settings.articulation)
        windows = _windows(speech.heard, mean, scale, settings.window_s, speech.fps)[used]
        norm = np.sqrt((windows**2).sum(axis=1).mean()) or 1.0
        support = windows / norm
        heard = np.zeros((len(used), 2)) if prior is None else prior.predict(speech)[used].astype(np.float64)
        code_mean = codes[used].mean(axis=0, dtype=np.float64)
        weights, generic_weights = _fit_parts(
            support, heard, used / float(speech.fps), codes[used] - code_mean, opening[used], settings
        )
        return cls(
            feature_mean=mean.astype(np.float32),
            feature_scale=(scale * norm).astype(np.float32),
            support=support.astype(np.float32),
            weights=weights.astype(np.float32),
            prior_map=(settings.prior * heard.T @ (weights + generic_weights)).astype(np.float32),
            code_offset=(code_mean + settings.regression.constant * generic_weights.sum(axis=0)).astype(np.float32),
            code_range=np.stack([codes[used].min(axis=0), codes[used].max(axis=0)]).astype(np.float32),
            closed_code=(code_mean + closed_mouth(codes[used] - code_mean, opening[used])).astype(np.float32),
            prior=prior,
            fps=speech.fps,
            settings=settings,
        )

    def predict(self, speech: SpeechFeatureTrack) -> np.ndarray:
        """Codes float32 [T, K] for speech at the fitted frame rate.

        Raises:
            LipMotionFitError: the frame rate or the number of feature columns differs from the fitted clip's.
        """
        if speech.fps != self.fps:
            raise LipMotionFitError(
                f"expected speech features at the fitted {self.fps} frames/s, got {speech.fps}; extract them anew"
            )
        empty = np.zeros((0, len(self.code_offset)), np.float32)
        return np.concatenate([empty, *self.predict_blocks([speech.features])])

    def predict_blocks(self, features: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Codes float32 [n, K] for a stream of feature rows [m, D], in constant memory; cutting changes nothing."""
        context = self._context_frames()
        for chunk in context_chunks(features, CHUNK_FRAMES, context, context):
            rows = _padded_at_ends(chunk, context)
            if rows.shape[1] != (expected := len(self.feature_mean) + EXTRA_COLUMNS - len(ARTICULATORS)):
                raise LipMotionFitError(
                    f"expected {expected} feature columns, got {rows.shape[1]}; "
                    "use the encoder that the predictor was fitted with"
                )
            yield self._predict_core(rows, context)

    @property
    def window_frames(self) -> int:
        """Frames in a window, W."""
        return 2 * _half_window(self.settings.window_s, self.fps) + 1

    def _context_frames(self) -> int:
        """Frames on either side that a prediction depends on."""
        rate = float(self.fps)
        pause = round(self.settings.pause_s * rate) + round(4.0 * self.settings.easing_s * rate + 0.5)
        return max(pause, _half_window(self.settings.window_s, self.fps), context_frames(self.fps))

    def hear(self, speech: SpeechFeatureTrack) -> HeardFrames:
        """What is predicted for a whole track of speech, in parts that `spoken` puts together."""
        context = self._context_frames()
        return self._heard(np.pad(speech.features, ((context, context), (0, 0)), mode="edge"), context)

    def spoken(self, codes: Tensor, openness: Tensor) -> Tensor:
        """Codes [n, K] from those of `HeardFrames`, with or without a residual: held within what was fitted, and
        closed in silence. Differentiable."""
        smallest, largest = torch.from_numpy(self.code_range)
        closed = torch.from_numpy(self.closed_code)
        return closed + openness[:, None] * (codes.clamp(smallest, largest) - closed)

    def _heard(self, rows: np.ndarray, context: int) -> HeardFrames:
        """For feature rows [n, D], `context` at either end being context only."""
        core = slice(context, len(rows) - context)
        speech = SpeechFeatureTrack(rows, self.fps)
        windows = _windows(speech.heard, self.feature_mean, self.feature_scale, self.settings.window_s, self.fps)[core]
        codes = self.code_offset + kernel(windows, self.support, self.settings.regression) @ self.weights
        if self.prior is not None:
            codes += self.prior.predict(speech)[core] @ self.prior_map
        openness = _speech_presence(speech.voice_activity, self.fps, self.settings)
        openness *= 1.0 - self.settings.closure * speech.articulation[:, 2]
        return HeardFrames(*(array.astype(np.float32) for array in (windows, codes, openness[core])))

    @torch.inference_mode()
    def _predict_core(self, rows: np.ndarray, context: int) -> np.ndarray:
        """Codes [n - 2 * context, K] for feature rows [n, D] that include the context."""
        heard = self._heard(rows, context)
        codes = torch.from_numpy(heard.codes)
        if self.residual is not None:
            codes = codes + self.residual(self.residual.heard(torch.from_numpy(heard.windows)))
        return self.spoken(codes, torch.from_numpy(heard.openness)).numpy()

    def to_tensors(self) -> dict[str, torch.Tensor]:
        """The state for a safetensors file."""
        tensors = {name: torch.from_numpy(getattr(self, name)) for name in _ARRAYS}
        tensors["fps"] = torch.tensor([self.fps.numerator, self.fps.denominator])
        for prefix, settings in (("settings", self.settings), ("regression", self.settings.regression)):
            for name in _number_fields(settings):
                tensors[f"{prefix}.{name}"] = torch.tensor(float(getattr(settings, name)), dtype=torch.float64)
        if self.prior is not None:
            tensors |= {f"prior.{name}": tensor for name, tensor in self.prior.to_tensors().items()}
        if self.residual is not None:
            tensors |= {f"residual.{name}": tensor for name, tensor in self.residual.state_dict().items()}
        return tensors

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor]) -> LipMotionPredictor:
        """Restore a predictor from `to_tensors`; it predicts the same codes to the last bit.

        Raises:
            LipMotionFitError: a tensor is missing, or a setting is out of all bounds: the file may be a stranger's.
        """
        try:
            arrays = {name: tensors[name].numpy() for name in _ARRAYS}
            regression = DriftRegressionSettings(**_numbers(tensors, "regression", DriftRegressionSettings()))
            settings = LipMotionSettings(regression=regression, **_numbers(tensors, "settings", LipMotionSettings()))
            fps = Fraction(*tensors["fps"].tolist())
            prior = LipPrior.from_tensors(_subset(tensors, "prior.")) if settings.prior > 0 else None
        except KeyError as error:
            raise LipMotionFitError(f"the lip-motion predictor lacks {error}; fit the avatar again") from error
        _check_settings(settings)
        inputs = arrays["feature_mean"].size * (2 * _half_window(settings.window_s, fps) + 1)
        network = _subset(tensors, "residual.")
        residual = LipResidual.from_tensors(network, inputs, arrays["closed_code"].size) if network else None
        return cls(**arrays, prior=prior, fps=fps, settings=settings, residual=residual)


_ARRAYS = tuple(item.name for item in fields(LipMotionPredictor) if item.type == "np.ndarray")


def _subset(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The tensors whose names start with `prefix`, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _number_fields(settings: LipMotionSettings | DriftRegressionSettings) -> dict[str, type]:
    """Names and types of the settings that are plain numbers."""
    values = {item.name: getattr(settings, item.name) for item in fields(settings)}
    return {name: type(value) for name, value in values.items() if isinstance(value, int | float)}


def _numbers(
    tensors: Mapping[str, torch.Tensor], prefix: str, default: LipMotionSettings | DriftRegressionSettings
) -> dict[str, float | int]:
    return {name: kind(tensors[f"{prefix}.{name}"].item()) for name, kind in _number_fields(default).items()}


def _check_settings(settings: LipMotionSettings) -> None:
    """
    Raises:
        LipMotionFitError: a number would ask for any amount of memory, or is none.
    """
    numbers = [getattr(part, name) for part in (settings, settings.regression) for name in _number_fields(part)]
    times = (settings.window_s, settings.pause_s, settings.easing_s)
    is_sound = all(0 <= number <= _LARGEST_SETTING for number in numbers) and max(times) <= _LONGEST_S
    if not is_sound or not settings.window_s:
        raise LipMotionFitError("the lip-motion predictor's settings are out of all bounds; fit the avatar again")


def _usable_frames(speech: SpeechFeatureTrack, codes: np.ndarray, opening: np.ndarray, maximum: int) -> np.ndarray:
    """Indices of the frames to fit on: finite ones, thinned evenly to `maximum`."""
    if not len(speech) == len(codes) == len(opening):
        raise LipMotionFitError(
            "expected speech features, codes and openings of one length, "
            f"got {len(speech)}, {len(codes)} and {len(opening)}"
        )
    used = np.flatnonzero(np.isfinite(codes).all(axis=1) & np.isfinite(opening))
    if len(used) < MINIMUM_FRAMES:
        raise LipMotionFitError(
            f"expected at least {MINIMUM_FRAMES} frames with a face to learn lip motion from, got {len(used)}; "
            "use a longer clip"
        )
    return used[np.linspace(0, len(used) - 1, min(maximum, len(used))).round().astype(int)]


def _normalisation(speech: SpeechFeatureTrack, used: np.ndarray, articulation: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and divisor [F] of the inputs over the used frames; a group's columns share its weight."""
    inputs = speech.heard[used].astype(np.float64)
    columns = speech.embedding.shape[1]
    weight = np.full(inputs.shape[1], max(articulation, _NO_WEIGHT) / (inputs.shape[1] - columns))
    weight[:columns] = 1.0 / columns
    return inputs.mean(axis=0), (inputs.std(axis=0) + 1e-3) / np.sqrt(weight)


def _half_window(window_s: float, fps: Fraction) -> int:
    return max(1, round(_WINDOW_DEVIATIONS * window_s * float(fps)))


def _windows(inputs: np.ndarray, mean: np.ndarray, scale: np.ndarray, window_s: float, fps: Fraction) -> np.ndarray:
    """Weighted neighbours [n, W * F] of every row of inputs [n, F]; the ends repeat the outermost row."""
    half = _half_window(window_s, fps)
    offsets = np.arange(-half, half + 1)
    taper = np.exp(-0.5 * (offsets / (window_s * float(fps))) ** 2)
    taper /= np.linalg.norm(taper)
    normalised = np.pad((inputs - mean) / scale, ((half, half), (0, 0)), mode="edge")
    views = np.lib.stride_tricks.sliding_window_view(normalised, 2 * half + 1, axis=0)  # [n, F, W]
    return (views * taper).reshape(len(inputs), -1)


def _fit_parts(
    support: np.ndarray,
    heard: np.ndarray,
    times: np.ndarray,
    codes: np.ndarray,
    opening: np.ndarray,
    settings: LipMotionSettings,
) -> tuple[np.ndarray, np.ndarray]:
    """Weights [N, K] of the whole kernel, and of the generic kernel (constant and prior) alone; predictions add up.

    Args:
        support: [N, W * F] windows.
        heard: [N, 2] the prior's lip motion.
        times: [N] seconds.
        codes: [N, K] of zero mean.
        opening: [N].
    """
    regression = settings.regression
    generic = regression.constant + settings.prior * heard @ heard.T
    full = kernel(support, support, regression) + settings.prior * heard @ heard.T
    from_generic, from_full = (cross_validated(part, times, codes, regression) for part in (generic, full))
    rate = (len(times) - 1) / (times[-1] - times[0])
    shares = stacking_shares(from_generic, from_full, codes, rate)
    out_of_fold = (shares[0] - shares[1]) * from_generic + shares[1] * from_full
    gain = opening_gain(out_of_fold, codes, opening, settings.amplitude, settings.maximum_gain)
    return (
        (shares[1] * regression_weights(full, times, codes, regression)) @ gain,
        ((shares[0] - shares[1]) * regression_weights(generic, times, codes, regression)) @ gain,
    )


def _padded_at_ends(chunk: ContextChunk, context: int) -> np.ndarray:
    """The chunk's rows with its outermost ones repeated where the stream's ends leave less than `context` rows."""
    missing = (context - chunk.begin, context - (len(chunk.rows) - chunk.end))
    return np.pad(chunk.rows, (missing, (0, 0)), mode="edge")


def _speech_presence(voice_activity: np.ndarray, fps: Fraction, settings: LipMotionSettings) -> np.ndarray:
    """[n] 1 around speech and 0 in pauses, with eased transitions."""
    certain = np.clip((voice_activity - _SILENT) / (_SPEAKING - _SILENT), 0.0, 1.0)
    widened = maximum_filter1d(certain, 2 * round(settings.pause_s * float(fps)) + 1, mode="nearest")
    return gaussian_filter1d(widened, settings.easing_s * float(fps), mode="nearest")
