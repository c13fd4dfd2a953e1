"""Blend-Net's network: a new one adds nothing, and what it says of a pixel depends on its surroundings alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from render.blend_net import CONTEXT, FOLD, BlendNet, _folded, _unfolded


def scrambled(seed: int = 0) -> BlendNet:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        net = BlendNet().requires_grad_(False)
        for parameter in net.parameters():
            parameter.normal_(std=0.1)
    return net


def noise(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [(32, 48), (33, 50), (5, 1)])
def test_a_new_network_adds_nothing_and_any_other_something(size: tuple[int, int]) -> None:
    pictures, shares = noise(2, 3, *size), noise(2, 1, *size)
    nothing, something = BlendNet()(pictures, shares), scrambled()(pictures, shares)
    assert nothing.shape == something.shape == pictures.shape
    assert not nothing.any() and something.abs().min() > 0


def test_a_new_network_learns_from_its_first_step() -> None:
    net = BlendNet()
    (net(noise(1, 3, 32, 32), noise(1, 1, 32, 32)) - 1).square().sum().backward()
    assert net.layers[-1].weight.grad.abs().max() > 0 and net.shortcut.weight.grad.abs().max() > 0


def test_what_is_farther_than_the_context_does_not_matter() -> None:
    net, pictures, shares = scrambled(), noise(1, 3, 96, 96), noise(1, 1, 96, 96)
    first, other = 48, pictures.clone()
    other[..., : first - CONTEXT, :] = 0
    differs = (net(pictures, shares) != net(other, shares)).any(1)[0].any(1)
    assert not differs[first:].any()
    assert differs[first - FOLD], "a cell less, and it does matter"
    window = (..., slice(first - CONTEXT, None), slice(None))
    torch.testing.assert_close(
        net(pictures[window], shares[window])[:, :, CONTEXT:], net(pictures, shares)[:, :, first:], atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("given", ["pictures", "shares"])
def test_both_inputs_are_looked_at(given: str) -> None:
    net, inputs = scrambled(), {"pictures": noise(1, 3, 32, 32), "shares": noise(1, 1, 32, 32)}
    assert not torch.equal(net(**inputs), net(**inputs | {given: 1 - inputs[given]}))


def test_cells_are_those_of_torch() -> None:
    pictures = noise(2, 4, 4 * FOLD, 3 * FOLD)
    cells = _folded(pictures)
    assert torch.equal(cells, functional.pixel_unshuffle(pictures, FOLD))
    assert cells.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(_unfolded(cells), pictures)
