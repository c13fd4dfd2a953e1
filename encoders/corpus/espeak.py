"""Speech of espeak-ng with its phoneme events, through the C library (espeak-ng/speak_lib.h, version 1.51).

The library keeps one global state per process and leaves it unusable after some voices, so that it is loaded in a
process of its own, which ends with the generator.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import multiprocessing
import random
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

import numpy as np

from encoders.corpus.utterances import Segment, Utterance, at_sample_rate
from encoders.errors import MissingEngineError

PACKAGES = ("espeak-ng", "libespeak-ng1")

_LIBRARY = "libespeak-ng.so.1"
_SYNCHRONOUS = 2
_PHONEME_EVENTS, _PHONEME_IPA = 1, 2
_RATE, _PITCH, _PITCH_RANGE = 1, 3, 4
_LIST_TERMINATED, _SENTENCE_ENDED, _PHONEME = 0, 5, 7
_UTF8_TEXT, _END_PAUSE = 1, 0x1000
_SENTENCES_PER_CALL = 32
# Between an i and another vowel espeak-ng slips in a glide, and between a stop and an r a transition, that have no
# name, as pauses have none. The transition is counted to the sound after it, as the mark of a palatalised consonant is.
_GLIDES_AFTER = ("i", "ɪ")  # noqa: RUF001
_TRANSITION = "ʲ"
_VOICELESS_STOPS = ("p", "t", "k", "c", "q", "ʈ")
_CLOSURE_S = 0.042
_WINDOW_S = 0.01
_QUIET_POWER = 10.0**-3


class _EventId(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True)
class EspeakRequest:
    """One sentence and how to say it."""

    text: str
    language: str
    """espeak-ng's language code (`espeak-ng --voices`)."""
    variant: str
    """Voice variant (`espeak-ng --voices=variant`); "" for the language's own voice."""
    words_per_minute: int
    pitch: int
    """0 to 100; 50 is the variant's own."""
    pitch_range: int
    """0 (monotone) to 100; 50 is the variant's own."""


def random_request(text: str, language: str, variant: str, generator: random.Random) -> EspeakRequest:
    """A sentence at a rate, pitch and pitch range of living speech."""
    return EspeakRequest(
        text,
        language,
        variant,
        words_per_minute=generator.randint(120, 230),
        pitch=generator.randint(15, 85),
        pitch_range=generator.randint(20, 90),
    )


def check_espeak() -> None:
    """Raises MissingEngineError where the library is not installed."""
    if ctypes.util.find_library("espeak-ng") is None:
        raise MissingEngineError("espeak-ng", PACKAGES)


def speak(requests: Iterable[EspeakRequest]) -> Iterator[tuple[EspeakRequest, Utterance | None]]:
    """Says the requests one after the other, in a process of its own.

    Args:
        requests: may be endless; it is read `_SENTENCES_PER_CALL` at a time.

    Yields:
        Each request with its utterance, or None where espeak-ng made no sound (or does not know the voice).

    Raises:
        MissingEngineError: the library is not installed.
    """
    check_espeak()
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        remaining = iter(requests)
        while batch := list(islice(remaining, _SENTENCES_PER_CALL)):
            yield from zip(batch, process.submit(_speak_batch, batch).result(), strict=True)


class _Engine:
    """The C library, loaded once in the worker process."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(_LIBRARY)
        self._rate = self._library.espeak_Initialize(_SYNCHRONOUS, 500, None, _PHONEME_EVENTS | _PHONEME_IPA)
        self._pcm: list[np.ndarray] = []
        self._events: list[tuple[int, str]] = []
        self._callback = _CALLBACK(self._receive)  # kept: ctypes does not hold a reference
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(self, pcm: ctypes._Pointer, count: int, events: ctypes._Pointer) -> int:
        if count > 0 and pcm:
            self._pcm.append(np.ctypeslib.as_array(pcm, (count,)).copy())
        index = 0
        while events[index].type != _LIST_TERMINATED:
            event = events[index]
            if event.type == _PHONEME:
                self._events.append((event.sample, bytes(event.id.string).decode("utf-8", "ignore")))
            elif event.type == _SENTENCE_ENDED:
                self._events.append((event.sample, ""))
            index += 1
        return 0

    def speak(self, request: EspeakRequest) -> Utterance | None:
        """None where nothing is heard, or the voice is not known."""
        library = self._library
        voice = f"{request.language}+{request.variant}" if request.variant else request.language
        if library.espeak_SetVoiceByName(voice.encode()) != 0:
            return None
        library.espeak_SetParameter(_RATE, request.words_per_minute, 0)
        library.espeak_SetParameter(_PITCH, request.pitch, 0)
        library.espeak_SetParameter(_PITCH_RANGE, request.pitch_range, 0)
        self._pcm.clear()
        self._events.clear()
        text = request.text.encode() + b"\0"
        library.espeak_Synth(text, len(text), 0, 1, 0, _UTF8_TEXT | _END_PAUSE, None, None)
        if not self._pcm or len(self._events) < 3:
            return None
        pcm = np.concatenate(self._pcm)
        segments = timed_segments(self._events, pcm, self._rate)
        return Utterance(at_sample_rate(pcm, self._rate), segments, request.language)


def timed_segments(events: list[tuple[int, str]], pcm: np.ndarray, rate: int) -> tuple[Segment, ...]:
    """What was said when.

    Sounds that the library leaves without a name get one, and voiceless stops, which it reports at their burst, begin
    at their closure.

    Args:
        events: sample and IPA name of each reported phoneme, in order.
        pcm: int16 [n], the sentence.
        rate: samples per second.
    """
    window = round(_WINDOW_S * rate)
    power = np.convolve(np.square(pcm.astype(np.float64)), np.ones(window) / window, "same")
    quiet = power < _QUIET_POWER * power.mean()
    starts = [0] + [sample for sample, _ in events] + [len(pcm)]
    symbols = [""] + [symbol for _, symbol in events]
    for index in range(1, len(symbols)):
        start, end = starts[index : index + 2]
        before = symbols[index - 1]
        if symbols[index] == "" and end - start > 2 * window and not quiet[start:end].any():
            symbols[index] = "j" if before.startswith(_GLIDES_AFTER) else _TRANSITION
        elif symbols[index].startswith(_VOICELESS_STOPS):
            earlier = starts[index - 1]
            starts[index] = earlier + _closure_start(quiet[earlier:start], window, rate, after_pause=before == "")
    ends = np.maximum.accumulate(starts[1:]) / rate
    return tuple(Segment(symbol, float(end)) for symbol, end in zip(symbols, ends, strict=True))


def _closure_start(quiet: np.ndarray, window: int, rate: int, after_pause: bool) -> int:
    """Where in the segment before a burst (whether each of its samples is quiet) the mouth closes.

    That is where the silence before the burst begins: 42 ms before it in most voices, 200 ms in a geminate. Where no
    silence can be told, after a pause or under an echo, the common value is taken.
    """
    loud = np.flatnonzero(~quiet[: len(quiet) - window])
    silence = len(quiet) - int(loud[-1]) if len(loud) else 0
    if after_pause or silence < 2 * window:
        return max(len(quiet) - round(_CLOSURE_S * rate), len(quiet) // 2)
    return int(loud[-1]) - window // 2  # the power's window reaches half its length into the silence


@lru_cache(maxsize=1)
def _engine() -> _Engine:
    return _Engine()


def _speak_batch(requests: list[EspeakRequest]) -> list[Utterance | None]:
    return [_engine().speak(request) for request in requests]
