"""`talkinghead bench`: how fast every stage of speaking is on this machine, each alone and all together."""

from __future__ import annotations

import math
import tempfile
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from render.benchmark import BenchmarkConfig, BenchmarkRow, median_ms, run_benchmark
from render.rasterize import Backend
from talkinghead.avatar import SOURCE, Avatar
from talkinghead.config import Device, SpeakConfig
from talkinghead.demo_clip.speech import write_wave
from talkinghead.devices import ready_device
from talkinghead.progress import Progress
from talkinghead.renderer import GPU_BATCH, AvatarRenderer, Draw, DrivenFrame
from talkinghead.speak import footage, lip_codes, speak
from talkinghead.timeline import PingPong
from tools.audio import SAMPLE_RATE, read_audio
from tools.video import EncodeSettings, VideoInfo, VideoWriter, read_frames

WARM_UP_FRAMES = GPU_BATCH
HELD_FRAMES = 32
"""Pictures of the footage that are at hand where reading is not measured."""
TIMED_POSES = 50
MEASURING = "measuring"


@dataclass(frozen=True)
class Figure:
    """One measurement of an avatar."""

    stage: str
    value: float
    unit: str
    picture: str = ""
    """Size of the pictures that were read, made or written, px."""


@dataclass(frozen=True)
class _Scene:
    """What the stages are measured with."""

    avatar: Avatar
    device: Device
    renderer: AvatarRenderer
    source: VideoInfo
    shots: tuple[DrivenFrame, ...]  # frames with a face, as they are
    sound: Path
    output: Path
    frames: int

    @property
    def frame_size(self) -> str:
        return f"{self.source.width}x{self.source.height}"

    @property
    def crop_size(self) -> str:
        side = self.avatar.manifest.crop.resolution
        return f"{side}x{side}"

    def shown(self, count: int) -> Iterator[DrivenFrame]:
        """So many of the shots, to and fro."""
        order = PingPong(len(self.shots), self.source.fps)
        return (self.shots[order[frame]] for frame in range(count))

    def rendered(self, draw: Draw, count: int) -> Iterator[np.ndarray]:
        """So many pictures made of the shots as `speak` does it, on all threads or in batches."""
        return self.renderer.stream(draw, self.shown(count))


def measure_avatar(
    avatar: Avatar, seconds: float, device: Device = "auto"
) -> Generator[Progress, None, tuple[Figure, ...]]:
    """Measures the stages of speaking on so many seconds of the avatar's own sound, over and over, and their whole.

    Rates are frames over wall time of a run that a short one has warmed up; `speak` starts cold, but for what is
    compiled and the avatar, which is loaded.

    Raises:
        UserError: the avatar's footage cannot be read, or there is no such device.
        render.rasterize.BackendUnavailableError: the GPU's kernels cannot be compiled.
    """
    yield from ready_device(device)
    stages = (_hearing, _reading, _posing, _rendering, _blending, _encoding, _speaking)
    with tempfile.TemporaryDirectory(prefix="talkinghead-bench-") as folder:
        scene = _scene(avatar, seconds, device, Path(folder))
        figures = [Figure("Gaussians", len(avatar.model), ""), Figure("batch", scene.renderer.batch_size, "frames")]
        for done, stage in enumerate(stages):
            yield Progress(MEASURING, done, len(stages), stage.__name__.strip("_"))
            figures += stage(scene)
    yield Progress(MEASURING, len(stages), len(stages))
    return tuple(figures)


def measure_rasterizer(backend: Backend, device: Device) -> Generator[Progress, None, list[BenchmarkRow]]:
    """Measures a rasterizer against the torch reference; "auto" is the fastest on the device.

    Raises:
        UserError, render.rasterize.BackendUnavailableError: it cannot run here.
    """
    place = yield from ready_device({"auto": device, "gsplat": "auto"}.get(backend, "cpu"))
    config = BenchmarkConfig(backend=backend, device=place.type)
    if place.type == "cuda":
        config = replace(config, threads=(1,))  # of the processor, which only waits
    total = len(config.gaussians) * len(config.sizes) * len(config.threads)
    rows: list[BenchmarkRow] = []
    yield Progress(MEASURING, 0, total)
    for row in run_benchmark(config):
        rows.append(row)
        yield Progress(MEASURING, len(rows), total)
    return rows


def _scene(avatar: Avatar, seconds: float, device: Device, folder: Path) -> _Scene:
    source, fitted = avatar.source_video(), avatar.manifest.fitted_frames
    found = avatar.tracks.found[:fitted]
    first = int(found.argmax())
    held = enumerate(read_frames(source, first, min(HELD_FRAMES, fitted - first)), first)
    sound = folder / "speech.wav"
    write_wave(sound, _looped_sound(avatar.path / SOURCE, seconds), SAMPLE_RATE)
    return _Scene(
        avatar=avatar,
        device=device,
        renderer=AvatarRenderer(avatar, device),
        source=source,
        shots=tuple(
            DrivenFrame(number, avatar.tracks.lower[number], picture=picture)
            for number, picture in held
            if found[number]
        ),
        sound=sound,
        output=folder / "speech.mp4",
        frames=math.ceil(seconds * source.fps),
    )


def _looped_sound(video: Path, seconds: float) -> np.ndarray:
    """The video's sound, repeated up to a length: int16 [N] at SAMPLE_RATE."""
    samples = np.resize(read_audio(video).samples, math.ceil(seconds * SAMPLE_RATE))
    return (samples * np.iinfo(np.int16).max).astype(np.int16)


def _hearing(scene: _Scene) -> list[Figure]:
    rate = _rate(lambda count: lip_codes(scene.avatar, scene.sound, count), scene.frames)
    return [Figure("hearing: sound to lip codes", rate / float(scene.source.fps), "s of sound/s")]


def _reading(scene: _Scene) -> list[Figure]:
    rate = _rate(lambda count: footage(scene.avatar, scene.source, count), scene.frames)
    return [Figure("reading the footage", rate, "frames/s", scene.frame_size)]


def _posing(scene: _Scene) -> list[Figure]:
    batch = list(scene.shown(scene.renderer.batch_size))
    each_ms = median_ms(lambda: scene.renderer.posed(batch), TIMED_POSES) / len(batch)
    return [Figure("posing the Gaussians", each_ms, "ms")]


def _rendering(scene: _Scene) -> list[Figure]:
    rate = _rate(lambda count: scene.rendered(scene.renderer.free, count), scene.frames)
    return [Figure("rendering the whole crop", rate, "frames/s", scene.crop_size)]


def _blending(scene: _Scene) -> list[Figure]:
    rate = _rate(lambda count: scene.rendered(scene.renderer.in_place, count), scene.frames)
    return [Figure("rendering and blending in place", rate, "frames/s", scene.frame_size)]


def _encoding(scene: _Scene) -> list[Figure]:
    source, pictures = scene.source, list(scene.rendered(scene.renderer.in_place, len(scene.shots)))
    order = PingPong(len(pictures), source.fps)
    settings = EncodeSettings(color_matrix=source.output_matrix)

    def encoded(count: int) -> Iterator[None]:
        with VideoWriter(scene.output, source.width, source.height, source.fps, None, settings) as file:
            for frame in range(count):
                yield file.write(pictures[order[frame]])

    return [Figure("encoding", _rate(encoded, scene.frames), "frames/s", scene.frame_size)]


def _speaking(scene: _Scene) -> list[Figure]:
    written: list[float] = []
    start = time.perf_counter()
    for event in speak(scene.avatar, scene.sound, scene.output, SpeakConfig(device=scene.device)):
        if event.done:
            written.append(time.perf_counter())
    lasted = time.perf_counter() - written[0]
    return [
        Figure("speak: wav in, mp4 out", (len(written) - 1) / lasted, "frames/s", scene.frame_size),
        Figure("speak: to the first frame", written[0] - start, "s", scene.frame_size),
    ]


def _rate(stage: Callable[[int], Iterable[object]], frames: int) -> float:
    """Frames per second of a stage that makes as many as it is asked for; a short run comes first."""
    deque(stage(min(WARM_UP_FRAMES, frames)), maxlen=0)
    start = time.perf_counter()
    deque(stage(frames), maxlen=0)
    return frames / (time.perf_counter() - start)
