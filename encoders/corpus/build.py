"""Builds the training speech voice by voice: `build_corpus`, the first half of `talkinghead train-encoder`."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from encoders.corpus import espeak, festival, flite
from encoders.corpus.codecs import CODECS, Codec, round_trip, usable_codecs
from encoders.corpus.recording import VoiceRecordings, load_recordings, save_recordings
from encoders.corpus.sentences import sentences, text_packages
from encoders.corpus.timing import LABEL_RATE, SAMPLES_PER_LABEL, frame_labels
from encoders.corpus.utterances import SAMPLE_RATE, Utterance
from encoders.corpus.voices import ENGINE_PACKAGES, VOICES, Voice
from encoders.errors import CorpusError
from encoders.phones import SILENCE

SUMMARY_FILE = "corpus.json"

_VERSION = 1
"""Part of the recipe: raised when the same settings give other speech."""
_HELD_OUT_TEXT = 0.15
_LONGEST_EDGE_SILENCE_S = 0.35
_SHORTEST_S, _LONGEST_S = 0.8, 20.0
_QUIETEST = 1e-3
_LOUDNESS, _PEAK = 0.08, 0.95
_UTTERANCES_PER_ROUND_TRIP = 6
_GAP_S = 0.3
_MOST_FAILURES = 200


@dataclass(frozen=True)
class CorpusRecipe:
    """What training speech to make."""

    seed: int = 0
    """Decides texts, tempi, pitches, variants and codecs."""
    scale: float = 1.0
    """Part of each voice's default minutes; 1 makes about 12 hours."""
    codec_share: float = 0.3
    """Part of the training voices' utterances that go through a lossy codec; held-out voices stay clean."""
    voices: tuple[Voice, ...] = field(default=VOICES, repr=False)
    """Who speaks."""


@dataclass(frozen=True)
class CorpusProgress:
    """One voice file is complete."""

    voice: Voice
    done: int
    """Voices complete, this one included."""
    total: int
    seconds: float
    """Speech of this voice."""
    reused: bool
    """The file was there, made by the same recipe."""


def check_engines(recipe: CorpusRecipe) -> None:
    """Raises MissingEngineError for the first engine, voice or text of the recipe that is not installed."""
    for voice in recipe.voices:
        match voice.engine:
            case "espeak-ng":
                espeak.check_espeak()
            case "flite":
                flite.check_flite()
            case "festival":
                festival.check_festival(voice.name, voice.package)
        sentences(voice.text, recipe.seed)


def build_corpus(folder: Path, recipe: CorpusRecipe = CorpusRecipe()) -> Iterator[CorpusProgress]:
    """Makes one file of recordings for each voice, and a summary when all are there.

    Files that the same recipe made before are kept, so that an interrupted build goes on.

    Args:
        folder: for the files; created.
        recipe: what to make.

    Yields:
        A progress event after each voice.

    Raises:
        MissingEngineError: an engine, voice or text is not installed; nothing has been made then.
        CorpusError: an engine failed.
    """
    check_engines(recipe)
    folder.mkdir(parents=True, exist_ok=True)
    codecs = usable_codecs()
    seconds: dict[Voice, float] = {}
    for done, voice in enumerate(recipe.voices, start=1):
        path = folder / voice.file_name
        recipe_id = _recipe_id(recipe, voice, codecs)
        reused = path.exists() and load_recordings(path).recipe == recipe_id
        if not reused:
            save_recordings(_record(voice, recipe, codecs, recipe_id), path)
        seconds[voice] = load_recordings(path).seconds
        yield CorpusProgress(voice, done, len(recipe.voices), seconds[voice], reused)
    summary = _summary(recipe, codecs, seconds)
    (folder / SUMMARY_FILE).write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _recipe_id(recipe: CorpusRecipe, voice: Voice, codecs: tuple[Codec, ...]) -> str:
    spoken = {name: value for name, value in asdict(voice).items() if name not in ("package", "licence")}
    parts = (_VERSION, recipe.seed, recipe.scale, recipe.codec_share, spoken, [codec.name for codec in codecs])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _record(voice: Voice, recipe: CorpusRecipe, codecs: tuple[Codec, ...], recipe_id: str) -> VoiceRecordings:
    generator = random.Random(f"{recipe.seed}/{voice.file_name}")
    wanted = voice.minutes * 60.0 * recipe.scale
    samples: list[np.ndarray] = []
    phones: list[np.ndarray] = []
    seconds, failures = 0.0, 0
    speech = voice_speech(voice, recipe.seed, generator)
    for utterance, timing in speech:
        kept = None if utterance is None else _prepared(utterance, voice, timing)
        if kept is None:
            failures += 1
            if failures > _MOST_FAILURES + len(samples):
                raise CorpusError(
                    f"{voice.engine}'s voice {voice.name} fails on most sentences; reinstall {voice.package}"
                )
            continue
        samples.append(kept[0])
        phones.append(kept[1])
        seconds += len(kept[1]) / LABEL_RATE
        if seconds >= wanted:
            break
    speech.close()
    used = _through_codecs(samples, 0.0 if voice.held_out else recipe.codec_share, codecs, generator)
    return VoiceRecordings(
        voice.engine, voice.name, voice.text, voice.licence, voice.held_out,
        samples=np.concatenate([_as_int16(sound) for sound in samples]),
        phones=np.concatenate(phones),
        lengths=np.array([len(labels) for labels in phones], np.int32),
        codecs=used,
        recipe=recipe_id,
    )  # fmt: skip


def voice_speech(voice: Voice, seed: int, generator: random.Random) -> Iterator[tuple[Utterance | None, str]]:
    """Endless utterances of a voice, each with its row of the table of boundary shifts."""
    texts = _texts(voice, seed, generator)
    match voice.engine:
        case "flite":
            for utterance in flite.speak(texts, voice.name, generator):
                yield utterance, voice.name
        case "festival":
            for utterance in festival.speak(texts, voice.name, voice.text, voice.encoding, generator):
                yield utterance, voice.name
        case "espeak-ng":
            requests = (
                espeak.random_request(text, voice.name, generator.choice(voice.variants), generator) for text in texts
            )
            for request, utterance in espeak.speak(requests):
                yield utterance, "espeak-klatt" if request.variant.startswith("klatt") else "espeak"


def _texts(voice: Voice, seed: int, generator: random.Random) -> Iterator[str]:
    """One or two sentences at a time; held-out voices have sentences of their own."""
    everything = sentences(voice.text, seed)
    cut = round(len(everything) * _HELD_OUT_TEXT)
    mine = list(everything[:cut] if voice.held_out else everything[cut:])
    while True:
        generator.shuffle(mine)
        rest = iter(mine)
        for sentence in rest:
            yield f"{sentence} {next(rest, '')}".strip() if generator.random() < 0.5 else sentence


def _prepared(utterance: Utterance, voice: Voice, timing: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Sound and labels without long silence at the edges; None where it is too short, too long or silent."""
    labels = frame_labels(utterance, voice.phone_set, timing)
    spoken = np.flatnonzero(labels != SILENCE)
    if len(spoken) == 0 or np.abs(utterance.samples).max() < _QUIETEST:
        return None
    margin = round(_LONGEST_EDGE_SILENCE_S * LABEL_RATE)
    first, end = max(0, spoken[0] - margin), min(len(labels), spoken[-1] + 1 + margin)
    if not _SHORTEST_S <= (end - first) / LABEL_RATE <= _LONGEST_S:
        return None
    sound = utterance.samples[first * SAMPLES_PER_LABEL : end * SAMPLES_PER_LABEL]
    gain = min(_LOUDNESS / float(np.sqrt(np.mean(np.square(sound)))), _PEAK / float(np.abs(sound).max()))
    return sound * np.float32(gain), labels[first:end]


def _through_codecs(
    samples: list[np.ndarray], share: float, codecs: tuple[Codec, ...], generator: random.Random
) -> np.ndarray:
    """Replaces a share of the utterances by what a codec leaves of them; uint8 [U] says which.

    Several utterances make one round trip, parted by silence: most of its time is starting ffmpeg.
    """
    used = np.zeros(len(samples), np.uint8)
    chosen = generator.sample(range(len(samples)), round(share * len(samples))) if codecs else []
    gap = np.zeros(round(_GAP_S * SAMPLE_RATE), np.float32)
    for start in range(0, len(chosen), _UTTERANCES_PER_ROUND_TRIP):
        block = chosen[start : start + _UTTERANCES_PER_ROUND_TRIP]
        codec = generator.choice(codecs)
        bit_rate = generator.choice(codec.bit_rates) if codec.bit_rates else None
        joined = np.concatenate([part for index in block for part in (gap, samples[index])] + [gap])
        decoded = round_trip(joined, codec, bit_rate)
        position = 0
        for index in block:
            position += len(gap)
            samples[index] = decoded[position : position + len(samples[index])].copy()
            position += len(samples[index])
            used[index] = 1 + CODECS.index(codec)
    return used


def _as_int16(sound: np.ndarray) -> np.ndarray:
    return np.round(np.clip(sound, -1.0, 1.0) * 32767.0).astype(np.int16)


def _summary(recipe: CorpusRecipe, codecs: tuple[Codec, ...], seconds: dict[Voice, float]) -> dict[str, object]:
    """Where the corpus comes from, for the provenance of what is trained on it."""
    packages = sorted(
        {voice.package for voice in recipe.voices}
        | {ENGINE_PACKAGES[voice.engine] for voice in recipe.voices}
        | set(text_packages({voice.text for voice in recipe.voices}))
    )
    return {
        "seed": recipe.seed,
        "scale": recipe.scale,
        "hours_training": round(sum(s for voice, s in seconds.items() if not voice.held_out) / 3600.0, 2),
        "hours_held_out": round(sum(s for voice, s in seconds.items() if voice.held_out) / 3600.0, 2),
        "codec_share": recipe.codec_share,
        "codecs": [codec.name for codec in codecs],
        "codecs_missing": [codec.name for codec in CODECS if codec not in codecs],
        "packages": _package_versions(packages),
        "voices": [
            {
                "engine": voice.engine,
                "voice": voice.name,
                "language": voice.text,
                "licence": voice.licence,
                "held_out": voice.held_out,
                "minutes": round(duration / 60.0, 1),
            }
            for voice, duration in seconds.items()
        ],
    }


def _package_versions(packages: list[str]) -> dict[str, str]:
    """Debian package -> its version; empty where the system has no dpkg."""
    if shutil.which("dpkg-query") is None:
        return {}
    command = ["dpkg-query", "--show", "--showformat", "${Package} ${Version}\\n", *packages]
    run = subprocess.run(command, capture_output=True, text=True)  # exit code 1: one of them is not a package here
    return dict(line.split(" ", 1) for line in run.stdout.splitlines() if line.count(" ") == 1)
