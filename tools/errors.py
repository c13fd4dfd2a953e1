"""Errors a user can mend. The command line prints their one line and exits with code 2."""

from __future__ import annotations


class UserError(Exception):
    """A problem with what the user gave: one line that says what was expected, what came and what to do.

    The message is folded to a single line, since parts of it may come from other programs or from file names.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class MissingFileError(UserError):
    """The path does not exist."""


class UnreadableFileError(UserError):
    """The path exists but is a folder, is empty, may not be read, or is not a media file at all."""


class NoVideoError(UserError):
    """A media file without moving pictures."""


class NoAudioError(UserError):
    """A media file without a sound track, or with one that holds no samples."""


class DamagedMediaError(UserError):
    """A media file that opens but cannot be decoded to its end."""


class ProtectedMediaError(UserError):
    """A media file that is encrypted against copying."""


class UnsupportedFootageError(UserError):
    """A film that plays, but in a form in which single pictures cannot be replaced."""


class AudioTooShortError(UserError):
    """Sound of less than half a frame."""


class FfmpegMissingError(UserError):
    """No ffmpeg on the PATH and none from imageio-ffmpeg."""


class OutputError(UserError):
    """The output cannot be written: no such folder, no permission, disk full, or ffmpeg gave up."""


class LandmarkBackendError(UserError):
    """A landmark back end that was asked for by name is not installed, or its weights cannot be had."""


class UnusableClipError(UserError):
    """A video that opens but cannot become an avatar: no face, too short, face too small."""
