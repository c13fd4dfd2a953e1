"""The seconds of the clip that a report shows: the avatar in place, driven by their own sound, beside the source."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from talkinghead.avatar import Avatar
from talkinghead.lip_fit import clip_features
from talkinghead.renderer import AvatarRenderer, DrivenFrame
from talkinghead.report.sheets import MouthWindow
from talkinghead.scratch_folder import scratch_folder
from tools import metrics
from tools.audio import SAMPLE_RATE, read_audio
from tools.face_topology import MEDIAPIPE_478
from tools.landmarks import landmark_detector, largest_face
from tools.tracked_clip import TOPOLOGIES, resampled
from tools.video import EncodeSettings, VideoInfo, VideoWriter, read_frames

PREVIEW_S = 3.0
LEAST_HELD_OUT_S = 1.0
"""A held-out part that is shorter is not shown: then it is the end of what was fitted."""
PREVIEW_PX = 384
"""Height of the preview, and width of each of its halves."""
SCRATCH_NAME = ".preview.unfinished"
SCENES = 4
"""Frames of which whole pictures are kept."""


@dataclass(frozen=True)
class Scene:
    """A frame. Pictures are uint8 RGB."""

    number: int  # in the clip
    source: np.ndarray
    output: np.ndarray  # in place
    free: np.ndarray | None = None  # the head alone over the background plate; of whole pictures only


@dataclass(frozen=True)
class Preview:
    """T consecutive frames, seen once from the first to the last."""

    first: int
    frames_per_second: float
    is_held_out: bool
    video: bytes  # MP4: source on the left, avatar on the right, with the sound
    samples: np.ndarray  # [N] float32 in [-1, 1] at 16 kHz: their sound
    real: np.ndarray  # [T] mouth opening in inter-ocular units, NaN where no face is seen
    rendered: np.ndarray  # [T] that of the avatar
    scenes: tuple[Scene, ...]  # crops [R, R, 3], spread evenly
    mouths: tuple[Scene, ...]  # around the lips of every frame with a face


def make_preview(avatar: Avatar, info: VideoInfo, renderer: AvatarRenderer, folder: Path) -> Preview:
    """Lets the avatar speak with the clip for a few seconds.

    Args:
        info: the clip that the avatar was made from, or its copy in the avatar folder.
        folder: where there is room meanwhile for the sound and the video.
    """
    facts, fps = avatar.manifest, float(info.fps)
    shown = stretch(avatar, fps)
    speech = clip_features(info, avatar.encoder, avatar.embedding, facts.sound_delay_frames)
    codes = avatar.lips.predict(speech)
    begin, end = (round(frame / fps * SAMPLE_RATE) for frame in (shown.start, shown.stop))
    samples = read_audio(info.path).samples[begin:end]
    window = MouthWindow.around(avatar.tracks.landmarks[shown.start : shown.stop], TOPOLOGIES[facts.topology].lips)
    seen = [number for number in shown if avatar.tracks.found[number]]
    kept = {seen[place] for place in np.linspace(0, len(seen) - 1, SCENES).astype(int)} if seen else set()
    scenes, mouths, tracks = [], [], ([], [])
    with ExitStack() as stack:
        scratch = stack.enter_context(scratch_folder(folder / SCRATCH_NAME))
        sound = _write_sound(samples, scratch / "sound.wav")
        settings = EncodeSettings(crf=23, color_matrix=info.output_matrix)
        path = scratch / "preview.mp4"
        detectors = [stack.enter_context(landmark_detector("mediapipe", max_faces=1)) for _ in range(2)]
        pool = stack.enter_context(ThreadPoolExecutor(2))
        with VideoWriter(path, 2 * PREVIEW_PX, PREVIEW_PX, info.fps, sound, settings) as writer:
            for number, pair in zip(shown, _pairs(avatar, info, shown, codes, renderer), strict=True):
                writer.write(np.hstack([resampled(picture, PREVIEW_PX) for picture in pair]))
                for track, points in zip(tracks, pool.map(largest_face, detectors, pair), strict=True):
                    track.append(points)
                if number in kept:
                    (free,) = renderer.free([DrivenFrame(number, codes[number])])
                    scenes.append(Scene(number, *pair, free))
                if avatar.tracks.found[number]:
                    mouths.append(Scene(number, *(window.cut(picture, number - shown.start) for picture in pair)))
        video = path.read_bytes()
    is_held_out = shown.start >= facts.fitted_frames
    openings = _openings(*map(np.stack, tracks))
    return Preview(shown.start, fps, is_held_out, video, samples, *openings, tuple(scenes), tuple(mouths))


def stretch(avatar: Avatar, fps: float) -> range:
    """Numbers of the frames to show: of the held-out part if it is long enough, those where the face is seen most."""
    facts = avatar.manifest
    has_held_out = facts.frame_count - facts.fitted_frames >= LEAST_HELD_OUT_S * fps
    first, last = (facts.fitted_frames, facts.frame_count) if has_held_out else (0, facts.fitted_frames)
    length = min(last - first, max(1, round(PREVIEW_S * fps)))
    faces = np.convolve(avatar.tracks.found[first:last], np.ones(length), "valid")
    begin = first + int(np.argmax(faces))
    return range(begin, begin + length)


def _pairs(
    avatar: Avatar, info: VideoInfo, shown: range, codes: np.ndarray, renderer: AvatarRenderer
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The crop of every frame, and the same with the avatar in place."""
    crop, sources = avatar.manifest.crop, []

    def driven() -> Iterator[DrivenFrame]:
        for number, picture in zip(shown, read_frames(info, shown.start, len(shown)), strict=True):
            sources.append(crop.cut(picture))
            yield DrivenFrame(number, codes[number], picture=picture)

    for output in renderer.stream(renderer.in_place, driven()):
        yield sources.pop(0), crop.cut(output)


def _openings(source: np.ndarray, output: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Real and rendered mouth opening [T], measured as `evaluate` does."""
    shape = metrics.mean_shape(source)
    return metrics.mouth_opening(source, shape, MEDIAPIPE_478), metrics.mouth_opening(output, shape, MEDIAPIPE_478)


def _write_sound(samples: np.ndarray, path: Path) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((samples.clip(-1, 1) * 32767).astype("<i2").tobytes())
    return path
