"""Which frames are fitted, what they hold, and the colours read from them."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from demo_clip_track import demo_clip, demo_track, finish

from talkinghead import training_frames
from talkinghead.progress import Progress
from talkinghead.training_frames import TrainingFrames, choose_frames, load_training_frames, mean_colors
from tools.expression import ExpressionTrack
from tools.head_pose import project_points
from tools.tracked_clip import TrackedClip
from tools.video import read_frames


def long_clip(frames: int, fitted: int, seed: int = 0) -> TrackedClip:
    """A track of many frames, each with a face and a random expression."""
    track, random = demo_track(), np.random.default_rng(seed)
    return replace(
        track,
        landmarks=np.repeat(track.landmarks[:1], frames, axis=0),
        expression=ExpressionTrack(
            random.normal(size=(frames, 4)).astype(np.float32), random.normal(size=(frames, 2)).astype(np.float32)
        ),
        fitted_frames=fitted,
    )


# --- which ---


def test_a_short_clip_is_used_whole_except_for_missing_and_held_out_frames() -> None:
    clip = long_clip(100, fitted=80)
    clip.landmarks[[3, 50, 90]] = np.nan
    assert choose_frames(clip).tolist() == [k for k in range(80) if k not in (3, 50)]


def test_memory_is_bounded_and_rare_expressions_are_kept() -> None:
    clip = long_clip(5000, fitted=4000)
    rare = [7, 1234, 1235, 3999]
    clip.expression.lower[rare[:2]] += 20
    clip.expression.upper[rare[2:]] -= 20
    clip.expression.lower[4500] += 50  # held out
    chosen = choose_frames(clip)
    assert len(chosen) == len(set(chosen.tolist())) == training_frames.MOST_FRAMES
    assert bool((np.diff(chosen) > 0).all()) and chosen[0] == 0 and chosen[-1] == 3999
    assert set(rare) <= set(chosen.tolist())


def test_the_whole_clip_stays_covered() -> None:
    """A person who grimaces for the whole second half does not push the first half out."""
    clip = long_clip(6000, fitted=6000)
    clip.expression.lower[3000:] *= 5
    chosen = choose_frames(clip)
    assert np.diff(chosen).max() <= 6000 / (0.6 * training_frames.MOST_FRAMES)
    assert (chosen < 3000).sum() > 0.3 * len(chosen)


def test_missing_frames_of_a_long_clip_are_not_chosen() -> None:
    clip = long_clip(3000, fitted=3000)
    clip.landmarks[1::2] = np.nan
    chosen = choose_frames(clip)
    assert len(chosen) == training_frames.MOST_FRAMES and bool((chosen % 2 == 0).all())


# --- what ---


@pytest.fixture(scope="module")
def loaded() -> tuple[TrainingFrames, list[Progress]]:
    """Seven frames of the demo clip, one without a face among them."""
    track = demo_track()
    landmarks = track.landmarks.copy()
    landmarks[3] = np.nan
    clip = replace(track, landmarks=landmarks, fitted_frames=8)
    events: list[Progress] = []
    job = load_training_frames(demo_clip(), clip)

    def watched():
        while True:
            try:
                events.append(next(job))
                yield
            except StopIteration as finished:
                return finished.value

    return finish(watched()), events


def test_frames_are_the_clips_own(loaded: tuple[TrainingFrames, list[Progress]]) -> None:
    frames, events = loaded
    assert frames.indices.tolist() == [0, 1, 2, 4, 5, 6, 7] and len(frames) == 7
    assert [(event.done, event.total) for event in events] == [(k, 7) for k in range(1, 8)]
    pictures = list(read_frames(demo_clip(), 0, 8))
    for place, number in enumerate(frames.indices):
        assert np.array_equal(frames.images[place], demo_track().crop.cut(pictures[number]))
        assert np.array_equal(frames.load(place, 512).image, frames.images[place])


def test_masks_are_those_of_the_person_face_and_mouth(loaded: tuple[TrainingFrames, list[Progress]]) -> None:
    frame, points = loaded[0].load(3, 512), demo_track().landmarks[4]
    for mask in (frame.matte, frame.face, frame.mouth):
        assert mask.dtype == np.uint8 and mask.shape == (512, 512)
    nose, chin = points[1, :2].astype(int), points[152, :2].astype(int)
    assert frame.face[nose[1], nose[0]] == 1 and frame.face[chin[1] + 12, chin[0]] == 0
    assert frame.matte[nose[1], nose[0]] > 200 and frame.matte[5, 5] < 50
    assert frame.face.max() == 1 and frame.mouth.max() <= 1
    assert bool((frame.face[frame.mouth == 1] == 1).all())


@pytest.mark.parametrize("side", [256, 200])
def test_a_smaller_frame_is_the_same_frame(loaded: tuple[TrainingFrames, list[Progress]], side: int) -> None:
    full, small = loaded[0].load(2, 512), loaded[0].load(2, side)
    for name, part in vars(small).items():
        assert part.shape[:2] == (side, side), name
        blown_up = cv2.resize(part, (512, 512), interpolation=cv2.INTER_LINEAR).astype(float)
        scale = 1 if name in ("face", "mouth") else 255
        assert np.abs(blown_up - getattr(full, name)).mean() < 0.03 * scale, name


# --- colours ---


def test_points_take_the_colour_that_they_are_seen_with() -> None:
    """Every picture shows a cross-hatch that moves with the head's projection: a colour for each point."""
    clip, points = demo_track(), demo_track().shape.points[::40]
    numbers = np.arange(0, 200, 10)
    colors = np.random.default_rng(0).integers(0, 255, (len(points), 3), np.uint8)
    images = []
    for pixels in project_points(points, clip.head)[numbers]:
        image = np.zeros((512, 512, 3), np.uint8)
        for (x, y), color in zip(pixels.astype(int), colors, strict=True):
            image[y - 1 : y + 2, x - 1 : x + 2] = color
        images.append(image)
    apart = np.linalg.norm(points[:, None, :2] - points[None, :, :2], axis=2) + 9 * np.eye(len(points))
    assert apart.min() * 100 > 3  # the spots do not touch
    frames = TrainingFrames(numbers, images, [], clip)
    assert np.allclose(mean_colors(frames, points), colors / 255, atol=1e-6)


def test_colours_are_averaged_over_the_clip_and_stay_inside_the_picture() -> None:
    images = [np.full((512, 512, 3), level, np.uint8) for level in (0, 100, 200)]
    frames = TrainingFrames(np.array([0, 100, 200]), images, [], demo_track())
    points = np.array([[0.0, 0.0, 0.0], [50.0, 50.0, 0.0]])
    assert np.allclose(mean_colors(frames, points), 100 / 255)
