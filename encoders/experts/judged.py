"""What experts judge, and what an expert is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class JudgedMouths:
    """A run of T consecutive frames of a clip, some of them rendered. Pictures are the lower face, see `lip_clips`."""

    mouths: (
        Tensor  # float32 [T, 3, LIP_HEIGHT, LIP_WIDTH] RGB in [0, 1]: renders, which carry gradients, among real ones
    )
    real: Tensor  # float32, the same shape: the clip's own pictures of all frames
    rendered: Tensor  # bool [T]
    frames: np.ndarray  # int [T] numbers of the frames in the clip, consecutive
    heard: Tensor  # float32 [T, E] the audio embedding that drove each frame; carries gradients


class MouthExpert(Protocol):
    """Says how wrong rendered mouths are, in a way that can be differentiated."""

    def loss(self, judged: JudgedMouths, generator: torch.Generator) -> Tensor:
        """A scalar, finite; zero where nothing of the run can be judged.

        Args:
            generator: what anything random is drawn from, on the CPU.
        """

    def learned(self) -> Sequence[nn.Parameter]:
        """What is learned together with the lips. Weights of a frozen network are not."""

    def learn(self, judged: JudgedMouths) -> None:
        """What the expert learns by itself after every step; nothing, where it is frozen."""
