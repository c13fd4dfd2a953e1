"""What to say of an exception: the line that tells a user what to mend, or nothing if no user can mend it."""

from __future__ import annotations

import errno

from tools.errors import UserError

REMEDIES = {
    errno.ENOSPC: "make room, or choose another place",
    errno.EROFS: "choose another place",
    errno.ENAMETOOLONG: "give a shorter one",
}
"""For errors of the system that, wherever they come up, only a user can mend."""


def complaint(error: BaseException) -> str | None:
    """One line for a user; None for a defect of ours."""
    if isinstance(error, OSError) and error.errno in REMEDIES:
        return f"{error.strerror}: {REMEDIES[error.errno]}" + (f" ({error.filename})" if error.filename else "")
    return str(error) if isinstance(error, UserError) else _library_complaint(error)


def _library_complaint(error: BaseException) -> str | None:
    """What to say of an error of a package that knows nothing of `UserError`."""
    import torch

    from encoders import errors
    from render.rasterize import BackendUnavailableError

    if isinstance(error, torch.OutOfMemoryError):  # of a GPU; only how much was wanted and is there is of use
        facts = ". ".join(str(error).split(". ")[:3])
        return f"{facts}: fit with a smaller --resolution, or work with --device cpu"
    mendable = (
        errors.CorpusError,
        errors.EncoderWeightsError,
        errors.FeatureUnavailableError,
        errors.LipClipError,
        errors.LipMotionFitError,
        errors.SpeechInputError,
        BackendUnavailableError,
    )
    return str(error) if isinstance(error, mendable) else None
