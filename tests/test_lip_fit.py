"""The part of a fit that listens: the sound's delay, and the lips learned from the fitted frames."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from demo_clip_track import demo_clip, demo_track, fitted_frames

from encoders.bundle import DEFAULT_BUNDLE
from encoders.features import SpeechFeatureTrack
from encoders.lip_motion import LipMotionSettings
from encoders.speech import SpeechEncoder
from talkinghead.lip_fit import clip_features, delay_findings, fit_predictor, sound_delay
from tools.video import VideoInfo

SETTINGS = LipMotionSettings()


@cache
def encoder() -> SpeechEncoder:
    return DEFAULT_BUNDLE.load()


@cache
def speech() -> SpeechFeatureTrack:
    return clip_features(demo_clip(), encoder(), None, 0.0)


@pytest.mark.parametrize("frames", [6, -6])
def test_delayed_sound_is_heard_so_many_frames_later(frames: int) -> None:
    delayed = clip_features(demo_clip(), encoder(), None, frames)
    assert len(delayed) == len(speech()) == demo_clip().frame_count
    inner = slice(40, 250)
    moved = slice(inner.start + frames, inner.stop + frames)
    assert np.abs(delayed.features[moved] - speech().features[inner]).max() < 1e-2 * np.ptp(speech().features)


def test_the_demo_clips_sound_is_in_time() -> None:
    assert sound_delay(demo_track(), speech()) == 0.0


@pytest.mark.parametrize("early", [5, -4])
def test_sound_out_of_time_is_moved_back(early: int) -> None:
    """The sound comes `early` frames before the lips, so it has to be delayed by as many."""
    shifted = SpeechFeatureTrack(np.roll(speech().features, -early, axis=0), speech().fps)
    assert sound_delay(demo_track(), shifted) == pytest.approx(early, abs=1)
    info: VideoInfo = demo_clip()
    (line,) = delay_findings(float(early), info.fps)
    assert ("late" if early > 0 else "early") in line and f"{40 * abs(early)} ms" in line


def test_a_face_seen_too_briefly_leaves_the_sound_where_it_is() -> None:
    """Three seconds with a frame missing are enough for an avatar, though not to measure an offset."""
    clip = replace(demo_track(), landmarks=demo_track().landmarks.copy())
    clip.landmarks[74:] = np.nan
    assert sound_delay(clip, speech()) == 0.0


def test_lips_learn_from_the_fitted_frames_alone() -> None:
    clip = demo_track()
    changed = replace(clip, expression=replace(clip.expression, lower=clip.expression.lower.copy()))
    changed.expression.lower[fitted_frames() :] += 100
    first, second = (fit_predictor(each, speech(), SETTINGS).predict(speech()) for each in (clip, changed))
    assert np.array_equal(first, second)
    landmarks = clip.landmarks.copy()
    landmarks[fitted_frames() :] += 50
    third = fit_predictor(replace(clip, landmarks=landmarks), speech(), SETTINGS).predict(speech())
    assert np.array_equal(third, first)
