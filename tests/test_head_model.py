"""Bones, skinning and fusion of the head model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from tiny_head import CODES, FIELD, INTRINSICS, bones, tiny_head
from torch import Tensor

from render.head_model import (
    LARGEST_NECK_CODE,
    BonePose,
    Branch,
    CanonicalGaussians,
    HeadModel,
    Intrinsics,
    concatenate,
    empty_head_model,
    fuse,
    left_multiplication,
    relative_pose,
)
from render.motion import MotionField
from render.rasterize import RenderOutput

COUNT = 20
REST = BonePose(torch.eye(3), torch.zeros(3), torch.eye(3), torch.zeros(3))


def rotation(*degrees: float) -> Tensor:
    return torch.tensor(Rotation.from_euler("xyz", degrees, degrees=True).as_matrix(), dtype=torch.float32)


TURNED = BonePose(rotation(10, 40, -20), torch.tensor([0.1, 0.2, 3.0]), rotation(-30, 5, 8), torch.tensor([1.0, 0, 4]))


def random_branch(skinning: float = 0.0) -> Branch:
    torch.manual_seed(0)
    start = CanonicalGaussians(
        torch.randn(COUNT, 3), torch.randn(COUNT, 3) - 3, torch.randn(COUNT, 3), torch.full((COUNT,), skinning)
    )
    branch = Branch(start, MotionField(torch.zeros(COUNT, 3, 1), torch.ones(COUNT, 1), 1.0, FIELD))
    torch.nn.init.normal_(branch.quats)
    return branch


def covariances(quats: Tensor, scales: Tensor) -> Tensor:
    """[N, 3, 3], by scipy's rotations."""
    turns = torch.tensor(Rotation.from_quat(quats.detach().numpy()[:, [1, 2, 3, 0]]).as_matrix())
    axes = turns * scales.detach().double()[:, None]
    return axes @ axes.transpose(1, 2)


# --- bones ---


def test_in_the_rest_pose_gaussians_are_the_canonical_ones() -> None:
    branch = random_branch()
    posed = branch.pose(REST, torch.zeros(1))
    assert torch.allclose(posed.means, branch.means, atol=1e-6)
    assert torch.allclose(covariances(posed.quats, posed.scales), covariances(branch.quats, branch.log_scales.exp()))
    assert torch.equal(posed.opacities, torch.full((COUNT,), 0.5))
    assert torch.allclose(posed.colors, torch.sigmoid(branch.color_logits), rtol=1e-6, atol=0)


@pytest.mark.parametrize("bone", ["head", "torso"])
def test_a_gaussian_of_one_bone_moves_rigidly_with_it(bone: str) -> None:
    branch = random_branch(skinning=-50.0 if bone == "head" else 50.0)
    turn, shift = getattr(TURNED, f"{bone}_rotation"), getattr(TURNED, f"{bone}_translation")
    posed = branch.pose(TURNED, torch.zeros(1))
    assert torch.allclose(posed.means, branch.means @ turn.T + shift, atol=1e-5)
    canonical = covariances(branch.quats, branch.log_scales.exp())
    expected = turn.double() @ canonical @ turn.T.double()
    assert torch.allclose(covariances(posed.quats, posed.scales), expected, rtol=1e-4, atol=1e-6)


def test_skinning_blends_between_the_bones() -> None:
    head, torso, half = (random_branch(logit).pose(TURNED, torch.zeros(1)) for logit in (-50.0, 50.0, 0.0))
    assert torch.allclose(half.means, (head.means + torso.means) / 2, atol=1e-5)
    apart = (Rotation.from_quat(posed.quats.detach().numpy()[:, [1, 2, 3, 0]]) for posed in (head, half, torso))
    first, middle, last = apart
    whole = (first.inv() * last).magnitude()
    assert (first.inv() * middle).magnitude() == pytest.approx(whole / 2, abs=1e-4)


def test_bones_and_skinning_get_gradients() -> None:
    branch = random_branch()
    pose = BonePose(*(part.clone().requires_grad_() for part in vars(TURNED).values()))
    posed = branch.pose(pose, torch.zeros(1))
    (posed.means.sin().sum() + posed.quats.sin().sum()).backward()
    for tensor in (*vars(pose).values(), branch.skinning_logits, branch.means, branch.quats):
        assert tensor.grad.abs().max() > 0


@pytest.mark.parametrize("degrees", [(0, 0, 0), (30, 0, 0), (-20, 60, 45), (170, 0, 0), (0, -179, 0)])
def test_left_multiplication_turns_quaternions_as_scipy_does(degrees: tuple[float, ...]) -> None:
    quats = torch.nn.functional.normalize(torch.randn(10, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    turned = quats @ left_multiplication(rotation(*degrees)).T
    expected = Rotation.from_matrix(rotation(*degrees).numpy()) * Rotation.from_quat(quats.numpy()[:, [1, 2, 3, 0]])
    difference = Rotation.from_quat(turned.numpy()[:, [1, 2, 3, 0]]).inv() * expected
    assert difference.magnitude().max() < 1e-2 if max(map(abs, degrees)) > 175 else difference.magnitude().max() < 1e-4


def test_left_multiplication_is_differentiable_without_a_turn() -> None:
    turn = torch.eye(3, requires_grad=True)
    left_multiplication(turn)[1, 0].backward()
    assert bool(torch.isfinite(turn.grad).all()) and turn.grad.abs().max() > 0


# --- expression ---


def test_an_expression_moves_gaussians_before_the_bones_do() -> None:
    branch = random_branch(skinning=-50.0)
    branch.field = MotionField(torch.randn(COUNT, 3, CODES), torch.ones(COUNT, CODES), 1.0, FIELD)
    code = torch.randn(CODES)
    moved = (branch.means + branch.field.basis @ code) @ TURNED.head_rotation.T + TURNED.head_translation
    assert torch.allclose(branch.pose(TURNED, code).means, moved, atol=1e-5)


def test_motion_does_not_drag_the_canonical_position_along() -> None:
    """Position features are read where a Gaussian is, without a gradient back into where it is."""
    branch = random_branch(skinning=-50.0)
    branch.field = MotionField(torch.zeros(COUNT, 3, CODES), torch.ones(COUNT, CODES), 1.0, FIELD)
    torch.nn.init.normal_(branch.field.output_layer.weight)
    branch.pose(REST, torch.ones(CODES)).means.sum().backward()
    assert torch.allclose(branch.means.grad, torch.ones(COUNT, 3), atol=1e-5)
    assert branch.field.planes.planes.grad.abs().max() > 0


def test_a_baked_model_renders_the_same() -> None:
    model, code = tiny_head(), torch.randn(CODES, generator=torch.Generator().manual_seed(0))
    for branch in (model.face, model.mouth):
        torch.nn.init.normal_(branch.field.output_layer.weight, std=0.1)
    with torch.no_grad():
        before = model.render(bones(1), code, INTRINSICS.camera())
        model.bake()
        after = model.render(bones(1), code, INTRINSICS.camera())
    assert torch.equal(before.rgb, after.rgb) and torch.equal(before.alpha, after.alpha)


# --- batches of frames ---


@pytest.mark.filterwarnings("error")  # torch warns where it would work frame by frame after all
@pytest.mark.parametrize("is_baked", [False, True])
def test_a_batch_is_posed_and_rendered_as_its_frames(is_baked: bool) -> None:
    """In plain torch, the frames alone in the pass for processors."""
    model = swaying_head()
    for branch in (model.face, model.mouth):
        torch.nn.init.normal_(branch.field.output_layer.weight, std=0.3)
    if is_baked:
        model.bake()
    poses = [*map(bones, range(3)), turned_head(5, 30, -10)]
    codes = torch.randn(len(poses), CODES, generator=torch.Generator().manual_seed(0))
    together = BonePose(*map(torch.stack, zip(*(vars(pose).values() for pose in poses), strict=True)))
    with torch.inference_mode():
        batch, camera = model.posed(together, codes), INTRINSICS.camera()
        alone = [model.posed(pose, code) for pose, code in zip(poses, codes, strict=True)]
        images = model.render(together, codes, camera)
        assert images.rgb.shape == (len(poses), 3, camera.height, camera.width)
        for index, (pose, code) in enumerate(zip(poses, codes, strict=True)):
            image = model.render(pose, code, camera)
            torch.testing.assert_close(images.rgb[index], image.rgb, atol=1e-3, rtol=0)
            torch.testing.assert_close(images.alpha[index], image.alpha, atol=1e-3, rtol=0)
    for layer, frames in zip(batch, zip(*alone, strict=True), strict=True):
        assert layer.is_batch and len(layer) == len(frames[0])
        for name, tensor in vars(layer).items():
            expected = torch.stack([getattr(frame, name) for frame in frames])
            torch.testing.assert_close(tensor, expected, atol=1e-5, rtol=1e-4)


# --- camera and fusion ---


@pytest.mark.parametrize("side", [32, 64, 257])
def test_a_camera_of_another_resolution_sees_the_same(side: int) -> None:
    camera = Intrinsics(focal=130.0, resolution=64).camera(side)
    assert (camera.width, camera.height) == (side, side)
    pixel = camera.intrinsic_matrix @ torch.tensor([0.3, -0.2, 1.0])
    reference = Intrinsics(focal=130.0, resolution=64).camera().intrinsic_matrix @ torch.tensor([0.3, -0.2, 1.0])
    assert torch.allclose(pixel[:2] * 64 / side, reference[:2], atol=1e-4)


def layer(seed: int) -> RenderOutput:
    generator = torch.Generator().manual_seed(seed)
    alpha = torch.rand(6, 5, generator=generator, dtype=torch.float64)
    return RenderOutput(torch.rand(3, 6, 5, generator=generator, dtype=torch.float64) * alpha, alpha)


def test_fusing_is_associative_alpha_compositing() -> None:
    a, b, c = layer(0), layer(1), layer(2)
    left, right = fuse(fuse(a, b), c), fuse(a, fuse(b, c))
    assert torch.allclose(left.rgb, right.rgb) and torch.allclose(left.alpha, right.alpha)
    background = torch.rand(3, 6, 5, dtype=torch.float64)
    assert torch.allclose(fuse(a, b).over(background), a.over(b.over(background)))


def test_nothing_and_everything_in_front() -> None:
    clear, solid = replace(layer(0), rgb=torch.zeros(3, 6, 5), alpha=torch.zeros(6, 5)), layer(1)
    solid = replace(solid, alpha=torch.ones(6, 5, dtype=torch.float64))
    assert torch.equal(fuse(clear, layer(2)).rgb, layer(2).rgb)
    assert torch.equal(fuse(solid, layer(2)).rgb, solid.rgb)


def test_the_mouth_lies_under_the_face() -> None:
    model, code = tiny_head(), torch.zeros(CODES)
    with torch.no_grad():
        front, mouth = model.render_branches(bones(0), code, INTRINSICS.camera())
        whole = model.render(bones(0), code, INTRINSICS.camera())
    assert mouth.alpha.max() > 0.1 and front.alpha.max() > 0.5
    assert torch.equal(whole.rgb, front.rgb + (1 - front.alpha) * mouth.rgb)


def test_concatenated_gaussians_keep_their_order() -> None:
    first, second = (random_branch(logit).pose(TURNED, torch.zeros(1)) for logit in (-50.0, 50.0))
    both = concatenate(first, second)
    for name, tensor in vars(both).items():
        assert torch.equal(tensor, torch.cat([getattr(first, name), getattr(second, name)])), name


def test_an_empty_model_takes_the_tensors_of_a_fitted_one() -> None:
    model = tiny_head()
    sizes = len(model.face), len(model.body), len(model.mouth)
    empty = empty_head_model(*sizes, CODES, INTRINSICS, FIELD)
    empty.load_state_dict(model.state_dict())
    code = torch.ones(CODES)
    with torch.no_grad():
        first, second = (each.render(bones(1), code, INTRINSICS.camera()) for each in (model, empty))
    assert torch.equal(first.rgb, second.rgb) and len(empty) == sum(sizes)


# --- the body's own motion ---


def turned_head(*degrees: float) -> BonePose:
    """The head of frame 1 turned on a torso that stays."""
    pose = bones(1)
    return replace(pose, head_rotation=rotation(*degrees) @ pose.head_rotation)


def swaying_head() -> HeadModel:
    """A head whose body has learned some motion."""
    model = tiny_head().requires_grad_(False)
    model.learn_neck_range(bones(index) for index in range(6))
    torch.manual_seed(0)
    torch.nn.init.normal_(model.body.field.output_layer.weight, std=0.3)
    return model


def test_the_relative_pose_is_that_of_the_head_on_the_torso() -> None:
    expected = Rotation.from_matrix((TURNED.torso_rotation.T @ TURNED.head_rotation).numpy())
    turn = relative_pose(TURNED)[:3]
    half_angle = expected.magnitude() / 2
    assert np.allclose(turn.numpy() / np.sin(half_angle) * half_angle, expected.as_rotvec(), atol=1e-5)
    moved = TURNED.torso_rotation @ relative_pose(TURNED)[3:] + TURNED.torso_translation
    assert torch.allclose(moved, TURNED.head_translation, atol=1e-5)


def test_moving_head_and_torso_together_changes_no_neck_code() -> None:
    model, pose = swaying_head(), bones(2)
    turn, shift = rotation(10, -20, 5), torch.tensor([0.3, -0.1, 0.5])
    together = BonePose(
        turn @ pose.head_rotation,
        turn @ pose.head_translation + shift,
        turn @ pose.torso_rotation,
        turn @ pose.torso_translation + shift,
    )
    assert torch.allclose(model.neck_code(pose), model.neck_code(together), atol=1e-4)


def test_neck_codes_of_the_footage_have_zero_mean_and_unit_spread_and_others_are_held() -> None:
    model = swaying_head()
    codes = torch.stack([model.neck_code(bones(index)) for index in range(6)])
    assert codes.mean(0).abs().max() < 1e-4
    assert torch.allclose(codes[:, :3].std(0, correction=0), torch.ones(3), atol=1e-3)
    assert codes[:, 3:].abs().max() < 1e-3  # it never shifts: noise is not blown up
    assert model.neck_code(turned_head(0, 80, 0)).abs().max() == LARGEST_NECK_CODE


def test_the_body_follows_the_head_and_the_face_does_not_follow_the_torso() -> None:
    model, code = swaying_head(), torch.zeros(CODES)
    still, turned = (model.posed(pose, code)[0].means for pose in (bones(1), turned_head(0, 10, 0)))
    free = torch.nonzero(torch.sigmoid(model.body.skinning_logits) > 0.95)[:, 0] + len(model.face)
    assert len(free) and (turned - still)[free].abs().max() > 1e-3  # the torso's bone stayed, its hair and collar moved
    model.body.field.output_layer.weight.zero_()
    still, turned = (model.posed(pose, code)[0].means for pose in (bones(1), turned_head(0, 10, 0)))
    assert (turned - still)[free].abs().max() < 0.05 * (turned - still)[: len(model.face)].abs().max()


def test_the_body_keeps_its_colors_whatever_the_head_does() -> None:
    model, code = swaying_head(), torch.zeros(CODES)
    still, turned = (model.posed(pose, code)[0] for pose in (bones(1), turned_head(0, 20, 0)))
    assert torch.equal(still.colors[len(model.face) :], turned.colors[len(model.face) :])
    assert torch.equal(still.scales[len(model.face) :], turned.scales[len(model.face) :])
