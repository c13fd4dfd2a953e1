"""Training speech: phone maps, label timing, texts, codecs, files, the build, and the engines where installed."""

# Letters of the phonetic alphabet look like others.
# ruff: noqa: RUF001

from __future__ import annotations

import itertools
import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from boundary_slopes import boundary_delays_ms
from hypothesis import given
from hypothesis import strategies as st

from encoders.corpus import build, codecs, espeak, festival, flite, phone_maps, sentences, timing, voices
from encoders.corpus.build import CorpusRecipe, build_corpus
from encoders.corpus.recording import VoiceRecordings, load_corpus, load_recordings, save_recordings
from encoders.corpus.utterances import SAMPLE_RATE, Segment, Utterance
from encoders.errors import CorpusError, MissingEngineError
from encoders.phones import PHONES, SILENCE

SPOKEN_VOICES = tuple(each for each in voices.VOICES if each.name in {"kal16", "ked_diphone", "lp_diphone", "en-029"})


def missing_engine() -> str:
    """What the voices that speak here lack, and how to install it; empty when they can speak."""
    try:
        build.check_engines(CorpusRecipe(voices=SPOKEN_VOICES))
    except MissingEngineError as error:
        return str(error)
    return ""


needs_engines = pytest.mark.skipif(bool(missing_engine()), reason=missing_engine())

ESPEAK_SYMBOLS = """
en-us: n ɪ t s ə k d l ɹ ɛ z m p æ ð eɪ uː v b w ʌ iː ɚ oʊ f ᵻ dʒ ɑː ɐ aɪ əl ɜː j ʃ ɾ i ɔː tʃ ɡ ŋ iə ɑːɹ θ ɔɪ aʊ aɪɚ h ʒ
de: ɾ a aɪ ts ʊ ɜ ç yː ɛː ɔø øː œ x ɔ (en) (de)
roa/fr: ʁ ɑ̃ ɔ̃ ə- ɛ̃ œ̃ ɲ e- ø y
es: β ɣ ʎ ʝ r θ ɾ
ru: ʲ tʲ tʃʲ ɭ ja ju ɕ ʑ mʲ ɪ^ u" y
pt-br: ɐ̃ ɐ̃ʊ̃ ũ õ eʊ æ y
cs: r̝ r̝̊ r̩ l̩ c ɟ ɲ oʊ iː
fi: oi ie æy yø uo æi q
ar: ʔ ʕ ħ χ q t̪ s̪ dˤ a. u.
vi: ɗ t̪ yə əː c uə ɲ
hi: dʰ cʰ ɖʰ ʈʰ ɡʰ bʰ ɳ ʋ
ja: e̞ ä o̞ ɯᵝ ɽ ɕ ɸ ɴ tɕ ʔ
cmn-latn-pinyin: ts.h ts. s. i. onɡ iou uei kh ph o-
sv: sx ɵ ʉ ʂ ɧ
tr: ɫ ɯ ɟ
fa: 1 ɑ
"""
"""What espeak-ng 1.51 calls the phones of these languages."""

WORLD_PHONES = st.sampled_from(["", "n", "t", "s", "a", "tʃ", "aɪ", "ʔ", "b"])


def espeak_symbols() -> Iterator[tuple[str, str]]:
    for line in ESPEAK_SYMBOLS.strip().splitlines():
        language, _, symbols = line.partition(":")
        yield from ((language, symbol) for symbol in symbols.split())


def utterance(*segments: tuple[str, float], language: str = "en") -> Utterance:
    """Noise with segments of the given symbols and ends [s]."""
    sound = np.random.default_rng(0).normal(0.0, 0.1, round(segments[-1][1] * SAMPLE_RATE))
    return Utterance(sound.astype(np.float32), tuple(Segment(*segment) for segment in segments), language)


def runs(labels: np.ndarray) -> list[tuple[str, int]]:
    """(phone, number of labels) of each run of equal labels."""
    return [(PHONES[label], len(list(group))) for label, group in itertools.groupby(labels)]


class TestPhoneMaps:
    @pytest.mark.parametrize("phone_set", sorted(phone_maps.FESTIVAL_MAPS))
    def test_every_festival_symbol_has_phones(self, phone_set: phone_maps.PhoneSet) -> None:
        for symbol in phone_maps.FESTIVAL_MAPS[phone_set]:
            phones = phone_maps.phones_of(phone_set, symbol)
            assert phones and set(phones) <= set(PHONES), symbol

    def test_every_espeak_symbol_has_phones(self) -> None:
        for language, symbol in espeak_symbols():
            phones = phone_maps.phones_of("ipa", symbol, language)
            assert phones is not None and set(phones) <= set(PHONES), (language, symbol)

    @pytest.mark.parametrize(
        ("language", "symbol", "expected"),
        [
            ("en-us", "tʃ", ("t", "sh")),
            ("gmw/en", "ɾ", ("d",)),  # the language is behind the family
            ("es", "ɾ", ("r",)),
            ("cs", "r̝̊", ("r", "sh")),
            ("de", "ç", ("x",)),  # not c with a cedilla dropped
            ("roa/fr", "ɑ̃", ("O",)),
            ("pt-br", "ɐ̃ʊ̃", ("V", "U")),
            ("cmn-latn-pinyin", "ts.h", ("t", "sh")),
            ("cmn-latn-pinyin", "kh", ("k",)),  # aspiration
            ("it", "ss", ("s",)),
            ("ar", "ʔ", ()),
            ("de", "(en)", ()),
            ("fi", "", ("sil",)),
        ],
    )
    def test_meaning(self, language: str, symbol: str, expected: tuple[str, ...]) -> None:
        assert phone_maps.phones_of("ipa", symbol, language) == expected

    def test_one_sound_one_phone(self) -> None:
        assert phone_maps.phones_of("czech", "r~") == phone_maps.phones_of("ipa", "r̝", "cs")
        assert phone_maps.phones_of("czech", "i") == phone_maps.phones_of("ipa", "i", "cs")
        assert phone_maps.phones_of("czech", "o") == phone_maps.phones_of("ipa", "o", "cs")
        assert phone_maps.phones_of("american", "ch") == phone_maps.phones_of("italian", "tS")
        assert phone_maps.phones_of("american", "er") == phone_maps.phones_of("ipa", "ɜː", "en-us")

    def test_unknown_symbols_are_named(self) -> None:
        assert phone_maps.phones_of("ipa", "ʘ", "en") is None
        with pytest.raises(CorpusError, match="ʘ"):
            timing.frame_labels(utterance(("ʘ", 0.5)), "ipa", "")

    def test_shares(self) -> None:
        several = [("a",), ("t", "sh"), ("d", "z"), ("a", "I"), ("j", "a"), ("O", "r"), ("a", "I", "@"), ("k", "sh")]
        for phones in several:
            assert sum(phone_maps.shares(phones)) == pytest.approx(1.0)
            assert min(phone_maps.shares(phones)) > 0.1


class TestFrameLabels:
    def test_labels_stand_for_samples(self) -> None:
        labels = timing.frame_labels(utterance(("", 0.08), ("n", 0.16), ("aɪ", 0.36), ("", 0.4)), "ipa", "")
        assert runs(labels) == [("sil", 10), ("n", 10), ("a", 15), ("I", 10), ("sil", 5)]

    def test_a_glottal_stop_belongs_to_what_follows(self) -> None:
        labels = timing.frame_labels(utterance(("n", 0.08), ("ʔ", 0.16), ("a", 0.4)), "ipa", "")
        assert runs(labels) == [("n", 10), ("a", 40)]

    def test_a_vowel_of_espeak_begins_at_the_release(self) -> None:
        late = utterance(("a", 0.2), ("n", 0.3), ("a", 0.4), ("b", 0.5), ("a", 0.6))
        labels = timing.frame_labels(late, "ipa", "espeak")
        ends = np.cumsum([length for _, length in runs(labels)])
        assert [phone for phone, _ in runs(labels)] == ["a", "n", "a", "b", "a"]
        assert np.abs(ends / timing.LABEL_RATE - [0.2, 0.28, 0.402, 0.48, 0.6]).max() <= 1 / timing.LABEL_RATE

    @given(
        symbols=st.lists(st.tuples(WORLD_PHONES, st.floats(0.0, 0.3)), min_size=1, max_size=12),
        row=st.sampled_from(["", "espeak", "espeak-klatt", "msu_ru_nsh_clunits"]),
    )
    def test_length_and_order_hold_for_any_segments(self, symbols: list[tuple[str, float]], row: str) -> None:
        ends = np.cumsum([duration for _, duration in symbols]) + 0.01
        spoken = utterance(*zip((symbol for symbol, _ in symbols), ends.tolist(), strict=True))
        labels = timing.frame_labels(spoken, "ipa", row)
        assert len(labels) == len(spoken.samples) // timing.SAMPLES_PER_LABEL
        expected = [phone for symbol, _ in symbols for phone in phone_maps.phones_of("ipa", symbol) or ()]
        remaining = iter([*expected, "sil"])
        assert all(phone in remaining for phone, _ in runs(labels)), "phones come in the order of the segments"

    def test_shifted_boundaries_keep_half_of_each_segment(self) -> None:
        labels = timing.frame_labels(utterance(("t", 0.016), ("s", 0.4)), "ipa", "espeak")
        assert runs(labels)[0] == ("t", 1)  # 40 ms earlier would leave nothing

    def test_every_voice_has_measured_boundaries(self) -> None:
        for voice in voices.VOICES:
            rows = ("espeak", "espeak-klatt") if voice.engine == "espeak-ng" else (voice.name,)
            for row in rows:
                shifts = timing.boundary_shifts_s(row)
                assert all(abs(shift) <= 0.05 for shift in shifts.values()), row


class TestEspeakEvents:
    RATE = 22050

    def sound(self, *parts: tuple[float, bool]) -> np.ndarray:
        """Noise (True) and silence (False) of the given durations [s]."""
        generator = np.random.default_rng(0)
        pieces = [generator.normal(0.0, 3000.0 * loud, round(duration * self.RATE)) for duration, loud in parts]
        return np.concatenate(pieces).astype(np.int16)

    def segments(self, sound: np.ndarray, *events: tuple[float, str]) -> list[tuple[str, float]]:
        reported = [(round(start * self.RATE), symbol) for start, symbol in events]
        found = espeak.timed_segments(reported, sound, self.RATE)
        assert found[-1].end_s == pytest.approx(len(sound) / self.RATE)
        return [(segment.symbol, segment.end_s) for segment in found]

    @pytest.mark.parametrize("closure", [0.04, 0.08, 0.2])
    def test_a_voiceless_stop_begins_with_its_silence(self, closure: float) -> None:
        sound = self.sound((0.3, True), (closure, False), (0.3, True))
        burst = 0.3 + closure
        found = self.segments(sound, (0.0, "a"), (burst, "t"), (burst + 0.05, "a"))
        assert [symbol for symbol, _ in found] == ["", "a", "t", "a"]
        assert found[1][1] == pytest.approx(0.3, abs=0.006)
        assert found[2][1] == pytest.approx(burst + 0.05, abs=0.001)

    def test_a_stop_without_silence_has_the_common_closure(self) -> None:
        found = self.segments(self.sound((0.6, True)), (0.0, "a"), (0.3, "k"), (0.35, "a"))
        assert found[1][1] == pytest.approx(0.3 - 0.042, abs=0.001)

    def test_a_pause_stays_a_pause(self) -> None:
        sound = self.sound((0.3, True), (0.4, False), (0.3, True))
        found = self.segments(sound, (0.0, "a"), (0.3, ""), (0.7, "t"), (0.75, "a"))
        assert found[2] == ("", pytest.approx(0.7 - 0.042, abs=0.001))

    def test_a_voiced_stop_is_left_where_it_is(self) -> None:
        sound = self.sound((0.3, True), (0.08, False), (0.3, True))
        assert self.segments(sound, (0.0, "a"), (0.3, "b"), (0.45, "a"))[1][1] == pytest.approx(0.3, abs=0.001)

    @pytest.mark.parametrize(("before", "named"), [("i", "j"), ("ɪ", "j"), ("p", "ʲ")])
    def test_a_sound_without_a_name_is_no_pause(self, before: str, named: str) -> None:
        found = self.segments(self.sound((0.6, True)), (0.1, before), (0.3, ""), (0.35, "a"))
        assert found[2][0] == named


class TestVoices:
    def test_held_out_voices_are_never_trained_on(self) -> None:
        held_out = [voice for voice in voices.VOICES if voice.held_out]
        trained = [voice for voice in voices.VOICES if not voice.held_out]
        assert {voice.name for voice in held_out} >= {"rms", "czech_dita", "pl"}
        for left, right in itertools.product(held_out, trained):
            assert left.file_name != right.file_name
            if left.engine == "espeak-ng":
                assert left.name != right.name or not set(left.variants) & set(right.variants)
            else:
                assert left.name != right.name

    def test_held_out_variants_are_those_of_the_first_figures(self) -> None:
        assert set(voices.HELD_OUT_VARIANTS) == {"f3", "Andrea", "caleb", "Alicia"}
        assert not set(voices.HELD_OUT_VARIANTS) & set(voices.VARIANTS)

    def test_amounts(self) -> None:
        def hours(engine: str) -> float:
            return sum(voice.minutes for voice in voices.VOICES if voice.engine == engine and not voice.held_out) / 60.0

        assert 3.5 <= hours("espeak-ng") <= 5.0
        assert 6.0 <= hours("flite") + hours("festival") <= 8.5
        assert all(voice.minutes <= 45.0 for voice in voices.VOICES)
        espeak_voices = [voice for voice in voices.VOICES if voice.engine == "espeak-ng" and not voice.held_out]
        assert len(espeak_voices) >= 25 and len(set(voices.VARIANTS)) >= 70

    def test_every_voice_has_text_and_a_licence(self) -> None:
        for voice in voices.VOICES:
            assert voice.text in sentences.LANGUAGES and voice.licence and voice.package


@pytest.fixture
def small_library(tmp_path: Path) -> Path:
    """A folder like /usr/share with a German and an English handbook, a word list and a Finnish manual page."""
    prose = {
        "de-DE": "Dies ist ein ganz einfacher deutscher Satz, Nummer",
        "en-US": "This is a simple English sentence number",
    }
    letters = "abcdefghijklmnopqrst"
    for locale, start in prose.items():
        folder = tmp_path / "doc" / "debian-handbook" / "html" / locale
        folder.mkdir(parents=True)
        body = "".join(f'<div class="para">{start} <b>{letter * 3}</b>.</div>' for letter in letters)
        body += "<pre>apt install this is code and not a sentence at all</pre>"
        body += '<div class="para">This is the text that nobody has translated of the handbook.</div>'
        body += '<div class="para">Set x=1 and y|z in /etc/file {braces} to make it unspeakable.</div>'
        (folder / "index.html").write_text(f"<html><head><title>No</title></head><body>{body}</body></html>", "utf-8")
    (tmp_path / "dict").mkdir()
    (tmp_path / "dict" / "ngerman").write_text("\n".join(f"Wort{letter * 2}" for letter in letters), "utf-8")
    (tmp_path / "dict" / "american-english").write_text("\n".join(f"word{letter * 2}" for letter in letters), "utf-8")
    return tmp_path


class TestSentences:
    def test_prose_words_and_nothing_else(self, small_library: Path) -> None:
        found = sentences.sentences("de", 0, small_library)
        prose = [sentence for sentence in found if sentence.startswith("Dies ist")]
        assert len(prose) == 20
        others = [sentence for sentence in found if sentence not in prose]
        assert others and all(word.strip(".").startswith("Wort") for sentence in others for word in sentence.split())

    def test_the_seed_decides(self, small_library: Path) -> None:
        first = sentences.sentences("de", 3, small_library)
        sentences.sentences.cache_clear()
        assert sentences.sentences("de", 3, small_library) == first
        assert sentences.sentences("de", 4, small_library) != first

    @pytest.mark.parametrize(("language", "package"), [("fr", "debian-handbook"), ("fi", "manpages-fi")])
    def test_missing_text_names_its_package(self, small_library: Path, language: str, package: str) -> None:
        with pytest.raises(MissingEngineError, match=f"apt install {package}$") as error:
            sentences.sentences(language, 0, small_library)
        assert error.value.packages == (package,)

    def test_a_missing_word_list_names_its_package(self, small_library: Path) -> None:
        (small_library / "dict" / "ngerman").unlink()
        with pytest.raises(MissingEngineError, match="apt install wngerman"):
            sentences.sentences("de", 1, small_library)

    @pytest.mark.parametrize("language", ["te", "ja", "zh", "el"])
    def test_pseudo_words_need_no_text(self, tmp_path: Path, language: str) -> None:
        found = sentences.sentences(language, 0, tmp_path)
        assert len(set(found)) > 1000
        assert sentences.text_packages([language]) == ()


def speech_like(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise below 3 kHz whose loudness rises and falls eight times a second."""
    generator = np.random.default_rng(seed)
    count = round(seconds * SAMPLE_RATE)
    spectrum = np.fft.rfft(generator.normal(size=count))
    frequencies = np.fft.rfftfreq(count, 1 / SAMPLE_RATE)
    spectrum[(frequencies < 150) | (frequencies > 3000)] = 0.0
    knots = np.arange(0, count + 2000, 2000)
    envelope = np.interp(np.arange(count), knots, generator.random(len(knots)))
    sound = np.fft.irfft(spectrum, count) * envelope
    return (0.3 * sound / np.abs(sound).max()).astype(np.float32)


class TestCodecs:
    @pytest.mark.parametrize("delay", [-700, -1, 0, 1, 1105, 3000])
    def test_a_known_delay_is_undone(self, delay: int) -> None:
        sound = speech_like(2.0)
        delayed = np.concatenate([np.zeros(delay, np.float32), sound]) if delay >= 0 else sound[-delay:]
        moved = codecs.aligned(delayed, sound)
        inner = slice(800, -800)
        assert len(moved) == len(sound)
        np.testing.assert_array_equal(moved[inner], sound[inner])

    @pytest.mark.parametrize("codec", codecs.CODECS, ids=lambda codec: codec.name)
    def test_round_trips_are_aligned(self, codec: codecs.Codec) -> None:
        if codec not in codecs.usable_codecs():
            assert codec.name == "gsm", "imageio-ffmpeg's binary has the other encoders"
            return
        sound = speech_like(2.0)
        bit_rate = codec.bit_rates[0] if codec.bit_rates else None
        heard = codecs.round_trip(sound, codec, bit_rate)
        assert heard.shape == sound.shape and heard.dtype == np.float32
        assert not np.array_equal(heard, sound)
        loudness, expected = (np.convolve(np.abs(signal), np.ones(160) / 160, "same") for signal in (heard, sound))
        lags = range(-160, 161, 8)
        likeness = [np.corrcoef(np.roll(loudness, -lag)[400:-400], expected[400:-400])[0, 1] for lag in lags]
        assert abs(lags[int(np.argmax(likeness))]) <= 16, "within a millisecond"
        assert max(likeness) > 0.9

    def test_a_missing_encoder_is_left_out(self) -> None:
        absent = codecs.Codec("none", "no_such_encoder", "ogg", (), SAMPLE_RATE)
        assert codecs.usable_codecs([absent, codecs.CODECS[0]]) == (codecs.CODECS[0],)
        with pytest.raises(CorpusError, match="no_such_encoder"):
            codecs.round_trip(speech_like(0.5), absent, None)


def recordings(lengths: tuple[int, ...] = (3, 5)) -> VoiceRecordings:
    labels = sum(lengths)
    generator = np.random.default_rng(1)
    return VoiceRecordings(
        "flite", "slt", "en", "BSD-like", True,
        samples=generator.integers(-3000, 3000, 128 * labels).astype(np.int16),
        phones=generator.integers(0, len(PHONES), labels).astype(np.uint8),
        lengths=np.array(lengths, np.int32),
        codecs=np.zeros(len(lengths), np.uint8),
        recipe="abc",
    )  # fmt: skip


class TestRecordings:
    def test_round_trip_through_a_file(self, tmp_path: Path) -> None:
        saved = recordings()
        save_recordings(saved, tmp_path / "voice.safetensors")
        loaded = load_recordings(tmp_path / "voice.safetensors")
        assert isinstance(loaded.samples.base, np.memmap) or isinstance(loaded.samples, np.memmap)
        for name in ("samples", "phones", "lengths", "codecs"):
            np.testing.assert_array_equal(getattr(loaded, name), getattr(saved, name))
            assert getattr(loaded, name).dtype == getattr(saved, name).dtype
        assert (loaded.engine, loaded.voice, loaded.language, loaded.licence) == ("flite", "slt", "en", "BSD-like")
        assert loaded.held_out and loaded.recipe == "abc"
        assert [path.name for path in tmp_path.iterdir()] == ["voice.safetensors"]

    def test_utterances_follow_the_lengths(self) -> None:
        saved = recordings()
        parts = list(saved.utterances())
        assert [len(phones) for _, phones in parts] == [3, 5]
        np.testing.assert_array_equal(np.concatenate([samples for samples, _ in parts]), saved.samples)

    def test_lengths_that_do_not_add_up_are_refused(self) -> None:
        with pytest.raises(CorpusError, match="utterances"):
            replace(recordings(), lengths=np.array([3, 4], np.int32))

    @pytest.mark.parametrize("damage", [b"", b"not a corpus file", None])
    def test_damaged_files_are_named(self, tmp_path: Path, damage: bytes | None) -> None:
        path = tmp_path / "voice.safetensors"
        save_recordings(recordings(), path)
        path.write_bytes(path.read_bytes()[:-100] if damage is None else damage)
        with pytest.raises(CorpusError, match="delete it"):
            load_recordings(path)

    def test_an_empty_folder(self, tmp_path: Path) -> None:
        with pytest.raises(CorpusError, match="build the corpus"):
            load_corpus(tmp_path)


def pretend_flite(texts: Iterator[str], voice: str, generator: random.Random) -> Iterator[Utterance]:
    """An engine: every text becomes a second of noise between silences."""
    for _ in texts:
        noise = np.random.default_rng(generator.getrandbits(32)).normal(0.0, 0.1, 3 * SAMPLE_RATE)
        noise[:SAMPLE_RATE] = noise[-SAMPLE_RATE:] = 0.0
        segments = (Segment("pau", 1.0), Segment("s", 1.5), Segment("aa", 2.0), Segment("pau", 3.0))
        yield Utterance(noise.astype(np.float32), segments, "en")


@pytest.fixture
def pretend_recipe(monkeypatch: pytest.MonkeyPatch, small_library: Path) -> CorpusRecipe:
    """A recipe of two voices that need no engine."""
    monkeypatch.setattr(flite, "speak", pretend_flite)
    monkeypatch.setattr(flite, "check_flite", lambda: None)
    monkeypatch.setattr(build, "sentences", lambda language, seed: sentences.sentences(language, seed, small_library))
    return CorpusRecipe(scale=0.02, voices=tuple(voice for voice in voices.VOICES if voice.name in ("slt", "rms")))


class TestBuild:
    def test_files_and_summary(self, tmp_path: Path, pretend_recipe: CorpusRecipe) -> None:
        folder = tmp_path / "corpus"
        events = list(build_corpus(folder, pretend_recipe))
        assert [(event.done, event.total, event.reused) for event in events] == [(1, 2, False), (2, 2, False)]
        held_out, trained = load_corpus(folder)
        assert held_out.held_out and not trained.held_out
        assert trained.seconds >= 0.02 * 40 * 60
        for samples, phones in trained.utterances():
            assert phones[0] == phones[-1] == SILENCE and len(samples) == 128 * len(phones)
            edges = len(phones) - np.count_nonzero(phones)
            assert edges <= 2 * 0.36 * timing.LABEL_RATE, "long silence is cut"
        assert not held_out.codecs.any()
        share = np.count_nonzero(trained.codecs) / len(trained.codecs)
        assert share == pytest.approx(0.3, abs=0.05)
        summary = json.loads((folder / build.SUMMARY_FILE).read_text("utf-8"))
        assert [voice["voice"] for voice in summary["voices"]] == ["rms", "slt"]
        assert {codec for codec in summary["codecs"]} | set(summary["codecs_missing"]) == {"opus", "mp3", "amr", "gsm"}

    def test_a_build_goes_on_where_it_stopped(self, tmp_path: Path, pretend_recipe: CorpusRecipe) -> None:
        next(build_corpus(tmp_path, pretend_recipe))
        (made,) = tmp_path.glob("*.safetensors")
        before = made.stat().st_mtime_ns
        assert [event.reused for event in build_corpus(tmp_path, pretend_recipe)] == [True, False]
        assert made.stat().st_mtime_ns == before
        assert [event.reused for event in build_corpus(tmp_path, replace(pretend_recipe, seed=1))] == [False, False]

    def test_held_out_voices_have_sentences_of_their_own(
        self, tmp_path: Path, pretend_recipe: CorpusRecipe, small_library: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        said: dict[str, list[str]] = {"slt": [], "rms": []}

        def listen(texts: Iterator[str], voice: str, generator: random.Random) -> Iterator[Utterance]:
            def overheard() -> Iterator[str]:
                for text in texts:
                    said[voice].append(text)
                    yield text

            return pretend_flite(overheard(), voice, generator)

        monkeypatch.setattr(flite, "speak", listen)
        list(build_corpus(tmp_path, pretend_recipe))
        everything = sentences.sentences("en", 0, small_library)
        trained, held_out = (
            {sentence for sentence in everything if any(sentence in text for text in said[voice])} for voice in said
        )
        assert trained and held_out and not trained & held_out

    def test_a_voice_that_says_nothing_is_an_error(
        self, tmp_path: Path, pretend_recipe: CorpusRecipe, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def silent(texts: Iterator[str], voice: str, generator: random.Random) -> Iterator[Utterance]:
            return (Utterance(np.zeros(SAMPLE_RATE, np.float32), (Segment("pau", 1.0),), "en") for _ in texts)

        monkeypatch.setattr(flite, "speak", silent)
        with pytest.raises(CorpusError, match="reinstall libflite1"):
            next(build_corpus(tmp_path, pretend_recipe))


class TestMissingEngines:
    def test_programs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shutil, "which", lambda program: None)
        with pytest.raises(MissingEngineError, match=r"^flite is not installed; install it with: apt install flite$"):
            flite.check_flite()
        with pytest.raises(MissingEngineError, match="apt install festival festvox-ru"):
            festival.check_festival("msu_ru_nsh_clunits", "festvox-ru")

    def test_a_voice_of_festival(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(shutil, "which", lambda program: "/usr/bin/festival")
        monkeypatch.setattr(festival, "VOICES", tmp_path)
        with pytest.raises(MissingEngineError, match=r"voice ked_diphone is not installed.*festvox-kdlpc16k"):
            festival.check_festival("ked_diphone", "festvox-kdlpc16k")

    def test_espeak(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(espeak.ctypes.util, "find_library", lambda name: None)
        with pytest.raises(MissingEngineError, match="apt install espeak-ng"):
            espeak.check_espeak()


@needs_engines
def test_the_same_seed_makes_the_same_speech(tmp_path: Path) -> None:
    names = {"kal16", "ked_diphone", "en-029"}
    chosen = tuple(replace(voice, minutes=0.1) for voice in voices.VOICES if voice.name in names)
    recipe = CorpusRecipe(voices=chosen, codec_share=0.5)
    for folder in ("first", "second"):
        assert len(list(build_corpus(tmp_path / folder, recipe))) == 3
    for first, second in zip(load_corpus(tmp_path / "first"), load_corpus(tmp_path / "second"), strict=True):
        np.testing.assert_array_equal(first.samples, second.samples)
        np.testing.assert_array_equal(first.phones, second.phones)
        assert first.seconds >= 6.0
        assert len(set(first.phones.tolist())) > 15
        assert 0.01 < np.mean(first.phones == SILENCE) < 0.4
    packages = json.loads((tmp_path / "first" / build.SUMMARY_FILE).read_text("utf-8"))["packages"]
    assert {"festvox-kdlpc16k", "debian-handbook", "libflite1", "espeak-ng-data"} <= set(packages)


def spoken_by(name: str) -> tuple[voices.Voice, list[tuple[Utterance, str]]]:
    """Thirty utterances of a voice, each with its row of the table."""
    voice = next(voice for voice in voices.VOICES if voice.name == name and not voice.held_out)
    speech = build.voice_speech(voice, 0, random.Random(0))
    heard = [(utterance, row) for utterance, row in itertools.islice(speech, 32) if utterance is not None]
    speech.close()
    return voice, heard


@needs_engines
@pytest.mark.parametrize("name", ["kal16", "lp_diphone", "en-029"])
def test_labels_meet_the_sound(name: str) -> None:
    voice, heard = spoken_by(name)
    speech = [(utterance.samples, timing.frame_labels(utterance, voice.phone_set, row)) for utterance, row in heard]
    delays = boundary_delays_ms(speech)
    assert len(delays) >= 5
    assert max(abs(delay) for delay in delays.values()) <= 10.0, delays


@needs_engines
def test_the_table_is_needed() -> None:
    voice, heard = spoken_by("kal16")
    speech = [(utterance.samples, timing.frame_labels(utterance, voice.phone_set, "")) for utterance, _ in heard]
    assert boundary_delays_ms(speech)["T", "V"] <= -20.0
