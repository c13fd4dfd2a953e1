"""The loss of a fit: the fused pass against plain torch, plain torch against finite differences and scikit-image."""

from __future__ import annotations

import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor
from torch.nn import functional

from render.losses import LossTarget, LossWeights, detail_difference, dssim, picture_loss, reference_picture_loss
from render.rasterize import RenderOutput

Renders = tuple[Tensor, Tensor, Tensor, Tensor]
WEIGHTS = LossWeights(face=0.7, dssim=0.3, detail=0.8, matte=0.11, hole=0.23)
PLACES = {
    "middle": (slice(9, 29), slice(20, 45)),
    "top left corner": (slice(0, 12), slice(0, 30)),
    "bottom right corner": (slice(20, 37), slice(30, 53)),
    "whole picture": (slice(0, 37), slice(0, 53)),
    "smallest": (slice(26, 37), slice(42, 53)),
}


def random_renders(height: int, width: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Renders:
    """Premultiplied rgb [3, H, W] and alpha [H, W] of the front and of the mouth."""
    generator = torch.Generator().manual_seed(seed)

    def one() -> tuple[Tensor, Tensor]:
        alpha = torch.rand(height, width, generator=generator, dtype=dtype)
        return torch.rand(3, height, width, generator=generator, dtype=dtype) * alpha, alpha

    return tuple(tensor.requires_grad_() for tensor in (*one(), *one()))


def random_target(height: int, width: int, rows: slice, columns: slice) -> LossTarget:
    generator = torch.Generator().manual_seed(1)

    def levels(*shape: int, above: int = 256) -> Tensor:
        return torch.randint(0, above, shape, generator=generator, dtype=torch.uint8)

    background = torch.rand(3, height, width, generator=generator)
    return LossTarget(
        image=levels(height, width, 3),
        matte=levels(height, width),
        face=levels(height, width, above=2),
        mouth=levels(height, width, above=2),
        background=background,
        rows=rows,
        columns=columns,
    )


def loss_of(function: object, renders: Renders, target: LossTarget, weights: LossWeights = WEIGHTS) -> Tensor:
    return function(RenderOutput(*renders[:2]), RenderOutput(*renders[2:]), target, weights)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("upstream", [1.0, -2.5])
def test_fused_pass_equals_plain_torch(place: str, upstream: float) -> None:
    target, renders = random_target(37, 53, *PLACES[place]), random_renders(37, 53)
    fused, plain = (loss_of(function, renders, target) for function in (picture_loss, reference_picture_loss))
    assert type(fused.grad_fn).__name__ != type(plain.grad_fn).__name__  # not one and the same code
    assert float(fused.detach()) == pytest.approx(float(plain.detach()), rel=1e-5)
    found, expected = (torch.autograd.grad(upstream * loss, renders) for loss in (fused, plain))
    for mine, theirs in zip(found, expected, strict=True):
        assert (mine - theirs).abs().max() < 1e-4 * theirs.abs().max()


@pytest.mark.parametrize("name", ["face", "dssim", "detail", "matte", "hole"])
def test_every_weight_acts_alike_in_both(name: str) -> None:
    target, renders = random_target(37, 53, *PLACES["middle"]), random_renders(37, 53)
    none = LossWeights(face=0, dssim=0, detail=0, matte=0, hole=0)
    only = LossWeights(**{**vars(none), name: 2.0})
    plain = loss_of(reference_picture_loss, renders, target, only).detach()
    assert float(plain) > float(loss_of(reference_picture_loss, renders, target, none).detach()) + 1e-3
    assert float(loss_of(picture_loss, renders, target, only).detach()) == pytest.approx(float(plain), rel=1e-5)


def test_a_perfect_picture_costs_nothing() -> None:
    target = random_target(37, 53, *PLACES["middle"])
    front = RenderOutput(target.image.permute(2, 0, 1).contiguous() / 255, torch.ones(37, 53))
    mouth = RenderOutput(torch.zeros(3, 37, 53), torch.zeros(37, 53))
    target = LossTarget(**{**vars(target), "matte": torch.full((37, 53), 255, dtype=torch.uint8)})
    assert float(picture_loss(front, mouth, target, LossWeights(hole=0))) == pytest.approx(0, abs=1e-6)


def test_gradients_agree_with_finite_differences() -> None:
    renders = random_renders(14, 13, torch.float64)
    target = random_target(14, 13, slice(1, 13), slice(2, 13))
    assert torch.autograd.gradcheck(lambda *tensors: loss_of(reference_picture_loss, tensors, target), renders)


def test_fused_gradients_agree_with_finite_differences() -> None:
    """Along random directions, in float32, so that the step is large enough to be seen."""
    target, renders = random_target(37, 53, *PLACES["middle"]), random_renders(37, 53)
    gradients = torch.autograd.grad(loss_of(picture_loss, renders, target), renders)
    exact = tuple(tensor.detach().double() for tensor in renders)
    for place in range(4):
        direction = torch.randn(renders[place].shape, generator=torch.Generator().manual_seed(place)).double()

        def moved(step: float, place: int = place, direction: Tensor = direction) -> float:
            tensors = [*exact]
            tensors[place] = tensors[place] + step * direction
            return float(loss_of(reference_picture_loss, tuple(tensors), target))

        slope = (moved(1e-6) - moved(-1e-6)) / 2e-6
        assert float((gradients[place].double() * direction).sum()) == pytest.approx(slope, rel=1e-3)


def test_only_what_asks_for_gradients_gets_them() -> None:
    renders = tuple(tensor.detach() for tensor in random_renders(37, 53))
    renders[0].requires_grad_()
    loss_of(picture_loss, renders, random_target(37, 53, *PLACES["middle"])).backward()
    assert renders[0].grad is not None and all(tensor.grad is None for tensor in renders[1:])


@pytest.mark.parametrize("size", [(11, 11), (24, 31), (40, 17)])
def test_dssim_agrees_with_scikit_image(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(3, *size, generator=generator, dtype=torch.float64)
    second = (first + 0.2 * torch.randn(3, *size, generator=generator, dtype=torch.float64)).clamp(0, 1)
    similarity = structural_similarity(
        first.numpy(), second.numpy(), data_range=1.0, channel_axis=0,
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    )  # fmt: skip
    assert float(dssim(first, second)) == pytest.approx((1 - similarity) / 2, abs=1e-6)
    assert float(dssim(first, first)) == pytest.approx(0, abs=1e-9)


def test_detail_is_counted_wherever_it_lies_and_blur_costs() -> None:
    """A texture moved by a pixel has the same detail and is far from itself for SSIM; a blurred one has less."""
    texture = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moved = texture.roll(1, dims=2)
    blurred = functional.avg_pool2d(texture[None], 3, 1, 1)[0]
    assert detail_difference(texture, texture) == 0
    assert detail_difference(moved, texture) < 0.1 * detail_difference(blurred, texture)
    assert dssim(moved, texture) > dssim(blurred, texture)
