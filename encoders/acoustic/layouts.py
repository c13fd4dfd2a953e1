"""The .npy files that TalkingGaussian, ER-NeRF and SyncTalk read speech features from.

All three want videos of 25 frames per second and an array float [T, W, C]: for frame t, W rows of a feature sampled
50 times per second. What writes and reads it there (TalkingGaussian at commit 453f218, ER-NeRF at 068d0aa, SyncTalk at
01eb9a3):

- DeepSpeech (`data_utils/deepspeech_features`): W = 16, C = 29; rows 2 t - 8 to 2 t + 7, zeros outside the sound.
- wav2vec 2.0 for Esperanto (`data_utils/wav2vec.py` of ER-NeRF): the same with C = 44.
- HuBERT (`data_utils/hubert.py`): [2 T, 1024] reshaped to W = 2, C = 1024: rows 2 t and 2 t + 1.
- Reading (`scene/dataset_readers.py` of TalkingGaussian, `nerf_triplane/provider.py` of the others) turns it to
  [T, C, W], of which `AudioNet` takes up to 16 columns: both widths pass through the same convolutions.
- C is not taken from the file but follows from the feature's name: 29 for deepspeech, 44 for esperanto, 1024 for
  hubert. For any other C one number in the project's source has to be changed; `Layout.instructions` says where.

SyncTalk's own `ave` feature is computed from the sound while it loads, so no file can stand in for it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

ROW_RATE = Fraction(50)
"""Feature rows per second."""
VIDEO_RATE = Fraction(25)
"""Frames per second of the projects' videos."""
ROWS_PER_FRAME = int(ROW_RATE / VIDEO_RATE)
LONG_WINDOW = 16
HUBERT_CHANNELS = 1024
_EXTRACTORS = {29: ("deepspeech", "ds"), 44: ("esperanto", "eo"), HUBERT_CHANNELS: ("hubert", "hu")}
"""Channels -> what the projects call the extractor, and the ending of its files."""


@dataclass(frozen=True)
class Layout:
    """How one project is told which features to read."""

    name: str
    option: str  # names the extractor
    channels_in: str  # where its source sets the channels
    driving: str  # how sound that is not the clip's own is given; {ending} is that of the extractor's files

    def instructions(self, channels: int) -> str:
        """What to do with a file of so many channels, in one line."""
        extractor, ending = _EXTRACTORS.get(channels, _EXTRACTORS[HUBERT_CHANNELS])
        change = "" if channels in _EXTRACTORS else f"set audio_in_dim = {channels} for hubert in {self.channels_in}; "
        driving = self.driving.format(ending=ending)
        return f"{change}name it aud_{ending}.npy in the clip's folder and use {self.option} {extractor}; {driving}"


_LAYOUTS = (
    Layout(
        "talkinggaussian",
        "--audio_extractor",
        "scene/motion_net.py (both classes)",
        "for other sound give the file with --audio",
    ),
    Layout("er-nerf", "--asr_model", "nerf_triplane/network.py", "for other sound give the file with --aud"),
    Layout(
        "synctalk",
        "--asr_model",
        "nerf_triplane/network.py",
        "for other sound name it as the .wav given with --aud, with _{ending}.npy for .wav",
    ),
)
LAYOUTS: dict[str, Layout] = {layout.name: layout for layout in _LAYOUTS}


def window_size(channels: int) -> int:
    """W, the rows per video frame: 2 for a feature as wide as the projects' HuBERT, 16 for all others."""
    return ROWS_PER_FRAME if channels == HUBERT_CHANNELS else LONG_WINDOW


def windows(blocks: Iterable[np.ndarray], channels: int) -> Iterator[np.ndarray]:
    """The windows of a stream of feature rows, in constant memory.

    Args:
        blocks: [n, channels] consecutive rows at ROW_RATE, an even number in all: 2 T.

    Yields:
        float32 [t, W, channels], T windows in all. Rows outside the stream are zeros.
    """
    size = window_size(channels)
    before = 0 if size == ROWS_PER_FRAME else size // 2
    after = size - ROWS_PER_FRAME - before
    held = np.zeros((before, channels), np.float32)
    for block in itertools.chain(blocks, [np.zeros((after, channels), np.float32)]):
        held = np.concatenate([held, block])
        count = (len(held) - size) // ROWS_PER_FRAME + 1
        if count > 0:
            views = np.lib.stride_tricks.sliding_window_view(held, size, axis=0)  # [n, channels, W]
            yield np.ascontiguousarray(views[: count * ROWS_PER_FRAME : ROWS_PER_FRAME].transpose(0, 2, 1))
            held = held[count * ROWS_PER_FRAME :]
