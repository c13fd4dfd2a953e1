"""SE4Lip's contrastive loss, Eq. 5 and 6: binary cross entropy on the cosine of a sound and a lip embedding; TalkLip's.

Eq. 6 takes the logarithm of the cosine and of one minus it, so the cosine must lie in (0, 1); a cosine lies in [-1, 1].
The paper does not say how that is met. Here:

- Both encoders end in a ReLU, as in Wav2Lip's lip-sync discriminator, so that no cosine is negative. The other way,
  (1 + cos) / 2, would ask wrong pairs for opposite embeddings, and more than two moments cannot all be opposites.
- [0, 1] is mapped to [MARGIN, 1 - MARGIN] linearly. A clamp would do for the value but not for the gradient, which
  would be zero exactly where the loss is worst: at right pairs with nothing in common. Mapped, it is finite
  everywhere, and never above 1 / MARGIN.
- Norms are taken with a small constant under the root, so that an embedding of zeros has cosine 0 and a gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

MARGIN = 1e-3
_SQUARED_NORM_FLOOR = 1e-6


def cosines(speech: Tensor, lips: Tensor) -> Tensor:
    """Eq. 5 for every pair: [A, B] from embeddings [A, E] and [B, E]."""
    return _unit(speech) @ _unit(lips).T


def pair_loss(cosine: Tensor, match: Tensor) -> Tensor:
    """Eq. 6 for each pair: cosines in [0, 1] and a bool tensor of the same shape that is true where a pair matches."""
    probability = MARGIN + (1.0 - 2.0 * MARGIN) * cosine
    return -torch.where(match, probability, 1.0 - probability).log()


def contrastive_loss(cosine: Tensor, usable: Tensor) -> Tensor:
    """Eq. 6 over all pairs of a batch, matching and other ones having equal weight in total.

    Its gradient is the expectation of the paper's over pairs drawn as in SyncNet and Wav2Lip: matching or not by the
    toss of a coin, the wrong partner at random.

    Args:
        cosine: [B, B]; those on the diagonal match.
        usable: bool [B, B]; pairs off the diagonal that may be held to be wrong.
    """
    match = torch.eye(len(cosine), dtype=torch.bool, device=cosine.device)
    wrong = usable & ~match
    losses = pair_loss(cosine, match)
    return 0.5 * (losses[match].mean() + (losses * wrong).sum() / wrong.sum().clamp(min=1))


def pair_accuracy(cosine: Tensor, usable: Tensor) -> float:
    """Share of right decisions at a cosine of 0.5, matching and other pairs having equal weight."""
    match = torch.eye(len(cosine), dtype=torch.bool, device=cosine.device)
    wrong = usable & ~match
    accepted = cosine > 0.5
    right, false = accepted[match].float().mean(), (accepted & wrong).sum() / wrong.sum().clamp(min=1)
    return float(0.5 * (right + 1.0 - false))


def sound_contrast(sounds: Tensor, lips: Tensor, usable: Tensor, temperature: float) -> Tensor:
    """TalkLip's Eq. 6 (Wang et al. 2023), mean over frames: a sound is drawn to its lips and away from other sounds.

    Args:
        sounds, lips: [B, E] of length one, F(E) and F(R) of Eq. 5.
        usable: bool [B, B]; pairs of frames whose sounds may be held to differ. None are needed.
        temperature: tau.
    """
    right = (sounds * lips).sum(dim=1, keepdim=True)
    wrong = (sounds @ sounds.T).masked_fill(~usable, -torch.inf)
    logits = torch.cat([right, wrong], dim=1) / temperature
    return functional.cross_entropy(logits, torch.zeros(len(sounds), dtype=torch.long, device=logits.device))


def _unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(dim=-1, keepdim=True) + _SQUARED_NORM_FLOOR).sqrt()
