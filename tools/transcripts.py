"""How near a transcript comes to the words that were said: English text to words, word errors, word error rate."""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass

_UNITS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_POWERS = ((10**9, "billion"), (10**6, "million"), (10**3, "thousand"), (10**2, "hundred"))
_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth",
    "twelve": "twelfth",
}  # fmt: skip
MOST_DIGITS = 12
"""Longer numbers are read digit by digit."""
_NUMBER = re.compile(r"(?P<whole>\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.(?P<decimals>\d+)|(?P<ordinal>st|nd|rd|th)\b)?")
_SIGNS = {"%": " percent ", "&": " and "}
_APOSTROPHES = "\u2019\u02bc\u2018`"
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*'?")


@dataclass(frozen=True)
class WordErrors:
    """The fewest changes that turn a reference's words into a hypothesis's; of those, the ones that keep most words."""

    reference_words: int
    changes: int
    kept: int
    """Words of the reference that are in the hypothesis, in order."""

    @property
    def rate(self) -> float:
        """Word error rate: substitutions, deletions and insertions per word of the reference.

        Above 1 where many words too many are read (TalkLip, arXiv 2303.17480, Sec. 4.1); NaN without a reference.
        """
        return self.changes / self.reference_words if self.reference_words else math.nan

    @property
    def accuracy(self) -> float:
        """Word accuracy: share of the reference's words that are kept, 0 to 1; NaN without a reference.

        For a reference and a hypothesis of one word each, averaged, it is the accuracy of TalkLip's Table 1 (ACC).
        """
        return self.kept / self.reference_words if self.reference_words else math.nan


def word_errors(reference: str, hypothesis: str) -> WordErrors:
    """Compares two English texts word by word, each as `words` reads it (Levenshtein 1966, on words)."""
    expected, read = words(reference), words(hypothesis)
    # Of every beginning of `read`: (changes, -kept) against the beginning of `expected` that was looked at last.
    previous = [(place, 0) for place in range(len(read) + 1)]
    for row, wanted in enumerate(expected, start=1):
        current = [(row, 0)]
        for column, word in enumerate(read):
            is_kept = word == wanted
            changes, kept = previous[column]
            current.append(
                min(
                    (changes + (not is_kept), kept - is_kept),
                    (previous[column + 1][0] + 1, previous[column + 1][1]),
                    (current[column][0] + 1, current[column][1]),
                )
            )
        previous = current
    changes, kept = previous[-1]
    return WordErrors(len(expected), changes, -kept)


def words(text: str) -> list[str]:
    """English text as spoken words: lower case, no punctuation, hyphens split, apostrophes kept inside words.

    Numbers become cardinals or ordinals ("1,250" to "one thousand two hundred fifty", "3rd" to "third", "2.5" to "two
    point five"), "%" percent and "&" and. Years, currencies and abbreviations are not expanded.
    """
    text = unicodedata.normalize("NFKC", text).casefold()
    for sign in _APOSTROPHES:
        text = text.replace(sign, "'")
    text = _NUMBER.sub(_spoken, text)
    for sign, spoken in _SIGNS.items():
        text = text.replace(sign, spoken)
    return [word.rstrip("'") for word in _WORD.findall(text)]


def _spoken(match: re.Match[str]) -> str:
    digits = match["whole"].replace(",", "")
    spoken = _digit_by_digit(digits) if len(digits) > MOST_DIGITS else _cardinal(int(digits))
    if match["decimals"]:
        spoken = [*spoken, "point", *_digit_by_digit(match["decimals"])]
    if match["ordinal"]:
        spoken = [*spoken[:-1], _ordinal(spoken[-1])]
    return f" {' '.join(spoken)} "


def _digit_by_digit(digits: str) -> list[str]:
    return [_UNITS[int(digit)] for digit in digits]


def _cardinal(number: int) -> list[str]:
    if number < len(_UNITS):
        return [_UNITS[number]]
    if number < 100:
        tens, units = divmod(number, 10)
        return [_TENS[tens - 2], *([_UNITS[units]] if units else [])]
    power, name = next(pair for pair in _POWERS if number >= pair[0])
    count, rest = divmod(number, power)
    return [*_cardinal(count), name, *(_cardinal(rest) if rest else [])]


def _ordinal(cardinal: str) -> str:
    if cardinal in _ORDINALS:
        return _ORDINALS[cardinal]
    return f"{cardinal[:-1]}ieth" if cardinal.endswith("y") else f"{cardinal}th"
