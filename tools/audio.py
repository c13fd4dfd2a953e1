"""Reading audio: whatever ffmpeg reads, as 16 kHz mono for speech features, with its exact length.

Time 0 is the first picture of a file that has pictures, so that sample 0 belongs to frame 0, and the start of the
sound otherwise. A track that starts later is led by silence; one that starts earlier loses that part.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from tools.errors import DamagedMediaError, NoAudioError
from tools.ffmpeg_process import FfmpegFailure, read_blocks
from tools.media import first_sound_track, sound_from_zero

SAMPLE_RATE = 16_000
"""Samples per second that the speech encoders take."""

INT32_FULL_SCALE = np.float32(2**31)


@dataclass(frozen=True)
class Waveform:
    """Mono sound."""

    samples: np.ndarray
    """float32 [N] in [-1, 1]."""
    sample_rate: int
    """Samples per second."""

    @property
    def duration_s(self) -> Fraction:
        """Exact length in seconds."""
        return Fraction(len(self.samples), self.sample_rate)


@dataclass(frozen=True)
class AudioInfo:
    """What the first sound track of a file holds."""

    path: Path
    duration_s: Fraction
    """Decoded samples over the file's own sample rate, from time 0 on: exact, whatever the header says."""
    sample_rate: int
    channels: int
    codec: str


def probe_audio(path: Path | str) -> AudioInfo:
    """Reads the properties of a file's first sound track; decodes it once, to count its samples.

    Raises:
        MissingFileError, UnreadableFileError: see `tools.media.open_media`.
        NoAudioError: no sound track, or one without samples.
        DamagedMediaError: it cannot be decoded.
    """
    path = Path(path)
    track = first_sound_track(path)
    count = sum(len(block) for block in decoded_blocks(path, track.sample_rate, 1, block_samples=1 << 18))
    return AudioInfo(path, Fraction(count, track.sample_rate), track.sample_rate, track.channels, track.codec)


def read_audio(path: Path | str) -> Waveform:
    """The whole first sound track of an audio or video file, mixed to mono at 16 kHz.

    Raises: as `probe_audio`.
    """
    blocks = [block.samples for block in read_audio_blocks(path, block_s=60.0)]
    return Waveform(np.concatenate(blocks), SAMPLE_RATE)


def read_audio_blocks(path: Path | str, block_s: float, offset: Fraction = Fraction(0)) -> Iterator[Waveform]:
    """`read_audio` in consecutive blocks of `block_s` seconds (the last may be shorter), one held at a time.

    With an `offset` (seconds) the sound is led by that much silence or, where it is negative, that much of its
    beginning is left out.

    Raises: as `probe_audio`, while iterating.
    """
    block_samples = max(1, round(block_s * SAMPLE_RATE))
    for samples in decoded_blocks(Path(path), SAMPLE_RATE, 1, block_samples, offset):
        yield Waveform(samples[:, 0].astype(np.float32) / INT32_FULL_SCALE, SAMPLE_RATE)


def frame_count(duration_s: Fraction, fps: Fraction) -> int:
    """Number of video frames that go with a sound of this length: `round(duration_s * fps)`, in exact arithmetic."""
    return round(Fraction(duration_s) * fps)


def decoded_blocks(
    path: Path, sample_rate: int, channels: int, block_samples: int, offset: Fraction = Fraction(0)
) -> Generator[np.ndarray, None, None]:
    """The first sound track from time 0 on, `offset` seconds later, mixed to mono or stereo: int32 [n, channels].

    Whole numbers, since only for them does ffmpeg scale a mix of several channels so that it cannot clip.

    Raises: as `probe_audio`, while iterating; but that nothing is left after a negative offset is no error.
    """
    output = (
        sound_from_zero(path, first_sound_track(path), offset, sample_rate)
        .filter("aformat", channel_layouts={1: "mono", 2: "stereo"}[channels], sample_fmts="s32")
        .output("pipe:", format="s32le")
        .global_args("-copyts")
    )
    frame_bytes = channels * np.dtype(np.int32).itemsize
    received = False
    try:
        for block in read_blocks(output, block_samples * frame_bytes):
            received = True
            yield np.frombuffer(block, "<i4").reshape(-1, channels)
    except FfmpegFailure as failure:
        raise DamagedMediaError(f"the sound of {path} cannot be decoded ({failure}): export it again") from failure
    if not received and offset >= 0:
        raise NoAudioError(f"the sound track of {path} is empty: give a file with speech")
