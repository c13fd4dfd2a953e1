"""What the contrastive encoders learn from: a clip's sound and pictures of its mouth."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from encoders.errors import LipClipError
from encoders.spectrogram import SAMPLE_RATE

LIP_HEIGHT, LIP_WIDTH = 48, 96
"""Size of the lower face in px (SE4Lip Sec. 4.1 and Table 2, after Wav2Lip: the lower half of a 96 x 96 face)."""
LIP_FRAMES = 5
"""Pictures that the lip encoder sees at once ("the window is 5", Sec. 5.1)..."""
LIP_FRAME_S = 0.04
"""...this far apart, seconds: the paper's videos have 25 frames per second. Windows of other videos last as long."""
WINDOW_S = LIP_FRAMES * LIP_FRAME_S
"""Sound and pictures of a pair last this long."""


@dataclass(frozen=True)
class LipClip:
    """A talking person: T frames of the lower face and the sound that goes with them.

    The pictures are what takes memory: LIP_HEIGHT * LIP_WIDTH * 3 = 13,824 bytes a frame, 1.2 GB an hour at 25 frames
    per second; the samples are 0.2 GB an hour.
    """

    name: str  # file name of the video
    sha256: str  # of the video
    fps: Fraction  # frames per second
    samples: np.ndarray  # float32 [n] at 16 kHz; sample 0 belongs to the start of frame 0
    mouths: np.ndarray  # uint8 [T, LIP_HEIGHT, LIP_WIDTH, 3] RGB
    seen: np.ndarray  # bool [T]: frames with a face; the others are black

    def __post_init__(self) -> None:
        expected = (len(self.seen), LIP_HEIGHT, LIP_WIDTH, 3)
        if self.mouths.shape != expected or self.mouths.dtype != np.uint8:
            raise LipClipError(
                f"expected mouths of {self.name} as uint8 {list(expected)}, "
                f"got {self.mouths.dtype} {list(self.mouths.shape)}"
            )

    def __len__(self) -> int:
        return len(self.seen)

    @property
    def duration_s(self) -> float:
        """Length of the pictures, seconds."""
        return float(len(self) / self.fps)

    def part(self, begin: int, end: int) -> LipClip:
        """Frames [begin, end) with their sound, as a view of this clip. No sound from outside goes with it."""
        first, last = (round(SAMPLE_RATE * frame / self.fps) for frame in (begin, end))
        return LipClip(
            self.name, self.sha256, self.fps, self.samples[first:last], self.mouths[begin:end], self.seen[begin:end]
        )


def picture_indices(frames: np.ndarray, fps: Fraction) -> np.ndarray:
    """Numbers [n, LIP_FRAMES] of the pictures in the windows around `frames` [n].

    Picture k of a window is the one shown (k - 2) * LIP_FRAME_S after the middle of its frame; at 25 frames per second
    they are the frame and its four neighbours.
    """
    offsets = (np.arange(LIP_FRAMES) - LIP_FRAMES // 2) * (LIP_FRAME_S * float(fps))
    return np.floor(frames[:, None] + 0.5 + offsets + 1e-6).astype(int)
