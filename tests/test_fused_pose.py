"""The pose in one fused pass: the values and gradients of plain torch in float64."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

import render.rasterize
from render.gaussians import Gaussians
from render.head_model import BonePose, Branch, CanonicalGaussians
from render.motion import MotionField, MotionFieldConfig
from render.rasterize import BackendStatus

TOLERANCE = 1e-5
"""Of the largest value: some ten roundings of a float32 and, in sums, many more of terms of either sign."""
KINDS = {"face": {}, "body": {"rigid": True}, "mouth": {"keeps_order": True}}


def rotation(*degrees: float) -> Tensor:
    return torch.tensor(Rotation.from_euler("xyz", degrees, degrees=True).as_matrix(), dtype=torch.float32)


TURNED = BonePose(rotation(10, 40, -20), torch.tensor([0.1, 0.2, 6]), rotation(-30, 5, 8), torch.tensor([1.0, 0, 8]))
UPRIGHT = BonePose(torch.eye(3), torch.tensor([0.0, 0, 6]), torch.eye(3), torch.tensor([0.0, 0, 6]))


def random_branch(count: int, codes: int, rigid: bool = False, keeps_order: bool = False) -> Branch:
    """A branch in which nothing is at its start value, nor equal to anything else."""
    torch.manual_seed(count)
    start = CanonicalGaussians(
        torch.randn(count, 3), torch.randn(count, 3) - 3, torch.randn(count, 3), torch.randn(count)
    )
    field = MotionField(
        0.1 * torch.randn(count, 3, codes),
        torch.rand(count, codes),
        1.5,
        MotionFieldConfig(plane_resolution=8, plane_channels=2, hidden=8),
        rigid=rigid,
        mobility=torch.rand(count),
    )
    branch = Branch(start, field, keeps_order)
    for parameter in (*field.parameters(), branch.quats, branch.opacity_logits):
        torch.nn.init.normal_(parameter)
    return branch


def in_double(branch: Branch, bones: BonePose, code: Tensor) -> tuple[Branch, BonePose, Tensor]:
    return copy.deepcopy(branch).double(), BonePose(*(part.double() for part in vars(bones).values())), code.double()


def posed_with_gradients(branch: Branch, bones: BonePose, code: Tensor) -> tuple[Gaussians, dict[str, Tensor]]:
    """The pose, and the gradients of a random weighting of all that it consists of."""
    inputs = {name: part.clone().requires_grad_() for name, part in (*vars(bones).items(), ("code", code))}
    posed = branch.pose(BonePose(*list(inputs.values())[:4]), inputs["code"])
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(part.shape, generator=generator).to(part) for part in vars(posed).values()]
    inputs |= dict(branch.named_parameters())
    gradients = torch.autograd.grad(list(vars(posed).values()), list(inputs.values()), weights)
    return posed, dict(zip(inputs, gradients, strict=True))


def assert_alike(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, exact in expected.items():
        error = (found[name] - exact).abs().max()
        assert error <= TOLERANCE * exact.abs().max(), f"{name}: off by {error:.1e}, largest {exact.abs().max():.1e}"
        assert exact.abs().max() > 0, f"{name}: nothing to compare"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 16, 39, 1000])
@pytest.mark.parametrize("codes", [1, 6, 18])
def test_values_and_all_gradients_are_those_of_plain_torch(kind: str, count: int, codes: int) -> None:
    inputs = random_branch(count, codes, **KINDS[kind]), TURNED, torch.randn(codes)
    (found, found_gradients), (expected, expected_gradients) = (
        posed_with_gradients(*each) for each in (inputs, in_double(*inputs))
    )
    assert all(part.dtype == torch.float32 and len(part) == count for part in vars(found).values())
    assert_alike(vars(found), vars(expected))
    assert_alike(found_gradients, expected_gradients)


def test_bones_without_a_turn() -> None:
    inputs = random_branch(21, 3, keeps_order=True), UPRIGHT, torch.randn(3)
    (found, found_gradients), (expected, expected_gradients) = (
        posed_with_gradients(*each) for each in (inputs, in_double(*inputs))
    )
    assert_alike(vars(found), vars(expected))
    assert_alike(found_gradients, expected_gradients)


@pytest.mark.parametrize("kind", KINDS)
def test_baked_terms_pose_the_same_without_gradients(kind: str) -> None:
    branch, code = random_branch(39, 4, **KINDS[kind]), torch.randn(4)
    exact, bones, exact_code = in_double(branch, TURNED, code)
    with torch.no_grad():
        expected = exact.pose(bones, exact_code)
        branch.bake()
        assert_alike(vars(branch.pose(TURNED, code)), vars(expected))


def test_no_gaussians_are_no_error() -> None:
    posed, gradients = posed_with_gradients(random_branch(0, 4), TURNED, torch.randn(4))
    assert posed.means.shape == (0, 3) and posed.opacities.shape == (0,)
    assert all(bool((gradient == 0).all()) for gradient in gradients.values())


def test_only_what_asks_for_gradients_gets_them() -> None:
    branch, code = random_branch(20, 4).requires_grad_(False), torch.randn(4)
    assert not branch.pose(TURNED, code).means.requires_grad
    branch.quats.requires_grad_()
    branch.pose(TURNED, code).quats.sum().backward()
    assert branch.quats.grad.abs().max() > 0
    assert all(part.grad is None for name, part in branch.named_parameters() if name != "quats")


@pytest.mark.parametrize("value", [float("nan"), 100.0, -100.0])
def test_what_is_too_large_or_no_number_stays_so(value: float) -> None:
    """The rasterizer leaves out what is not finite; a scale that is no number must not come out as one."""
    branch = random_branch(20, 2, rigid=True).requires_grad_(False)
    branch.log_scales[3] = branch.color_logits[3] = branch.opacity_logits[3] = value
    posed = branch.pose(TURNED, torch.zeros(2))
    for found, limits in ((posed.scales, (1e-37, 1e37)), (posed.colors, (0, 1)), (posed.opacities, (0, 1))):
        if value != value:
            assert bool(found[3].isnan().all())
        elif value > 0:
            assert bool((found[3] >= limits[1]).all())
        else:
            assert bool((found[3] <= limits[0] + 1e-37).all())
        assert bool(found[[*range(3), *range(4, 20)]].isfinite().all())


def test_a_quaternion_of_length_zero_spoils_nothing() -> None:
    branch = random_branch(20, 2, rigid=True)
    branch.quats.data[19] = 0  # the last is what fills up a block of sixteen
    posed, gradients = posed_with_gradients(branch, TURNED, torch.randn(2))
    assert bool((posed.quats[19] == 0).all())
    assert all(bool(gradient.isfinite().all()) for gradient in gradients.values())


def test_float32_on_a_processor_is_fused_and_all_else_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_fused(*inputs: object) -> bool:
        return type(inputs[0].pose(*inputs[1:]).opacities.grad_fn).__name__ == "_PoseBackward"

    inputs = random_branch(20, 4), TURNED, torch.randn(4)
    assert is_fused(*inputs)
    assert not is_fused(*in_double(*inputs))
    monkeypatch.setattr(render.rasterize, "_numba_status", lambda: BackendStatus("numba", False, "not installed"))
    assert not is_fused(*inputs)


def test_many_threads_pose_the_same_as_one() -> None:
    branch = random_branch(5000, 8, keeps_order=True).requires_grad_(False)
    branch.bake()
    codes = torch.randn(24, 8)
    alone = [Gaussians(*(part.clone() for part in vars(branch.pose(TURNED, code)).values())) for code in codes]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda code: branch.pose(TURNED, code), codes))
    for first, second in zip(alone, together, strict=True):
        assert all(torch.equal(*pair) for pair in zip(vars(first).values(), vars(second).values(), strict=True))
