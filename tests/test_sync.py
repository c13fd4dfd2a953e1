"""Sync of rows: our own measure in any case, SyncNet's where it is, without a truth as well; and what is missing."""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch
from demo_clip_track import finish
from tiny_avatar import face_points

import talkinghead.evaluation.faces
import talkinghead.evaluation.optional_weights
from encoders.acoustic.weights import weights_folder
from encoders.bundle import DEFAULT_BUNDLE
from encoders.features import SpeechFeatureTrack, speech_features
from encoders.syncnet.network import SYNCNET, SyncNet
from talkinghead.demo_clip.truth import ASSETS
from talkinghead.evaluation.faces import RowFaces
from talkinghead.evaluation.instruments import Drive, ObservedFrame
from talkinghead.evaluation.optional_weights import REMEMBERED_S, network_or_note
from talkinghead.evaluation.sync import SyncInstrument, sync_instrument
from talkinghead.progress import Progress
from tools.audio import SAMPLE_RATE, read_audio
from tools.face_topology import MEDIAPIPE_478

FPS = Fraction(25)
COUNT = 80
AREA = (np.ones((64, 64), bool), (slice(0, 9), slice(0, 9)))


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    return read_audio(ASSETS / "demo_speech.wav").samples[: round(COUNT / FPS * SAMPLE_RATE)]


@pytest.fixture(scope="module")
def speech(samples: np.ndarray) -> SpeechFeatureTrack:
    return speech_features(samples, DEFAULT_BUNDLE.load(), FPS, COUNT)


class Mouth:
    """A detector that sees the lips of frame k when the picture's brightness is k, and no face in black."""

    topology = MEDIAPIPE_478

    def __init__(self, speech: SpeechFeatureTrack) -> None:
        self._targets = speech.articulation

    def __enter__(self) -> Mouth:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def detect(self, picture: np.ndarray) -> list[np.ndarray]:
        if not picture.any():
            return []
        aperture, width, _ = self._targets[picture[0, 0, 0] - 1]
        points = face_points()
        points[MEDIAPIPE_478.lower_inner_lip] = points[MEDIAPIPE_478.upper_inner_lip] + (0, 0.01 + 0.2 * aperture, 0)
        points[MEDIAPIPE_478.inner_lips[0], 0] *= 1 + 0.3 * width  # a corner, beside the middle at 0
        return [(points * 20 + 32).astype(np.float32)]


@pytest.fixture(autouse=True)
def judge(speech: SpeechFeatureTrack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(talkinghead.evaluation.faces, "landmark_detector", lambda *_, **__: Mouth(speech))


def figures(
    moments: list[int], samples: np.ndarray, network: SyncNet | None = None, has_truth: bool = True
) -> dict[str, float]:
    """Of a row that shows the lips of these moments (-1: no face) in frames 200, 201 and so on of a clip."""
    instrument = SyncInstrument(FPS, network)
    with ExitStack() as stack:
        row, truth = (
            instrument.observer(Drive("row", np.zeros((COUNT, 3)), samples, has_truth), stack) for _ in range(2)
        )
        faces = RowFaces(stack)
        for number, moment in enumerate(moments, start=200):
            picture = np.full((64, 64, 3), moment + 1, np.uint8)
            row.see(ObservedFrame(number, picture, picture, np.zeros_like(picture), *AREA, faces))
        values = row.figures(truth)
    assert list(values) == [measure.name for measure in instrument.measures]
    return values


def test_lips_in_sync_are_near_and_others_far(samples: np.ndarray) -> None:
    moments = list(range(COUNT))
    assert figures(moments, samples)["own_sync_distance"] < 0.02
    late = figures([0, 0, 0, *moments[:-3]], samples)
    assert late["own_sync_distance"] < 0.1 and late["own_sync_offset"] == pytest.approx(3 / 25)
    assert figures([*moments[37:], *moments[:37]], samples)["own_sync_distance"] > 0.6
    assert figures([5] * COUNT, samples)["own_sync_distance"] == 1


def test_it_is_the_sound_of_the_row_that_counts(samples: np.ndarray) -> None:
    other = np.roll(samples, 37 * 640)
    values = figures(list(range(COUNT)), other, has_truth=False)  # a cross row: nothing of the truth is needed
    assert values["own_sync_distance"] > 0.5
    shifted = [*range(COUNT - 37, COUNT), *range(COUNT - 37)]
    assert figures(shifted, other, has_truth=False)["own_sync_distance"] < 0.2


def test_frames_without_a_face_are_passed_over_and_a_row_without_any_is_undefined(samples: np.ndarray) -> None:
    assert figures([-1, 1, 2, -1, *range(4, COUNT)], samples)["own_sync_distance"] < 0.05
    assert all(math.isnan(value) for value in figures([-1] * COUNT, samples, network()).values())


def network() -> SyncNet:
    torch.manual_seed(0)
    return SyncNet().eval().requires_grad_(False)


def test_with_syncnet_there_is_lse_too(samples: np.ndarray) -> None:
    values = figures(list(range(16)), samples, network())
    assert math.isnan(values["own_sync_distance"])  # 0.6 s say nothing
    assert values["lse_d"] > 0 and values["lse_c"] >= 0 and abs(values["lse_offset_frames"]) <= 15


def no_network(*_: object, **__: object) -> NoReturn:
    raise OSError("no network")


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache on a computer without a network."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", no_network)
    return weights_folder()


def test_missing_weights_are_one_note_and_no_lse(offline: Path) -> None:
    instrument, notes = finish(sync_instrument(FPS))
    assert [measure.name for measure in instrument.measures] == ["own_sync_distance", "own_sync_offset"]
    assert len(notes) == 1 and notes[0].startswith("lse_d and lse_c not available: ") and "\n" not in notes[0]
    assert SYNCNET.url in notes[0] and str(offline / "syncnet_v2.model") in notes[0]


def test_corrupt_weights_are_refused_by_their_checksum(offline: Path) -> None:
    offline.mkdir(parents=True)
    (offline / "syncnet_v2.model").write_bytes(b"half of it")
    instrument, notes = finish(sync_instrument(FPS))
    assert len(instrument.measures) == 2 and "has SHA-256" in notes[0] and "delete it" in notes[0]


def test_weights_are_fetched_when_first_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (published := tmp_path / "published").write_bytes(bytes(3_000_000))
    file = replace(SYNCNET, url=published.as_uri(), sha256=hashlib.sha256(published.read_bytes()).hexdigest())

    def job() -> Generator[Progress, None, tuple[bytes | None, list[str]]]:
        return (yield from network_or_note(file, file.path.read_bytes, "all"))

    events = list(job())
    assert (events[-1].done, events[-1].total) == (3, 3) and "syncnet_v2.model" in events[-1].stage
    monkeypatch.setattr("urllib.request.urlopen", no_network)
    assert finish(job()) == (published.read_bytes(), [])


@pytest.mark.parametrize(("took_s", "attempts"), [(0.2, 2), (5.0, 1)])
def test_a_download_that_failed_slowly_is_not_tried_again_within_the_hour(
    offline: Path, monkeypatch: pytest.MonkeyPatch, took_s: float, attempts: int
) -> None:
    clock, asked = [0.0], []

    def failing(url: str, timeout: float) -> NoReturn:
        asked.append(url)
        clock[0] += took_s
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", failing)
    monkeypatch.setattr(talkinghead.evaluation.optional_weights.time, "monotonic", lambda: clock[0])
    first, second = (finish(network_or_note(SYNCNET, dict, "all"))[1] for _ in range(2))
    assert len(asked) == attempts and "no network" in first[0] and str(SYNCNET.path) in second[0]
    mark = offline / "syncnet_v2.model.unreachable"
    assert mark.exists() == (attempts == 1)
    if mark.exists():
        assert f"within the last hour: wait, delete {mark} to try again, or download {SYNCNET.url}" in second[0]
        os.utime(mark, (time.time() - REMEMBERED_S - 1,) * 2)
        assert "no network" in finish(network_or_note(SYNCNET, dict, "all"))[1][0] and len(asked) == 2
        SYNCNET.path.write_bytes(b"put there by hand")  # while the mark is fresh again
        assert finish(network_or_note(SYNCNET, dict, "all")) == ({}, [])


def test_weights_that_come_at_last_leave_no_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (published := tmp_path / "published").write_bytes(b"weights")
    file = replace(SYNCNET, url=published.as_uri(), sha256=hashlib.sha256(b"weights").hexdigest())
    weights_folder().mkdir(parents=True)
    (mark := weights_folder() / "syncnet_v2.model.unreachable").touch()
    os.utime(mark, (0, 0))
    assert finish(network_or_note(file, file.path.read_bytes, "all")) == (b"weights", [])
    assert [path.name for path in weights_folder().iterdir()] == ["syncnet_v2.model"]


def test_a_download_is_not_waited_for(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    def slow(url: str, timeout: float) -> NoReturn:
        waited.append(timeout)
        raise TimeoutError("timed out")

    monkeypatch.setattr("urllib.request.urlopen", slow)
    assert "timed out" in finish(sync_instrument(FPS))[1][0] and max(waited) <= 10
