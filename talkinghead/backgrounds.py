"""What is shown behind an avatar that is not in its footage: its plate, a colour, a picture, or nothing."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from talkinghead.config import ALPHA, PLATE
from talkinghead.errors import BackgroundError
from tools.tracked_clip import resampled

# The basic colours of CSS (W3C, CSS Color Module Level 4, Sec. 6.1).
COLORS = {
    "black": "000000", "silver": "c0c0c0", "gray": "808080", "grey": "808080", "white": "ffffff", "maroon": "800000",
    "red": "ff0000", "purple": "800080", "fuchsia": "ff00ff", "magenta": "ff00ff", "green": "008000", "lime": "00ff00",
    "olive": "808000", "yellow": "ffff00", "orange": "ffa500", "navy": "000080", "blue": "0000ff", "teal": "008080",
    "aqua": "00ffff", "cyan": "00ffff",
}  # fmt: skip
LARGEST_PICTURE = 100_000_000
"""Pixels; a larger one takes more memory than the rest of the job."""
FAINT = 2 / 255
"""Of alpha: where less is left, a colour's rounding is larger than what it says."""
EDGE_BLUR = 0.01
"""How far colours are carried past the person's edge, as a share of the picture's side."""


def background_picture(choice: str, plate: np.ndarray, side: int) -> np.ndarray | None:
    """What `--background` names as a picture, uint8 [side, side, 3] RGB; None for transparency.

    Args:
        choice: plate, alpha, a colour's name, #rrggbb, or a picture file, which is scaled to cover the square and cut
            around its middle.
        plate: uint8 [R, R, 3], the avatar's.

    Raises:
        BackgroundError: it is none of these.
    """
    if choice == ALPHA:
        return None
    if choice == PLATE:
        return resampled(plate, side)
    if (color := parse_color(choice)) is not None:
        return np.full((side, side, 3), color, np.uint8)
    return _read_cover(Path(choice), side)


def parse_color(text: str) -> tuple[int, int, int] | None:
    """RGB of a colour's name or #rrggbb; None when it looks like neither.

    Raises:
        BackgroundError: it begins with # and is no colour.
    """
    digits = COLORS.get(text.lower())
    if digits is None and text.startswith("#"):
        if not re.fullmatch("#[0-9a-fA-F]{6}", text):
            raise BackgroundError(f"--background takes a colour as #rrggbb, got {text!r}: write e.g. '#00b140'")
        digits = text[1:]
    if digits is None:
        return None
    red, green, blue = bytes.fromhex(digits)
    return red, green, blue


def _read_cover(path: Path, side: int) -> np.ndarray:
    if not path.is_file():
        raise BackgroundError(
            f"--background takes source, plate, alpha, #rrggbb, {', '.join(COLORS)} or a picture file, and "
            f"{str(path)!r} is none of them: check the spelling"
        )
    try:
        with warnings.catch_warnings(), Image.open(path) as picture:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is looked at here
            if picture.width * picture.height > LARGEST_PICTURE:
                raise BackgroundError(
                    f"{path} has {picture.width}x{picture.height} px, expected {LARGEST_PICTURE // 1_000_000} million "
                    "at most: make it smaller"
                )
            upright = ImageOps.exif_transpose(picture.convert("RGB"))
            return np.array(ImageOps.fit(upright, (side, side), Image.Resampling.LANCZOS))
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError) as error:
        raise BackgroundError(f"{path} cannot be read as a picture: give a PNG or JPEG file") from error


def over(person: np.ndarray, background: np.ndarray) -> np.ndarray:
    """A person, uint8 [S, S, 4] with colours multiplied by alpha, over a picture, uint8 [S, S, 3]; as the latter."""
    through = cv2.merge([cv2.bitwise_not(person[..., 3])] * 3)
    return cv2.add(cv2.cvtColor(person, cv2.COLOR_RGBA2RGB), cv2.multiply(background, through, scale=1 / 255))


def straight_alpha(person: np.ndarray) -> np.ndarray:
    """Colours that are not multiplied by alpha, as files hold them; uint8 [S, S, 4] both.

    Where hardly anything of the person is left, colours come from around: encoders smooth them, and black beside an
    edge would darken it.
    """
    values = person.astype(np.float32)
    alpha = values[..., 3:] / 255
    weighed = cv2.GaussianBlur(values * alpha, (0, 0), EDGE_BLUR * len(person))  # faint pixels are all rounding
    around = 255 * weighed[..., :3] / np.maximum(weighed[..., 3:], 1e-3)
    colors = (values[..., :3] + FAINT * around) / (alpha + FAINT)
    return np.dstack([np.clip(np.rint(colors), 0, 255).astype(np.uint8), person[..., 3]])
