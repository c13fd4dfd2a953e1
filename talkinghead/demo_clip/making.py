"""Makes the demo clip, its ground truth and the second utterance that drives it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from talkinghead.demo_clip.animation import (
    FOCAL,
    MOUTH_CORNERS,
    PRINCIPAL_POINT,
    FaceRig,
    FrameState,
    animate,
    lower_lids,
    project,
    unproject,
)
from talkinghead.demo_clip.portrait import SIZE, Portrait, load_portrait
from talkinghead.demo_clip.rendering import FrameRenderer
from talkinghead.demo_clip.speech import mouth_trajectory, synthesise, write_wave
from talkinghead.demo_clip.truth import CLIP_NAME, SPEECH_NAME, ClipFacts, DemoClipTruth, TimedPhone
from tools.video_writer import EncodeSettings, VideoWriter

SEED = 1906
FPS = Fraction(25)
CLIP_TEXT = (
    "Hello. People often ask how a picture learns to talk. The jaw opens wide for father, the lips go round for moon, "
    "and they close for map, bob and pump. Five of these vowels show you the way."
)
SPEECH_TEXT = "Good morning. Here is a new sentence, which this person has never spoken before."
ENCODING = EncodeSettings(crf=18, preset="slow")
PROVENANCE = (
    "Picture: Rear Admiral Grace M. Hopper, United States Navy, public domain, from matplotlib's sample data; moved by "
    "talkinghead.demo_clip. The person never spoke these words. Speech: synthesised by Flite, voice cmu_us_slt."
)
UPPER_LIP, LOWER_LIP = 13, 14
OUTER_EYE_CORNERS = (33, 263)


@dataclass(frozen=True)
class Scene:
    """The person, what moves in each frame, and what is exactly known about it."""

    renderer: FrameRenderer
    states: tuple[FrameState, ...]
    truth: DemoClipTruth


def direct(phones: tuple[TimedPhone, ...], frame_count: int) -> Scene:
    """The scene that belongs to the timed phones of CLIP_TEXT. The same arguments give the same scene."""
    portrait = load_portrait()
    rig = FaceRig(portrait)
    times = np.arange(frame_count) / float(FPS)
    states = animate(mouth_trajectory(phones, times), times, SEED, rig.pivot)
    return Scene(FrameRenderer(portrait, rig), states, _record_truth(portrait, rig, states, phones))


def make_demo_clip(folder: Path) -> None:
    """Write clip, ground truth and driving speech into `folder`, which is made if missing.

    Raises:
        FliteError: the speech synthesiser is missing or fails.
        tools.errors.OutputError: the clip cannot be written.
    """
    utterance, driving = synthesise(CLIP_TEXT), synthesise(SPEECH_TEXT)
    folder.mkdir(parents=True, exist_ok=True)
    per_frame = utterance.sample_rate / FPS
    frame_count = int(np.ceil(len(utterance.samples) / float(per_frame)))
    padding = int(frame_count * per_frame) - len(utterance.samples)
    scene = direct(utterance.phones, frame_count)
    with tempfile.TemporaryDirectory() as scratch:
        sound = Path(scratch) / "speech.wav"
        write_wave(sound, np.pad(utterance.samples, (0, padding)), utterance.sample_rate)
        with VideoWriter(folder / CLIP_NAME, SIZE, SIZE, FPS, sound, ENCODING) as writer:
            for state in scene.states:
                writer.write(scene.renderer.render(state))
    write_wave(folder / SPEECH_NAME, driving.samples, driving.sample_rate)
    scene.truth.save(folder)


def _record_truth(
    portrait: Portrait, rig: FaceRig, states: tuple[FrameState, ...], phones: tuple[TimedPhone, ...]
) -> DemoClipTruth:
    points = portrait.landmarks[:, :2]
    canonical = unproject(points, portrait.depth(points))
    below = rig.is_below_lips(points)
    below[UPPER_LIP], below[LOWER_LIP] = False, True
    inter_ocular = np.linalg.norm(np.subtract(*canonical[list(OUTER_EYE_CORNERS)]))

    def deformed_and_seen(state: FrameState) -> tuple[np.ndarray, np.ndarray]:
        at = lower_lids(points, state.blink)
        rest = unproject(at, portrait.depth(at))
        return rig.deform(at, below, rest, state), project(rig.place(at, below, rest, state))

    def distances(per_frame: np.ndarray, a: int, b: int) -> np.ndarray:
        return np.linalg.norm(per_frame[:, a] - per_frame[:, b], axis=1)

    deformed, pixels = (np.stack(arrays) for arrays in zip(*map(deformed_and_seen, states), strict=True))
    arrays = {
        "world_to_camera": np.stack([state.head_to_camera for state in states]),
        "canonical_vertices": canonical,
        "landmarks_px": pixels,
        "mouth_opening": distances(deformed, UPPER_LIP, LOWER_LIP) / inter_ocular,
        "mouth_opening_px": distances(pixels, UPPER_LIP, LOWER_LIP),
        "mouth_width": distances(deformed, *MOUTH_CORNERS) / inter_ocular,
        "blink": np.array([state.blink for state in states]),
    }
    facts = ClipFacts(CLIP_TEXT, SEED, SIZE, SIZE, FPS, FOCAL, tuple(PRINCIPAL_POINT), phones, PROVENANCE)
    return DemoClipTruth(facts, **{name: values.astype(np.float32) for name, values in arrays.items()})
