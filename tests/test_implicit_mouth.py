"""The implicit mouth: where it is, how it is sampled, that it learns a moving picture and shows it from elsewhere."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import islice

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from tiny_head import (
    CONFIG,
    FIELD,
    INTRINSICS,
    SIZES,
    background,
    bones,
    face_mesh,
    painted_head,
    reference_view,
    rendered_frames,
    targets,
    tiny_head,
)
from tiny_head import SIDE as SIDE_OF_HEAD
from torch import Tensor

from render.cameras import Camera
from render.fitting import HeadFitter
from render.head_model import HeadModel, Intrinsics, empty_head_model
from render.implicit_mouth import (
    HIDDEN,
    PLACE_BANDS,
    SOFT_EDGE,
    TIME_BANDS,
    ImplicitMouth,
    PosedSheet,
    area_weights,
    encoded,
    sampling_grid,
    time_stamps,
)
from render.losses import LossTarget, reference_picture_loss
from render.mouth_view import MouthView, in_view, mouth_camera, part_of, render_mouths
from render.rasterize import RenderOutput
from render.registration import Registration, RegistrationConfig
from render.seeding import seed_head_model

SIDE, CODES, LOWER = 48, 4, 2
REACH = torch.tensor([1.0, 1.0, 0.0, 0.0])
MIDDLE_POINT, HALF_SIZE = torch.tensor([0.05, 0.3, -0.1]), torch.tensor([0.5, 0.35])
CAMERA = Intrinsics(4.0 * SIDE, SIDE).camera()
STEPS = 250
STEP = 1e-9
"""Of finite differences: small, for each rectifier that is passed is a kink."""


def mouth(seed: int = 0) -> ImplicitMouth:
    """A sheet whose network says something."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = ImplicitMouth(MIDDLE_POINT, HALF_SIZE, REACH)
        torch.nn.init.normal_(made.field.output_layer.weight, std=0.5)
    return made


def posed(yaw: float = 0.0, pitch: float = 0.0, code: Tensor | None = None, time: float = 0.5) -> PosedSheet:
    """The head 4 units away, turned by degrees."""
    rotation = Rotation.from_euler("yx", [yaw, pitch], degrees=True).as_matrix()
    shift = torch.tensor([0.1, -0.3, 4.0])
    code = torch.zeros(CODES) if code is None else code
    return PosedSheet(torch.tensor(rotation, dtype=torch.float32), shift, code, torch.tensor(time))


def in_double(sheet: PosedSheet) -> PosedSheet:
    return PosedSheet(*(tensor.double() for tensor in vars(sheet).values()))


def nothing(camera: Camera = CAMERA) -> RenderOutput:
    """A face that hides nothing."""
    return RenderOutput(torch.zeros(3, camera.height, camera.width), torch.zeros(camera.height, camera.width))


def drawn(sheet: PosedSheet, made: ImplicitMouth | None = None, camera: Camera = CAMERA) -> RenderOutput:
    made = mouth() if made is None else made
    return made.layer(sheet, nothing(camera), camera, "auto", None)


def turned_camera() -> Camera:
    """One with two focal lengths, turned about its axis, as those of the small pictures of the mouth."""
    turn = np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    onto = np.concatenate([np.diag([1.3, 0.7]) @ turn, [[-3.0], [5.0]]], axis=1)
    return mouth_camera(Intrinsics(4.0 * SIDE, SIDE), onto, (24, 40), torch.device("cpu"))


# --- where it is (Eq. 3-5) ---


@pytest.mark.parametrize("camera", [CAMERA, Intrinsics(4.0 * SIDE, SIDE).camera(SIDE // 2), turned_camera()])
@pytest.mark.parametrize("pose", [(0.0, 0.0), (25.0, -10.0), (-40.0, 15.0)])
def test_rays_meet_the_sheet_where_its_points_are_projected(camera: Camera, pose: tuple[float, float]) -> None:
    sheet = in_double(posed(*pose))
    known = torch.rand(30, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
    head = MIDDLE_POINT.double() + torch.cat([known * HALF_SIZE, torch.zeros(30, 1)], 1)
    world = head @ sheet.rotation.T + sheet.translation
    view = camera.world_to_camera.double()
    seen = world @ view[:3, :3].T + view[:3, 3]
    across = camera.fx * seen[:, 0] / seen[:, 2] + camera.cx
    down = camera.fy * seen[:, 1] / seen[:, 2] + camera.cy
    exact = mouth().double()
    found = exact.places(sheet, replace(camera, world_to_camera=view), torch.stack([down, across], 1))
    torch.testing.assert_close(found, known, atol=1e-9, rtol=0)


@pytest.mark.parametrize("pose", [(0.0, 0.0), (30.0, -20.0)])
@torch.no_grad()
def test_it_is_opaque_in_the_middle_and_ends_softly_at_its_edge(pose: tuple[float, float]) -> None:
    sheet, made = posed(*pose), mouth()
    layer = drawn(sheet, made)
    centres = torch.cartesian_prod(*(torch.arange(SIDE) + 0.5,) * 2)
    reach = made.places(sheet, CAMERA, centres).abs().amax(1).view(SIDE, SIDE)
    assert bool((layer.alpha[reach < 1 - SOFT_EDGE] == 1).all()) and bool((layer.alpha[reach >= 1] == 0).all())
    edge = layer.alpha[(reach > 1 - SOFT_EDGE) & (reach < 1)]
    assert len(edge) > 20 and edge.std() > 0.1 and edge.max() < 1
    assert bool((layer.rgb <= layer.alpha).all()), "premultiplied"
    assert int((layer.alpha > 0).sum()) > 200


@torch.no_grad()
def test_at_the_edge_of_the_picture_it_is_cut_off_and_outside_there_is_none() -> None:
    far = 2 * SIDE
    around = replace(CAMERA, cx=CAMERA.cx + far, cy=CAMERA.cy + far, width=SIDE + 2 * far, height=SIDE + 2 * far)
    whole, seen = drawn(posed(), camera=around), set()
    for shift in (0, 30, -30, 2 * SIDE):
        camera = replace(CAMERA, cx=CAMERA.cx + shift)
        layer = drawn(posed(), camera=camera)
        window = (..., slice(far, far + SIDE), slice(far - shift, far - shift + SIDE))
        torch.testing.assert_close(layer.alpha, whole.alpha[window], atol=1e-5, rtol=0)
        torch.testing.assert_close(layer.rgb, whole.rgb[window], atol=1e-4, rtol=0)
        seen.add(int((layer.alpha > 0).sum()))
    assert len(seen) == 4 and min(seen) == 0


@pytest.mark.parametrize("yaw", [90.0, 180.0, -120.0])
@torch.no_grad()
def test_from_the_side_and_from_behind_there_is_none(yaw: float) -> None:
    assert not drawn(posed(yaw)).alpha.any()


@torch.no_grad()
def test_a_sheet_of_wild_numbers_draws_nothing() -> None:
    for name, number in (("middle", torch.nan), ("half_size", torch.inf), ("middle", 1e30), ("half_size", 0.0)):
        made = mouth()
        getattr(made, name).fill_(number)
        layer = drawn(posed(), made)
        assert not layer.rgb.any() and not layer.alpha.any()


@torch.no_grad()
def test_a_batch_is_its_frames() -> None:
    made = mouth()
    alone = [posed(yaw, code=torch.full((CODES,), yaw / 20), time=yaw / 40) for yaw in (0.0, 20.0, 40.0, 180.0)]
    together = PosedSheet(*(torch.stack(part) for part in zip(*(vars(each).values() for each in alone), strict=True)))
    front = RenderOutput(torch.zeros(4, 3, SIDE, SIDE), torch.zeros(4, SIDE, SIDE))
    batch = made.layer(together, front, CAMERA, "auto", None)
    for index, sheet in enumerate(alone):
        layer = drawn(sheet, made)
        torch.testing.assert_close(batch.rgb[index], layer.rgb, atol=1e-6, rtol=0)
        torch.testing.assert_close(batch.alpha[index], layer.alpha, atol=1e-6, rtol=0)


@torch.no_grad()
def test_where_the_face_hides_it_nothing_is_drawn_and_the_picture_is_the_same() -> None:
    front = nothing()
    front.alpha[: SIDE // 2] = 1.0
    front.alpha[SIDE // 2 :, ::2] = 0.5
    made, whole = mouth(), drawn(posed())
    part = made.layer(posed(), front, CAMERA, "auto", None)
    assert not part.alpha[: SIDE // 2].any() and whole.alpha[: SIDE // 2].any()
    torch.testing.assert_close(part.rgb[:, SIDE // 2 :], whole.rgb[:, SIDE // 2 :])
    with torch.enable_grad():  # where the face is to learn what it hides, all of it is
        torch.testing.assert_close(made.layer(posed(), front, CAMERA, "auto", None).rgb, whole.rgb)


# --- what it is a function of (Eq. 1) ---


def test_the_layers_of_the_network() -> None:
    field = mouth().field
    shapes = {name: list(parameter.shape) for name, parameter in field.named_parameters()}
    assert shapes == {
        "place_layer.weight": [HIDDEN, 2 + 4 * PLACE_BANDS],
        "place_layer.bias": [HIDDEN],
        "code_layer.weight": [HIDDEN, CODES],
        "time_layer.weight": [HIDDEN, 1 + 2 * TIME_BANDS],
        "hidden_layer.weight": [HIDDEN, HIDDEN],
        "hidden_layer.bias": [HIDDEN],
        "output_layer.weight": [3, HIDDEN],
        "output_layer.bias": [3],
    }


@torch.no_grad()
def test_the_colour_follows_place_lower_codes_and_time_and_not_the_upper_face() -> None:
    field, places = mouth().field, torch.rand(50, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    still = field(places, torch.zeros(CODES), torch.tensor(0.2))
    assert still.shape == (50, 3) and still.min() >= 0 and still.max() <= 1 and still.std() > 0.01
    code = torch.tensor([0.0, 1.0, 0.0, 0.0])
    assert (field(places, code, torch.tensor(0.2)) - still).abs().max() > 1e-3
    assert (field(places, torch.zeros(CODES), torch.tensor(0.9)) - still).abs().max() > 1e-3
    assert torch.equal(field(places, torch.tensor([0.0, 0.0, 5.0, -5.0]), torch.tensor(0.2)), still)


def test_a_new_one_has_one_colour() -> None:
    made = ImplicitMouth(MIDDLE_POINT, HALF_SIZE, REACH)
    with torch.no_grad():
        made.color_logits.copy_(torch.logit(torch.tensor([[0.2, 0.4, 0.6]])))
        colors = made.field(torch.rand(9, 2), torch.randn(CODES), torch.tensor(0.3))
    torch.testing.assert_close(colors, torch.tensor([0.2, 0.4, 0.6]).expand(9, 3))
    assert torch.equal(made.means, MIDDLE_POINT[None])


def test_encoded_numbers_are_sines_and_cosines_of_octaves() -> None:
    values = torch.tensor([[0.3, -0.8]], dtype=torch.float64)
    x, y = 0.3 * np.pi, -0.8 * np.pi
    sines = [np.sin(x), np.sin(2 * x), np.sin(y), np.sin(2 * y)]
    cosines = [np.cos(x), np.cos(2 * x), np.cos(y), np.cos(2 * y)]
    np.testing.assert_allclose(encoded(values, 2).numpy()[0], [0.3, -0.8, *sines, *cosines], atol=1e-12)


def test_time_stamps_are_shares_of_what_was_fitted_and_held_there() -> None:
    assert time_stamps(np.array([0, 50, 100, 130]), 101).tolist() == [0.0, 0.5, 1.0, 1.0]
    assert time_stamps([0, 3], 1).tolist() == [0.0, 1.0]
    assert time_stamps([2], 5).dtype == np.float32


# --- continuous sampling (Eq. 2) ---


def test_the_weights_of_a_rectangle_are_the_opposite_areas() -> None:
    """A pixel 3 from the left and 1 from the right, 1 from the top and 2 from the bottom: areas 3, 1, 6 and 2 of 12."""
    across = area_weights(torch.tensor([0.0, 4.0]), torch.tensor([3.0]))
    down = area_weights(torch.tensor([0.0, 3.0]), torch.tensor([1.0]))
    weights = down.T @ across  # of the corners: rows top and bottom, columns left and right
    torch.testing.assert_close(weights, torch.tensor([[2.0, 6.0], [1.0, 3.0]]) / 12)


def test_the_limits_of_the_weights() -> None:
    middle, at_corner = (area_weights(torch.tensor([0.0, 1.0]), torch.tensor([place])) for place in (0.5, 1.0))
    assert torch.equal(middle, torch.tensor([[0.5, 0.5]])) and torch.equal(at_corner, torch.tensor([[0.0, 1.0]]))


def test_every_pixel_lies_in_its_own_random_rectangle() -> None:
    like = torch.zeros((), dtype=torch.float64)
    grids = [sampling_grid(10, 40, torch.Generator().manual_seed(seed), like) for seed in range(50)]
    centres = torch.arange(10, 40) + 0.5
    sizes = []
    for edges, weights in grids:
        assert edges.shape == (31,) and weights.shape == (30, 31)
        assert bool((edges[:-1] <= centres).all()) and bool((centres <= edges[1:]).all())
        torch.testing.assert_close(weights @ edges, centres.double())  # a linear picture is sampled exactly
        torch.testing.assert_close(weights.sum(1), torch.ones(30, dtype=torch.float64))
        assert int((weights != 0).sum()) == 60
        sizes.append(edges.diff())
    spread = torch.stack(sizes)
    assert spread.min() < 0.1 and spread.max() > 1.9 and spread.mean().item() == pytest.approx(1, abs=0.02)
    again = sampling_grid(10, 40, torch.Generator().manual_seed(3), like)
    assert all(map(torch.equal, again, grids[3])) and not torch.equal(grids[3][0], grids[4][0])


@torch.no_grad()
def test_a_sampled_picture_is_the_weighted_mean_of_the_corners_of_each_pixel() -> None:
    made, sheet = mouth(), posed(20.0, -5.0)
    sampled = made.layer(sheet, nothing(), CAMERA, "auto", torch.Generator().manual_seed(4))
    generator = torch.Generator().manual_seed(4)
    rows, columns = made._window(sheet, CAMERA, torch.tensor(True))
    ys, xs = (sampling_grid(part.start, part.stop, generator, torch.zeros(()))[0] for part in (rows, columns))
    for row, column in ((30, 20), (24, 30), (18, 24)):
        y, x = row + 0.5, column + 0.5
        (top, bottom), (left, right) = (
            ends[place - part.start :][:2].tolist() for ends, place, part in ((ys, row, rows), (xs, column, columns))
        )
        corners = {(top, left): (bottom - y) * (right - x), (top, right): (bottom - y) * (x - left)}
        corners |= {(bottom, left): (y - top) * (right - x), (bottom, right): (y - top) * (x - left)}
        expected = torch.zeros(3)
        for corner, area in corners.items():
            color = made._drawn(sheet, CAMERA, torch.tensor([corner]))[:3, 0]
            expected += area / ((bottom - top) * (right - left)) * color
        torch.testing.assert_close(sampled.rgb[:, row, column], expected, atol=1e-5, rtol=0)


# --- it learns ---


def moving_picture(places: Tensor, code: Tensor, time: Tensor) -> Tensor:
    """Known colours [N, 3]: stripes that the code shifts, a blob that it opens, and light that changes with time."""
    across, down = places.unbind(-1)
    stripes = 0.5 + 0.3 * torch.sin(7 * across + 2 * code[0])
    blob = torch.sigmoid(8 * (0.4 + 0.2 * code[1] - (across**2 + 2 * down**2)))
    return torch.stack([stripes, 0.8 * blob + 0.1, (0.3 + 0.4 * time) * torch.ones_like(across)], -1)


def frame(index: int, yaw: float | None = None) -> PosedSheet:
    rng = np.random.default_rng(index)
    turn = rng.uniform(-15, 15, 2)
    code = torch.tensor(np.append(rng.uniform(-1, 1, LOWER), rng.normal(size=CODES - LOWER)), dtype=torch.float32)
    return posed(turn[0] if yaw is None else yaw, turn[1], code, float(rng.uniform(0, 1)))


def truth(sheet: PosedSheet, made: ImplicitMouth) -> Tensor:
    """[3, SIDE, SIDE] of each pixel's centre."""
    centres = torch.cartesian_prod(*(torch.arange(SIDE) + 0.5,) * 2)
    places = made.places(sheet, CAMERA, centres)
    return moving_picture(places, sheet.code, sheet.time).T.unflatten(-1, (SIDE, SIDE))


def test_it_learns_a_moving_picture_from_posed_views_and_shows_it_from_an_unseen_one() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = ImplicitMouth(MIDDLE_POINT, HALF_SIZE, REACH)
    optimizer = torch.optim.Adam(made.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, STEPS)
    for step in range(STEPS):
        sheet = frame(step)
        layer = made.layer(sheet, nothing(), CAMERA, "auto", torch.Generator().manual_seed(step))
        error = (layer.rgb - layer.alpha.detach() * truth(sheet, made)).abs().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        schedule.step()

    def error_at(sheet: PosedSheet, of: PosedSheet) -> float:
        with torch.no_grad():
            layer = drawn(sheet, made)
            inside = layer.alpha == 1
            return float((layer.rgb - truth(of, made))[:, inside].abs().mean())

    unseen = [frame(STEPS + index, yaw) for index, yaw in enumerate((30.0, -30.0, 24.0))]
    others = [replace(sheet, code=-sheet.code) for sheet in unseen]
    for sheet, other in zip(unseen, others, strict=True):
        assert error_at(sheet, sheet) < min(0.05, 0.5 * error_at(sheet, other))


def leaves() -> Iterator[str]:
    yield from ("rotation", "translation", "code", "camera")
    for name, _ in mouth().named_parameters():
        yield name


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("name", [*leaves()])
def test_gradients_agree_with_finite_differences(name: str, sampled: bool) -> None:
    made, sheet = mouth().double(), in_double(posed(20.0, -5.0, torch.tensor([0.5, -1.0, 0.3, 0.2]), 0.7))
    camera = replace(turned_camera(), world_to_camera=turned_camera().world_to_camera.double())
    inputs = {"rotation": sheet.rotation, "translation": sheet.translation, "code": sheet.code}
    inputs |= {"camera": camera.world_to_camera, **dict(made.named_parameters())}
    leaf = inputs[name].requires_grad_()
    front = RenderOutput(*(tensor.double() for tensor in vars(nothing(camera)).values()))
    weights = torch.randn(4, camera.height, camera.width, generator=torch.Generator().manual_seed(0)).double()

    def value() -> Tensor:
        corners = torch.Generator().manual_seed(9) if sampled else None
        layer = made.layer(sheet, front, camera, "auto", corners)
        return (torch.cat([layer.rgb, layer.alpha[None]]) * weights).sum()

    value().backward()
    direction = torch.randn(leaf.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    # Half along the gradient: anywhere alone would be all but orthogonal to it.
    direction = direction / direction.norm() + leaf.grad / leaf.grad.norm()
    if name == "camera":
        direction[3] = 0
    slopes = []
    for step in (STEP, -STEP):
        with torch.no_grad():
            leaf += step * direction
        with torch.enable_grad():
            slopes.append(float(value().detach()))
        with torch.no_grad():
            leaf -= step * direction
    slope = (slopes[0] - slopes[1]) / (2 * STEP)
    assert abs(slope) > 1e-6
    assert float((leaf.grad * direction).sum()) == pytest.approx(slope, rel=1e-4)


# --- in a head ---


def tiny_implicit_head(seed: int = 0) -> HeadModel:
    sizes = replace(SIZES, implicit_mouth=True)
    return seed_head_model(face_mesh(), reference_view(), INTRINSICS, sizes, FIELD, seed)


def implicit_fitter(model_seed: int = 0, **changes: object) -> HeadFitter:
    """A fit of the grey head with an implicit mouth to pictures of one with a Gaussian mouth."""
    config = replace(CONFIG, **changes)
    return HeadFitter(tiny_implicit_head(model_seed), targets(), pictures(), background(), config, seed=0)


pictures = cache(rendered_frames)


def test_the_sheet_lies_at_the_inner_lips_and_is_larger_than_they_open() -> None:
    mesh, made = face_mesh(), tiny_implicit_head().mouth
    ring = mesh.vertices[mesh.inner_lips]
    assert float(made.middle[2]) == pytest.approx(ring[:, 2].mean(), abs=1e-5)
    full = (made.half_size * (1 - SOFT_EDGE)).numpy()
    for sign in (-3, 3):
        opened = ring + sign * mesh.motion[:LOWER, mesh.inner_lips].sum(0) / np.sqrt(LOWER)
        assert (np.abs(opened[:, :2] - made.middle[:2].numpy()) < full).all()
    assert made.field.reach.tolist() == [1.0] * LOWER + [0.0] * (tiny_head_codes() - LOWER)


def tiny_head_codes() -> int:
    return face_mesh().motion.shape[0]


def test_face_and_body_start_as_with_gaussians_in_the_mouth() -> None:
    model, other = tiny_implicit_head(), tiny_head()
    assert list(model.branches) == ["face", "body"] and list(other.branches) == ["face", "body", "mouth"]
    for name, branch in model.branches.items():
        for key, tensor in branch.state_dict().items():
            assert torch.equal(tensor, other.branches[name].state_dict()[key]), (name, key)
    assert len(model) == len(model.face) + len(model.body) 


@torch.no_grad()
def test_an_empty_model_takes_the_tensors_of_a_fitted_one() -> None:
    model = tiny_implicit_head()
    torch.nn.init.normal_(model.mouth.field.output_layer.weight)
    empty = empty_head_model(len(model.face), len(model.body), None, model.code_size, INTRINSICS, FIELD)
    empty.load_state_dict(model.state_dict())
    code = torch.ones(model.code_size)
    first, second = (each.render(bones(1), code, INTRINSICS.camera(), time=0.3) for each in (model, empty))
    assert torch.equal(first.rgb, second.rgb)
    assert not torch.equal(model.render(bones(1), code, INTRINSICS.camera(), time=0.9).rgb, first.rgb)


@torch.no_grad()
def test_it_lies_under_the_face() -> None:
    model, code = tiny_implicit_head(), torch.zeros(tiny_head_codes())
    model.face.opacity_logits -= 3
    front, behind = model.render_branches(bones(0), code, INTRINSICS.camera())
    person = model.render(bones(0), code, INTRINSICS.camera())
    torch.testing.assert_close(person.rgb, front.rgb + (1 - front.alpha) * behind.rgb)
    assert behind.alpha.max() == 1
    model.bake()
    assert torch.equal(model.render(bones(0), code, INTRINSICS.camera()).rgb, person.rgb)


def finished(job: HeadFitter) -> dict[str, Tensor]:
    for _ in job.run():
        pass
    return job.to_tensors()


def test_a_fit_learns_it() -> None:
    job = implicit_fitter(steps=150)
    before = {name: tensor.clone() for name, tensor in job.model.mouth.state_dict().items()}
    losses = [event.loss for event in job.run()]
    assert np.mean(losses[-15:]) < 0.5 * np.mean(losses[:15])
    after = job.model.mouth.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if name.startswith("field.") and name != "field.reach"}


def test_an_interrupted_fit_goes_on_to_the_same_bits_and_another_seed_to_others() -> None:
    whole = finished(implicit_fitter())
    for stopped_after in (7, 13, 30):  # the second while frames are registered
        first = implicit_fitter()
        list(islice(first.run(), stopped_after))
        second = implicit_fitter(model_seed=5)  # whatever it started from is replaced
        second.restore({name: tensor.clone() for name, tensor in first.to_tensors().items()})
        again = finished(second)
        assert again.keys() == whole.keys()
        assert all(torch.equal(tensor, whole[name]) for name, tensor in again.items())
    assert "model.mouth.field.place_layer.weight" in whole and "pull.mouth" not in whole


@pytest.mark.parametrize("name", ["mouth.field.place_layer.weight", "mouth.field.output_layer.bias", "head_turn"])
def test_gradients_of_a_step_agree_with_finite_differences(name: str) -> None:
    """The float32 path that fits (Numba, fused loss) against differences of the float64 reference."""
    job = implicit_fitter()
    torch.manual_seed(0)
    torch.nn.init.normal_(job.model.mouth.field.output_layer.weight, std=0.3)
    job.model.face.opacity_logits.data -= 2  # the inside of the mouth is seen through it
    of_pose = name == "head_turn"
    job._loss(1, SIDE_OF_HEAD).backward()
    leaf = job.states.head_turn if of_pose else job.model.get_parameter(name)
    gradient = (leaf.grad[1] if of_pose else leaf.grad).double()
    model, states = copy.deepcopy(job.model).double(), copy.deepcopy(job.states).double()
    camera = INTRINSICS.camera()
    camera = replace(camera, world_to_camera=camera.world_to_camera.double())
    frame = pictures().load(1, SIDE_OF_HEAD)
    rows, columns = job._window(job._focus(frame))
    behind = torch.from_numpy(background()).permute(2, 0, 1) / 255
    target = LossTarget(*(torch.from_numpy(part) for part in vars(frame).values()), behind, rows, columns)
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(gradient.shape, generator=generator, dtype=torch.float64)
    direction = direction / direction.norm() + gradient / gradient.norm()

    @torch.no_grad()
    def moved(step: float) -> float:
        parameter = states.head_turn[1] if of_pose else model.get_parameter(name)
        parameter += step * direction
        corners = torch.Generator().manual_seed(hash((0, 2, 0)) % 2**31)
        inputs = states.pose(1), states.codes[1], camera, "torch", states.times[1], corners
        loss = float(reference_picture_loss(*model.render_branches(*inputs), target, job.config.loss))
        parameter -= step * direction
        return loss

    slope = (moved(1e-8) - moved(-1e-8)) / 2e-8
    assert float((gradient * direction).sum()) == pytest.approx(slope, rel=2e-2)


def test_pictures_for_judges_teach_its_network() -> None:
    model = tiny_implicit_head().requires_grad_(True)
    torch.nn.init.normal_(model.mouth.field.output_layer.weight, std=0.3)
    model.face.opacity_logits.data -= 2
    onto = np.array([[0.9, -0.1, 2.0], [0.1, 0.9, -15.0]])
    onto[:, :2] = np.diag([1.2, 0.8]) @ Rotation.from_euler("z", 10, degrees=True).as_matrix()[:2, :2]
    camera = mouth_camera(INTRINSICS, onto, (24, 48), torch.device("cpu"))
    view = MouthView(bones(1), camera, torch.zeros(3, 48, 96), time=0.2)
    codes = torch.from_numpy(targets().codes[[1]])
    part = part_of(model, in_view(model, [view], codes))
    assert part.mouth is model.mouth and len(part) < len(model)
    shown = render_mouths(part, [view], codes)
    torch.testing.assert_close(shown, render_mouths(model, [view], codes), atol=2e-3, rtol=0)
    shown.square().mean().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in model.mouth.field.parameters())
    later = render_mouths(part, [replace(view, time=0.9)], codes)
    assert not torch.equal(later, shown)


@torch.no_grad()
def test_frames_are_registered_to_a_head_with_it() -> None:
    painted, inside = painted_head(), tiny_implicit_head().mouth
    torch.nn.init.normal_(inside.field.output_layer.weight, std=0.3)
    model, code, pose = HeadModel(painted.face, painted.body, inside, INTRINSICS), true_code(1), bones(1)
    behind = torch.from_numpy(background()).permute(2, 0, 1).float() / 255
    picture = (255 * model.render(pose, code, INTRINSICS.camera()).over(behind)).round().to(torch.uint8)
    wrong = replace(pose, head_translation=pose.head_translation + torch.tensor([0.03, -0.03, 0.0]))
    config = RegistrationConfig(scales=(1.0,) * 8, settled=0.03, coarse_blur=6 / 64, head_shift=0.1, code=1e-6)
    found, _ = Registration(model, behind, config).register(wrong, code, picture.permute(1, 2, 0).numpy())
    assert (found.head_translation - pose.head_translation)[:2].abs().max() < 0.3 * 0.03


def true_code(index: int) -> Tensor:
    return torch.from_numpy(targets().codes[index])
