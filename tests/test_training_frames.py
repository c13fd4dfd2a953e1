"""Which frames are fitted, what they hold, and the colours read from them."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from demo_clip_track import demo_clip, demo_track, finish
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from talkinghead import training_frames
from talkinghead.progress import Progress
from talkinghead.training_frames import TrainingFrames, choose_frames, load_training_frames, mean_colors
from tools.expression import ExpressionTrack
from tools.head_pose import HeadPoseTrack, project_points
from tools.tracked_clip import TrackedClip
from tools.video import read_frames

MOST = 600


def long_clip(frames: int, fitted: int, seed: int = 0) -> TrackedClip:
    """A track of many frames, each with a face; pose and expression wander about."""
    track, random = demo_track(), np.random.default_rng(seed)
    sizes = (len(track.basis.lower_components), len(track.basis.upper_components), 3)
    lower, upper, turns = (wandering(random, frames, size) for size in sizes)
    head = HeadPoseTrack(
        Rotation.from_rotvec(0.05 * turns).as_matrix().astype(np.float32),
        np.tile(track.head.translations[:1], (frames, 1)),
        track.head.focal_px,
        track.head.resolution,
    )
    landmarks = np.repeat(track.landmarks[:1], frames, axis=0)
    return replace(
        track, landmarks=landmarks, head=head, expression=ExpressionTrack(lower, upper), fitted_frames=fitted
    )


def wandering(random: np.random.Generator, frames: int, size: int) -> np.ndarray:
    """[frames, size] smooth, of unit variance."""
    series = gaussian_filter1d(random.normal(size=(frames, size)), 3.0, axis=0)
    return (series / series.std(axis=0)).astype(np.float32)


# --- which ---


def test_a_short_clip_is_used_whole_except_for_missing_and_held_out_frames() -> None:
    clip = long_clip(100, fitted=80)
    clip.landmarks[[3, 50, 90]] = np.nan
    assert choose_frames(clip, MOST).tolist() == [k for k in range(80) if k not in (3, 50)]


def test_the_number_of_frames_is_bounded_and_the_choice_always_the_same() -> None:
    clip = long_clip(5000, fitted=4000)
    chosen = choose_frames(clip, MOST)
    assert len(chosen) == len(set(chosen.tolist())) == MOST
    assert bool((np.diff(chosen) > 0).all()) and chosen[0] == 0 and chosen[-1] == 3999
    assert np.array_equal(chosen, choose_frames(clip, MOST))


def test_rare_poses_and_expressions_are_chosen() -> None:
    """Four events of five frames each, of which an even choice of every tenth frame may see none."""
    clip = long_clip(5000, fitted=4000)
    events = {"blink": 1003, "wide mouth": 2001, "turned head": 3007, "nod": 3505}
    clip.expression.upper[1003:1008, 0] += 6
    clip.expression.lower[2001:2006, 0] += 6
    turned = Rotation.from_euler("y", 35, degrees=True).as_matrix().astype(np.float32)
    clip.head.rotations[3007:3012] = turned @ clip.head.rotations[3007:3012]
    clip.head.translations[3505:3510, 1] += 2
    chosen = choose_frames(clip, MOST)
    for name, first in events.items():
        assert np.isin(np.arange(first, first + 5), chosen).any(), name


def test_a_grimace_that_is_held_does_not_take_the_place_of_others() -> None:
    """The frames farthest from the mean are all of the one long grimace; the farthest from each other are not."""
    clip = long_clip(4000, fitted=4000)
    clip.expression.lower[1000:1400, 0] += 8
    clip.expression.lower[3000:3010, 1] -= 8
    chosen = choose_frames(clip, MOST)
    assert np.isin(np.arange(3001, 3009), chosen).any()
    assert ((chosen >= 1000) & (chosen < 1400)).sum() < 0.2 * len(chosen)


def test_no_frame_is_left_far_from_all_chosen_ones() -> None:
    clip = long_clip(4000, fitted=4000)
    points = training_frames._appearance(clip)

    def gap(chosen: np.ndarray) -> float:
        return max(np.linalg.norm(points[chosen] - point, axis=1).min() for point in points)

    evenly = np.linspace(0, 3999, MOST).astype(int)
    assert gap(choose_frames(clip, MOST)) < 0.9 * gap(evenly)


def test_a_failed_detection_is_not_what_is_rare() -> None:
    clip = long_clip(4000, fitted=4000)
    evenly = set(choose_frames(clip, MOST).tolist())
    failed = [k for k in range(501, 4000, 500) if k not in evenly]
    clip.expression.lower[failed] += 50
    clip.head.translations[failed] += 50
    assert not np.isin(failed, choose_frames(clip, MOST)).any()


def test_noise_is_not_what_is_rare() -> None:
    """A code that moves nothing counts for nothing, whatever its values."""
    clip, still = long_clip(3000, fitted=3000), long_clip(3000, fitted=3000)
    for each in (clip, still):
        each.basis.motion[3] = 0
    clip.expression.lower[:, 3] *= 30
    assert np.array_equal(choose_frames(clip, MOST), choose_frames(still, MOST))


def test_held_out_frames_choose_nothing() -> None:
    clip, other = long_clip(5000, fitted=4000), long_clip(5000, fitted=4000)
    other.expression.lower[4001:] += 50
    assert np.array_equal(choose_frames(clip, MOST), choose_frames(other, MOST))


def test_the_whole_clip_stays_covered() -> None:
    """A person who grimaces for the whole second half does not push the first half out."""
    clip = long_clip(6000, fitted=6000)
    clip.expression.lower[3000:] *= 5
    chosen = choose_frames(clip, MOST)
    assert np.diff(chosen).max() <= 6000 / (0.6 * MOST)
    assert (chosen < 3000).sum() > 0.3 * len(chosen)


def test_missing_frames_of_a_long_clip_are_not_chosen() -> None:
    clip = long_clip(3000, fitted=3000)
    clip.landmarks[1::2] = np.nan
    chosen = choose_frames(clip, MOST)
    assert len(chosen) == MOST and bool((chosen % 2 == 0).all())


# --- what ---


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingFrames, list[Progress]]:
    """Seven frames of the demo clip, one without a face among them."""
    track = demo_track()
    landmarks = track.landmarks.copy()
    landmarks[3] = np.nan
    clip = replace(track, landmarks=landmarks, fitted_frames=8)
    events: list[Progress] = []
    job = load_training_frames(demo_clip(), clip, MOST, tmp_path_factory.mktemp("frames"))

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
