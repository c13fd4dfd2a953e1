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


class CorpusError(RuntimeError):
    """Training speech cannot be made or read (a synthesiser failed, a corpus file is missing or damaged)."""


class MissingEngineError(CorpusError):
    """A program, voice or text that training speech is made from is not installed; says what to install."""

    def __init__(self, missing: str, packages: tuple[str, ...]) -> None:
        super().__init__(f"{missing} is not installed; install it with: apt install {' '.join(packages)}")
        self.packages = packages
        """Names of the Debian packages that bring what is missing."""


class LipClipError(ValueError):
    """Clips that nothing can be learned from; says what was expected and what to do."""
