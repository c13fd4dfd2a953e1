"""The whole tracking on the demo clip, whose truth is known, and on a real clip; the track's file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from demo_clip_track import (
    RIGID,
    demo_clip,
    demo_track,
    demo_tracking,
    demo_truth,
    exact_landmarks,
    finish,
    fitted_frames,
)
from scipy.spatial.transform import Rotation

from tools import tracking
from tools.errors import DamagedMediaError, OutputError, UnusableClipError
from tools.face_topology import MEDIAPIPE_478
from tools.head_pose import project_points
from tools.metrics import mouth_opening
from tools.tracked_clip import CropBox, TrackedClip, load_tracked_clip, save_tracked_clip
from tools.tracking import TrackingConfig, track_clip
from tools.video import VideoInfo, probe, read_frames

# --- against the truth ---


def test_the_crop_holds_the_person_and_is_not_resampled() -> None:
    crop = demo_track().crop
    assert crop == CropBox(left=0, top=0, side=512, resolution=512)
    assert demo_track().found.all() and len(demo_track()) == demo_clip().frame_count
    assert demo_track().findings == ()


def test_poses_are_those_of_the_truth() -> None:
    """The landmark network's own error included, which is correlated over time."""
    turns = demo_truth().world_to_camera[:, :3, :3]
    difference = Rotation.from_matrix(turns.transpose(0, 2, 1) @ demo_track().head.rotations)
    error = np.degrees((difference.mean().inv() * difference).magnitude())
    assert np.median(error) < 1.0 and error.max() < 2.5


def test_rigid_landmarks_are_reprojected() -> None:
    track = demo_track()
    pixels = project_points(track.shape.points, track.head)[:, RIGID]
    assert np.median(np.linalg.norm(pixels - track.landmarks[:, RIGID, :2], axis=2)) < 0.6
    assert np.median(np.linalg.norm(pixels - exact_landmarks(rigid=True)[:, RIGID, :2], axis=2)) < 2.5


def test_expression_follows_mouth_and_lids_of_the_truth() -> None:
    track, truth = demo_track(), demo_truth()
    opening = mouth_opening(track.landmarks, track.shape.points, track.topology)
    assert np.corrcoef(opening, truth.mouth_opening)[0, 1] > 0.95
    lower = np.column_stack([track.expression.lower, np.ones(len(track))])
    held_out = slice(fitted_frames(), None)
    weights = np.linalg.lstsq(lower[: fitted_frames()], truth.mouth_opening[: fitted_frames()], rcond=None)[0]
    assert np.corrcoef(lower[held_out] @ weights, truth.mouth_opening[held_out])[0, 1] > 0.95
    correlations = [abs(np.corrcoef(code, truth.blink)[0, 1]) for code in track.expression.upper.T]
    assert max(correlations) > 0.7


def test_codes_are_standardised_over_the_fitted_frames() -> None:
    for codes in (demo_track().expression.lower, demo_track().expression.upper):
        fitted = codes[: fitted_frames()]
        assert np.abs(fitted.mean(0)).max() < 1e-2 and np.abs(fitted.std(0) - 1).max() < 1e-2


def test_the_torso_sways_as_the_shoulders_do() -> None:
    """The demo person's torso only shifts, by a few pixels; its turn must stay small and its frame smooth."""
    torso, reference = demo_track().torso, demo_track().reference_frame
    turn = Rotation.from_matrix(torso.rotations @ torso.rotations[reference].T).magnitude()
    assert np.degrees(turn).max() < 1.5
    assert np.abs(np.diff(torso.translations[:, :2], axis=0)).max() < 0.02
    assert np.abs(torso.rotations[reference] - demo_track().head.rotations[reference]).max() < 0.01
    assert reference < fitted_frames()


def test_progress_counts_up_to_its_total() -> None:
    stages: dict[str, list[tuple[int, int]]] = {}
    for event in demo_tracking()[1]:
        stages.setdefault(event.stage, []).append((event.done, event.total))
    frames = demo_clip().frame_count
    assert list(stages) == ["landmarks", "head pose", "torso and background"]
    for name in ("landmarks", "torso and background"):
        assert stages[name] == [(k + 1, frames) for k in range(frames)]


# --- held-out frames, missing frames, cuts: a shortened clip whose frames are changed as they are read ---

SHORT, SHORT_FITTED = 100, 80
MISSING = range(40, 45)


def track_changed(patch: pytest.MonkeyPatch, held_out_shift_px: int) -> TrackedClip:
    """The start of the demo clip with some frames blank and the held-out ones shifted sideways."""
    info = replace(demo_clip(), frame_count=SHORT, duration_s=SHORT / 25)

    def changed(info: VideoInfo, start: int = 0, count: int | None = None) -> Iterator[np.ndarray]:
        for number, frame in enumerate(read_frames(info, start, count), start):
            if number in MISSING:
                yield np.full_like(frame, 90)
            else:
                yield np.roll(frame, held_out_shift_px if number >= SHORT_FITTED else 0, axis=1)

    patch.setattr(tracking, "read_frames", changed)
    return finish(track_clip(info, TrackingConfig(), SHORT_FITTED))


@pytest.fixture(scope="module")
def pair() -> tuple[TrackedClip, TrackedClip]:
    """The short clip as it is, and with other held-out frames."""
    with pytest.MonkeyPatch.context() as patch:
        plain = track_changed(patch, held_out_shift_px=0)
    with pytest.MonkeyPatch.context() as patch:
        return plain, track_changed(patch, held_out_shift_px=60)


@pytest.mark.parametrize("part", ["shape", "basis"])
def test_statistics_never_see_the_held_out_frames(pair: tuple[TrackedClip, TrackedClip], part: str) -> None:
    first, second = (getattr(clip, part) for clip in pair)
    for item in fields(first):
        assert np.array_equal(getattr(first, item.name), getattr(second, item.name)), item.name


def test_nothing_of_the_fitted_frames_depends_on_the_held_out_ones(pair: tuple[TrackedClip, TrackedClip]) -> None:
    first, second = pair
    assert first.crop == second.crop and first.reference_frame == second.reference_frame
    assert np.array_equal(first.background, second.background)
    fitted = slice(0, SHORT_FITTED)
    for track, name in (("head", "rotations"), ("head", "translations"), ("expression", "lower")):
        a, b = (getattr(getattr(clip, track), name) for clip in pair)
        assert np.array_equal(a[fitted], b[fitted]), (track, name)
        assert not np.allclose(a[SHORT_FITTED:], b[SHORT_FITTED:], atol=1e-3), (track, name)


def test_frames_without_a_face_are_skipped(pair: tuple[TrackedClip, TrackedClip]) -> None:
    clip = pair[0]
    assert np.flatnonzero(~clip.found).tolist() == list(MISSING)
    assert any("no face in 5 of 100 frames" in line for line in clip.findings)
    for values in (clip.head.rotations, clip.head.translations, clip.expression.lower, clip.torso.translations):
        assert np.isfinite(values).all()
    step = np.linalg.norm(np.diff(clip.head.translations, axis=0), axis=1)
    assert step[39:45].max() < 2 * np.percentile(step, 95)


def test_a_clip_without_enough_frames_of_the_face_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    info = replace(demo_clip(), frame_count=75, duration_s=3.0)

    def mostly_blank(info: VideoInfo, start: int = 0, count: int | None = None) -> Iterator[np.ndarray]:
        for number, frame in enumerate(read_frames(info, start, count), start):
            yield frame if number < 20 else np.full_like(frame, 90)

    monkeypatch.setattr(tracking, "read_frames", mostly_blank)
    with pytest.raises(UnusableClipError, match=r"is seen in 20 frames only"):
        finish(track_clip(info, TrackingConfig(), 75))


# --- the crop ---


def test_the_crop_of_a_large_frame_is_a_square_around_face_and_shoulders() -> None:
    info = replace(demo_clip(), width=1920, height=1080)
    face = np.random.default_rng(0).uniform(0, 1, (50, 478, 3)) * [150, 200, 0] + [800, 300, 0]
    face[:, 0, :2], face[:, 1, :2] = (800, 300), (950, 500)
    crop = tracking._choose_crop(info, face.astype(np.float32), 256)
    assert crop.side == 480 and crop.resolution == 256
    assert abs(crop.left + crop.side / 2 - 875) < 2 and abs(crop.top + crop.side / 2 - 440) < 2
    near_the_border = tracking._choose_crop(info, face.astype(np.float32) - np.float32([780, 280, 0]), 1024)
    assert (near_the_border.left, near_the_border.top, near_the_border.resolution) == (0, 0, 480)


def test_landmarks_and_pictures_are_cropped_alike() -> None:
    crop = CropBox(left=30, top=50, side=200, resolution=100)
    frame = np.zeros((300, 300, 3), np.uint8)
    frame[110:114, 90:94] = 255  # centre at (92, 112)
    rows, columns = np.nonzero(crop.cut(frame)[..., 0] > 100)
    (point,) = tracking._to_crop(np.array([[[92, 112, 10]]], np.float32), crop)[0]
    assert point == pytest.approx([31, 31, 5])
    assert (columns.mean() + 0.5, rows.mean() + 0.5) == pytest.approx((31, 31))


def test_a_crop_of_equal_size_copies_pixels() -> None:
    frame = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    part = CropBox(left=5, top=3, side=32, resolution=32).cut(frame)
    assert np.array_equal(part, frame[3:35, 5:37]) and part.flags.c_contiguous


# --- the file ---


def assert_same(first: object, second: object) -> None:
    assert type(first) is type(second)
    if isinstance(first, np.ndarray):
        assert first.dtype == second.dtype and np.array_equal(first, second, equal_nan=first.dtype.kind == "f")
    elif is_dataclass(first):
        for item in fields(first):
            assert_same(getattr(first, item.name), getattr(second, item.name))
    else:
        assert first == second


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "track.safetensors"
    save_tracked_clip(demo_track(), path, "key")
    return path


def test_a_saved_track_comes_back_bit_for_bit(
    saved: Path, tmp_path: Path, pair: tuple[TrackedClip, TrackedClip]
) -> None:
    assert_same(load_tracked_clip(saved, "key"), demo_track())
    save_tracked_clip(pair[1], saved, "other key")  # with missing frames and findings
    assert_same(load_tracked_clip(saved, "other key"), pair[1])
    assert [path.name for path in tmp_path.iterdir()] == ["track.safetensors"]


def test_another_clips_track_and_a_missing_one_are_not_taken(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_tracked_clip(saved, "another key") is None
    assert load_tracked_clip(saved.with_name("none"), "key") is None
    monkeypatch.setattr("tools.tracked_clip.TRACKING_VERSION", -1)
    assert load_tracked_clip(saved, "key") is None


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_cut_off_file_is_an_error(saved: Path, share: float) -> None:
    saved.write_bytes(saved.read_bytes()[: int(share * saved.stat().st_size)])
    with pytest.raises(DamagedMediaError, match=r"is damaged .* delete it and run again"):
        load_tracked_clip(saved, "key")


def test_a_crash_while_saving_keeps_the_old_track(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*args: object) -> None:
        args[1].write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("tools.tracked_clip.save_file", crash)
    with pytest.raises(OutputError, match="disk full"):
        save_tracked_clip(demo_track(), saved, "key")
    assert load_tracked_clip(saved, "key") is not None


# --- a real clip ---


def test_a_real_person_with_large_expressions_is_tracked(shared: Path) -> None:
    info = probe(shared / "clips" / "portrait_512_25fps_8s.mp4")
    info = replace(info, frame_count=90, duration_s=3.6)
    clip = finish(track_clip(info, TrackingConfig(resolution=256), 70))
    assert clip.found.mean() > 0.95 and clip.crop.resolution == 256
    distance = np.linalg.norm(project_points(clip.shape.points, clip.head) - clip.landmarks[..., :2], axis=2)
    assert np.nanmedian(distance[:, list(MEDIAPIPE_478.stable)]) < 1.0  # px of 256
    assert np.abs(clip.expression.lower[70:]).max() < 20
