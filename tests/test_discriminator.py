"""The mouth discriminator: Table 6, what it learns, when, and that nothing goes wrong with its numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from finite_differences import driven_scene, slope_errors
from torch import Tensor
from torch.nn import functional

from encoders.contrastive.lip_clips import LIP_HEIGHT, LIP_WIDTH
from encoders.experts.discriminator import DiscriminatorConfig, DiscriminatorExpert, MouthDiscriminator, changed
from encoders.experts.judged import JudgedMouths

PAPER_TABLE_6 = """
7 32 1,1 3 32x48x96
5 64 1,2 1 64x48x48
5 64 1,1 2 64x48x48
5 128 2,2 2 128x24x24
5 128 1,1 2 128x24x24
5 256 2,2 2 256x12x12
5 256 1,1 2 256x12x12
5 512 2,2 2 512x6x6
5 512 1,1 2 512x6x6
3 512 2,2 1 512x3x3
3 512 1,1 1 512x3x3
3 512 1,1 0 512x1x1
1 512 1,1 0 512x1x1
"""
"""Table 6 as it is printed: kernel, output channels, stride, padding, output size."""
MISPRINTED = 1
"""Row whose padding does not give the size that is printed behind it."""
QUICK = DiscriminatorConfig(size=16, learns_after=0, judges_after=0, learning_rate=3e-3)
RUN = 12
CPU = torch.device("cpu")


def printed_rows() -> list[tuple[int, int, tuple[int, int], int, tuple[int, ...]]]:
    rows = []
    for line in PAPER_TABLE_6.split("\n")[1:-1]:
        kernel, outputs, stride, padding, size = line.split()
        down, right = map(int, stride.split(","))
        rows.append((int(kernel), int(outputs), (down, right), int(padding), tuple(map(int, size.split("x")))))
    return rows


def seed() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def faces(count: int, blur: bool, start: int = 0) -> Tensor:
    """[count, 3, H, W]: noise that a render would smooth."""
    random = torch.Generator().manual_seed(start)
    pictures = 0.5 + 0.15 * torch.randn(count, 3, LIP_HEIGHT, LIP_WIDTH, generator=random)
    return functional.avg_pool2d(pictures, 3, 1, 1) if blur else pictures


def run_of(start: int = 0, rendered: slice = slice(2, 10)) -> JudgedMouths:
    real, is_rendered = faces(RUN, blur=False, start=start), torch.zeros(RUN, dtype=torch.bool)
    is_rendered[rendered] = True
    mouths = torch.where(is_rendered[:, None, None, None], faces(RUN, blur=True, start=start), real)
    return JudgedMouths(mouths.requires_grad_(True), real, is_rendered, np.arange(RUN), torch.zeros(RUN, 4))


def taught(config: DiscriminatorConfig = QUICK, steps: int = 40) -> DiscriminatorExpert:
    expert = DiscriminatorExpert(config, CPU)
    for step in range(steps):
        expert.learn(run_of(step))
    return expert


@pytest.fixture(scope="module")
def expert() -> DiscriminatorExpert:
    return taught()


def weights(expert: DiscriminatorExpert) -> Tensor:
    return torch.nn.utils.parameters_to_vector(expert.network.parameters()).clone()


# --- the table ---


def test_the_layers_are_those_of_table_6() -> None:
    layers, rows = MouthDiscriminator().layers, printed_rows()
    assert len(layers) == len(rows) == 13
    inputs = 3
    for index, (layer, (kernel, outputs, stride, padding, _)) in enumerate(zip(layers, rows, strict=True)):
        assert layer.weight.shape == (outputs, inputs, kernel, kernel)
        assert layer.stride == stride
        assert layer.padding == ((2, 2) if index == MISPRINTED else (padding, padding))
        inputs = outputs


def test_output_sizes_along_table_6() -> None:
    with torch.device("meta"):
        network, x = MouthDiscriminator(), torch.rand(2, 3, LIP_HEIGHT, LIP_WIDTH)
        for layer, (*_, size) in zip(network.layers, printed_rows(), strict=True):
            x = layer(x)
            assert tuple(x.shape[1:]) == size
        assert network(torch.rand(2, 3, LIP_HEIGHT, LIP_WIDTH)).shape == (2,)


def test_the_padding_that_is_printed_does_not_give_the_size_that_is_printed() -> None:
    kernel, _, stride, padding, size = printed_rows()[MISPRINTED]
    found = [
        (side + 2 * padding - kernel) // step + 1 for side, step in zip((LIP_HEIGHT, LIP_WIDTH), stride, strict=True)
    ]
    assert found == [46, 47] != list(size[1:])


def test_a_smaller_network_has_the_same_places() -> None:
    network, x = MouthDiscriminator(16), torch.rand(1, 3, LIP_HEIGHT, LIP_WIDTH)
    for layer, (*_, size) in zip(network.layers, printed_rows(), strict=True):
        x = layer(x)
        assert tuple(x.shape[1:]) == (size[0] // 32, *size[1:])
    with pytest.raises(ValueError, match="multiple of 16"):
        MouthDiscriminator(40)


# --- the two players ---


@torch.no_grad()
def test_it_learns_to_tell_real_from_rendered(expert: DiscriminatorExpert) -> None:
    unseen = 1000
    real, rendered = (expert.network(faces(24, blur, unseen)) for blur in (False, True))
    assert real.min() > rendered.max()
    fresh = DiscriminatorExpert(QUICK, CPU)
    before = fresh.network(faces(24, False, unseen)) - fresh.network(faces(24, True, unseen))
    assert (real - rendered).mean() > before.mean() + 1


def test_the_loss_falls_as_rendered_mouths_become_real(expert: DiscriminatorExpert) -> None:
    judged = run_of(500)
    on_the_way = [judged.mouths.detach().lerp(judged.real, share) for share in (0, 0.5, 1)]
    losses = [float(expert.loss(replace(judged, mouths=mouths), seed())) for mouths in on_the_way]
    assert losses[0] > losses[1] > losses[2] > 0


def test_only_rendered_mouths_are_judged(expert: DiscriminatorExpert) -> None:
    judged = run_of()
    expert.loss(judged, seed()).backward()
    reached = judged.mouths.grad.abs().sum(dim=(1, 2, 3)) > 0
    assert reached.tolist() == judged.rendered.tolist()
    few = DiscriminatorExpert(replace(QUICK, pictures=3), CPU)
    judged = run_of()
    few.loss(judged, seed()).backward()
    reached = judged.mouths.grad.abs().sum(dim=(1, 2, 3)) > 0
    assert reached.sum() == 3 and (reached <= judged.rendered).all()


def test_it_begins_late() -> None:
    expert = DiscriminatorExpert(replace(QUICK, learns_after=2, judges_after=4), CPU)
    learned, judges, before = [], [], weights(expert)
    for step in range(6):
        loss = expert.loss(run_of(step), seed())
        judges.append(loss.requires_grad)
        expert.learn(run_of(step))
        learned.append(not torch.equal(weights(expert), before))
    assert learned == [False, False, True, True, True, True]
    assert judges == [False, False, False, False, True, True]


def test_judging_changes_nothing_in_the_network(expert: DiscriminatorExpert) -> None:
    before = weights(expert)
    expert.loss(run_of(), seed()).backward()
    assert torch.equal(weights(expert), before) and list(expert.learned()) == []
    assert not any(one.requires_grad for one in expert.network.parameters())


def test_nothing_rendered_costs_and_teaches_nothing(expert: DiscriminatorExpert) -> None:
    judged, before = run_of(rendered=slice(0, 0)), weights(expert)
    loss = expert.loss(judged, seed())
    expert.learn(judged)
    assert loss.item() == 0 and not loss.requires_grad
    assert torch.equal(weights(expert), before)


def test_learning_sends_nothing_to_the_lips(expert: DiscriminatorExpert) -> None:
    judged = run_of()
    DiscriminatorExpert(QUICK, CPU).learn(judged)
    assert judged.mouths.grad is None


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, 1e30])
def test_a_broken_picture_does_not_break_the_network(wrong: float) -> None:
    expert = DiscriminatorExpert(replace(QUICK, penalty_every=1), CPU)
    judged = run_of()
    broken = judged.mouths.detach().clone()
    broken[3] = wrong
    expert.learn(replace(judged, mouths=broken))
    assert weights(expert).isfinite().all()
    expert.learn(judged)
    expert.loss(judged, seed()).backward()
    assert weights(expert).isfinite().all() and judged.mouths.grad.isfinite().all()


@pytest.mark.parametrize("certain", [-1e4, 1e4])
def test_gradients_are_finite_however_sure_it_is(certain: float) -> None:
    expert = DiscriminatorExpert(QUICK, CPU)
    expert.network.decision.bias.fill_(certain)
    judged = run_of()
    loss = expert.loss(judged, seed())
    loss.backward()
    assert loss.isfinite() and loss >= 0
    assert judged.mouths.grad.isfinite().all()
    assert (judged.mouths.grad[4].abs().sum() > 0) == (certain < 0), "who is sure of being fooled pulls no more"


def test_the_penalty_keeps_slopes_at_real_pictures_small() -> None:
    def slope(penalty: float) -> float:
        expert = taught(replace(QUICK, slope_penalty=penalty, penalty_every=1), 15)
        real = faces(8, False, 900).requires_grad_(True)
        (gradient,) = torch.autograd.grad(expert.network(real).sum(), real)
        return float(gradient.square().sum())

    assert slope(10.0) < 0.5 * slope(0.0)


def test_the_seed_decides() -> None:
    one, two = (weights(taught(steps=3)) for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, weights(taught(replace(QUICK, seed=1), 3)))


def test_pictures_are_changed_alike() -> None:
    pictures = faces(1, False).expand(4, -1, -1, -1)
    different = set()
    for number in range(6):
        result = changed(pictures, torch.Generator().manual_seed(number))
        assert torch.equal(result[0], result[3])
        different.add(round(float(result[0, 0, 10, 10]), 6))
    assert len(different) == 6


def test_slopes_through_the_rasterizer(expert: DiscriminatorExpert) -> None:
    precise = taught(steps=1)
    precise.network.double()

    def loss(mouths: Tensor) -> Tensor:
        judged = JudgedMouths(mouths, mouths.detach(), torch.ones(2, dtype=torch.bool), np.arange(2), torch.zeros(2, 4))
        return precise.loss(judged, seed())

    assert slope_errors(driven_scene(2), loss) < 1e-3
