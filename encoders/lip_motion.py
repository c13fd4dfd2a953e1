"""From speech features to a lip-motion code: a low-capacity regression fitted on the person's own clip.

A clip of 20 s holds a few hundred frames. The map is therefore a kernel regression over a short window of embedding and
articulatory targets: its linear part extrapolates to any speech, its local part remembers how this person says what was
heard before. Smiles and head-pose errors drift over a second or so and cannot be heard; they are modelled as coloured
noise, or the regression would spend its capacity on them. Hyper-parameters were chosen by blocked cross-validation
inside the first 80 % of six clips of different people; the optimum is flat.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from fractions import Fraction

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d, maximum_filter1d

from encoders.drift_regression import DriftRegressionSettings, cross_validated, kernel, regression_weights
from encoders.errors import LipMotionFitError
from encoders.features import EXTRA_COLUMNS, SpeechFeatureTrack
from encoders.phones import ARTICULATORS
from encoders.streaming import ContextChunk, context_chunks

MINIMUM_FRAMES = 25
CHUNK_FRAMES = 1000
CLOSED_SHARE = 0.05
"""Share of the fitted frames, those with the smallest mouth opening, whose mean opening is that of the closed mouth."""
SHRINKAGE = 0.5
"""How far each predicted code is scaled to its cross-validated regression slope, in [0, 1]: what cannot be heard stays
near its mean. The slope of a short clip is itself uncertain, hence not all the way."""
_WINDOW_DEVIATIONS = 3.0
_SILENT, _SPEAKING = 0.3, 0.7  # voice activity below and above which a frame is certain


@dataclass(frozen=True)
class LipMotionSettings:
    """How the lip-motion predictor is fitted and how it treats silence."""

    regression: DriftRegressionSettings = field(default_factory=DriftRegressionSettings)
    """Kernel and noise."""
    window_s: float = 0.048
    """Standard deviation of the Gaussian window over neighbouring frames, seconds."""
    articulation: float = 0.6
    """Weight of the articulatory targets in the kernel, relative to the embedding's."""
    amplitude: float = 1.2
    """Spread of the mouth opening, relative to the real one, that predictions are raised to in cross-validation; on
    later speech about 0.6 of it is left (anchor clip: 0.73 at 1.2), at no cost in landmark distance."""
    maximum_gain: float = 2.0
    """Largest factor by which the predicted opening is raised."""
    minimum_correlation: float = 0.2
    """Cross-validated correlation under which the opening is not raised: a louder guess is no better."""
    closure: float = 0.5
    """How far the mouth is drawn to its closed shape where the encoder hears a /p b m/ closure, in [0, 1]."""
    maximum_frames: int = 1500
    """Frames that the regression keeps; longer clips are thinned evenly."""
    pause_s: float = 0.24
    """The mouth keeps moving for this long before and after speech, seconds..."""
    easing_s: float = 0.06
    """...and then eases to its closed shape: standard deviation of the transition, seconds."""


@dataclass(frozen=True)
class LipMotionPredictor:
    """A fitted map from speech features to lip-motion codes. Arrays are float32."""

    feature_mean: np.ndarray  # [F] of embedding and articulatory targets
    feature_scale: np.ndarray  # [F] divisor that gives every group its weight and windows unit mean square norm
    support: np.ndarray  # [N, W * F] weighted windows of the fitted frames
    weights: np.ndarray  # [N, K]
    code_mean: np.ndarray  # [K]
    code_range: np.ndarray  # [2, K] smallest and largest code fitted: predictions stay within
    closed_code: np.ndarray  # [K] the mouth in silence
    fps: Fraction
    settings: LipMotionSettings

    @classmethod
    def fit(
        cls,
        speech: SpeechFeatureTrack,
        codes: np.ndarray,
        opening: np.ndarray,
        settings: LipMotionSettings | None = None,
    ) -> LipMotionPredictor:
        """Fit on a person's own clip.

        Args:
            speech: T frames.
            codes: [T, K] lip-motion codes. Frames that hold a NaN (no face, or held out) are not used.
            opening: [T] mouth opening in any unit: its spread sets the gain, its smallest values the closed mouth.

        Raises:
            LipMotionFitError: lengths differ, or fewer than MINIMUM_FRAMES frames can be used.
        """
        settings = settings or LipMotionSettings()
        used = _usable_frames(speech, codes, opening, settings.maximum_frames)
        mean, scale = _normalisation(speech, used, settings.articulation)
        windows = _windows(_inputs(speech.features), mean, scale, settings.window_s, speech.fps)[used]
        norm = np.sqrt((windows**2).sum(axis=1).mean()) or 1.0
        support = windows / norm
        code_mean = codes[used].mean(axis=0, dtype=np.float64)
        deviations = codes[used] - code_mean
        covariance = kernel(support, support, settings.regression)
        times = used / float(speech.fps)
        predicted = cross_validated(covariance, times, deviations, settings.regression)
        shrinkage = _shrinkage(predicted, deviations)
        gain = shrinkage @ _opening_gain(predicted @ shrinkage, deviations, opening[used], settings)
        return cls(
            feature_mean=mean.astype(np.float32),
            feature_scale=(scale * norm).astype(np.float32),
            support=support.astype(np.float32),
            weights=(regression_weights(covariance, times, deviations, settings.regression) @ gain).astype(np.float32),
            code_mean=code_mean.astype(np.float32),
            code_range=np.stack([codes[used].min(axis=0), codes[used].max(axis=0)]).astype(np.float32),
            closed_code=(code_mean + _closure(deviations, opening[used])).astype(np.float32),
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
        empty = np.zeros((0, len(self.code_mean)), np.float32)
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

    def _context_frames(self) -> int:
        """Frames on either side that a prediction depends on."""
        rate = float(self.fps)
        pause = round(self.settings.pause_s * rate) + round(4.0 * self.settings.easing_s * rate + 0.5)
        return max(pause, _half_window(self.settings.window_s, self.fps))

    def _predict_core(self, rows: np.ndarray, context: int) -> np.ndarray:
        """Codes [n - 2 * context, K] for feature rows [n, D] that include the context."""
        core = slice(context, len(rows) - context)
        windows = _windows(_inputs(rows), self.feature_mean, self.feature_scale, self.settings.window_s, self.fps)[core]
        codes = self.code_mean + kernel(windows, self.support, self.settings.regression) @ self.weights
        codes = np.clip(codes, *self.code_range)
        speech = SpeechFeatureTrack(rows, self.fps)
        openness = _speech_presence(speech.voice_activity, self.fps, self.settings)
        openness *= 1.0 - self.settings.closure * speech.articulation[:, 2]
        return (self.closed_code + openness[core, None] * (codes - self.closed_code)).astype(np.float32)

    def to_tensors(self) -> dict[str, torch.Tensor]:
        """The state for a safetensors file."""
        tensors = {name: torch.from_numpy(getattr(self, name)) for name in _ARRAYS}
        tensors["fps"] = torch.tensor([self.fps.numerator, self.fps.denominator])
        for prefix, settings in (("settings", self.settings), ("regression", self.settings.regression)):
            for name in _number_fields(settings):
                tensors[f"{prefix}.{name}"] = torch.tensor(float(getattr(settings, name)), dtype=torch.float64)
        return tensors

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor]) -> LipMotionPredictor:
        """Restore a predictor from `to_tensors`; it predicts the same codes to the last bit.

        Raises:
            LipMotionFitError: a tensor is missing.
        """
        try:
            arrays = {name: tensors[name].numpy() for name in _ARRAYS}
            regression = DriftRegressionSettings(**_numbers(tensors, "regression", DriftRegressionSettings()))
            settings = LipMotionSettings(regression=regression, **_numbers(tensors, "settings", LipMotionSettings()))
            fps = Fraction(*tensors["fps"].tolist())
        except KeyError as error:
            raise LipMotionFitError(f"the lip-motion predictor lacks {error}; fit the avatar again") from error
        return cls(**arrays, fps=fps, settings=settings)


_ARRAYS = tuple(item.name for item in fields(LipMotionPredictor) if item.name not in ("fps", "settings"))


def _number_fields(settings: LipMotionSettings | DriftRegressionSettings) -> dict[str, type]:
    """Names and types of the settings that are plain numbers."""
    values = {item.name: getattr(settings, item.name) for item in fields(settings)}
    return {name: type(value) for name, value in values.items() if isinstance(value, int | float)}


def _numbers(
    tensors: Mapping[str, torch.Tensor], prefix: str, default: LipMotionSettings | DriftRegressionSettings
) -> dict[str, float | int]:
    return {name: kind(tensors[f"{prefix}.{name}"].item()) for name, kind in _number_fields(default).items()}


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


def _inputs(features: np.ndarray) -> np.ndarray:
    """The columns that the regression reads, [n, F]: embedding and articulatory targets."""
    track = SpeechFeatureTrack(features, Fraction(1))
    return np.concatenate([track.embedding, track.articulation], axis=1)


def _normalisation(speech: SpeechFeatureTrack, used: np.ndarray, articulation: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and divisor [F] of the inputs over the used frames; a group's columns share its weight."""
    inputs = _inputs(speech.features[used]).astype(np.float64)
    columns = speech.embedding.shape[1]
    weight = np.full(inputs.shape[1], articulation / (inputs.shape[1] - columns))
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


def _padded_at_ends(chunk: ContextChunk, context: int) -> np.ndarray:
    """The chunk's rows with its outermost ones repeated where the stream's ends leave less than `context` rows."""
    missing = (context - chunk.begin, context - (len(chunk.rows) - chunk.end))
    return np.pad(chunk.rows, (missing, (0, 0)), mode="edge")


def _shrinkage(predicted: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Diagonal matrix [K, K]: SHRINKAGE of the way from 1 to the slope of codes on cross-validated predictions."""
    power = (predicted**2).sum(axis=0)
    slope = np.divide((predicted * codes).sum(axis=0), power, out=np.ones_like(power), where=power > 0)
    return np.diag(1.0 - SHRINKAGE * (1.0 - np.clip(slope, 0.0, 1.0)))


def _opening_gain(
    predicted: np.ndarray, codes: np.ndarray, opening: np.ndarray, settings: LipMotionSettings
) -> np.ndarray:
    """Matrix [K, K] that raises the mouth opening in predicted codes to `settings.amplitude` of its real spread.

    A regression on noisy inputs predicts too little motion. Only the opening is raised, along the mean change of all
    codes with it, so that the other lip motion keeps its amplitude. `predicted` [N, K] is cross-validated.
    """
    identity = np.eye(codes.shape[1])
    deviation = opening - opening.mean()
    readout = np.linalg.lstsq(codes, deviation, rcond=1e-6)[0]  # opening ~ codes @ readout
    covaried = codes.T @ deviation
    explained = readout @ covaried
    if explained <= 0:
        return identity
    heard = predicted @ readout
    if heard.std() == 0 or np.corrcoef(heard, deviation)[0, 1] < settings.minimum_correlation:
        return identity
    gain = np.clip(settings.amplitude * deviation.std() / heard.std(), 1.0, settings.maximum_gain)
    return identity + (gain - 1.0) * np.outer(readout, covaried / explained)


def _closure(codes: np.ndarray, opening: np.ndarray) -> np.ndarray:
    """Change of code [K] from the mean face to the closed mouth, for codes [N, K] of zero mean and openings [N].

    Along the mean change of all codes with the opening: the mean over the few closed frames themselves would take the
    smile and the head-pose error of just these frames into every pause.
    """
    deviation = opening - opening.mean()
    spread = deviation @ deviation
    closed = np.sort(deviation)[: max(1, round(CLOSED_SHARE * len(deviation)))].mean()
    return closed * (codes.T @ deviation) / spread if spread > 0 else np.zeros(codes.shape[1])


def _speech_presence(voice_activity: np.ndarray, fps: Fraction, settings: LipMotionSettings) -> np.ndarray:
    """[n] 1 around speech and 0 in pauses, with eased transitions."""
    certain = np.clip((voice_activity - _SILENT) / (_SPEAKING - _SILENT), 0.0, 1.0)
    widened = maximum_filter1d(certain, 2 * round(settings.pause_s * float(fps)) + 1, mode="nearest")
    return gaussian_filter1d(widened, settings.easing_s * float(fps), mode="nearest")
