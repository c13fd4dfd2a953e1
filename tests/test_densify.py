"""Splitting and pruning: counts, places, and the optimizer's memory."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from render.densify import MINIMUM_OPACITY, SPLIT_SHRINK, densify_and_prune
from render.head_model import FIELD_PER_GAUSSIAN, PER_GAUSSIAN, Branch, CanonicalGaussians
from render.motion import MotionField, MotionFieldConfig

COUNT, CODES = 40, 3
TRANSPARENT = (3, 17, 39)


@dataclass(frozen=True)
class Scene:
    """A branch whose Gaussians are told apart by their opacity, after a step of Adam."""

    branch: Branch
    optimizer: torch.optim.Adam
    names: Tensor  # opacity logits, unique
    pull: Tensor

    def densify(self, cap: int = 1000, growth: float = 0.25, pull: Tensor | None = None) -> int:
        pull = self.pull if pull is None else pull
        return densify_and_prune(self.branch, self.optimizer, pull, cap, growth, torch.Generator().manual_seed(0))

    def origin(self) -> Tensor:
        """Which of the first Gaussians each one comes from."""
        return torch.cdist(self.branch.opacity_logits[:, None], self.names[:, None]).argmin(1)


@pytest.fixture
def scene() -> Scene:
    torch.manual_seed(0)
    start = CanonicalGaussians(
        torch.randn(COUNT, 3), torch.randn(COUNT, 3) - 4, torch.randn(COUNT, 3), torch.randn(COUNT)
    )
    basis, reach = torch.randn(COUNT, 3, CODES), torch.rand(COUNT, CODES)
    branch = Branch(start, MotionField(basis, reach, 1.0, MotionFieldConfig(4, 2, 4)))
    branch.opacity_logits.data = torch.linspace(0, 1, COUNT)
    branch.opacity_logits.data[list(TRANSPARENT)] = torch.logit(torch.tensor(MINIMUM_OPACITY * 0.5))
    optimizer = torch.optim.Adam([{"params": [getattr(branch, name)], "lr": 1e-9} for name in PER_GAUSSIAN], fused=True)
    for name in PER_GAUSSIAN:
        parameter = getattr(branch, name)
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    return Scene(branch, optimizer, branch.opacity_logits.detach().clone(), torch.rand(COUNT))


def test_transparent_ones_go_and_the_strongest_pulled_are_split(scene: Scene) -> None:
    assert scene.densify() == len(scene.branch) == COUNT - 3 + 10
    origin = scene.origin()
    assert not set(TRANSPARENT) & set(origin.tolist())
    pull = scene.pull.clone()
    pull[list(TRANSPARENT)] = -1
    expected = pull.argsort(descending=True)[:10]
    counts = torch.bincount(origin, minlength=COUNT)
    assert sorted(torch.nonzero(counts == 2)[:, 0].tolist()) == sorted(expected.tolist())
    assert counts.max() == 2 and (counts == 0).sum() == 3


@pytest.mark.parametrize("cap", [0, 30, 37, 38, 41, 47, 1000])
def test_none_are_added_beyond_the_cap(scene: Scene, cap: int) -> None:
    kept = COUNT - len(TRANSPARENT)
    for _ in range(6):
        count = scene.densify(cap, pull=torch.rand(len(scene.branch)))
        assert count <= max(cap, kept)
    assert count == max(kept, cap) or cap == 1000


def test_without_growth_only_pruning_is_left(scene: Scene) -> None:
    means = scene.branch.means.detach().clone()
    scene.densify(growth=0.0)
    kept = [index for index in range(COUNT) if index not in TRANSPARENT]
    assert torch.equal(scene.branch.means, means[kept])


def test_halves_keep_colour_and_motion_and_get_smaller(scene: Scene) -> None:
    before = {name: getattr(scene.branch, name).detach().clone() for name in PER_GAUSSIAN}
    fields = {name: getattr(scene.branch.field, name).clone() for name in FIELD_PER_GAUSSIAN}
    scene.densify()
    origin = scene.origin()
    for name in ("quats", "opacity_logits", "color_logits", "skinning_logits"):
        assert torch.equal(getattr(scene.branch, name), before[name][origin]), name
    for name in FIELD_PER_GAUSSIAN:
        assert torch.equal(getattr(scene.branch.field, name), fields[name][origin]), name
    is_half = torch.bincount(origin, minlength=COUNT)[origin] == 2
    shrink = (before["log_scales"][origin] - scene.branch.log_scales).exp()
    assert torch.allclose(shrink[is_half], torch.tensor(SPLIT_SHRINK))
    assert torch.equal(scene.branch.log_scales[~is_half], before["log_scales"][origin][~is_half])
    assert torch.equal(scene.branch.means[~is_half], before["means"][origin][~is_half])
    moved = (scene.branch.means - before["means"][origin])[is_half].norm(dim=1)
    assert moved.min() > 0 and bool((moved < 5 * before["log_scales"][origin][is_half].exp().norm(dim=1)).all())


def test_halves_lie_along_the_split_gaussian(scene: Scene) -> None:
    """A needle along its own x axis that is turned to point along y."""
    branch = scene.branch
    with torch.no_grad():
        branch.log_scales.copy_(torch.tensor([0.0, -9.0, -9.0]).expand(COUNT, 3))
        branch.quats.copy_(torch.tensor([1.0, 0.0, 0.0, 1.0]).expand(COUNT, 4))
    before = branch.means.detach().clone()
    scene.densify(growth=1.0)
    offset = (branch.means - before[scene.origin()]).abs().mean(0)
    assert offset[1] > 100 * offset[0] and offset[1] > 100 * offset[2]


def test_moments_follow_their_gaussians_and_new_ones_start_at_zero(scene: Scene) -> None:
    before = {name: scene.optimizer.state[getattr(scene.branch, name)] for name in PER_GAUSSIAN}
    before = {name: {key: value.clone() for key, value in state.items()} for name, state in before.items()}
    scene.densify()
    origin, kept = scene.origin(), COUNT - len(TRANSPARENT)
    parameters = [group["params"][0] for group in scene.optimizer.param_groups]
    assert len(scene.optimizer.state) == len(PER_GAUSSIAN)
    for name, parameter in zip(PER_GAUSSIAN, parameters, strict=True):
        assert parameter is getattr(scene.branch, name) and parameter.requires_grad
        state = scene.optimizer.state[parameter]
        for key in ("exp_avg", "exp_avg_sq"):
            assert torch.equal(state[key][:kept], before[name][key][origin[:kept]]), (name, key)
            assert bool((state[key][kept:] == 0).all()), (name, key)
        assert state["step"] == before[name]["step"]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    scene.optimizer.step()  # and it goes on


def test_before_the_first_step_there_are_no_moments(scene: Scene) -> None:
    optimizer = torch.optim.Adam([getattr(scene.branch, name) for name in PER_GAUSSIAN])
    assert densify_and_prune(scene.branch, optimizer, scene.pull, 100, 0.1, torch.Generator()) == 41
    assert optimizer.param_groups[0]["params"][0] is scene.branch.means


def test_the_generator_decides_where_halves_go(scene: Scene) -> None:
    twin = Branch(
        CanonicalGaussians(
            *(
                getattr(scene.branch, name).detach()
                for name in ("means", "log_scales", "color_logits", "skinning_logits")
            )
        ),
        copy.deepcopy(scene.branch.field),
    )
    twin.opacity_logits.data = scene.names.clone()
    optimizer = torch.optim.Adam(twin.parameters())
    scene.densify()
    densify_and_prune(twin, optimizer, scene.pull, 1000, 0.25, torch.Generator().manual_seed(0))
    assert torch.allclose(twin.means, scene.branch.means, atol=1e-6)


def test_a_branch_may_become_empty(scene: Scene) -> None:
    scene.branch.opacity_logits.data.fill_(-20)
    assert scene.densify() == 0
    assert scene.branch.means.shape == (0, 3)
