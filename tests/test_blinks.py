"""Blinks: found whatever else head and eyes do, removed without a trace, and put in as often as people blink."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from acting_person import BLINK_SHAPE, FPS, TOPOLOGY, ActingPerson, acting_person

from talkinghead.blinks import (
    MEAN_INTERVAL_S,
    SHORTEST_PAUSE_S,
    Blink,
    BlinkSplit,
    eye_opening,
    find_blinks,
    natural_blinks,
    split_blinks,
)


@pytest.fixture(scope="module")
def person() -> ActingPerson:
    return acting_person()


def found_in(person: ActingPerson) -> tuple[Blink, ...]:
    return find_blinks(eye_opening(person.avatar.tracks.landmarks, TOPOLOGY), FPS)


@pytest.mark.parametrize("turn_degrees", [0.0, 20.0, 40.0])
def test_blinks_are_found_however_far_the_head_turns(turn_degrees: float) -> None:
    person = acting_person(turn_degrees=turn_degrees)
    blinks = found_in(person)
    assert len(blinks) == len(person.starts)
    for blink, start in zip(blinks, person.starts, strict=True):
        assert start - 6 <= blink.first <= start and start + 6 <= blink.stop <= start + len(BLINK_SHAPE) + 6


def test_opening_is_height_over_width(person: ActingPerson) -> None:
    still = acting_person(turn_degrees=0.0)
    opening = eye_opening(still.avatar.tracks.landmarks, TOPOLOGY)
    # An ellipse's lids are apart by the mean of |sin| of its points' angles, corners left out.
    inner = np.sin(2 * np.pi * np.arange(1, 8) / 16).mean()
    assert np.median(opening) == pytest.approx(2 * 0.025 * inner / 0.2, rel=0.05)
    correlation = np.corrcoef(opening, still.lids)[0, 1]
    assert correlation > 0.98


def test_frames_without_a_face_lie_between_their_neighbours(person: ActingPerson) -> None:
    landmarks = person.avatar.tracks.landmarks.copy()
    landmarks[100:110] = np.nan
    opening = eye_opening(landmarks, TOPOLOGY)
    assert np.allclose(np.diff(opening[99:111]), (opening[110] - opening[99]) / 11)
    assert np.array_equal(eye_opening(np.full_like(landmarks, np.nan), TOPOLOGY), np.ones(len(landmarks)))


def test_looking_down_and_closed_eyes_are_no_blinks() -> None:
    opening = np.ones(500) + np.random.default_rng(0).normal(scale=0.02, size=500)
    opening[100:160] *= 0.85  # looks down
    opening[250:300] *= 0.1  # two seconds of closed eyes
    opening[400:404] *= 0.2  # a blink
    assert [(b.first, b.stop) for b in find_blinks(opening, FPS)] == [(400, 404)]


def test_noise_is_no_blink() -> None:
    opening = np.ones(2000) + np.random.default_rng(0).normal(scale=0.08, size=2000)
    assert find_blinks(opening, FPS) == ()


def test_a_blink_cut_off_by_the_end_is_removed_but_not_copied() -> None:
    opening = np.ones(200)
    opening[-3:], opening[50:54] = 0.2, 0.2
    codes = opening[:, None].astype(np.float32)
    split = split_blinks(codes, find_blinks(opening, FPS))
    assert np.allclose(split.opened, 1)
    assert [len(template) for template in split.templates()] == [4]


def test_without_blinks_the_eyes_stay_open_and_all_else_is_kept(person: ActingPerson) -> None:
    codes = person.avatar.tracks.upper
    split = split_blinks(codes, found_in(person))
    closed, yaw, pitch, brow = person.hidden(split.opened).T
    assert person.hidden(codes)[:, 0].max() > 0.9, "the footage does blink"
    assert closed.max() < 0.15
    apart = ~split.in_blink()
    assert np.array_equal(split.opened[apart], codes[apart])
    assert np.array_equal(split.closing[apart], np.zeros_like(codes[apart]))
    assert np.allclose(split.opened + split.closing, codes, atol=1e-6)
    for track in (yaw, pitch, brow):
        assert np.abs(np.diff(track)).max() < 1.0, "no jump where a blink was"


def test_codes_that_are_all_blink_are_left_alone() -> None:
    codes = np.ones((5, 2), np.float32)
    split = split_blinks(codes, (Blink(0, 5),))
    assert np.array_equal(split.opened, codes) and split.blinks == ()


def runs_of_blinking(track: np.ndarray) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], track, [False]])))
    return list(zip(edges[::2], edges[1::2], strict=True))


def test_natural_blinks_come_at_the_rate_of_people_and_never_in_one_another(person: ActingPerson) -> None:
    templates = split_blinks(person.avatar.tracks.upper, found_in(person)).templates()
    minutes = 60
    track = np.array(list(itertools.islice(natural_blinks(templates, FPS, 0), minutes * 60 * FPS)))
    runs = runs_of_blinking(np.abs(track).max(axis=1) > 0)
    assert len(runs) / minutes == pytest.approx(60 / MEAN_INTERVAL_S, rel=0.05)
    shapes = {template.tobytes() for template in templates}
    assert {track[first:stop].tobytes() for first, stop in runs[:-1]} == shapes, "whole ones, and every kind"
    pauses = np.array([after[0] - before[1] for before, after in itertools.pairwise(runs)]) / FPS
    assert pauses.min() >= SHORTEST_PAUSE_S - 1 / FPS
    assert np.median(pauses) < 0.85 * pauses.mean(), "most pauses are short and a few are long"


def test_natural_blinks_follow_from_the_seed(person: ActingPerson) -> None:
    templates = split_blinks(person.avatar.tracks.upper, found_in(person)).templates()
    first, again, other = (
        np.array(list(itertools.islice(natural_blinks(templates, FPS, seed), 2000))) for seed in (3, 3, 4)
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_a_clip_without_blinks_has_no_templates(person: ActingPerson) -> None:
    person = acting_person(starts=())
    assert found_in(person) == ()
    assert BlinkSplit.without(person.avatar.tracks.upper).templates() == []


def test_the_averted_eye_counts_for_little() -> None:
    person = acting_person(turn_degrees=0.0, starts=())
    landmarks = person.avatar.tracks.landmarks.astype(float)
    ring = list(TOPOLOGY.left_eye)
    centre = landmarks[:, ring].mean(axis=1, keepdims=True)
    landmarks[:, ring] = centre + (landmarks[:, ring] - centre) * (0.05, 1.0)  # seen edge on
    landmarks[:, ring] += np.random.default_rng(0).normal(scale=0.1, size=(len(landmarks), len(ring), 2))
    tracks = replace(person.avatar.tracks, landmarks=landmarks)
    assert find_blinks(eye_opening(tracks.landmarks, TOPOLOGY), FPS) == ()
