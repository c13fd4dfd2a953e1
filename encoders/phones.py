"""The phone inventory of the embedded encoder and its visemes.

38 phones cover the languages of the synthetic training speech; phones that look alike on the lips share one of 15
visemes (the consonants as in the MPEG-4 viseme set, ISO/IEC 14496-2; vowels split by opening and rounding).
"""

from __future__ import annotations

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

ARTICULATORS: tuple[str, ...] = ("aperture", "width", "closure")
"""Articulatory outputs: aperture in [0, 1], width in [-1, 1] (rounded to spread), closure of /p b m/ (a logit)."""
