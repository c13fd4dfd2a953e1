"""Pairs of sound and lips out of clips: which windows there are, and batches of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from encoders.contrastive.lip_clips import LIP_FRAMES, WINDOW_S, LipClip, picture_indices
from encoders.contrastive.speech_inputs import (
    SPECTROGRAMS,
    RowTiming,
    Spectrogram,
    spectrogram_rows,
    windows_at_frames,
)
from encoders.errors import LipClipError
from encoders.phones import SILENCE

MINIMUM_SHIFT_S = 0.12
"""Windows of one clip that are nearer than this are not held to be a wrong pair: they share most of their frames."""
CLIPS_PER_BATCH = 2
"""A batch is drawn from this many clips: enough for wrong pairs of two speakers, and few enough that most wrong pairs
are shifts within a clip, which the voice and the face alone do not tell apart."""
_SHIFT_PX, _GAIN = 3, 0.15


@dataclass(frozen=True)
class ClipWindows:
    """A clip's windows. Besides the clip itself only the rows are held (64 kB per second of STFT, as float16)."""

    clip: LipClip
    rows: np.ndarray  # [n, D] float16 or float32: the sound as the speech path takes it
    timing: RowTiming  # of the rows
    phones: np.ndarray | None = None  # int [T] phone of every frame, an index into PHONES; PASE needs it

    @classmethod
    def of_spectrogram(cls, clip: LipClip, spectrogram: Spectrogram, phones: np.ndarray | None = None) -> ClipWindows:
        """The clip's sound as a speech path takes it. Where that reaches further than the pictures of a window do, the
        outermost rows are repeated, as at work."""
        rows = [block.astype(np.float16) for block in spectrogram_rows([clip.samples], spectrogram)]
        timing = SPECTROGRAMS[spectrogram].timing
        beyond = math.ceil((timing.window - WINDOW_S * timing.rate) / 2)
        longer = np.pad(np.concatenate(rows), ((beyond, beyond), (0, 0)), "edge")
        return cls(clip, longer, replace(timing, first_s=timing.first_s - beyond / timing.rate), phones)

    @cached_property
    def frames(self) -> np.ndarray:
        """[n] the frames around which all pictures show a face and the whole window of sound is there."""
        frames = np.arange(len(self.clip))
        pictures = picture_indices(frames, self.clip.fps)
        inside = (pictures[:, 0] >= 0) & (pictures[:, -1] < len(self.clip))
        shown = self.clip.seen[np.clip(pictures, 0, len(self.clip) - 1)].all(axis=1)
        first = self.timing.first_rows(frames, self.clip.fps)
        heard = (first >= 0) & (first + self.timing.window <= len(self.rows))
        return np.flatnonzero(inside & shown & heard)

    def sounds(self, frames: np.ndarray) -> Tensor:
        """Rows float32 [n, W, D] around frames [n]."""
        return torch.from_numpy(windows_at_frames(self.rows, frames, self.clip.fps, self.timing).astype(np.float32))

    def lips(self, frames: np.ndarray) -> Tensor:
        """Pictures uint8 [n, LIP_FRAMES, LIP_HEIGHT, LIP_WIDTH, 3] around frames [n]."""
        return torch.from_numpy(self.clip.mouths[picture_indices(frames, self.clip.fps)])

    def phones_around(self, frames: np.ndarray) -> Tensor:
        """Phones int64 [n, LIP_FRAMES] of the pictures around frames [n]; silence where no phones are known."""
        if self.phones is None:
            return torch.full((len(frames), LIP_FRAMES), SILENCE)
        return torch.from_numpy(self.phones[picture_indices(frames, self.clip.fps)].astype(np.int64))


@dataclass(frozen=True)
class WindowBatch:
    """B windows: every sound belongs to the lips of the same index."""

    sounds: Tensor  # float32 [B, W, D]
    lips: Tensor  # uint8 [B, LIP_FRAMES, LIP_HEIGHT, LIP_WIDTH, 3]
    phones: Tensor  # int64 [B, LIP_FRAMES]
    shifted: Tensor  # bool [B, B]: pairs that may be held to be wrong

    def to(self, device: torch.device) -> WindowBatch:
        """The batch on another device."""
        return WindowBatch(
            self.sounds.to(device), self.lips.to(device), self.phones.to(device), self.shifted.to(device)
        )


def draw_batch(windows: Sequence[ClipWindows], size: int, random: np.random.Generator) -> WindowBatch:
    """A batch of windows at random moments, a clip's share growing with its length.

    Raises:
        LipClipError: the clips have fewer than two windows.
    """
    counts = np.array([len(item.frames) for item in windows], dtype=np.float64)
    if counts.sum() < 2:
        raise LipClipError(
            f"expected clips with two windows of {LIP_FRAMES} frames with a face and sound or more, "
            f"got {len(windows)} clips with {int(counts.sum())}; give longer clips"
        )
    clips = min(CLIPS_PER_BATCH, int((counts > 0).sum()))
    chosen = random.choice(len(windows), clips, replace=False, p=counts / counts.sum())
    drawn = [
        (item, random.choice(windows[item].frames, min(share, len(windows[item].frames)), replace=False))
        for item, share in zip(chosen, _split(size, len(chosen)), strict=True)
    ]
    clip_of = np.concatenate([np.full(len(frames), item) for item, frames in drawn])
    seconds = np.concatenate([frames / float(windows[item].clip.fps) for item, frames in drawn])
    near = np.abs(seconds[:, None] - seconds) < MINIMUM_SHIFT_S - 1e-6
    return WindowBatch(
        sounds=torch.cat([windows[item].sounds(frames) for item, frames in drawn]),
        lips=torch.cat([windows[item].lips(frames) for item, frames in drawn]),
        phones=torch.cat([windows[item].phones_around(frames) for item, frames in drawn]),
        shifted=torch.from_numpy(~((clip_of[:, None] == clip_of) & near)),
    )


def _split(size: int, parts: int) -> list[int]:
    """`size` as a sum of `parts` numbers that are as equal as can be."""
    return [size // parts + (index < size % parts) for index in range(parts)]


def augmented(lips: Tensor, random: np.random.Generator) -> Tensor:
    """Pictures uint8 [B, F, H, W, 3] mirrored, moved by up to 3 px and lit otherwise, alike within a window.

    Ours: the paper's encoder sees a four-minute video for long; from a short one the pictures would be learnt by heart.
    """
    changed = []
    for window in lips.numpy():
        window = window[:, :, ::-1] if random.random() < 0.5 else window
        down, right = random.integers(-_SHIFT_PX, _SHIFT_PX + 1, 2)
        window = np.roll(window, (down, right), axis=(1, 2))
        gain = 1.0 + random.uniform(-_GAIN, _GAIN, 3)
        changed.append(np.clip(window * gain, 0, 255).astype(np.uint8))
    return torch.from_numpy(np.stack(changed))
