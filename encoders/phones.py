"""The phone inventory of the embedded encoder and its visemes.

38 phones cover the languages of the synthetic training speech; phones that look alike on the lips share one of 15
visemes (the consonants as in the MPEG-4 viseme set, ISO/IEC 14496-2; vowels split by opening and rounding).
"""

from __future__ import annotations

from dataclasses import dataclass

VISEMES: dict[str, tuple[str, ...]] = {
    "silence": ("sil",),
    "bilabial": ("p", "b", "m"),
    "labiodental": ("f", "v"),
    "dental": ("th",),
    "alveolar": ("t", "d", "n", "l"),
    "rhotic": ("r",),
    "sibilant": ("s", "z"),
    "postalveolar": ("sh",),
    "velar": ("k", "g", "ng", "x", "h"),
    "close rounded": ("w", "U", "u", "y", "oe"),
    "mid rounded": ("o", "O"),
    "open": ("a", "A"),
    "open-mid": ("E", "ae", "V"),
    "close spread": ("i", "I", "e", "j"),
    "central": ("@", "3"),
}
"""Viseme name -> the phones that share it. The order is that of the viseme head's outputs."""

PHONES: tuple[str, ...] = (
    "sil", "p", "b", "m", "f", "v", "th", "t", "d", "n", "l", "r", "s", "z", "sh", "k", "g", "ng", "x", "h", "j", "w",
    "i", "I", "e", "E", "ae", "a", "A", "O", "o", "U", "u", "y", "oe", "V", "@", "3",
)  # fmt: skip
"""Phone symbols in the order of the phone head's anchors."""

SILENCE: int = PHONES.index("sil")
"""Index of the silence phone."""

VISEME_OF_PHONE: tuple[int, ...] = tuple(
    next(index for index, phones in enumerate(VISEMES.values()) if phone in phones) for phone in PHONES
)
"""Index of each phone's viseme, in the order of PHONES."""


@dataclass(frozen=True)
class ArticulatoryTarget:
    """Where a phone draws the lips, and how hard it draws against its neighbours."""

    aperture: float  # of the inner lips, in [0, 1]: closed to wide open
    aperture_dominance: float  # weight against the neighbours, > 0
    width: float  # distance of the mouth corners, in [-1, 1]: rounded to spread
    width_dominance: float


APERTURE_BLENDING_S = 0.04
"""Coarticulation: standard deviation of the Gaussian that blends neighbouring apertures, seconds..."""
WIDTH_BLENDING_S = 0.064
"""...and widths. Rounding starts earlier and lasts longer than opening and closing."""

ARTICULATORY_TARGETS: dict[str, ArticulatoryTarget] = {
    "sil": ArticulatoryTarget(0.42, 0.63, 0.16, 0.40),
    "p": ArticulatoryTarget(0.00, 1.73, -0.05, 0.20),
    "b": ArticulatoryTarget(0.00, 1.73, -0.10, 0.20),
    "m": ArticulatoryTarget(0.00, 1.73, -0.08, 0.20),
    "f": ArticulatoryTarget(0.21, 1.41, -0.08, 0.50),
    "v": ArticulatoryTarget(0.20, 1.41, 0.06, 0.50),
    "th": ArticulatoryTarget(0.31, 1.00, 0.07, 0.40),
    "t": ArticulatoryTarget(0.51, 0.71, 0.24, 0.20),
    "d": ArticulatoryTarget(0.32, 0.71, 0.20, 0.20),
    "n": ArticulatoryTarget(0.21, 0.63, 0.21, 0.20),
    "l": ArticulatoryTarget(0.23, 0.71, 0.13, 0.20),
    "r": ArticulatoryTarget(0.20, 0.77, -0.51, 0.70),
    "s": ArticulatoryTarget(0.39, 1.00, 0.46, 0.50),
    "z": ArticulatoryTarget(0.26, 1.00, 0.30, 0.50),
    "sh": ArticulatoryTarget(0.70, 1.00, -0.30, 1.20),
    "k": ArticulatoryTarget(0.46, 0.55, 0.01, 0.10),
    "g": ArticulatoryTarget(0.61, 0.55, 0.00, 0.10),
    "ng": ArticulatoryTarget(0.46, 0.55, 0.00, 0.10),
    "x": ArticulatoryTarget(0.77, 0.55, 0.00, 0.10),
    "h": ArticulatoryTarget(0.69, 0.45, 0.00, 0.10),
    "j": ArticulatoryTarget(0.40, 0.77, 0.41, 0.70),
    "w": ArticulatoryTarget(0.00, 1.34, -0.98, 2.00),
    "i": ArticulatoryTarget(0.61, 1.00, 0.73, 1.00),
    "I": ArticulatoryTarget(0.53, 1.00, 0.37, 0.80),
    "e": ArticulatoryTarget(0.63, 1.00, 0.47, 1.00),
    "E": ArticulatoryTarget(0.61, 1.00, 0.45, 1.00),
    "ae": ArticulatoryTarget(0.91, 1.00, 0.56, 1.00),
    "a": ArticulatoryTarget(0.86, 1.05, 0.31, 1.00),
    "A": ArticulatoryTarget(0.62, 1.05, -0.11, 1.00),
    "O": ArticulatoryTarget(0.37, 1.00, -0.88, 1.00),
    "o": ArticulatoryTarget(0.28, 1.00, -0.95, 1.20),
    "U": ArticulatoryTarget(0.07, 1.00, -0.62, 1.00),
    "u": ArticulatoryTarget(0.07, 1.05, -0.99, 1.40),
    "y": ArticulatoryTarget(0.10, 1.05, -0.87, 1.40),
    "oe": ArticulatoryTarget(0.28, 1.00, -0.70, 1.20),
    "V": ArticulatoryTarget(0.50, 1.00, 0.11, 0.80),
    "@": ArticulatoryTarget(0.36, 0.77, -0.07, 0.50),
    "3": ArticulatoryTarget(0.34, 0.89, -0.35, 0.80),
}
"""Phone -> target. At any time aperture and width are the dominance-weighted means of the phones around, weighted by
the blending Gaussian (a linear form of Cohen and Massaro's dominance functions, 1993).

Set by hand from phonetics, then recalibrated by `target_calibration` on the fitted parts of six clips of people
talking: a ridge regression of measured inner-lip opening and mouth width on blended phone posteriors, shrunk to the
hand table, /p b m/ kept closed. What it taught: /s t sh i e/ show the teeth (lips apart at a closed jaw), back and
rounded vowels are closed further than their jaw, silence is neutral. On people left out the correlation of phone
posteriors with the opening rises from .40 to .56, with the width from .51 to .56.
"""

ARTICULATORS: tuple[str, ...] = ("aperture", "width", "closure")
"""Articulatory outputs: aperture in [0, 1], width in [-1, 1] (rounded to spread), closure of /p b m/ (a logit)."""
