"""What can be wrong with an avatar folder or with where results shall go; the command line prints the one line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tools.errors import UserError


class NotAnAvatarError(UserError):
    """The path is missing, is a file, or is a folder without an avatar in it."""


class DamagedAvatarError(UserError):
    """A file of an avatar folder is missing, cut off, changed, or at odds with the others."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} {reason}: copy the avatar again from where it was made, or fit it anew")


class NewerAvatarError(UserError):
    """An avatar folder in a format that came after this release."""


class OlderAvatarError(UserError):
    """An avatar folder in a format that this release no longer reads."""


class OutputExistsError(UserError):
    """The output is there already, and to overwrite it was not asked for."""


class NothingHeldOutError(UserError):
    """An avatar that was fitted to its whole clip cannot be measured on it."""


class UnjudgedClipError(UserError):
    """Experts cannot judge a clip in which the face is seen too briefly at a time."""


class SpeechFeatureError(UserError):
    """An avatar's speech feature cannot be computed here as it was when the avatar was fitted."""


class DeviceUnavailableError(UserError):
    """The GPU is asked for, and this machine has none that the rasterizer runs on."""


class PoseFileError(UserError):
    """A table of head poses that cannot be read, or whose rows are not poses."""


class BackgroundError(UserError):
    """A background that is neither a colour nor a picture that can be read."""


class StudyError(UserError):
    """Videos that make no study, a key that is none, or answers that do not belong to it."""


class LipReaderError(UserError):
    """A lip-reading program that cannot be run, fails or says nothing, or no words to compare it with."""


class GazeError(UserError):
    """A gaze that an avatar cannot be given."""


class CertificateError(UserError):
    """A certificate or its key is missing, damaged, expired, of another kind, or does not belong to the other."""


class MarkError(UserError):
    """A video cannot be marked as made by AI, so it is not written."""


class ClusterError(UserError):
    """A Ray cluster that cannot be used, or the package for it is missing."""


class JobListError(UserError):
    """A job list in which something is wrong; nothing was done."""

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(" ".join(problem.split()) for problem in problems)
        """One line for each problem."""


class ScriptError(UserError):
    """Subtitles that cannot be read, or recordings that do not go with them; nothing was done."""

    def __init__(self, path: Path, problems: Sequence[str]) -> None:
        self.problems = tuple(" ".join(problem.split()) for problem in problems)
        """One line for each problem."""
        super().__init__(f"{path}: {'; '.join(problems)}")


class NoSpeakerError(UserError):
    """A film in which nobody can be given new lips."""

    def __init__(self, path: Path, notes: Sequence[str]) -> None:
        reasons = f" ({'; '.join(notes)})" if notes else ""
        super().__init__(
            f"{path} shows no face that could be learned where new lines are spoken{reasons}: give other times, or "
            "another --face"
        )


class NoFeatureError(UserError):
    """None of the speech features that were to be compared can be used."""

    def __init__(self, notes: Sequence[str]) -> None:
        super().__init__(f"no speech feature can be used: {'; '.join(notes)}")
