"""Motion fields: what an expression code does to every Gaussian.

TalkingGaussian (arXiv 2404.15264, Sec. 3.2-3.3) moves canonical Gaussians by a field of position and condition, in
which a region attention, computed from the position, says how much each condition matters there. Here the tracked mesh
already gives every Gaussian a linear motion, so the network learns only what the mesh does not know; and attention is
bounded by the distance to the landmarks that a code was measured on, so that a blink cannot learn to move the chin.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from render.planes import TriPlane

UNITS = {"means": (3, 0.05), "quats": (4, 0.2), "log_scales": (3, 0.3), "color_logits": (3, 0.5)}
"""Columns of the network's output, and what one unit of output is; 0.05 head units is about how far a lip moves."""


@dataclass(frozen=True)
class GaussianDeltas:
    """Changes to canonical Gaussians for one code; None: none."""

    means: Tensor  # [N, 3] head units
    quats: Tensor | None = None  # [N, 4] added before normalisation
    log_scales: Tensor | None = None  # [N, 3]
    color_logits: Tensor | None = None  # [N, 3]


@dataclass(frozen=True)
class MotionFieldConfig:
    """Size of the network behind a motion field."""

    plane_resolution: int = 64
    """Cells along a side of each feature plane."""
    plane_channels: int = 8
    """Features per plane."""
    hidden: int = 32
    """Width of the hidden layer."""


@dataclass(frozen=True)
class PositionTerms:
    """What a motion field needs to know of the Gaussians' positions; constant for a fitted avatar, so baked once."""

    hidden: Tensor  # [N, H] the hidden layer's input from the position
    attention: Tensor  # [N, C] in [0, 1]
    anywhere: Tensor  # [N, 1] the largest reach of any code
    moving: Tensor  # [N, 1] the same, as far as the Gaussian is mobile


class MotionField(nn.Module):
    """Expression code -> deltas of N Gaussians: the mesh's linear motion plus a small network over tri-plane features.

    The network's output layer starts at zero: a new field moves Gaussians exactly as the mesh does.

    Args:
        basis: [N, 3, C] displacement per unit of each of C codes, head units, from the tracked mesh.
        reach: [N, C] in [0, 1], how much each code may matter at each Gaussian.
        extent: half side of the volume that the planes cover, head units.
        config: size of the network.
        rigid: the network moves Gaussians and changes nothing else of them.
        mobility: [N] in [0, 1], how much of the network's motion each Gaussian takes; by default all. Its changes of
            colour are not held back: teeth that stay with the skull are lit by how far the mouth is open.
    """

    def __init__(
        self,
        basis: Tensor,
        reach: Tensor,
        extent: float,
        config: MotionFieldConfig,
        rigid: bool = False,
        mobility: Tensor | None = None,
    ) -> None:
        super().__init__()
        codes = basis.shape[2]
        self._units = {name: UNITS[name] for name in (("means",) if rigid else UNITS)}
        self.register_buffer("basis", basis.clone())
        self.register_buffer("reach", reach.clone())
        self.register_buffer("mobility", torch.ones(len(basis)) if mobility is None else mobility.clone())
        self.planes = TriPlane(config.plane_resolution, config.plane_channels, extent)
        self.position_layer = nn.Linear(self.planes.size, config.hidden)
        self.attention_layer = nn.Linear(self.planes.size, codes)
        self.code_layer = nn.Linear(codes, config.hidden, bias=False)
        self.output_layer = nn.Linear(config.hidden, sum(columns for columns, _ in self._units.values()))
        nn.init.zeros_(self.output_layer.weight)
        nn.init.zeros_(self.output_layer.bias)

    def position_terms(self, points: Tensor) -> PositionTerms:
        """Everything that depends on the canonical points [N, 3] alone."""
        features = self.planes(points)
        attention = torch.sigmoid(self.attention_layer(features)) * self.reach
        anywhere = self.reach.amax(1, keepdim=True)
        return PositionTerms(self.position_layer(features), attention, anywhere, anywhere * self.mobility[:, None])

    def mesh_motion(self, code: Tensor) -> Tensor:
        """Displacement [N, 3] of the tracked mesh for one code [C], head units."""
        return self.basis @ code

    def outputs(self, terms: PositionTerms, code: Tensor) -> Tensor:
        """What the network says for one code [C]: the columns of `UNITS` [N, 3 or 13], in those units."""
        # The code scales the weights, which are fewer than the attentions.
        hidden = torch.addmm(terms.hidden, terms.attention, (self.code_layer.weight * code).T).relu_()
        return self.output_layer(hidden)

    def forward(self, terms: PositionTerms, code: Tensor) -> GaussianDeltas:
        """Deltas for one code [C]."""
        parts = self.outputs(terms, code).split([columns for columns, _ in self._units.values()], 1)
        learned = {
            name: part * (unit * (terms.anywhere if name == "color_logits" else terms.moving))
            for (name, (_, unit)), part in zip(self._units.items(), parts, strict=True)
        }
        return GaussianDeltas(self.mesh_motion(code) + learned.pop("means"), **learned)
