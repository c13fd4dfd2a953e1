"""Two hours of sound: no error of time adds up, and nothing is held."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from media_samples import chirp, chirp_time

from encoders import features as features_module
from encoders.embedding import feature_blocks
from encoders.spectrogram import SAMPLE_RATE
from encoders.speech import FRAME_RATE
from talkinghead.timeline import PingPong
from tools.audio import frame_count, read_audio_blocks
from tools.inserts import Grid, InsertedSound

TWO_HOURS_S = 7200
FRAMES = {
    Fraction(24_000, 1001): 172_627,  # 172627.37
    Fraction(25): 180_000,
    Fraction(30_000, 1001): 215_784,  # 215784.22
    Fraction(60): 432_000,
}
SAMPLES_PER_ROW = round(SAMPLE_RATE / FRAME_RATE)
BLOCK_S = 10


@pytest.mark.parametrize("fps", FRAMES, ids=str)
def test_the_number_of_frames(fps: Fraction) -> None:
    assert frame_count(Fraction(TWO_HOURS_S), fps) == FRAMES[fps]


def clock_rows(samples: Iterable[np.ndarray], *_: object) -> Iterator[np.ndarray]:
    """In the encoder's place: rows at its rate, of which each holds its own time as the samples before it count it."""
    position = row = 0
    for block in samples:
        position += len(block)
        rows = np.arange(row, position // SAMPLES_PER_ROW + 1)
        row += len(rows)
        yield (rows * SAMPLES_PER_ROW / SAMPLE_RATE)[:, None]


@pytest.mark.parametrize("fps", FRAMES, ids=str)
def test_every_frame_hears_its_own_moment(fps: Fraction, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features_module, "encoded_blocks", clock_rows)
    silence = np.zeros(BLOCK_S * SAMPLE_RATE, np.float32)
    frames, done, worst = FRAMES[fps], 0, 0.0
    tracemalloc.start()
    for block in feature_blocks((silence for _ in range(TWO_HOURS_S // BLOCK_S)), None, None, fps, frames):
        numerators = (2 * np.arange(done, done + len(block)) + 1) * fps.denominator  # whole numbers: exact
        worst = max(worst, float(np.abs(block[:, 0] - numerators / (2 * fps.numerator)).max()))
        done += len(block)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert done == frames
    assert worst < 0.0005  # the rounding of 7200 s in single precision
    assert peak < 8_000_000


@pytest.mark.parametrize("fps", FRAMES, ids=str)
def test_the_footage_goes_on_without_end(fps: Fraction) -> None:
    """Frame by frame from the end of the first hours, the same to and fro as at their beginning."""
    footage = PingPong(250, fps)
    positions = [footage[frame] for frame in range(2000)]
    period = next(p for p in range(400, 1000) if positions[50 : 50 + p] == positions[50 + p : 50 + 2 * p])
    for frame in range(FRAMES[fps] - 500, FRAMES[fps]):
        assert footage[frame] == positions[50 + (frame - 50) % period]


@dataclass(frozen=True)
class Line:
    start: Fraction
    end: Fraction
    audio: Path


@pytest.mark.parametrize("rate", [44_100, 48_000, 96_000])
@pytest.mark.parametrize("fps", FRAMES, ids=str)
def test_the_grid_of_samples_is_exact(fps: Fraction, rate: int) -> None:
    """The first sample of a line that starts with a frame is the first that is not before the frame."""
    grid = Grid(rate, Fraction(-1024, rate))
    for frame in range(FRAMES[fps] - 100, FRAMES[fps]):
        sample = grid.at_or_after(frame / fps)
        assert (sample - 1) * fps.numerator < (frame * fps.denominator * rate + 1024 * fps.numerator)
        assert sample * fps.numerator >= frame * fps.denominator * rate + 1024 * fps.numerator
    line = Line((FRAMES[fps] - 1) / fps, FRAMES[fps] / fps, Path("line.wav"))
    assert InsertedSound([line], grid).stop == grid.at_or_after(FRAMES[fps] / fps)


def test_the_end_of_two_hours_of_sound_is_where_it_was(tmp_path: Path) -> None:
    """11.025 kHz, so that every sample is between two at 16 kHz. The file is a hole with a chirp behind it."""
    rate, at_s = 11_025, TWO_HOURS_S - 1
    size = TWO_HOURS_S * rate * 2
    path = tmp_path / "long.wav"
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, rate * 2, 2, 16)
    with path.open("wb") as file:
        file.write(struct.pack("<4sI4s", b"RIFF", size + 36, b"WAVE") + form + struct.pack("<4sI", b"data", size))
        start = file.tell()
        file.truncate(start + size)
        file.seek(start + at_s * rate * 2)
        file.write((chirp(rate) * 20_000).astype("<i2").tobytes())
    total = 0
    heard_s = None
    for block in read_audio_blocks(path, 60.0):
        if block.samples.any():
            heard_s = Fraction(total, SAMPLE_RATE) + Fraction(chirp_time(block.samples, SAMPLE_RATE))
        total += len(block.samples)
    assert total == TWO_HOURS_S * SAMPLE_RATE
    assert heard_s == pytest.approx(at_s, abs=0.0001)
