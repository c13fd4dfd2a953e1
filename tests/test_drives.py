"""Rows beside the clip's own: retrieved lips, and what other recordings say."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from demo_clip_track import demo_clip, fitted_frames
from fitted_demo import FittedDemo
from media_samples import write_sound

from encoders.features import EXTRA_COLUMNS, SpeechFeatureTrack
from talkinghead.avatar import load_avatar
from talkinghead.demo_clip.truth import ASSETS
from talkinghead.evaluation.drives import RETRIEVAL_REACH, cross_drives, nearest_sounding, own_drives, shuffle_frames
from talkinghead.speak import lip_codes
from tools.audio import SAMPLE_RATE, read_audio
from tools.errors import UserError


def speech_of(embedding: np.ndarray) -> SpeechFeatureTrack:
    """What stands behind the embedding must not matter."""
    rest = 100 * np.random.default_rng(9).standard_normal((len(embedding), EXTRA_COLUMNS))
    return SpeechFeatureTrack(np.concatenate([embedding, rest], axis=1).astype(np.float32), Fraction(25))


def held_out() -> np.ndarray:
    return np.arange(fitted_frames(), demo_clip().frame_count)


def test_a_sound_heard_before_is_found_again() -> None:
    sounds = np.random.default_rng(0).standard_normal((100, 4))
    sounds[70:100] = sounds[20:50]
    wanted = np.arange(70 + RETRIEVAL_REACH, 100 - RETRIEVAL_REACH)
    among = np.arange(10, 60)
    assert np.array_equal(among[nearest_sounding(speech_of(sounds), wanted, among)], wanted - 50)


def test_the_nearest_is_that_of_brute_force() -> None:
    sounds = np.random.default_rng(1).standard_normal((60, 3)) * (1, 10, 0.1)
    sounds = np.concatenate([sounds, np.ones((60, 1))], axis=1)  # a column that never changes
    among, wanted = np.array([0, 1, 5, 9, 12, 20, 30, 39]), np.array([40, 47, 59])
    scaled = sounds / np.append(sounds[among, :3].std(axis=0), 1)

    def distance(a: int, b: int) -> float:
        shifts = range(-RETRIEVAL_REACH, RETRIEVAL_REACH + 1)
        return sum(np.sum((scaled[np.clip(a + s, 0, 59)] - scaled[np.clip(b + s, 0, 59)]) ** 2) for s in shifts)

    nearest = [min(range(len(among)), key=lambda place: distance(among[place], frame)) for frame in wanted]
    assert nearest_sounding(speech_of(sounds), wanted, among).tolist() == nearest


def test_shuffled_sound_is_never_near_its_own_place() -> None:
    assert shuffle_frames(100) == shuffle_frames(74) == 37 and shuffle_frames(40) == 20
    for count in range(37, 200):
        shift = shuffle_frames(count)
        assert min(shift, count - shift) == min(37, count // 2), "a shift of s in a ring is one of count - s back"


def test_retrieved_lips_are_lips_of_the_fitted_part(fitted_demo: FittedDemo) -> None:
    avatar = load_avatar(fitted_demo.avatar)
    (retrieved,) = (drive.codes for drive in own_drives(avatar, held_out()) if drive.name == "retrieval")
    fitted = {code.tobytes() for code in avatar.tracks.lower[: fitted_frames()]}
    assert len(retrieved) == len(held_out()) and {code.tobytes() for code in retrieved} <= fitted
    assert len(np.unique(retrieved, axis=0)) > len(held_out()) // 4


def test_a_recording_drives_as_many_frames_as_are_held_out(fitted_demo: FittedDemo) -> None:
    avatar, sound = load_avatar(fitted_demo.avatar), ASSETS / "demo_speech.wav"
    seen = np.delete(held_out(), [3, 4])  # no face in two of them
    (drive,) = cross_drives(avatar, seen, [sound])
    spoken = np.stack(list(lip_codes(avatar, sound, len(held_out()))))
    assert drive.name == "demo_speech" and not drive.has_truth
    np.testing.assert_array_equal(drive.codes, np.delete(spoken, [3, 4], axis=0))
    length = round(len(held_out()) / avatar.manifest.fps * SAMPLE_RATE)
    np.testing.assert_array_equal(drive.samples, read_audio(sound).samples[:length])


def test_a_short_recording_is_followed_by_silence_and_names_are_unique(fitted_demo: FittedDemo, tmp_path: Path) -> None:
    avatar = load_avatar(fitted_demo.avatar)
    files = [tmp_path / "audio.wav", tmp_path / "other.wav", tmp_path / "other.flac"]
    for file in files:
        write_sound(file, np.full(1600, 0.25), SAMPLE_RATE, "flac" if file.suffix == ".flac" else "pcm_s16le")
    drives = cross_drives(avatar, held_out(), files)
    assert [drive.name for drive in drives] == ["audio_2", "other", "other_2"]
    for drive in drives:
        assert len(drive.codes) == len(held_out()) and np.isfinite(drive.codes).all()
        assert drive.samples[:1600].min() > 0.2 and not drive.samples[1600:].any()


def test_a_recording_that_cannot_be_read_is_named(fitted_demo: FittedDemo, tmp_path: Path) -> None:
    avatar = load_avatar(fitted_demo.avatar)
    with pytest.raises(UserError, match=r"missing\.wav"):
        cross_drives(avatar, held_out(), [tmp_path / "missing.wav"])
