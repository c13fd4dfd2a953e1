"""The demo clip against its ground truth, judged by landmarks measured in the encoded pictures."""

from __future__ import annotations

import os
import subprocess
import sys
import wave
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cv2
import mediapipe as mp
import numpy as np
import pytest
from conftest import ROOT

from talkinghead.demo_clip import speech
from talkinghead.demo_clip.animation import FrameState
from talkinghead.demo_clip.making import Scene, direct
from talkinghead.demo_clip.portrait import TEXTURE_SCALE, load_portrait
from talkinghead.demo_clip.speech import ARTICULATION, FliteError, mouth_trajectory, synthesise
from talkinghead.demo_clip.truth import ASSETS, CLIP_NAME, SPEECH_NAME, DemoClipTruth, TimedPhone, load_truth
from tools.video import probe, read_frames


@pytest.fixture(scope="module")
def truth() -> DemoClipTruth:
    return load_truth()


@pytest.fixture(scope="module")
def scene(truth: DemoClipTruth) -> Scene:
    return direct(truth.facts.phones, len(truth.blink))


@pytest.fixture(scope="module")
def measured() -> np.ndarray:
    """MediaPipe's landmarks [T, 478, 2] px of the encoded clip."""
    info = probe(ASSETS / CLIP_NAME)
    with mp.solutions.face_mesh.FaceMesh(refine_landmarks=True) as mesh:
        faces = [mesh.process(frame).multi_face_landmarks[0].landmark for frame in read_frames(info)]
    return np.array([[(point.x * info.width, point.y * info.height) for point in face] for face in faces])


def test_clip_is_what_the_truth_says(truth: DemoClipTruth) -> None:
    info = probe(ASSETS / CLIP_NAME)
    facts = truth.facts
    assert (info.width, info.height, info.fps, info.frame_count) == (
        facts.width,
        facts.height,
        facts.fps,
        len(truth.blink),
    )
    assert info.has_audio and not info.is_variable_rate
    assert abs(facts.phones[-1].end_s - info.duration_s) <= 1 / facts.fps + 1e-3
    assert (ASSETS / CLIP_NAME).stat().st_size < 1_500_000
    assert (ASSETS / SPEECH_NAME).stat().st_size < 200_000


def test_driving_speech_is_16_khz_mono_and_heard() -> None:
    with wave.open(str(ASSETS / SPEECH_NAME)) as reader:
        assert (reader.getframerate(), reader.getnchannels(), reader.getsampwidth()) == (16000, 1, 2)
        samples = np.frombuffer(reader.readframes(reader.getnframes()), dtype="<i2")
    assert 4 <= len(samples) / 16000 <= 6
    assert 3000 < np.abs(samples.astype(int)).max() < 32767


def test_rotations_are_rotations_and_landmarks_are_projections(truth: DemoClipTruth) -> None:
    rotation, translation = truth.world_to_camera[:, :3, :3], truth.world_to_camera[:, :3, 3]
    assert np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max() < 1e-5
    assert np.all(np.linalg.det(rotation) > 0.99)
    rigid = [6, 8, 10, 33, 151, 168, 263]  # nose ridge, forehead, outer eye corners: no jaw, lips or lids
    in_camera = truth.canonical_vertices[rigid] @ rotation.transpose(0, 2, 1) + translation[:, None]
    pixels = truth.facts.focal * in_camera[..., :2] / in_camera[..., 2:] + truth.facts.principal_point
    assert np.abs(pixels - truth.landmarks_px[:, rigid]).max() < 0.01


def test_measured_landmarks_agree_with_the_truth(truth: DemoClipTruth, measured: np.ndarray) -> None:
    rigid = [1, 4, 6, 33, 133, 168, 263, 362]
    distance = np.linalg.norm(measured - truth.landmarks_px, axis=2)
    assert np.median(distance[:, rigid]) < 2.0
    motion = truth.landmarks_px[:, rigid].mean(axis=1)
    measured_motion = measured[:, rigid].mean(axis=1)
    for axis in range(2):
        assert np.corrcoef(motion[:, axis], measured_motion[:, axis])[0, 1] > 0.97


def test_measured_lips_follow_the_truth_without_lag(truth: DemoClipTruth, measured: np.ndarray) -> None:
    inter_ocular = np.linalg.norm(measured[:, 33] - measured[:, 263], axis=1)
    opening = np.linalg.norm(measured[:, 13] - measured[:, 14], axis=1) / inter_ocular
    width = np.linalg.norm(measured[:, 78] - measured[:, 308], axis=1) / inter_ocular
    lids = np.linalg.norm(measured[:, 159] - measured[:, 145], axis=1)
    inner = slice(5, -5)
    by_lag = [np.corrcoef(np.roll(opening, -lag)[inner], truth.mouth_opening[inner])[0, 1] for lag in range(-3, 4)]
    assert int(np.argmax(by_lag)) == 3, by_lag
    assert by_lag[3] > 0.9
    assert 0.7 < opening.std() / truth.mouth_opening.std() < 1.3
    assert np.corrcoef(width, truth.mouth_width)[0, 1] > 0.8
    assert np.corrcoef(lids, truth.blink)[0, 1] < -0.8


def test_lips_close_for_bilabials_and_open_for_open_vowels(truth: DemoClipTruth) -> None:
    fps = float(truth.facts.fps)

    def extreme(phones: set[str], choose: Callable[[np.ndarray], np.floating]) -> list[float]:
        spans = [(p.start_s * fps, p.end_s * fps) for p in truth.facts.phones if p.phone in phones]
        frames = [np.arange(np.ceil(start), np.ceil(end)).astype(int) for start, end in spans]
        return [float(choose(truth.mouth_opening[span])) for span in frames if len(span)]

    closed, opened = extreme({"p", "b", "m"}, np.min), extreme({"aa", "aw", "ay"}, np.max)
    assert len(closed) >= 8 and len(opened) >= 4
    assert max(closed) < 0.02
    assert min(opened) > 0.06
    assert truth.mouth_opening.max() > 0.15


def test_the_scene_is_reproducible(scene: Scene, truth: DemoClipTruth) -> None:
    assert scene.truth.facts == truth.facts
    pixels = ("landmarks_px", "mouth_opening_px", "canonical_vertices", "world_to_camera")
    for name in (*pixels, "mouth_opening", "mouth_width", "blink"):
        again, shipped = getattr(scene.truth, name), getattr(truth, name)
        assert again.shape == shipped.shape, name
        # The landmark network's last digits depend on the processor.
        assert np.abs(again - shipped).max() < (0.05 if name in pixels else 1e-3), name


def test_frames_come_out_as_in_the_clip(scene: Scene) -> None:
    info = probe(ASSETS / CLIP_NAME)
    for index in (0, 120, 260):
        (encoded,) = read_frames(info, index, 1)
        assert cv2.PSNR(scene.renderer.render(scene.states[index]), encoded) > 32


def test_the_resting_person_is_the_portrait(scene: Scene) -> None:
    portrait = load_portrait()
    still = np.eye(4)
    still[2, 3] = scene.truth.facts.focal
    frame = scene.renderer.render(FrameState(still, still, opening=0.0, width=0.0, blink=0.0))
    size = tuple(side // TEXTURE_SCALE for side in portrait.matte.shape)
    picture = cv2.resize(portrait.texture, size, interpolation=cv2.INTER_AREA)
    matte = cv2.resize(portrait.matte, size, interpolation=cv2.INTER_AREA)
    inside = cv2.erode(matte, np.ones((5, 5))) > 0.999
    assert np.abs(frame[inside].astype(int) - picture[inside]).mean() < 1.0


def test_mouth_trajectory_of_known_phones() -> None:
    phones = tuple(TimedPhone(name, 0.3 * i, 0.3 * i + 0.3) for i, name in enumerate(("pau", "aa", "m", "uw", "iy")))
    middles = np.array([0.1, 0.45, 0.75, 1.05, 1.35, 9.0])
    mouth = mouth_trajectory(phones, middles)
    silence, aa, m, uw, iy, after = mouth.opening
    assert silence == after == 0 and m < 1e-3
    assert aa > 0.9 > uw > 0.1 and iy < aa
    assert mouth.width[3] < -0.8 and mouth.width[4] > 0.7


def test_every_articulation_is_in_range() -> None:
    targets = [target for parts in ARTICULATION.values() for target in parts]
    assert all(0 <= target.opening <= 1 and -1 <= target.width <= 1 for target in targets)
    assert all(target.opening_dominance > 0 and target.width_dominance > 0 for target in targets)


def test_missing_synthesiser_is_a_named_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech.shutil, "which", lambda name: None)
    with pytest.raises(FliteError, match="install it"):
        synthesise("Hello.")


def test_the_script_reports_it_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "talkinghead.demo_clip", str(tmp_path / "out")]
    environment = {**os.environ, "PATH": str(tmp_path)}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert run.stderr.splitlines()[-1].startswith("error: making the demo clip needs the speech synthesiser Flite")
    assert not (tmp_path / "out").exists()


def test_synthesised_phones_are_those_of_the_truth(truth: DemoClipTruth) -> None:
    if speech.shutil.which("flite") is None:
        pytest.skip("needs flite on the PATH")
    utterance = synthesise(truth.facts.text)
    assert [phone.phone for phone in utterance.phones] == [phone.phone for phone in truth.facts.phones]
    assert [phone.end_s for phone in utterance.phones[:-1]] == [phone.start_s for phone in utterance.phones[1:]]
    duration = Fraction(len(utterance.samples), utterance.sample_rate)
    assert abs(float(duration) - utterance.phones[-1].end_s) < 0.02
