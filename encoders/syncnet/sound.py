"""What SyncNet hears: 13 cepstral coefficients every 10 ms, 20 of them from the start of a video frame on.

They are those of python_speech_features 0.6 with its defaults, on samples as 16-bit integers; nothing is normalised.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from encoders.acoustic.deepspeech import FRAME, HOP, INT16_FULL_SCALE, mfcc
from encoders.syncnet.network import COEFFICIENTS, FRAMES, STEPS

FPS = 25
"""Video frames per second."""
SAMPLES_PER_FRAME = 640
STEPS_PER_FRAME = SAMPLES_PER_FRAME // HOP
_CHUNK = 64  # windows


def window_count(pictures: int, samples: int) -> int:
    """Windows that the published evaluation takes of so many pictures at FPS and samples at 16 kHz.

    One more would fit; it leaves the last out.
    """
    return max(0, min(pictures, samples // SAMPLES_PER_FRAME) - FRAMES)


def sound_windows(samples: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """Windows float32 [n, COEFFICIENTS, STEPS] from the start of frames 0, 1, ... on, `count` in all; a few at a time.

    Args:
        samples: [N] in [-1, 1] at 16 kHz, as long as `window_count` asks for.
    """
    for begin in range(0, count, _CHUNK):
        end = min(begin + _CHUNK, count)
        first = begin * SAMPLES_PER_FRAME
        steps = (end - begin - 1) * STEPS_PER_FRAME + STEPS
        lead = min(first, HOP)  # a step more before, so that the pre-emphasis knows the sample before the first
        heard = samples[first - lead : first + (steps - 1) * HOP + FRAME]
        rows = mfcc(np.rint(heard * INT16_FULL_SCALE))[lead // HOP :, :COEFFICIENTS]
        windows = np.lib.stride_tricks.sliding_window_view(rows, STEPS, axis=0)[::STEPS_PER_FRAME]
        yield windows.astype(np.float32)
