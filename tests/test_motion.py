"""Tri-planes and motion fields: what a new field does, and what no training can make it do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from render.motion import MotionField, MotionFieldConfig
from render.planes import TriPlane

CONFIG = MotionFieldConfig(plane_resolution=8, plane_channels=3, hidden=16)
COUNT, CODES = 30, 4


def random_field(reach: Tensor | None = None, trained: bool = False) -> tuple[MotionField, Tensor]:
    """A field and the points it is asked about."""
    torch.manual_seed(0)
    reach = torch.rand(COUNT, CODES) if reach is None else reach
    field = MotionField(torch.randn(COUNT, 3, CODES), reach, 1.5, CONFIG)
    if trained:
        torch.nn.init.normal_(field.output_layer.weight)
        torch.nn.init.normal_(field.output_layer.bias)
    return field, torch.rand(COUNT, 3) * 2 - 1


# --- planes ---


def test_planes_are_read_bilinearly_along_the_right_axes() -> None:
    planes = TriPlane(resolution=5, channels=1, extent=2.0)
    with torch.no_grad():
        ramp = torch.linspace(-2, 2, 5)
        for plane, (across, down) in zip(planes.planes, ((1, 10), (100, 1000), (1e4, 1e5)), strict=True):
            plane[0] = across * ramp[None, :] + down * ramp[:, None]
    points = torch.rand(20, 3, generator=torch.Generator().manual_seed(0)) * 4 - 2
    x, y, z = points.T
    expected = torch.stack([x + 10 * y, 100 * x + 1000 * z, 1e4 * y + 1e5 * z], 1)
    assert planes.size == 3
    assert torch.allclose(planes(points), expected, rtol=1e-4, atol=1e-2)


def test_points_outside_read_the_border() -> None:
    torch.manual_seed(0)
    planes = TriPlane(resolution=4, channels=2, extent=1.0)
    assert torch.allclose(planes(torch.tensor([[9.0, -9.0, 0.3]])), planes(torch.tensor([[1.0, -1.0, 0.3]])))


def test_channels_of_a_plane_stay_together() -> None:
    torch.manual_seed(0)
    planes = TriPlane(resolution=4, channels=2, extent=1.0)
    with torch.no_grad():
        planes.planes[1] = 0  # the xz plane
    features = planes(torch.rand(5, 3))
    assert features.shape == (5, 6) and bool((features[:, 2:4] == 0).all())
    assert bool((features[:, [0, 1, 4, 5]] != 0).all())


# --- motion ---


def test_a_new_field_is_exactly_the_meshs_motion() -> None:
    field, points = random_field()
    code = torch.randn(CODES)
    deltas = field(field.position_terms(points), code)
    assert torch.equal(deltas.means, field.basis @ code)
    assert all(bool((part == 0).all()) for part in (deltas.quats, deltas.log_scales, deltas.color_logits))


def test_a_new_field_can_learn_everything() -> None:
    """Zero output is no dead end: after one step of its last layer, every parameter gets a gradient."""
    field, points = random_field()
    for _ in range(2):
        deltas = field(field.position_terms(points), torch.ones(CODES))
        sum(part.sin().sum() for part in vars(deltas).values()).backward()
        with torch.no_grad():
            field.output_layer.weight -= 0.1 * field.output_layer.weight.grad + 0.01
    assert all(parameter.grad.abs().max() > 0 for parameter in field.parameters())


def test_a_code_does_nothing_beyond_its_reach() -> None:
    reach = torch.ones(COUNT, CODES)
    far = torch.arange(COUNT) < 10
    reach[far, 2:] = 0  # the upper codes do not reach the first points
    field, points = random_field(reach, trained=True)
    field.basis[far, :, 2:] = 0
    terms = field.position_terms(points)
    rest, blink = torch.zeros(CODES), torch.tensor([0.0, 0.0, 3.0, -2.0])
    before, after = field(terms, rest), field(terms, blink)
    for name in vars(before):
        change = (getattr(after, name) - getattr(before, name)).abs().amax(1)
        assert change[far].max() == 0, name
        assert change[~far].min() > 0, name


def test_what_no_code_reaches_never_changes() -> None:
    reach = torch.rand(COUNT, CODES)
    reach[5] = 0
    field, points = random_field(reach, trained=True)
    field.basis[5] = 0
    deltas = field(field.position_terms(points), torch.randn(CODES))
    assert all(bool((part[5] == 0).all()) for part in vars(deltas).values())


def test_attention_is_bounded_by_the_reach() -> None:
    field, points = random_field()
    with torch.no_grad():
        field.attention_layer.bias += 100
    terms = field.position_terms(points)
    assert torch.allclose(terms.attention, field.reach)
    assert torch.equal(terms.anywhere[:, 0], field.reach.max(1).values)


@pytest.mark.parametrize("name", ["basis", "reach"])
def test_a_field_keeps_its_own_copy(name: str) -> None:
    given = {"basis": torch.ones(2, 3, CODES), "reach": torch.ones(2, CODES)}
    field = MotionField(given["basis"], given["reach"], 1.0, CONFIG)
    given[name].zero_()
    assert bool((getattr(field, name) == 1).all())


def test_what_is_immobile_is_moved_by_the_mesh_alone_and_lit_like_the_rest() -> None:
    torch.manual_seed(0)
    mobility = torch.cat([torch.zeros(COUNT // 2), torch.ones(COUNT - COUNT // 2)])
    field = MotionField(torch.randn(COUNT, 3, CODES), torch.ones(COUNT, CODES), 1.5, CONFIG, mobility=mobility)
    torch.nn.init.normal_(field.output_layer.weight)
    code, still = torch.randn(CODES), mobility == 0
    deltas = field(field.position_terms(torch.rand(COUNT, 3)), code)
    assert torch.equal(deltas.means[still], (field.basis @ code)[still])
    assert deltas.quats[still].abs().max() == 0 and deltas.log_scales[still].abs().max() == 0
    assert deltas.color_logits[still].abs().min() > 0
    assert (deltas.means - field.basis @ code)[~still].abs().amax(1).min() > 0


def test_a_rigid_field_moves_and_changes_nothing_else() -> None:
    torch.manual_seed(0)
    field = MotionField(torch.zeros(COUNT, 3, CODES), torch.ones(COUNT, CODES), 1.5, CONFIG, rigid=True)
    torch.nn.init.normal_(field.output_layer.weight)
    deltas = field(field.position_terms(torch.rand(COUNT, 3)), torch.randn(CODES))
    assert deltas.means.abs().amax(1).min() > 0
    assert deltas.quats is None and deltas.log_scales is None and deltas.color_logits is None
