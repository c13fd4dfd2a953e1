"""Sentences for the synthesisers, from text that Debian packages install; the same seed gives the same sentences.

Prose comes from the Debian Administrator's Handbook (in 26 languages) and, where it is not translated, from manual
pages. Prose repeats the vocabulary of its subject, so that one sentence in four is a random sequence of dictionary
words. Languages without either, and Japanese and Chinese, whose characters espeak-ng spells out, get pseudo-words of
their script's syllables.
"""

# Greek letters look like Latin ones.
# ruff: noqa: RUF001

from __future__ import annotations

import gzip
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

from encoders.errors import MissingEngineError

SHARE = Path("/usr/share")
"""Where Debian packages put documentation, manual pages and word lists."""
HANDBOOK_PACKAGE = "debian-handbook"

_WORD_SEQUENCE_SHARE = 0.25
_PSEUDO_SENTENCES = 4000
_SHORTEST, _LONGEST = 25, 150  # characters
_SPEAKABLE_SHARE = 0.93
_MARKUP = re.compile(r"[<>{}\\|%$@#_=*/~^`\[\]]")
_ENGLISH_WORD = re.compile(r"\b(?:the|of|and|is|are|to|this|that|with|for|from|be|you|your|how|by)\b", re.IGNORECASE)
_LATIN_WORD = re.compile(r"[A-Za-z]{2,}")
_NON_LATIN = frozenset({"ar", "fa", "ru"})
_SENTENCE_END = re.compile(r"(?<=[.!?;:])\s+|(?<=[。！？])|\n\s*\n")


@dataclass(frozen=True)
class TextSource:
    """A folder or file of text and the Debian package that brings it."""

    name: str
    package: str


@dataclass(frozen=True)
class TextSources:
    """What Debian has in one language: a handbook or a manual, and perhaps a word list; or else a script."""

    handbook: str = ""
    """Locale folder of the handbook."""
    manual: TextSource | None = None
    """Language folder of the manual pages, for a language without handbook."""
    words: TextSource | None = None
    """Word list in `dict/`."""
    script: str = ""
    """Script of the pseudo-words, a key of `_SCRIPTS`."""


LANGUAGES: dict[str, TextSources] = {
    "ar": TextSources("ar-MA"),
    "ca": TextSources("ca-ES"),
    "cs": TextSources("cs-CZ"),
    "de": TextSources("de-DE", words=TextSource("ngerman", "wngerman")),
    "el": TextSources(script="greek"),
    "en": TextSources("en-US", words=TextSource("american-english", "wamerican")),
    "es": TextSources("es-ES", words=TextSource("spanish", "wspanish")),
    "fa": TextSources("fa-IR"),
    "fi": TextSources(manual=TextSource("fi", "manpages-fi")),
    "fr": TextSources("fr-FR", words=TextSource("french", "wfrench")),
    "hi": TextSources(script="devanagari"),
    "hr": TextSources("hr-HR"),
    "id": TextSources("id-ID"),
    "it": TextSources("it-IT", words=TextSource("italian", "witalian")),
    "ja": TextSources(script="hiragana"),
    "mr": TextSources(script="devanagari"),
    "nb": TextSources("nb-NO"),
    "nl": TextSources("nl-NL", words=TextSource("dutch", "wdutch")),
    "pl": TextSources("pl-PL", words=TextSource("polish", "wpolish")),
    "pt": TextSources("pt-BR", words=TextSource("portuguese", "wportuguese")),
    "ro": TextSources("ro-RO"),
    "ru": TextSources("ru-RU"),
    "sv": TextSources("sv-SE"),
    "te": TextSources(script="telugu"),
    "tr": TextSources("tr-TR"),
    "vi": TextSources("vi-VN"),
    "zh": TextSources(script="pinyin"),
}
"""Language -> where its text is."""

_SCRIPTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "devanagari": (tuple("कखगघचछजझटठडढतथदधनपफबभमयरलवशसह"), ("", *"ािीुूेैोौं")),
    "telugu": (tuple("కగచజటడణతదధనపబభమయరలవశసహళ"), ("", *"ాిీుూెేైొోౌం")),
    "greek": (
        ("μπ", "ντ", "τσ", "στ", "πρ", *"βγδζθκλμνξπρστφχψ"),
        ("ου", "ου", "αι", "ας", "ος", "ιν", *"αειοαειο"),
    ),
    "hiragana": (
        tuple(
            "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろわ"
            "がぎぐげござじずぜぞだでどばびぶべぼぱぴぷぺぽ"
        ),
        ("", "", "", "", "ん", "っ"),
    ),
    "pinyin": (
        ("zh", "ch", "sh", *"bpmfdtnlgkhrzcs"),
        tuple(
            f"{final}{tone}" for final in ("a", "ai", "an", "ang", "ao", "e", "en", "eng", "ou", "u") for tone in "1234"
        ),
    ),
}
"""Script -> beginnings and ends of its syllables ("": the inherent vowel, or nothing)."""


def text_packages(languages: Iterable[str]) -> tuple[str, ...]:
    """Debian packages that the text of these languages comes from, sorted."""
    packages = set()
    for language in languages:
        sources = LANGUAGES[language]
        packages |= {HANDBOOK_PACKAGE} if sources.handbook else set()
        packages |= {source.package for source in (sources.manual, sources.words) if source is not None}
    return tuple(sorted(packages))


@cache
def sentences(language: str, seed: int = 0, share: Path = SHARE) -> tuple[str, ...]:
    """All sentences of a language, shuffled by the seed.

    Args:
        language: a key of `LANGUAGES`.
        seed: decides the order, the word sequences and the pseudo-words.
        share: folder of the installed text.

    Raises:
        MissingEngineError: a text that the language's sentences come from is not installed.
    """
    sources = LANGUAGES[language]
    generator = random.Random(f"{seed}/{language}")
    if sources.script:
        return tuple(_pseudo_sentence(sources.script, generator) for _ in range(_PSEUDO_SENTENCES))
    found = sorted(set(_sentences_of(_prose(language, sources, share))))
    if language != "en":
        foreign = _LATIN_WORD if language in _NON_LATIN else _ENGLISH_WORD
        found = [sentence for sentence in found if len(foreign.findall(sentence)) < 2]
    if sources.words is not None:
        words = _words(sources.words, share)
        count = round(len(found) * _WORD_SEQUENCE_SHARE / (1 - _WORD_SEQUENCE_SHARE))
        found += [" ".join(generator.choices(words, k=generator.randint(5, 12))) + "." for _ in range(count)]
    generator.shuffle(found)
    return tuple(found)


def _prose(language: str, sources: TextSources, share: Path) -> str:
    if sources.handbook:
        folder = share / "doc" / HANDBOOK_PACKAGE / "html" / sources.handbook
        files, package, read = sorted(folder.glob("*.html")), HANDBOOK_PACKAGE, _html_text
    else:
        assert sources.manual is not None, f"{language} has neither handbook, manual nor script"
        folder, package = share / "man" / sources.manual.name, sources.manual.package
        files, read = sorted(folder.glob("man*/*.gz")), _manual_text
    if not files:
        raise MissingEngineError(f"text in the language {language!r}", (package,))
    return "\n\n".join(read(file) for file in files)


def _sentences_of(text: str) -> Iterator[str]:
    """Sentences made of words only: no markup, no commands, hardly any digit."""
    for part in _SENTENCE_END.split(text):
        sentence = " ".join(part.split())
        speakable = sum(letter.isalpha() or letter in " ,.'’" or not letter.isascii() for letter in sentence)
        if (
            _SHORTEST <= len(sentence) <= _LONGEST
            and speakable > _SPEAKABLE_SHARE * len(sentence)
            and not _MARKUP.search(sentence)
        ):
            yield sentence.replace('"', "")


def _words(source: TextSource, share: Path) -> list[str]:
    file = share / "dict" / source.name
    if not file.exists():
        raise MissingEngineError(f"the word list {source.name!r}", (source.package,))
    return [word for word in file.read_text(encoding="utf-8").split() if word.isalpha() and 3 <= len(word) <= 14]


def _pseudo_sentence(script: str, generator: random.Random) -> str:
    onsets, rimes = _SCRIPTS[script]
    words = []
    for _ in range(generator.randint(5, 10)):
        syllables = generator.randint(1, 4)
        words.append("".join(generator.choice(onsets) + generator.choice(rimes) for _ in range(syllables)))
    return " ".join(words) + "."


class _ParagraphText(HTMLParser):
    """Collects what a page says in paragraphs; blocks of code are left out."""

    _BLOCKS = frozenset({"div", "p", "li", "ul", "dt", "dd", "td", "h1", "h2", "h3", "pre", "title"})
    _SILENT = frozenset({"pre", "script", "style", "head"})

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._silent_depth = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent_depth += tag in self._SILENT
        if tag in self._BLOCKS:
            self.parts.append("\n\n")

    def handle_endtag(self, tag: str) -> None:
        self._silent_depth -= tag in self._SILENT
        if tag in self._BLOCKS:
            self.parts.append("\n\n")

    def handle_data(self, data: str) -> None:
        if not self._silent_depth:
            # A line break inside a paragraph is no boundary of sentences.
            self.parts.append(re.sub(r"\s+", " ", data))


def _html_text(file: Path) -> str:
    parser = _ParagraphText()
    parser.feed(file.read_text(encoding="utf-8"))
    return "".join(parser.parts)


def _manual_text(file: Path) -> str:
    """Plain lines of a manual page: no macro lines, font changes or escapes (groff's man macros)."""
    with gzip.open(file, "rt", encoding="utf-8", errors="ignore") as lines:
        text = re.sub(r"\\f[BIRP]|\\-|\\&|\\\(..", "", lines.read())
    return "\n".join("" if line.startswith((".", "'")) else line for line in text.split("\n"))
