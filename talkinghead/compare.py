"""`talkinghead compare`: which speech feature drives this person's lips best, as in SE4Lip's Tables 3 and 6.

The head does not depend on the speech feature: it is fitted once, and for every feature only the lips are learned anew,
from the same frames with the same seed. Every avatar is then measured as `evaluate` does. In the folder:

comparison.json     the result, as far as it has come
head.avatar         the head, fitted without the last part of the clip
NAME.avatar         the same head with lips that the feature drives, for `speak` and `evaluate`
NAME.figures.json   what was measured of it: a comparison that was stopped goes on after the last of these
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from encoders.errors import EncoderWeightsError, FeatureUnavailableError, LipClipError, LipMotionFitError
from talkinghead import __version__
from talkinghead.avatar import Avatar, load_avatar
from talkinghead.comparison import Comparison, FeatureFigures
from talkinghead.config import (
    DEFAULT_SPEECH,
    TRAINED_SPEECH_SUFFIX,
    CompareConfig,
    EvaluateConfig,
    speech_label,
)
from talkinghead.errors import (
    DamagedAvatarError,
    NoFeatureError,
    NotAnAvatarError,
    OlderAvatarError,
    OutputExistsError,
)
from talkinghead.evaluate import check_length, measure
from talkinghead.evaluation.available import Available, available
from talkinghead.evaluation.drives import AUDIO, SHUFFLED, TRACKED
from talkinghead.evaluation.instruments import Measure
from talkinghead.evaluation.result import Figures, finite, restored
from talkinghead.file_record import FileRecord
from talkinghead.fit import exchange_lips, fit
from talkinghead.outputs import COMPARISON_NAME, MANIFEST_NAME, check_new_avatar, work_folder
from talkinghead.progress import Progress, relayed
from talkinghead.speech_choice import fetch_weights, load_embedding, weights_sha256
from talkinghead.terminal import write_text
from tools.video import VideoInfo, probe

HEAD = "head.avatar"
UNUSABLE = (EncoderWeightsError, FeatureUnavailableError, LipClipError, LipMotionFitError)
"""What is wrong with one feature, while others may work."""
SUBJECT = {"source_sha256": "video", "preset": "preset", "seed": "seed", "talkinghead": "release of talkinghead"}
"""Entries of the protocol, and what they tell of: where one differs it is another comparison."""


@dataclass(frozen=True)
class _Measured:
    """What is kept of an avatar that was measured."""

    seconds: float  # that its lips took to learn
    protocol: dict[str, str | int | float]
    rows: dict[str, Figures]


def compare(
    video: Path, folder: Path, config: CompareConfig, overwrite: bool = False
) -> Generator[Progress, None, Comparison]:
    """Measures a person's lips with every feature; goes on from what an earlier run left in the folder.

    Args:
        overwrite: whether another comparison in the folder is replaced.

    Raises:
        OutputExistsError: the folder holds another comparison, which is not to be replaced.
        NothingHeldOutError: the video is too short.
        NoFeatureError: not one of the features can be used.
        UserError: see `fit`.
        render.rasterize.BackendUnavailableError: the GPU's kernels cannot be compiled.
    """
    info = probe(video)
    protocol = _protocol(info, config)
    check_length(info, config.fit().holdout)
    holds_another = _check_subject(folder, protocol, overwrite)
    features, missing = yield from _usable(config.features)
    looking = yield from available(EvaluateConfig(config.fit()), info.fps)
    result = Comparison(protocol, looking.measures, {}, (), (*missing, *looking.notes))
    folder.mkdir(exist_ok=True)
    if holds_another:
        _remove_results(folder)
    write_text(folder / COMPARISON_NAME, result.to_json())  # marks the folder as a comparison
    head = yield from _head(info, folder / HEAD, config)
    tracked = yield from _measured(info, head, None, looking, config)
    result = replace(result, protocol=tracked.protocol | result.protocol, tracked=tracked.rows[TRACKED])
    for speech in features:
        name = speech_label(speech)
        try:
            job = _measured(info, head, speech, looking, config)
            found = yield from relayed(job, lambda event, name=name: replace(event, stage=f"{name}: {event.stage}"))
        except UNUSABLE as error:
            result = replace(result, notes=(*result.notes, f"{name} left out: {error}"))
        else:
            figures = FeatureFigures(name, found.seconds, found.rows[AUDIO], found.rows[SHUFFLED])
            result = replace(result, features=(*result.features, figures))
        write_text(folder / COMPARISON_NAME, result.to_json())
    if not result.features:
        raise NoFeatureError(result.notes)
    return result


def _check_subject(folder: Path, protocol: Mapping[str, str | int | float], overwrite: bool) -> bool:
    """Whether a folder holds a comparison that differs in its `SUBJECT`.

    Raises:
        OutputExistsError: it does, and it is not to be replaced.
    """
    try:
        known = json.loads((folder / COMPARISON_NAME).read_text(encoding="utf-8"))["protocol"]
        different = [meaning for name, meaning in SUBJECT.items() if known[name] != protocol[name]]
    except FileNotFoundError:
        return False
    except (ValueError, KeyError, TypeError):
        different = ["kind"]  # damaged, or of a release that kept something else
    if different and not overwrite:
        raise OutputExistsError(
            f"{folder} holds a comparison of another {' and '.join(different)}: "
            "add --overwrite to replace it, or give another folder with -o"
        )
    return bool(different)


def _remove_results(folder: Path) -> None:
    """Removes the avatars and figures of a comparison."""
    for path in folder.glob("*.avatar"):
        if (path / MANIFEST_NAME).exists():
            shutil.rmtree(path)
    for path in folder.glob("*.figures.json"):
        path.unlink()
    shutil.rmtree(work_folder(folder / HEAD), ignore_errors=True)


def _usable(features: Sequence[str]) -> Generator[Progress, None, tuple[list[str], list[str]]]:
    """The features that can be computed here, fetched if need be, and a sentence for each of the others.

    Raises:
        NoFeatureError: there is none.
    """
    usable, notes = [], []
    for speech in features:
        try:
            yield from fetch_weights(speech)
            load_embedding(speech)
        except UNUSABLE as error:
            notes.append(f"{speech_label(speech)} left out: {error}")
        else:
            usable.append(speech)
    if not usable:
        raise NoFeatureError(notes)
    return usable, notes


def _head(info: VideoInfo, path: Path, config: CompareConfig) -> Generator[Progress, None, Avatar]:
    """The avatar whose head all features share; fitted, unless it is there."""
    expected = (FileRecord.of(info.path).sha256, __version__, DEFAULT_SPEECH, config.preset, config.seed)
    try:
        avatar = load_avatar(path)
    except (DamagedAvatarError, NotAnAvatarError, OlderAvatarError):
        avatar = None  # of a run that was stopped, of another release, or changed since: it is fitted below
    if avatar is not None:
        facts = avatar.manifest
        found = (facts.source_sha256, facts.talkinghead_version, facts.speech_feature, facts.preset, facts.seed)
        if found == expected:
            return avatar
    check_new_avatar(path, overwrite=True)
    yield from fit(info.path, path, config.fit())
    return load_avatar(path)


def _measured(
    info: VideoInfo, head: Avatar, speech: str | None, looking: Available, config: CompareConfig
) -> Generator[Progress, None, _Measured]:
    """The figures of a feature's lips, or with no feature of the head's tracked ones; not measured twice."""
    assert head.path is not None, "the head is saved"
    name = HEAD if speech is None else f"{speech_label(speech)}.avatar"
    avatar_path = head.path.with_name(name)
    path, key = avatar_path.with_suffix(".figures.json"), _key(head.path, speech, looking.measures)
    known = _read(path, key)
    if known is not None:
        return known
    started, avatar, rows = time.monotonic(), head, [TRACKED]
    if speech is not None:
        avatar = yield from exchange_lips(head, info, config.fit(speech), avatar_path)
        rows = [AUDIO, SHUFFLED]
    seconds = time.monotonic() - started
    evaluation = yield from measure(avatar, looking, EvaluateConfig(config.fit()), rows)
    found = _Measured(round(seconds, 1), evaluation.protocol, {row: evaluation.rows[row] for row in rows})
    write_text(path, _encoded(found, key))
    return found


def _key(head: Path, speech: str | None, measures: Sequence[Measure]) -> str:
    """What figures must share to be taken for those of this comparison.

    The head's manifest stands for the clip, the release, the settings, the seed and every Gaussian.
    """
    if speech is not None and speech.endswith(TRAINED_SPEECH_SUFFIX):
        weights = FileRecord.of(Path(speech)).sha256
    else:
        weights = "" if speech is None else weights_sha256(speech)
    facts = [FileRecord.of(head / MANIFEST_NAME).sha256, speech, weights, [asdict(one) for one in measures]]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _encoded(found: _Measured, key: str) -> str:
    rows = {row: finite(figures) for row, figures in found.rows.items()}
    content = {"key": key, "seconds": found.seconds, "protocol": found.protocol, "rows": rows}
    return json.dumps({"sha256": _digest(content), **content}, indent=2, allow_nan=False)


def _read(path: Path, key: str) -> _Measured | None:
    """What was measured by an earlier run; None when there is nothing, or it is damaged or of something else."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("sha256") != _digest(content) or content["key"] != key:
            return None
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None
    rows = {row: restored(figures) for row, figures in content["rows"].items()}
    return _Measured(content["seconds"], content["protocol"], rows)


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _protocol(info: VideoInfo, config: CompareConfig) -> dict[str, str | int | float]:
    return {
        "source": info.path.name,
        "source_sha256": FileRecord.of(info.path).sha256,
        "preset": config.preset,
        "seed": config.seed,
        "features": ", ".join(map(speech_label, config.features)),
        "speech": "each in turn: the head is fitted once, only the lips are learned anew, from the same frames",
        "talkinghead": __version__,
        "holdout": config.fit().holdout,
        "seconds": "to learn the lips and save the avatar; the head's fit is not counted",
    }
