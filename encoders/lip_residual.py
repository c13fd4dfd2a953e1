"""What judging rendered mouths adds to the lip-motion regression: a small network beside it.

The regression is fitted to tracked codes in closed form. What a picture of the mouth looks like, or what can be read
from it, is no linear matter of codes, and reaches the lips through this network's gradients instead. Its hidden layer
is the audio embedding that TalkLip's contrastive loss (Wang et al. 2023, Eq. 6) draws to the lips.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from encoders.errors import LipMotionFitError

HIDDEN = 32


class LipResidual(nn.Module):
    """Windows of speech features -> changes of the lip-motion code. A new one changes nothing.

    Args:
        inputs: columns of a window, `LipMotionPredictor.support.shape[1]`.
        codes: columns of a code.
    """

    def __init__(self, inputs: int, codes: int) -> None:
        super().__init__()
        self.hear = nn.Linear(inputs, HIDDEN)
        self.say = nn.Linear(HIDDEN, codes)
        nn.init.zeros_(self.say.weight)
        nn.init.zeros_(self.say.bias)

    def heard(self, windows: Tensor) -> Tensor:
        """The audio embedding [n, HIDDEN] of windows [n, inputs] of unit mean square norm."""
        return torch.tanh(self.hear(windows * self.hear.in_features**0.5))

    def forward(self, heard: Tensor) -> Tensor:
        """Changes of code [n, codes] for audio embeddings [n, HIDDEN]."""
        return self.say(heard)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], inputs: int, codes: int) -> LipResidual:
        """Restores one from its `state_dict`.

        Raises:
            LipMotionFitError: the tensors are not those of a network of this size.
        """
        with torch.device("meta"):  # sizes without memory
            residual = cls(inputs, codes)
        try:
            residual.load_state_dict(dict(tensors), assign=True)
        except RuntimeError as error:
            raise LipMotionFitError(f"the lips' network does not fit their regression ({error})") from error
        return residual.eval().requires_grad_(False)
