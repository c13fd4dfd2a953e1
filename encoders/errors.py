"""Errors of the `encoders` package. Each message says what was expected, what came and what to do."""

from __future__ import annotations


class SpeechInputError(ValueError):
    """The speech samples cannot be used (wrong shape or type, NaN or infinite values)."""


class EncoderWeightsError(RuntimeError):
    """An encoder's weights are missing, damaged or made for another architecture."""


class FeatureUnavailableError(RuntimeError):
    """A speech feature that was asked for by name needs a package or weights that are not here."""


class LipMotionFitError(ValueError):
    """A lip-motion predictor cannot be fitted on, or applied to, what was given."""
