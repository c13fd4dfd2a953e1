"""English text to words, and word errors: by hand, and against figures of jiwer."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.transcripts import word_errors, words


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("PLACE blue, at Q-7; again!", "place blue at q seven again"),
        ("Don\u2019t say \u2018dogs\u2019 names\u2019: 'tis 8 o'clock", "don't say dogs names tis eight o'clock"),
        ("0 and 13, 20, 45", "zero and thirteen twenty forty five"),
        ("100 of 1,250", "one hundred of one thousand two hundred fifty"),
        ("999999999999", " ".join(f"nine hundred ninety nine {power}" for power in ("billion", "million", "thousand"))
         + " nine hundred ninety nine"),
        ("1,000,000 but 1,2345", "one million but one two thousand three hundred forty five"),
        ("the 1st, 2nd, 3rd, 5th, 8th, 9th, 12th", "the first second third fifth eighth ninth twelfth"),
        ("20th, 21st and 100th", "twentieth twenty first and one hundredth"),
        ("2.05% & more.", "two point zero five percent and more"),
        ("1234567890123", "one two three four five six seven eight nine zero one two three"),
        ("na\u00efve caf\u00e9 \u2014 cafe\u0301", "na\u00efve caf\u00e9 caf\u00e9"),
        ("_ ... \u2014 '", ""),
    ],
)  # fmt: skip
def test_text_becomes_the_words_that_are_spoken(text: str, spoken: str) -> None:
    assert words(text) == spoken.split()


@given(st.text(st.characters(max_codepoint=0x2FF)))
def test_words_of_words_are_the_same_words(text: str) -> None:
    once = words(text)
    assert words(" ".join(once)) == once
    assert all(once) and not any(character.isspace() for word in once for character in word)


@pytest.mark.parametrize(
    ("reference", "read", "changes", "kept"),
    [
        ("the cat sat on the mat", "The cat sat, on the mat.", 0, 6),
        ("the cat sat on the mat", "the dog sat on mat", 2, 4),  # cat to dog, without the second the
        ("the cat", "", 2, 0),
        ("home", "going home now", 2, 1),
        ("a b", "b c", 2, 1),  # a out, c in: keeps b, as two substitutions would not
        ("at 7", "at seven", 0, 2),
    ],
)
def test_word_errors_by_hand(reference: str, read: str, changes: int, kept: int) -> None:
    errors = word_errors(reference, read)
    assert (errors.changes, errors.kept) == (changes, kept)
    assert errors.rate == changes / errors.reference_words and errors.accuracy == kept / errors.reference_words


# Of jiwer 4.0.0, process_words: substitutions + deletions + insertions, and wer to six digits.
GOLDEN = [
    ("the cat sat on the mat", "the dog sat on mat", 2, 0.333333),
    ("a cat", "a cat sat on the mat ran home", 6, 3.0),
    ("home", "", 1, 1.0),
    ("the cat ran home", "ran home the cat", 4, 1.0),
    ("mat a home on", "the the ran cat cat home on ran on", 7, 1.75),
    ("ran cat a home sat the dog a home the ran", "ran on dog ran dog home sat ran on home ran the a", 9, 0.818182),
    ("cat dog ran ran", "on sat sat mat mat home", 6, 1.5),
    ("home the cat mat dog dog cat on mat the mat", "ran mat cat the ran home the ran sat a", 10, 0.909091),
    ("sat sat a mat dog", "dog cat ran home on home", 6, 1.2),
    ("the the on home home", "mat a the ran", 5, 1.0),
    ("sat a ran sat ran sat", "mat mat mat home on sat dog cat cat home on on the", 12, 2.0),
    ("home cat sat mat a mat cat", "dog sat dog dog the", 6, 0.857143),
    ("cat on mat cat sat cat", "ran cat ran the ran", 6, 1.0),
    ("dog a on mat cat cat dog mat the mat", "dog cat ran home the", 7, 0.7),
]


@pytest.mark.parametrize(("reference", "read", "changes", "rate"), GOLDEN)
def test_word_errors_are_those_of_another_implementation(
    reference: str, read: str, changes: int, rate: float
) -> None:
    errors = word_errors(reference, read)
    assert errors.changes == changes and errors.rate == pytest.approx(rate, abs=5e-7)


SENTENCES = st.lists(st.sampled_from(["a", "b", "c"]), max_size=8).map(" ".join)


@given(SENTENCES, SENTENCES)
def test_changes_are_a_distance_and_bound_what_is_kept(one: str, other: str) -> None:
    errors = word_errors(one, other)
    assert errors.changes == word_errors(other, one).changes
    lengths = len(one.split()), len(other.split())
    assert max(lengths) - min(lengths) <= errors.changes <= max(lengths)
    assert max(lengths) - errors.changes <= errors.kept <= min(lengths)
    assert (errors.changes == 0) == (one == other)


def test_without_a_reference_nothing_can_be_said() -> None:
    errors = word_errors("...", "some words")
    assert errors.changes == 2 and math.isnan(errors.rate) and math.isnan(errors.accuracy)
