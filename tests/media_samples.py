"""Small media files with known content, made on the fly with PyAV (not with the ffmpeg program under test)."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

CLOCK = 90_000
CELL = 16
COLUMNS, ROWS = 4, 3

FFMPEG_BUILDS = ["bundled"] + (["installed"] if shutil.which("ffmpeg") else [])
"""imageio-ffmpeg's binary always, the one on the PATH where there is one."""


def numbered_picture(index: int) -> np.ndarray:
    """A 64x48 RGB picture with `index` written in it as 12 binary digits, black or white cells."""
    bits = [(index >> digit) & 1 for digit in range(COLUMNS * ROWS)]
    cells = np.array(bits, np.uint8).reshape(ROWS, COLUMNS) * 235 + 10
    return np.repeat(np.repeat(cells, CELL, 0), CELL, 1)[..., None].repeat(3, axis=2)


def number_in(picture: np.ndarray) -> int:
    """The index that `numbered_picture` wrote."""
    means = picture[..., 1].reshape(ROWS, CELL, COLUMNS, CELL).mean((1, 3)).ravel()
    return sum(1 << digit for digit, mean in enumerate(means) if mean > 128)


@dataclass(frozen=True)
class ClipRecipe:
    """How `write_clip` encodes; the defaults are what phones and cameras do: B-frames, a key frame now and then."""

    codec: str = "libx264"
    pixel_format: str = "yuv420p"
    rate: Fraction = Fraction(25)
    options: dict[str, str] = field(default_factory=lambda: {"g": "12", "bf": "2", "preset": "ultrafast", "crf": "10"})
    matrix: int = 2
    transfer: int = 2
    color_range: int = 0
    container_options: dict[str, str] = field(default_factory=dict)


def write_clip(
    path: Path,
    times: Sequence[Fraction],
    recipe: ClipRecipe | None = None,
    pictures: Sequence[np.ndarray | av.VideoFrame] | None = None,
    sound: tuple[np.ndarray, int, Fraction] | None = None,
) -> Path:
    """A video that shows picture `k` (numbered by default) at `times[k]` seconds.

    `sound` is mono float32 samples, their rate, and the time of the first; stored as PCM, so that it stays exact.
    """
    recipe = recipe or ClipRecipe()
    pictures = pictures if pictures is not None else [numbered_picture(k) for k in range(len(times))]
    with av.open(str(path), "w", container_options=recipe.container_options) as container:
        stream = container.add_stream(recipe.codec, rate=recipe.rate, options=recipe.options)
        stream.height, stream.width = _size(pictures[0])
        stream.pix_fmt = recipe.pixel_format
        stream.time_base = stream.codec_context.time_base = Fraction(1, CLOCK)
        context = stream.codec_context
        context.colorspace, context.color_trc, context.color_range = recipe.matrix, recipe.transfer, recipe.color_range
        audio = container.add_stream("pcm_s16le", rate=sound[1], layout="mono") if sound else None
        for time, picture in zip(times, pictures, strict=True):
            frame = picture if isinstance(picture, av.VideoFrame) else av.VideoFrame.from_ndarray(picture)
            frame.pts, frame.time_base = round(time * CLOCK), Fraction(1, CLOCK)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if audio is not None:
            samples, rate, start = sound
            _encode_sound(container, audio, samples, rate, start)
    return path


def write_sound(path: Path, samples: np.ndarray, rate: int, codec: str = "pcm_s16le", layout: str = "mono") -> Path:
    """An audio file of float32 samples [N] or [N, channels]."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        _encode_sound(container, stream, samples, rate, Fraction(0))
    return path


def clicks(duration_s: float, rate: int, times_s: Sequence[float]) -> np.ndarray:
    """Silence with a 4 ms burst of full amplitude that begins at each of the times."""
    samples = np.zeros(round(duration_s * rate), np.float32)
    for time in times_s:
        samples[round(time * rate) : round((time + 0.004) * rate)] = 0.9
    return samples


def first_loud_time(samples: np.ndarray, rate: int, after_s: float = 0.0) -> float:
    """Time of the first sample above half of full scale."""
    start = round(after_s * rate)
    return (start + int(np.argmax(np.abs(samples[start:]) > 0.4))) / rate


def chirp(rate: int, duration_s: float = 0.08) -> np.ndarray:
    """A tone that rises from 300 to 2900 Hz, float32 [n]: it survives every codec, and has one place in time."""
    times = np.arange(round(duration_s * rate)) / rate
    tone = np.sin(2 * np.pi * (300 * times + 1300 / duration_s * times**2))
    return (np.hanning(len(times)) * tone).astype(np.float32)


def chirp_time(samples: np.ndarray, rate: int) -> float:
    """When the chirp begins, seconds, to a fraction of a sample: where the cross-correlation is largest."""
    sought, size = chirp(rate), 1 << (len(samples) - 1).bit_length()
    products = np.fft.rfft(samples, size) * np.fft.rfft(sought, size).conj()
    likeness = np.abs(np.fft.irfft(products, size)[: len(samples) - len(sought) + 1])
    peak = int(np.clip(np.argmax(likeness), 1, len(likeness) - 2))
    before, at, after = likeness[peak - 1 : peak + 2]
    return float(peak + 0.5 * (before - after) / (before - 2 * at + after)) / rate


def write_film(path: Path, samples: np.ndarray, rate: int, codec: str, sound_start: Fraction, fps: Fraction) -> Path:
    """A film as long as its sound (float32 [N] or [N, channels]), which starts `sound_start` s after the picture."""
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[samples.shape[1] if samples.ndim == 2 else 1]
    picture_start = max(Fraction(0), -sound_start)
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("libx264", rate=fps, options={"preset": "ultrafast", "bf": "2", "g": "12"})
        pictures.height, pictures.width, pictures.pix_fmt = 48, 64, "yuv420p"
        pictures.time_base = pictures.codec_context.time_base = Fraction(1, CLOCK)
        sound = container.add_stream(codec, rate=rate, layout=layout)
        for index in range(int(len(samples) / rate * fps)):
            frame = av.VideoFrame.from_ndarray(numbered_picture(index))
            frame.pts, frame.time_base = round((picture_start + index / fps) * CLOCK), Fraction(1, CLOCK)
            container.mux(pictures.encode(frame))
        container.mux(pictures.encode())
        _encode_sound(container, sound, samples, rate, max(Fraction(0), sound_start))
    return path


def turn_in_header(path: Path, degrees_counter_clockwise: int) -> None:
    """Writes a rotation into the display matrix of an MP4's picture track (ISO/IEC 14496-12, 8.3.2), as phones do."""
    a, b = {0: (1, 0), 90: (0, -1), 180: (-1, 0), 270: (0, 1)}[degrees_counter_clockwise]
    matrix = struct.pack(">9i", *(value << 16 for value in (a, b, 0, -b, a, 0, 0, 0)), 1 << 30)
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 4 + 20 + 16  # version 0: flags, times and ids, then layer to volume
    data[start : start + 36] = matrix
    path.write_bytes(data)


def _size(picture: np.ndarray | av.VideoFrame) -> tuple[int, int]:
    return (picture.height, picture.width) if isinstance(picture, av.VideoFrame) else picture.shape[:2]


def _encode_sound(
    container: av.container.OutputContainer,
    stream: av.audio.stream.AudioStream,
    samples: np.ndarray,
    rate: int,
    start: Fraction,
) -> None:
    planes = np.atleast_2d(samples.T).astype(np.float32)
    resampler = av.AudioResampler(format=stream.format, layout=stream.layout, rate=rate)
    block = stream.codec_context.frame_size or 1024
    for offset in range(0, planes.shape[1], block):
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(planes[:, offset : offset + block]), format="fltp", layout=stream.layout
        )
        frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
        frame.pts = offset + round(start * rate)
        for converted in resampler.resample(frame):
            container.mux(stream.encode(converted))
    container.mux(stream.encode())
