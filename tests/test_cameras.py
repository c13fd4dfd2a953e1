"""Shapes, frames and refusals of `Camera` and `Gaussians`."""

from __future__ import annotations

import pytest
import torch

from render.cameras import Camera
from render.gaussians import Gaussians


def gaussians(**replacements: torch.Tensor) -> Gaussians:
    tensors = {
        "means": torch.zeros(7, 3),
        "quats": torch.ones(7, 4),
        "scales": torch.ones(7, 3),
        "opacities": torch.ones(7),
        "colors": torch.ones(7, 3),
    }
    return Gaussians(**{**tensors, **replacements})


def test_intrinsic_matrix_maps_the_optical_axis_to_the_principal_point() -> None:
    camera = Camera(torch.eye(4, dtype=torch.float64), 100.0, 120.0, 31.5, 20.0, 64, 48)
    matrix = camera.intrinsic_matrix
    assert matrix.dtype == torch.float64
    point = matrix @ torch.tensor([0.5, -0.25, 2.0], dtype=torch.float64)
    torch.testing.assert_close(point[:2] / point[2], torch.tensor([56.5, 5.0], dtype=torch.float64))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"world_to_camera": torch.eye(3)}, r"world_to_camera must have shape \(4, 4\), got \(3, 3\)"),
        ({"width": 0}, "at least 1 x 1 px, got 0 x 48"),
        ({"height": -1}, "at least 1 x 1 px, got 64 x -1"),
        ({"fx": 0.0}, r"focal lengths must be positive .* got .*0.0, 100.0, 32.0, 24.0"),
        ({"cy": float("nan")}, r"everything finite, got .*nan"),
    ],
)
def test_impossible_cameras_are_refused(change: dict, message: str) -> None:
    values = {"world_to_camera": torch.eye(4), "fx": 100.0, "fy": 100.0, "cx": 32.0, "cy": 24.0}
    with pytest.raises(ValueError, match=message):
        Camera(**{**values, "width": 64, "height": 48, **change})


def test_gaussians_count_themselves() -> None:
    assert len(gaussians()) == 7


def test_a_batch_of_gaussians_is_taken_apart() -> None:
    frames = [gaussians(), gaussians(colors=torch.rand(7, 3))]
    batch = Gaussians(*map(torch.stack, zip(*(vars(frame).values() for frame in frames), strict=True)))
    assert len(batch) == 7 and batch.is_batch and not frames[0].is_batch
    for frame, part in zip(frames, batch.frames(), strict=True):
        assert all(torch.equal(getattr(frame, name), tensor) for name, tensor in vars(part).items())
    with pytest.raises(ValueError, match=r"scales must have shape \(2, 7, 3\), got \(7, 3\)"):
        Gaussians(**{**vars(batch), "scales": torch.ones(7, 3)})
    with pytest.raises(ValueError, match=r"means must have shape \(2, 7, 3\), got \(1, 2, 7, 3\)"):
        Gaussians(**{**vars(batch), "means": batch.means[None]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quats": torch.ones(7, 3)}, r"quats must have shape \(7, 4\), got \(7, 3\)"),
        ({"opacities": torch.ones(7, 1)}, r"opacities must have shape \(7,\), got \(7, 1\)"),
        ({"means": torch.tensor(1.0)}, r"means must have shape \(0, 3\), got \(\)"),
        ({"colors": torch.ones(7, 3, dtype=torch.float64)}, "colors must share a floating dtype with means"),
        ({"scales": torch.ones(7, 3, device="meta")}, r"scales must lie on the device of means \(cpu\), got meta"),
    ],
)
def test_mismatched_gaussians_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gaussians(**change)
