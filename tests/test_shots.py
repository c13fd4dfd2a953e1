"""Cuts at known places, and what looks like a cut and is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import chain, pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from demo_clip_track import demo_clip
from footage import close_up, demo_pictures, pictures, written

from tools.shots import Shot, find_shots
from tools.video import EncodeSettings, probe

Frames = list[np.ndarray]
CLIPS = ("anchor_512_25fps_20s", "portrait_512_25fps_8s", "square_590_25fps_5s")
CLIPS += ("square_700_30fps_6s", "square_844_25fps_5s", "vertical_1080x1920_25fps_10s")


def shots(path: Path, frames: Frames, settings: EncodeSettings | None = None) -> list[tuple[int, int]]:
    """(start, stop) of the shots found in these pictures."""
    found = find_shots(written(path, frames, settings=settings or EncodeSettings(crf=20)))
    return [(shot.start, shot.stop) for shot in found]


@cache
def wide() -> Frames:
    """Eighty frames of the demo clip."""
    return demo_pictures(0, 80)


@cache
def near() -> Frames:
    """A second camera's, of later."""
    return [close_up(picture) for picture in demo_pictures(100, 80)]


def faded(old: Frames, new: Frames, length: int) -> Frames:
    """A cross-fade in the last `length` frames of one and the first of the other."""
    shares = (np.arange(length) + 1) / (length + 1)
    mixed = [
        np.uint8(np.rint((1 - share) * x + share * y))
        for share, x, y in zip(shares, old[len(old) - length :], new[:length], strict=True)
    ]
    return [*old[: len(old) - length], *mixed, *new[length:]]


# --- cuts ---


def test_cuts_are_found_to_the_frame(tmp_path: Path) -> None:
    frames = [*wide()[:50], *near()[:30], *wide()[50:], *near()[30:37], *wide()[:3]]
    expected = [(0, 50), (50, 80), (80, 110), (110, 117), (117, 120)]
    assert shots(tmp_path / "a.mp4", frames) == expected
    assert shots(tmp_path / "b.mp4", frames, EncodeSettings(crf=36)) == expected


def test_cuts_between_clips_of_people_are_found_to_the_frame(shared: Path, tmp_path: Path) -> None:
    anchor, portrait, vertical = (probe(shared / "clips" / f"{CLIPS[k]}.mp4") for k in (0, 1, 5))
    parts = [pictures(anchor, 0, 60), pictures(portrait, 10, 40), wide()[:45], pictures(vertical, 80, 50)]
    parts.append(pictures(anchor, 200, 33))
    places = np.cumsum([0, *map(len, parts)]).tolist()
    assert shots(tmp_path / "clip.mp4", list(chain(*parts))) == list(pairwise(places))


def test_a_jump_within_a_still_set_up_is_found(shared: Path, tmp_path: Path) -> None:
    anchor = probe(shared / "clips" / f"{CLIPS[0]}.mp4")
    frames = pictures(anchor, 0, 80) + pictures(anchor, 300, 60)
    assert shots(tmp_path / "clip.mp4", frames) == [(0, 80), (80, 140)]


def test_cuts_are_found_in_noise(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    noisy = [
        np.uint8(np.clip(frame + random.normal(0, 25, frame.shape), 0, 255)) for frame in [*wide()[:40], *near()[:40]]
    ]
    assert shots(tmp_path / "clip.mp4", noisy) == [(0, 40), (40, 80)]


def test_the_rate_and_shape_of_the_picture_are_no_matter(tmp_path: Path) -> None:
    twice = [frame for frame in [*wide()[:40], *near()[:40]] for _ in "ab"]
    frames = [np.pad(frame[::2, ::2], ((0, 0), (200, 0), (0, 0))) for frame in twice]
    assert shots(tmp_path / "clip.mp4", frames) == [(0, 80), (80, 160)]


@pytest.mark.parametrize("length", [2, 6, 12, 25, 40])
def test_pictures_of_a_cross_fade_belong_to_no_shot(tmp_path: Path, length: int) -> None:
    first, second = shots(tmp_path / "clip.mp4", faded(wide(), near(), length))
    tolerance = 1 + length // 10  # pictures with a few percent of the other shot may count as pure
    assert first[0] == 0 and 80 - length <= first[1] <= 80 - length + tolerance
    assert second[1] == 160 - length and 80 - tolerance <= second[0] <= 80


def test_a_fade_to_black_and_out_of_it_parts_shots(tmp_path: Path) -> None:
    black = [np.zeros_like(wide()[0])] * 20
    found = shots(tmp_path / "clip.mp4", faded(faded(wide(), [*black, *black], 15), near(), 15))
    assert found[0][0] == 0 and abs(found[0][1] - 65) <= 2
    assert found[-1][1] == 170 and abs(found[-1][0] - 105) <= 2
    assert len(found) == 3


# --- no cuts ---


def flash(frames: Frames) -> Frames:
    """A photographer's flashes: white for one frame, bright for three, and one from the side."""
    bright = [np.uint8(np.clip(frame * 1.5 + 90.0, 0, 255)) for frame in frames]
    ramp = np.linspace(0, 200, frames[0].shape[1])[None, :, None]
    sideways = [np.uint8(np.clip(frame + ramp, 0, 255)) for frame in frames]
    white = np.full_like(frames[0], 255)
    return [*frames[:20], white, *frames[21:40], *bright[40:43], *frames[43:60], *sideways[60:62], *frames[62:]]


def pan(frames: Frames) -> Frames:
    """A camera that starts to move at once, by 2 % of the picture in every frame."""
    return [np.roll(frame, 10 * max(0, number - 30), axis=1) for number, frame in enumerate(frames)]


def zoom(frames: Frames) -> Frames:
    """Twice as near in three seconds."""
    side = len(frames[0])
    centre = (side / 2, side / 2)
    turned = [cv2.getRotationMatrix2D(centre, 0, 1 + number / 75) for number in range(len(frames))]
    return [cv2.warpAffine(frame, matrix, (side, side)) for frame, matrix in zip(frames, turned, strict=True)]


def lights(frames: Frames) -> Frames:
    """Dimmed and turned up again, quickly."""
    return [np.uint8(frame * (0.6 + 0.4 * np.cos(number / 4))) for number, frame in enumerate(frames)]


def noise(frames: Frames) -> Frames:
    """A dark room's noise."""
    random = np.random.default_rng(1)
    return [np.uint8(np.clip(frame * 0.3 + random.normal(0, 20, frame.shape), 0, 255)) for frame in frames]


def frozen(frames: Frames) -> Frames:
    """Every third picture missing, the one before it shown again."""
    return [frames[number - (number % 3 == 2)] for number in range(len(frames))]


def passer_by(frames: Frames) -> Frames:
    """Somebody walks through the picture, right before the camera."""
    shown = [frame.copy() for frame in frames]
    side = len(shown[0])
    for number, frame in enumerate(shown[20:60]):
        left = side * (number - 12) // 20
        frame[:, max(0, left) : max(0, left + side // 2)] = (70, 40, 30)
    return shown


@pytest.mark.parametrize("change", [flash, pan, zoom, lights, noise, frozen, passer_by])
def test_what_is_no_cut_is_none(tmp_path: Path, change: Callable[[Frames], Frames]) -> None:
    assert shots(tmp_path / "clip.mp4", change(wide())) == [(0, 80)]


@pytest.mark.parametrize("change", [flash, pan, zoom, frozen])
def test_what_is_no_cut_is_none_where_people_move(
    shared: Path, tmp_path: Path, change: Callable[[Frames], Frames]
) -> None:
    frames = pictures(probe(shared / "clips" / f"{CLIPS[1]}.mp4"), 0, 80)
    assert shots(tmp_path / "clip.mp4", change(frames)) == [(0, 80)]


def test_the_demo_clip_is_one_shot() -> None:
    assert find_shots(demo_clip()) == (Shot(0, demo_clip().frame_count),)
    assert find_shots(replace(demo_clip(), frame_count=1)) == (Shot(0, 1),)


@pytest.mark.parametrize("name", CLIPS)
def test_an_untouched_clip_is_one_shot(shared: Path, name: str) -> None:
    info = probe(shared / "clips" / f"{name}.mp4")
    assert find_shots(info) == (Shot(0, info.frame_count),)
