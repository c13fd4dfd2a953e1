"""TalkLip's mouth discriminator (Wang et al. 2023, Sec. 3.4 and 6.5): does a lower face look filmed or rendered?

The paper's: the layers of Table 6 (which its caption calls an audio encoder) and two players, Eq. 2 and 3. Ours, where
it leaves room or one person's few seconds need more:

- Row 2's padding is printed as 1, which would give 46 x 47; for the printed 48 x 48 it is 2, and 2 is taken.
- The table ends with 512 features. As in Wav2Lip's discriminator, on which TalkLip builds, every convolution is
  followed by a leaky ReLU and not normalised, and one more 1 x 1 convolution gives the logit of D.
- As printed both losses are sums of log(1 - D) and log D that are minimised. They fall without end where D is sure of
  itself, and have no gradient where it is wrong, or for the generator where it is fooled least. What is minimised here
  has the same aims, D -> 1 for real and 0 for rendered ones, and for the generator D -> 1: the cross entropy, and for
  the generator -log D(v') (Goodfellow et al. 2014, Sec. 3).
- Against learning five hundred pictures by heart: pictures are mirrored, moved and relit for both players, rendered
  and real ones alike (Zhao et al. 2020), the target for real ones is below 1, and slopes at real pictures are
  penalised (R1, Mescheder et al. 2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders.contrastive.lip_encoder import PAPER_SIZE, LipLayer, scaled
from encoders.experts.judged import JudgedMouths

TABLE_6: tuple[LipLayer, ...] = (
    LipLayer(3, 32, (7, 7), (1, 1), 3),
    LipLayer(32, 64, (5, 5), (1, 2), 2),
    LipLayer(64, 64, (5, 5), (1, 1), 2),
    LipLayer(64, 128, (5, 5), (2, 2), 2),
    LipLayer(128, 128, (5, 5), (1, 1), 2),
    LipLayer(128, 256, (5, 5), (2, 2), 2),
    LipLayer(256, 256, (5, 5), (1, 1), 2),
    LipLayer(256, 512, (5, 5), (2, 2), 2),
    LipLayer(512, 512, (5, 5), (1, 1), 2),
    LipLayer(512, 512, (3, 3), (2, 2), 1),
    LipLayer(512, 512, (3, 3), (1, 1), 1),
    LipLayer(512, 512, (3, 3), (1, 1), 0),
    LipLayer(512, 512, (1, 1), (1, 1), 0),
)
"""Table 6 of TalkLip, row by row, but for the padding of row 2."""
SLOPE = 0.2
"""Of the leaky ReLU for negative values."""
SHIFT_PX, GAIN = 4, 0.15
LONGEST_GRADIENT = 10.0
"""Norm to which the gradient of a step is cut."""


class MouthDiscriminator(nn.Module):
    """Table 6 and the decision. With another size every layer's width is scaled with it; only 512 is the paper's."""

    def __init__(self, size: int = PAPER_SIZE) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [nn.Conv2d(row.inputs, row.outputs, row.kernel, row.stride, row.padding) for row in scaled(TABLE_6, size)]
        )
        self.decision = nn.Conv2d(size, 1, 1)
        for layer in self.layers:  # from PyTorch's start hardly anything of the picture comes through thirteen layers
            nn.init.kaiming_normal_(layer.weight, SLOPE)
            nn.init.zeros_(layer.bias)

    def forward(self, mouths: Tensor) -> Tensor:
        """Logits [n] of D, the probability of being real, for pictures [n, 3, LIP_HEIGHT, LIP_WIDTH] in [0, 1]."""
        x = 2 * mouths - 1
        for layer in self.layers:
            x = functional.leaky_relu(layer(x), SLOPE)
        return self.decision(x).flatten()


@dataclass(frozen=True)
class DiscriminatorConfig:
    """How the discriminator learns, and when it has a say. A step is a call of `learn`."""

    size: int = 64
    """Channels of its last layers."""
    pictures: int = 12
    """Rendered pictures, drawn from a run, that are looked at in a step."""
    learns_after: int = 30
    """Steps that are let go by: first the lips shall be driven at all."""
    judges_after: int = 60
    """Steps before its loss counts."""
    learning_rate: float = 1e-3
    """Of its own Adam."""
    target: float = 0.9
    """What D is to be for real pictures (one-sided label smoothing, Salimans et al. 2016)."""
    slope_penalty: float = 1.0
    """Weight of R1..."""
    penalty_every: int = 4
    """...which is as many times as large in every fourth step, and none in the others (Karras et al. 2020): it takes
    longer than all the rest."""
    seed: int = 0
    """Initial weights, and how pictures are changed."""


class DiscriminatorExpert:
    """Meets `encoders.experts.judged.MouthExpert`. Its network is frozen whenever it does not learn."""

    def __init__(self, config: DiscriminatorConfig, device: torch.device) -> None:
        self._config = config
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(config.seed)
            self.network = MouthDiscriminator(config.size).to(device).requires_grad_(False)
        self._optimiser = torch.optim.Adam(self.network.parameters(), lr=config.learning_rate, betas=(0.5, 0.99))
        self._random = torch.Generator().manual_seed(config.seed)
        self._steps = 0

    def loss(self, judged: JudgedMouths, generator: torch.Generator) -> Tensor:
        """Eq. 2 in the form above of some rendered mouths; zero before its time, or if there are none."""
        shown = self._drawn(judged, generator)
        if self._steps < self._config.judges_after or not len(shown):
            return judged.mouths.new_zeros(())
        return functional.softplus(-self.network(changed(judged.mouths[shown], generator))).mean()

    def learned(self) -> Sequence[nn.Parameter]:
        """Nothing: the discriminator learns against the lips, by itself."""
        return ()

    def learn(self, judged: JudgedMouths) -> None:
        """A step on Eq. 3 in the form above. Rendered pictures are compared with the real ones of the same frames, so
        that what is said is no clue."""
        self._steps += 1
        shown = self._drawn(judged, self._random)
        if self._steps <= self._config.learns_after or not len(shown):
            return
        pairs = changed(torch.cat([judged.real[shown], judged.mouths[shown].detach()]), self._random)
        self.network.requires_grad_(True)
        self._optimiser.zero_grad()
        self._mistakes(*pairs.chunk(2)).backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), LONGEST_GRADIENT)
        if norm.isfinite():  # else the weights, and all that is judged from now on, would be lost
            self._optimiser.step()
        self.network.requires_grad_(False)

    def _mistakes(self, real: Tensor, rendered: Tensor) -> Tensor:
        config = self._config
        of_real, of_rendered = self.network(real.requires_grad_(True)), self.network(rendered)
        targets = torch.cat([torch.full_like(of_real, config.target), torch.zeros_like(of_rendered)])
        mistakes = 2 * functional.binary_cross_entropy_with_logits(torch.cat([of_real, of_rendered]), targets)
        if self._steps % config.penalty_every:
            return mistakes
        (slopes,) = torch.autograd.grad(of_real.sum(), real, create_graph=True)
        penalty = slopes.square().sum(dim=(1, 2, 3)).mean()
        return mistakes + config.penalty_every * config.slope_penalty / 2 * penalty

    def _drawn(self, judged: JudgedMouths, generator: torch.Generator) -> Tensor:
        """Places [n] of rendered pictures, `pictures` at most."""
        places = judged.rendered.nonzero()[:, 0].cpu()
        return places[torch.randperm(len(places), generator=generator)[: self._config.pictures]]


def changed(mouths: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures [n, 3, H, W] mirrored or not, moved by up to SHIFT_PX and relit by up to GAIN, all of them alike."""
    if torch.rand((), generator=generator) < 0.5:
        mouths = mouths.flip(-1)
    down, right = torch.randint(-SHIFT_PX, SHIFT_PX + 1, (2,), generator=generator).tolist()
    gain = 1 + GAIN * (2 * torch.rand(3, 1, 1, generator=generator) - 1)
    return mouths.roll((down, right), (-2, -1)) * gain.to(mouths)
