"""Mouths through a turned camera: where things are, and that gradients reach the motion fields."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from finite_differences import driven_scene, slope_errors
from tiny_head import INTRINSICS, background, bones, painted_head, targets
from torch import Tensor

from render.mouth_view import HeldMotion, MouthView, in_view, mouth_camera, part_of, render_mouths

SIZE = (16, 32)


def transform(turn: float = 0.2) -> np.ndarray:
    """A map of the tiny head's lower face."""
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    stretched = np.diag([0.9, 0.6]) @ rotation
    return np.concatenate([stretched, ([16, 8] - stretched @ [32, 40])[:, None]], axis=1)


def view(index: int, onto: np.ndarray) -> MouthView:
    camera = mouth_camera(INTRINSICS, onto, SIZE, torch.device("cpu"))
    plate = cv2.warpAffine(background(), 2 * onto, (2 * SIZE[1], 2 * SIZE[0]), borderMode=cv2.BORDER_REPLICATE)
    return MouthView(bones(index), camera, torch.from_numpy(plate).permute(2, 0, 1) / 255)


def test_the_camera_sees_what_a_warp_of_the_frame_shows() -> None:
    onto = transform()
    camera = mouth_camera(INTRINSICS, onto, SIZE, torch.device("cpu"))
    points = np.random.default_rng(0).normal(size=(50, 3)) * [0.5, 0.5, 0.5] + [0, 0, 4]
    in_crop = points[:, :2] / points[:, 2:] * INTRINSICS.focal + INTRINSICS.resolution / 2
    expected = 2 * (np.c_[in_crop, np.ones(50)] @ onto.T)
    seen = points @ camera.world_to_camera[:3, :3].numpy().T
    pixels = seen[:, :2] / seen[:, 2:] * [camera.fx, camera.fy] + [camera.cx, camera.cy]
    np.testing.assert_allclose(pixels, expected, atol=1e-3)


@torch.no_grad()
def test_mouths_look_like_those_cut_out_of_the_rendered_frame() -> None:
    model, onto = painted_head(), transform()
    code = torch.from_numpy(targets().codes[1])
    (mouth,) = render_mouths(model, [view(1, onto)], code[None])
    side = 4 * INTRINSICS.resolution
    plate = torch.from_numpy(cv2.resize(background(), (side, side))).permute(2, 0, 1) / 255
    frame = model.render(bones(1), code, INTRINSICS.camera(side)).over(plate).permute(1, 2, 0).numpy()
    from_frame = onto.copy()
    from_frame[:, :2] /= 4  # of a frame four times as large
    size = (4 * SIZE[1], 4 * SIZE[0])
    cut = cv2.warpAffine(frame, 4 * from_frame, size, borderMode=cv2.BORDER_REPLICATE)
    cut = cv2.resize(cut, SIZE[::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(mouth.permute(1, 2, 0).numpy() - cut).mean() < 0.02
    assert cut.std() > 0.1, "there is something to see"


@pytest.mark.parametrize("wrong", [[[1, 0.5, 0], [0, 1, 0]], [[-1, 0, 0], [0, 1, 0]]])
def test_a_map_that_no_camera_has(wrong: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="expected a map that turns"):
        mouth_camera(INTRINSICS, np.array(wrong, float), SIZE, torch.device("cpu"))


def test_the_part_in_view_shows_the_same_and_learns_for_the_whole() -> None:
    model = painted_head()
    small = transform()
    small[:, :2] *= 3  # a close-up: much of the head is outside
    small[:, 2] = [16, 8] - small[:, :2] @ [32, 40]
    views, codes = [view(0, small), view(2, small)], torch.from_numpy(targets().codes[[0, 2]])
    part = part_of(model, in_view(model, views, codes))
    assert 0 < len(part) < len(model)
    shown = render_mouths(part, views, codes)
    torch.testing.assert_close(shown, render_mouths(model, views, codes), atol=2e-3, rtol=0)
    before = render_mouths(model, views, codes)
    part.face.field.output_layer.bias.data[0] += 1
    assert not torch.allclose(render_mouths(model, views, codes), before, atol=1e-3)


def test_gradients_reach_motion_fields_and_codes_as_finite_differences_say() -> None:
    scene = driven_scene()
    aim = torch.linspace(0, 1, 3, dtype=torch.float64)[None, :, None, None]

    def loss(mouths: Tensor) -> Tensor:
        return (mouths - aim).square().mean()

    assert slope_errors(scene, loss) < 1e-4


def test_finite_differences_find_a_gradient_that_is_cut() -> None:
    scene = driven_scene()
    assert slope_errors(scene, lambda mouths: mouths.detach().square().mean() + 0 * mouths.sum()) > 0.5


def test_what_is_held_notices_that_its_network_learned() -> None:
    model, code = painted_head(), torch.from_numpy(targets().codes[2])
    top = model.face.means[:, 1] < 0
    held = HeldMotion(model.face.part(top))
    assert held.change(code) == 0
    model.face.field.requires_grad_(True)
    model.face.field.output_layer.bias.data[0] += 1
    change = held.change(code)
    expected = (model.face.field.reach[top].amax(1) ** 2).mean() / model.face.field.output_layer.out_features
    torch.testing.assert_close(change, expected)
    change.backward()
    assert model.face.field.output_layer.bias.grad[0] > 0
    assert HeldMotion(model.face.part(torch.zeros_like(top))).change(code) == 0
