"""Registration on a scene of 64 px whose true poses and expressions are known."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from tiny_head import CODES, FRAMES, background, bones, painted_head, rendered_frames, targets
from torch import Tensor

from render.head_model import BonePose, HeadModel, small_rotation
from render.rasterize import rasterize
from render.registration import Registration, RegistrationConfig

BEHIND = torch.from_numpy(background()).permute(2, 0, 1).float() / 255
CONFIG = RegistrationConfig(
    scales=(1.0,) * 8, settled=0.03, coarse_blur=6 / 64, head_turn=0.1, head_shift=0.1, code=2.0
)
"""For pictures of 64 px, in which a wrong pose is a smaller share of the picture's pixels."""
RIGID = {"head_turn": 1e-6, "head_shift": 1e-6, "torso_turn": 1e-6, "torso_shift": 1e-6}
pictures = cache(rendered_frames)


@cache
def head() -> HeadModel:
    return painted_head()


def registered(
    pose: BonePose, code: Tensor, index: int, config: RegistrationConfig = CONFIG
) -> tuple[BonePose, Tensor]:
    return Registration(head(), BEHIND, config).register(pose, code, pictures().frames[index].image)


def true_code(index: int) -> Tensor:
    return torch.from_numpy(targets().codes[index])


def degrees_apart(first: Tensor, second: Tensor) -> float:
    return float(np.rad2deg(Rotation.from_matrix((first.T @ second).numpy()).magnitude()))


def nudged(pose: BonePose, turn: float, shift: float) -> BonePose:
    """The head turned by `turn` rad about each axis, and shifted across the picture."""
    return replace(
        pose,
        head_rotation=small_rotation(torch.full((3,), turn)) @ pose.head_rotation,
        head_translation=pose.head_translation + torch.tensor([shift, -shift, 0.0]),
    )


@pytest.mark.parametrize("index", range(FRAMES))
def test_a_wrong_head_pose_is_found_back(index: int) -> None:
    wrong = nudged(bones(index), 0.02, 0.03)
    found, _ = registered(wrong, true_code(index), index, replace(CONFIG, code=1e-6))
    before = degrees_apart(wrong.head_rotation, bones(index).head_rotation)
    assert degrees_apart(found.head_rotation, bones(index).head_rotation) < 0.5 * before
    error = (found.head_translation - bones(index).head_translation)[:2]
    assert error.abs().max() < 0.3 * 0.03


@pytest.mark.parametrize("index", [0, 1, 2])  # the others show expressions in which the made-up mouth turns over
def test_a_wrong_expression_is_found_back(index: int) -> None:
    wrong = true_code(index) + torch.tensor([0.4] + [0.0] * (CODES - 1))
    _, code = registered(bones(index), wrong, index, replace(CONFIG, **RIGID))
    assert (code - true_code(index))[0].abs() < 0.25


def test_what_is_right_stays() -> None:
    found, code = registered(bones(1), true_code(1), 1)
    assert degrees_apart(found.head_rotation, bones(1).head_rotation) < 0.3
    assert (code - true_code(1)).abs().max() < 0.15


def test_the_expected_deviations_bind() -> None:
    stiff = RegistrationConfig(scales=(1.0,) * 4, code=1e-6, **RIGID)
    wrong = nudged(bones(2), 0.02, 0.03)
    found, code = registered(wrong, true_code(2), 2, stiff)
    for name, tensor in vars(wrong).items():
        assert torch.allclose(getattr(found, name), tensor, atol=1e-4), name
    assert torch.allclose(code, true_code(2), atol=1e-4)


def test_brightness_is_not_motion() -> None:
    registration = Registration(head(), BEHIND, CONFIG)
    wrong, frame = nudged(bones(3), 0.01, 0.02), pictures().frames[3]
    assert frame.image.max() < 240  # nothing is cut off
    plain, _ = registration.register(wrong, true_code(3), frame.image)
    brighter, _ = registration.register(wrong, true_code(3), frame.image + np.uint8(15))
    assert degrees_apart(plain.head_rotation, brighter.head_rotation) < 0.1
    assert (plain.head_translation - brighter.head_translation).abs().max() < 0.005


def test_it_is_repeatable_and_leaves_its_inputs() -> None:
    pose, code = nudged(bones(4), 0.01, 0.01), true_code(4)
    kept = {name: tensor.clone() for name, tensor in vars(pose).items()}
    first, second = registered(pose, code, 4), registered(pose, code, 4)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in vars(pose).items())
    assert torch.equal(first[1], second[1]) and torch.equal(first[0].head_rotation, second[0].head_rotation)


@pytest.mark.parametrize(("settled", "steps"), [(0.0, 8), (1e9, 1)])
def test_a_settled_frame_takes_no_more_steps(settled: float, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    monkeypatch.setattr("render.head_model.rasterize", lambda *inputs: taken.append(inputs) or rasterize(*inputs))
    registered(nudged(bones(2), 0.02, 0.03), true_code(2), 2, replace(CONFIG, settled=settled))
    assert len(taken) == 2 * steps  # the front and the inside of the mouth


def test_votes_in_one_pass_are_those_of_plain_torch() -> None:
    registration = Registration(head(), BEHIND, CONFIG)
    view, random = registration._views[1.0], np.random.default_rng(0)
    pose, code = nudged(bones(2), 0.02, 0.03), true_code(2)
    with torch.no_grad():
        front, _ = head().posed(pose, code)
        # The reference goes on with half a pixel of black around the picture, the other does not look there.
        seen, wanted = (np.pad(random.normal(0, 20, (56, 56)), 4).astype(np.float32) for _ in range(2))
        found = registration._normal_equations(view, pose, front.means, seen, wanted)
        expected = registration.reference_normal_equations(view, pose, front.means, seen, wanted)
    for part, reference in zip(found, expected, strict=True):
        assert reference.abs().max() > 0
        # Each unknown has its own unit: compared as correlations are.
        unit = expected[0].diagonal().sqrt()
        unit = torch.outer(unit, unit) if part.dim() == 2 else unit * reference.abs().max() / unit.max()
        assert ((part - reference).abs() / unit).max() < 2e-4
