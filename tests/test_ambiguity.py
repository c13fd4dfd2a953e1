"""How far apart phones lie in a feature space, and the pictures of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from encoders.contrastive.ambiguity import (
    AmbiguityScores,
    LabelledSpeech,
    PhoneRows,
    ambiguity_scores,
    phone_rows,
    separation,
)
from encoders.contrastive.ambiguity_figure import draw_ambiguity
from encoders.contrastive.tsne import principal_components, tsne
from encoders.corpus.recording import VoiceRecordings
from encoders.phones import PHONES


class _Clock:
    """A feature that gives the time of every row, seconds."""

    name, size = "clock", 1

    def embedding_blocks(self, blocks: Iterable[np.ndarray], fps: Fraction, frame_count: int) -> Iterator[np.ndarray]:
        times = ((np.arange(frame_count) + 0.5) / float(fps)).astype(np.float32)[:, None]
        yield from np.array_split(times, 7)


def test_a_phone_is_represented_by_its_middle() -> None:
    d, t, sil = (PHONES.index(phone) for phone in ("d", "t", "sil"))
    phones = np.repeat([sil, d, sil, t, d], [50, 10, 100, 21, 69])  # at 125 labels per second: 2 s
    rows = phone_rows(_Clock(), LabelledSpeech(np.zeros(32_000, np.float32), phones, 125.0), ("d", "t"))
    assert rows.phones.tolist() == [d, t, d]
    np.testing.assert_allclose(rows.rows[:, 0], [54.5 / 125, 170 / 125, 215 / 125], atol=0.0051)
    np.testing.assert_array_equal(rows.of("t"), rows.rows[1:2])


def test_speech_of_the_corpus() -> None:
    phones = np.arange(50, dtype=np.uint8) % 38
    samples = np.full(50 * 128, -16384, np.int16)
    voice = VoiceRecordings("flite", "slt", "en", "free", False, samples, phones, np.array([20, 30]), np.zeros(2))
    speech = LabelledSpeech.of_recordings(voice, seconds=0.2)
    assert len(speech.phones) == 25 and len(speech.samples) == 25 * 128 and (speech.samples == -0.5).all()
    assert len(LabelledSpeech.of_recordings(voice, seconds=9).phones) == 50


def test_separation_of_known_classes() -> None:
    """Means 3 apart, five dimensions of unit variance: 3 / sqrt(5)."""
    random = np.random.default_rng(0)
    one, other = random.standard_normal((2, 4000, 5))
    other[:, 0] += 3.0
    assert separation(one, other) == pytest.approx(3 / np.sqrt(5), rel=0.03)
    turned, _ = np.linalg.qr(random.standard_normal((5, 5)))
    assert separation(7 * one @ turned, 7 * other @ turned) == pytest.approx(separation(one, other))


def test_halves_of_one_class_are_not_apart() -> None:
    random = np.random.default_rng(1)
    halves = [separation(*random.standard_normal((2, 40, 64))) for _ in range(20)]
    assert np.mean(halves) < 0.1  # without the correction it would be sqrt(2 / 40) = 0.22
    assert separation(np.ones((30, 2)), np.ones((30, 2))) == 0.0


def _rows(apart: dict[str, float]) -> PhoneRows:
    random = np.random.default_rng(2)
    parts = [random.normal((shift, 0, 0, 0), 1.0, (60, 4)) for shift in apart.values()]
    return PhoneRows(
        np.concatenate(parts).astype(np.float32), np.repeat([PHONES.index(phone) for phone in apart], 60)
    )


def test_scores_compare_lookalikes_with_others() -> None:
    lips = ambiguity_scores(_rows({"d": 0.0, "t": 0.5, "b": 5.0}))
    acoustics = ambiguity_scores(_rows({"d": 0.0, "t": 5.0, "b": 2.5}))
    assert lips.ratio < 0.2 < 1.5 < acoustics.ratio
    assert AmbiguityScores(1.0, 0.0).ratio == float("inf")
    with pytest.raises(ValueError, match="expected /b/ 20 times"):
        ambiguity_scores(_rows({"d": 0.0, "t": 0.5}))


def test_principal_components_are_the_directions_of_largest_variance() -> None:
    random = np.random.default_rng(3)
    rows = random.standard_normal((500, 3)) * [1.0, 5.0, 2.0]
    coordinates = principal_components(rows)
    assert abs(np.corrcoef(coordinates[:, 0], rows[:, 1])[0, 1]) > 0.99
    assert abs(np.corrcoef(coordinates[:, 1], rows[:, 2])[0, 1]) > 0.95


def test_tsne_keeps_neighbours_together() -> None:
    """Three clusters on a line in 20 dimensions come out as three clusters."""
    random = np.random.default_rng(4)
    labels = np.repeat([0, 1, 2], 40)
    rows = random.standard_normal((120, 20))
    rows[:, 0] += 20 * labels
    points = tsne(rows, perplexity=15)
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    np.fill_diagonal(distances, np.inf)
    nearest = np.argsort(distances, axis=1)[:, :5]
    assert (labels[nearest] == labels[:, None]).mean() > 0.98
    np.testing.assert_array_equal(tsne(rows, perplexity=15), points)
    with pytest.raises(ValueError, match="expected 90 rows"):
        tsne(rows[:80])


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    rows = _rows({"d": 0.0, "t": 0.5, "b": 5.0})
    draw_ambiguity({"one": rows, "other": rows}, tmp_path / "d and t.png")
    assert (tmp_path / "d and t.png").read_bytes().startswith(b"\x89PNG")
