"""The encoder on real and made-up clips: the audio-video offset, and lip motion on frames that were not fitted."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from encoders.av_offset import estimate_offset
from encoders.bundle import DEFAULT_BUNDLE
from encoders.errors import SpeechInputError
from encoders.features import SpeechFeatureTrack, speech_features
from encoders.lip_motion import LipMotionPredictor
from tools.audio import read_audio
from tools.face_topology import MEDIAPIPE_478
from tools.landmarks import landmark_detector
from tools.metrics import amplitude_ratio, best_lag, mouth_opening, pearson
from tools.video import probe, read_frames

FPS = Fraction(25)
MOUTH_CORNERS = (61, 291)
FITTED = 400  # frames: 80 % of the clip


@dataclass(frozen=True)
class Clip:
    speech: SpeechFeatureTrack
    opening: np.ndarray  # [T] inter-ocular units
    width: np.ndarray  # [T]


@pytest.fixture(scope="module")
def clip(shared: Path) -> Clip:
    """Twenty seconds of a news anchor."""
    path = shared / "clips" / "anchor_512_25fps_20s.mp4"
    info = probe(path)
    with landmark_detector("mediapipe", max_faces=1) as detector:
        landmarks = np.stack([detector.detect(frame)[0] for frame in read_frames(info)])
    opening = mouth_opening(landmarks, landmarks[0], MEDIAPIPE_478)
    eyes = landmarks[:, MEDIAPIPE_478.left_outer_eye_corner] - landmarks[:, MEDIAPIPE_478.right_outer_eye_corner]
    corners = landmarks[:, MOUTH_CORNERS[0]] - landmarks[:, MOUTH_CORNERS[1]]
    width = np.linalg.norm(corners, axis=1) / np.linalg.norm(eyes, axis=1)
    speech = speech_features(read_audio(path).samples, DEFAULT_BUNDLE.load(), info.fps, info.frame_count)
    return Clip(speech, opening, width)


def test_lip_motion_holds_on_the_part_that_was_not_fitted(clip: Clip) -> None:
    codes = np.stack([clip.opening, clip.width], axis=1)
    codes[FITTED:] = np.nan
    predicted = LipMotionPredictor.fit(clip.speech, codes, clip.opening).predict(clip.speech)[FITTED:]
    opening, width = clip.opening[FITTED:], clip.width[FITTED:]
    assert pearson(predicted[:, 0], opening) > 0.6
    assert pearson(predicted[:, 1], width) > 0.5
    assert abs(best_lag(predicted[:, 0], opening, max_lag=6)) <= 1
    assert 0.6 < amplitude_ratio(predicted[:, 0], opening) < 1.3
    assert pearson(np.roll(predicted[:, 0], 37), opening) < 0.3


def test_offset_of_a_real_clip_follows_a_shift_of_its_sound(clip: Clip) -> None:
    own = estimate_offset(clip.speech, clip.opening, clip.width)
    assert own.is_reliable
    assert abs(own.frames) < 1.0
    for shift in (-6, 4):
        earlier = SpeechFeatureTrack(np.roll(clip.speech.features, -shift, axis=0), clip.speech.fps)
        shifted = estimate_offset(earlier, clip.opening, clip.width)
        assert shifted.is_reliable
        assert shifted.frames - own.frames == pytest.approx(shift, abs=0.35)


def test_foreign_sound_gives_no_reliable_offset(clip: Clip, shared: Path) -> None:
    samples = read_audio(shared / "audio" / "mandarin_news.wav").samples
    foreign = speech_features(np.tile(samples, 3), DEFAULT_BUNDLE.load(), FPS, len(clip.opening))
    assert not estimate_offset(foreign, clip.opening, clip.width).is_reliable


def _made_up(delay: int = 0) -> tuple[SpeechFeatureTrack, np.ndarray, np.ndarray]:
    """Articulation at random, and lips that follow it `delay` frames later, on a drift and under noise."""
    frames = 300
    random = np.random.default_rng(0)
    articulation = np.cumsum(random.standard_normal((frames + 40, 2)), axis=0)
    articulation = articulation[8:] - articulation[:-8]
    articulation /= articulation.std(axis=0)
    features = np.zeros((frames, 122), np.float32)
    features[:, -5:-3] = articulation[16 : 16 + frames]
    lips = articulation[16 - delay : 16 - delay + frames] + 0.5 * random.standard_normal((frames, 2))
    lips += np.linspace(0, 20, frames)[:, None]
    return SpeechFeatureTrack(features, FPS), lips[:, 0], lips[:, 1]


@pytest.mark.parametrize("delay", [-7, -1, 0, 2, 6])
def test_a_known_offset_is_found(delay: int) -> None:
    """The estimate allows for the half frame (20 ms) by which real lips lead their sound; the made-up ones do not."""
    offset = estimate_offset(*_made_up(delay=delay))
    assert offset.is_reliable
    assert offset.frames - 0.5 == pytest.approx(delay, abs=0.3)


def test_frames_without_a_face_do_not_move_the_offset() -> None:
    speech, opening, width = _made_up(delay=3)
    opening[50:60], width[200:215] = np.nan, np.nan
    assert estimate_offset(speech, opening, width).frames - 0.5 == pytest.approx(3, abs=0.4)


def test_still_lips_give_no_reliable_offset() -> None:
    speech, opening, width = _made_up()
    offset = estimate_offset(speech, np.zeros_like(opening), np.zeros_like(width))
    assert np.isfinite(offset.frames)
    assert not offset.is_reliable


def test_too_few_frames_are_named() -> None:
    speech, opening, width = _made_up()
    with pytest.raises(SpeechInputError, match="one length"):
        estimate_offset(speech, opening[1:], width)
    opening[60:] = np.nan
    with pytest.raises(SpeechInputError, match="3 s with a face"):
        estimate_offset(speech, opening, width)
