"""The reprojection error and its gradient against the formula in plain torch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tools.head_pose import axis_angle_to_matrix
from tools.reprojection import ROBUST_PX, reprojection_error

FRAMES, LANDMARKS = 5, 7


def reference(
    rotations: Tensor, translations: Tensor, points: Tensor, focal: Tensor, observed: Tensor, weights: Tensor, side: int
) -> Tensor:
    camera = torch.einsum("fij,kj->fki", rotations, points) + translations[:, None]
    projected = camera[..., :2] / camera[..., 2:] * focal + side / 2
    error = (projected - observed.transpose(1, 2)) * (512 / side)
    return (weights[None, :, None] * torch.sqrt(error * error + ROBUST_PX**2)).mean()


def scene(dtype: torch.dtype) -> tuple[list[Tensor], list[Tensor]]:
    """What is differentiated, and what is not."""
    random = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    rotations = axis_angle_to_matrix(0.2 * normal(FRAMES, 3).float()).double()
    translations = 0.1 * normal(FRAMES, 3) + torch.tensor([0, 0, 4.0])
    unknown = [rotations, translations, 0.5 * normal(LANDMARKS, 3), torch.tensor(500.0, dtype=torch.float64)]
    observed = 128 + 40 * normal(FRAMES, 2, LANDMARKS)
    weights = normal(LANDMARKS).abs()
    return [tensor.to(dtype).requires_grad_() for tensor in unknown], [observed.to(dtype), weights.to(dtype)]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_value_and_gradient_are_those_of_autograd(dtype: torch.dtype, tolerance: float) -> None:
    unknown, known = scene(dtype)
    expected, found = reference(*unknown, *known, 256), reprojection_error(*unknown, *known, 256)
    assert found.item() == pytest.approx(expected.item(), rel=tolerance)
    gradients = zip(torch.autograd.grad(found, unknown), torch.autograd.grad(expected, unknown), strict=True)
    for gradient, wanted in gradients:
        assert (gradient - wanted).abs().max() <= tolerance * wanted.abs().max()


def test_the_gradient_is_scaled_by_what_follows() -> None:
    unknown, known = scene(torch.float64)
    once = torch.autograd.grad(reprojection_error(*unknown, *known, 512), unknown)
    thrice = torch.autograd.grad(3 * reprojection_error(*unknown, *known, 512), unknown)
    assert all(torch.allclose(3 * one, three) for one, three in zip(once, thrice, strict=True))


def test_landmarks_where_the_points_are_leave_the_least_error() -> None:
    unknown, (_, weights) = scene(torch.float64)
    rotations, translations, points, focal = unknown
    camera = rotations @ points.T + translations[..., None]
    seen = (camera[:, :2] / camera[:, 2:] * focal + 256).detach()
    least = reprojection_error(*unknown, seen, weights, 512)
    assert least.item() == pytest.approx(ROBUST_PX * weights.mean().item())
    assert reprojection_error(*unknown, seen + 1, weights, 512) > least
