"""From an engine's segments to one phone per spectrogram frame, with the boundaries where the sound changes.

The synthesisers disagree on where a phone begins: espeak-ng reports a vowel after a nasal when its transition is over
(and its stops at their bursts: see `encoders.corpus.espeak`), diphone voices count the first pitch periods of a vowel
to the stop before it. The table moves boundaries to the acoustic event that all voices share.

How it was measured (60 sentences of each voice; log energies of 16 ms windows every 2.5 ms; the slope over +-15 ms,
averaged over all boundaries of a pair between segments of 45 ms or more; the extremum of the slope within +-80 ms):
fall of 0.5-3 kHz into stops and nasals, and its rise out of voiced stops and nasals; rise of 0.1-0.9 kHz (voicing) out
of voiceless stops; 4-7.8 kHz against 0.1-0.9 kHz for sibilants; all energy for silence. Entries where mean and median
differed by more than 8 ms are zero. `tests/boundary_slopes.py` measures in the same way what is left.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from encoders.corpus.phone_maps import PhoneSet, phones_of, shares
from encoders.corpus.utterances import Utterance
from encoders.errors import CorpusError
from encoders.phones import PHONES, SILENCE

LABEL_RATE = 125.0
"""Labels per second: the frames of `encoders.spectrogram`."""
SAMPLES_PER_LABEL = 128

_CLASSES: Mapping[str, str] = {
    phone: name
    for name, phones in {
        "sil": "sil", "T": "p t k", "D": "b d g", "S": "s z sh", "F": "f v th x h", "N": "m n ng", "L": "l r j w",
    }.items()
    for phone in phones.split()
}  # fmt: skip
_VOWEL = "V"

_SHIFTS_MS = """
voice                   V>T  V>D  V>S  V>N V>sil  T>V  D>V  S>V  N>V sil>V  N>T  S>T
slt                       6    8   16    0    8   -2  -11   -8    1    1    5    6
awb                       0    2    8    0    0   -2  -14   -5   -2    2    5   -8
rms                       0    1   10    0    5   -2  -20  -10  -10    0    0   -5
kal                       6    6   12    4  -18  -26   -6    0    0    0    8   10
kal16                     6    6    6    4  -18  -28   -6    0    1    0    6   10
ked_diphone               6    9   14    6  -14  -32   -8   -5    2    6    5   10
kal_diphone              12   14   19    6  -24  -25   -4    6   10    4   16   10
cmu_us_slt_arctic_hts     5    8   26    1    8    2   -3   -4    2   10   19    5
lp_diphone               -5    5    0    8   -2  -10   -9   -8    0    0   20   -2
pc_diphone               -5   12    8    8   -9  -14   -5   -8   -5    2   14   -5
czech_machac              8    2    8    5   25  -18   -8  -11    2  -12   18   -2
czech_krb                 2    2    9    1   -6   -8   -1   -5   -2   -8   16    0
czech_ph                  0    5    6    5   19   -7   -5    1   -4    2   21  -10
czech_dita                5    2    8    2    0  -12   -8   -5    0   -9    8    2
msu_ru_nsh_clunits      -18    1   28    3    0  -25  -22  -15  -22   11    8  -34
suo_fi_lj_diphone        11   15   11    6    0   -6   -4    2    1    0   31   12
hy_fi_mv_diphone         12    4   10    1  -14   -6   -9   -2    0    0   28    0
upc_ca_ona_hts           10   12   15    1   14   -4   -2    1    5   10   14    5
hindi_NSK_diphone         2    5    4    4  -11  -12  -10   -5    0    0    3    0
marathi_NSK_diphone       2    6    4    5  -11  -12  -10   -5   -2    0    5    0
telugu_NSK_diphone        2    5    4    4  -10  -12  -10   -6   -4    0   11    0
espeak                    2    2    0    0    2   -2  -20    0  -20   -2    5   20
espeak-klatt              5    2    0    0    2   -2    4    2  -32   -5    5   20
"""
"""Shift of the boundary between two classes of phones [ms], positive where the label comes too early."""

# Liquids are too smooth to measure one by one; over all voices of espeak-ng they behave before vowels as nasals do. The
# s of "its" begins at the burst of its t.
_ESPEAK_SHIFTS_MS: Mapping[tuple[str, str], float] = {("L", "V"): -20.0, ("T", "S"): -40.0}


@dataclass(frozen=True)
class _TimedPhones:
    phones: tuple[str, ...]
    end_s: float


def boundary_shifts_s(voice: str) -> Mapping[tuple[str, str], float]:
    """Shifts of a voice's boundaries [s] by the classes on both sides; a pair that is missing is not moved."""
    return _SHIFTS_S[voice]


def frame_labels(utterance: Utterance, phone_set: PhoneSet, timing: str) -> np.ndarray:
    """The phone at every spectrogram frame.

    Args:
        utterance: from one of the engines.
        phone_set: of its symbols.
        timing: row of the table of shifts; "" moves nothing.

    Returns:
        uint8 [len(samples) // 128], indices into `PHONES`; label k is the phone at sample 128 * k.

    Raises:
        CorpusError: a symbol has no phone.
    """
    timed = list(_timed_phones(utterance, phone_set))
    if timing:
        timed = _shifted(timed, boundary_shifts_s(timing))
    labels = np.full(len(utterance.samples) // SAMPLES_PER_LABEL, SILENCE, np.uint8)
    start = 0.0
    for entry in timed:
        ends = start + (entry.end_s - start) * np.cumsum(shares(entry.phones))
        for phone, end in zip(entry.phones, ends, strict=True):
            labels[_first_label(start) : _first_label(end)] = PHONES.index(phone)
            start = end
    return labels


def _first_label(time_s: float) -> int:
    """First label at or after a time."""
    return int(np.ceil(round(time_s * LABEL_RATE, 6)))


def _timed_phones(utterance: Utterance, phone_set: PhoneSet) -> Iterator[_TimedPhones]:
    start = 0.0
    for segment in utterance.segments:
        phones = phones_of(phone_set, segment.symbol, utterance.language)
        if phones is None:
            raise CorpusError(
                f"the symbol {segment.symbol!r} ({utterance.language}) has no phone in the set {phone_set!r}; "
                "add it to encoders/corpus/phone_maps.py"
            )
        if phones and segment.end_s > start:
            yield _TimedPhones(phones, segment.end_s)
            start = segment.end_s


def _shifted(timed: list[_TimedPhones], shifts_s: Mapping[tuple[str, str], float]) -> list[_TimedPhones]:
    """Moves every inner boundary, at most to the middle of the shorter side's segment."""
    moved = []
    start = 0.0
    for entry, after in pairwise(timed):
        shift = shifts_s.get((_class_of(entry.phones[-1]), _class_of(after.phones[0])), 0.0)
        end = min(max(entry.end_s + shift, (start + entry.end_s) / 2), (entry.end_s + after.end_s) / 2)
        moved.append(_TimedPhones(entry.phones, end))
        start = entry.end_s
    return [*moved, *timed[-1:]]


def _class_of(phone: str) -> str:
    return _CLASSES.get(phone, _VOWEL)


def _parsed_shifts() -> dict[str, dict[tuple[str, str], float]]:
    header, *rows = (line.split() for line in _SHIFTS_MS.strip().splitlines())
    pairs = [tuple(pair.split(">")) for pair in header[1:]]
    table = {row[0]: dict(zip(pairs, (float(shift) for shift in row[1:]), strict=True)) for row in rows}
    for voice in ("espeak", "espeak-klatt"):
        table[voice] |= _ESPEAK_SHIFTS_MS
    return {voice: {pair: shift / 1000.0 for pair, shift in row.items()} for voice, row in table.items()}


_SHIFTS_S = _parsed_shifts()
