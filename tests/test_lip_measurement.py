"""From a video to measured lips, and into step with its sound."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from demo_clip_track import demo_clip, demo_track
from media_samples import write_clip

from encoders.bundle import DEFAULT_BUNDLE
from encoders.features import EXTRA_COLUMNS, SpeechFeatureTrack
from encoders.measured_lips import MeasuredLips
from talkinghead.lip_measurement import in_step, lips_of_landmarks, measure_lips
from tools.errors import NoAudioError, UnusableClipError

SHARE = 0.35
FPS = Fraction(25)


@pytest.fixture(scope="module")
def measured() -> MeasuredLips:
    return measure_lips(demo_clip().path, DEFAULT_BUNDLE.load(), SHARE)


def test_a_video_gives_the_lips_of_its_track(measured: MeasuredLips) -> None:
    count = round(SHARE * demo_clip().frame_count)
    assert len(measured.speech) == len(measured.opening) == count
    assert measured.seen.all()
    track = demo_track()
    silent = SpeechFeatureTrack(np.zeros((count, 4 + EXTRA_COLUMNS), np.float32), FPS)
    tracked = lips_of_landmarks(silent, track.landmarks[:count], track.shape.points, track.topology)
    assert np.corrcoef(measured.opening, tracked.opening)[0, 1] > 0.95
    assert np.corrcoef(measured.width, tracked.width)[0, 1] > 0.95


def test_a_picture_out_of_step_is_moved(measured: MeasuredLips) -> None:
    late = replace(measured, opening=np.roll(measured.opening, 5), width=np.roll(measured.width, 5))
    (moved,) = in_step([late])
    inside = moved.seen
    assert inside.sum() < len(inside)
    assert np.corrcoef(late.opening[inside], measured.opening[inside])[0, 1] < 0.5
    assert np.corrcoef(moved.opening[inside], measured.opening[inside])[0, 1] > 0.8


def test_videos_without_sound_or_face_are_named(tmp_path: Path) -> None:
    times = [Fraction(index, 25) for index in range(100)]
    silent = write_clip(tmp_path / "silent.mp4", times)
    with pytest.raises(NoAudioError, match=r"silent\.mp4 has no sound"):
        measure_lips(silent, DEFAULT_BUNDLE.load())
    sound = (np.zeros(64000, np.float32), 16000, Fraction(0))
    faceless = write_clip(tmp_path / "faceless.mkv", times, sound=sound)
    with pytest.raises(UnusableClipError, match=r"no face is seen in .*faceless\.mkv"):
        measure_lips(faceless, DEFAULT_BUNDLE.load())
