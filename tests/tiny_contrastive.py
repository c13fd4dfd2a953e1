"""A made-up talking person and tiny contrastive encoders, for the tests."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from encoders.contrastive.lip_clips import LIP_HEIGHT, LIP_WIDTH, LipClip
from encoders.contrastive.se4lip import EncoderConfig

FPS = Fraction(25)
TINY = EncoderConfig(size=16, layers=2)


def made_up_clip(seconds: float = 8.0, fps: Fraction = FPS, seed: int = 0, name: str = "made up.mp4") -> LipClip:
    """A dark mouth that opens as far as noise is loud, on a face of one colour."""
    random = np.random.default_rng(seed)
    frames = round(seconds * float(fps))
    opening = np.convolve(random.random(frames + 8), np.hanning(6) / np.hanning(6).sum(), "same")[4:-4]
    opening = np.clip((opening - opening.min()) / np.ptp(opening), 0, 1)
    times = np.arange(round(seconds * 16_000)) / 16_000
    loudness = np.interp(times, (np.arange(frames) + 0.5) / float(fps), opening)
    rows = np.abs(np.arange(LIP_HEIGHT) - LIP_HEIGHT / 2)
    columns = np.abs(np.arange(LIP_WIDTH) - LIP_WIDTH / 2)
    mouths = np.full((frames, LIP_HEIGHT, LIP_WIDTH, 3), 180, np.uint8)
    for frame, open_ in enumerate(opening):
        mouths[frame][(rows[:, None] < 1 + 12 * open_) & (columns < 24)] = 40
    samples = (0.3 * loudness**2 * random.standard_normal(len(times))).astype(np.float32)
    return LipClip(name, f"{seed:064x}", fps, samples, mouths, np.ones(frames, bool))
