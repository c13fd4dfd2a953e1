"""Where Gaussians start, and how they move before anything is fitted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial import Delaunay, cKDTree
from tiny_head import (
    CODES,
    FIELD,
    INTRINSICS,
    LOWER_CODES,
    SIDE,
    SIZES,
    bones,
    face_mesh,
    projected,
    reference_view,
    tiny_head,
)

from render.head_model import HeadModel
from render.seeding import BODY_DEPTH, MOUTH_DEPTH, paint, seed_head_model
from tools.face_topology import MEDIAPIPE_478


@pytest.fixture(scope="module")
def model() -> HeadModel:
    sizes = replace(SIZES, face=2000, body=1500, mouth=300)
    return seed_head_model(face_mesh(), reference_view(), INTRINSICS, sizes, FIELD, seed=0)


def positions(model: HeadModel, branch: str) -> np.ndarray:
    return getattr(model, branch).means.detach().numpy()


def test_counts_are_as_asked_for(model: HeadModel) -> None:
    assert (len(model.face), len(model.body), len(model.mouth)) == (2000, 1500, 300)
    assert len(model) == 3800 and model.code_size == CODES


def test_the_face_lies_on_the_mesh(model: HeadModel) -> None:
    vertices = face_mesh().vertices
    triangles = Delaunay(vertices[:, :2])
    means = positions(model, "face")
    inside = triangles.find_simplex(means[:, :2]) >= 0
    assert inside.mean() > 0.97
    surface = cKDTree(vertices).query(means)[0]
    assert np.median(surface) < 0.06


def test_the_open_mouth_is_left_free_of_skin() -> None:
    """Also when the mouth of the mean face is open."""
    mesh = face_mesh()
    ring = list(MEDIAPIPE_478.inner_lips)
    middle = mesh.vertices[ring].mean(0)
    vertices = mesh.vertices.copy()
    angles = 2 * np.pi * np.arange(len(ring)) / len(ring)
    vertices[ring, :2] = middle[:2] + 0.12 * np.stack([np.cos(angles), np.sin(angles)], 1)
    keep = np.linalg.norm(vertices[:, :2] - middle[:2], axis=1) > 0.119
    keep[ring] = True
    vertices[~keep] = vertices[MEDIAPIPE_478.chin]
    mesh = replace(mesh, vertices=vertices)
    model = seed_head_model(mesh, reference_view(), INTRINSICS, replace(SIZES, face=3000), FIELD, seed=0)
    distance = np.linalg.norm(positions(model, "face")[:, :2] - middle[:2], axis=1)
    assert (distance < 0.08).mean() < 1e-3


def test_new_gaussians_move_as_the_mesh_does(model: HeadModel) -> None:
    """The mesh's motion is linear in space here, so that it is known everywhere between the vertices as well."""
    means, field, vertices = positions(model, "face"), model.face.field, face_mesh().vertices
    code = torch.tensor([1.0, -0.5, 0.0])
    moved = field(field.position_terms(model.face.means), code).means.detach().numpy()
    stretched = 0.3 * (means[:, 1] - vertices[MEDIAPIPE_478.upper_inner_lip, 1])
    at_chin = np.linalg.norm(means - vertices[MEDIAPIPE_478.chin], axis=1) < 0.2
    assert np.abs(moved[at_chin, 0] + 0.05 * means[at_chin, 0]).max() < 5e-3
    assert np.abs(moved[at_chin, 1] - stretched[at_chin]).max() < 1.5e-2  # they lie off the mesh by its thickness
    forehead = np.linalg.norm(means - vertices[10], axis=1) < 0.15
    assert at_chin.sum() > 10 and forehead.sum() > 10
    assert np.abs(moved[forehead]).max() < 1e-3 and np.abs(stretched[forehead]).min() > 0.1


def test_a_blink_cannot_reach_the_chin_nor_the_jaw_the_brows(model: HeadModel) -> None:
    reach, means = model.face.field.reach.numpy(), positions(model, "face")
    vertices = face_mesh().vertices
    at_chin = np.linalg.norm(means - vertices[MEDIAPIPE_478.chin], axis=1) < 0.2
    at_brow = np.linalg.norm(means - vertices[MEDIAPIPE_478.left_brow[2]], axis=1) < 0.08
    assert at_chin.any() and at_brow.any()
    assert reach[at_chin, LOWER_CODES:].max() == 0 and reach[at_chin, :LOWER_CODES].min() > 0.3
    assert reach[at_brow, LOWER_CODES:].min() > 0.3
    assert reach[at_brow, :LOWER_CODES].max() < 0.2
    assert reach.min() >= 0 and reach.max() <= 1


def test_the_body_fills_the_matte_around_the_face(model: HeadModel) -> None:
    view, means = reference_view(), positions(model, "body")
    pixels = projected(means)
    columns, rows = np.clip(pixels.astype(int), 0, SIDE - 1).T
    assert (view.matte[rows, columns] > 0.5).mean() > 0.97
    middle = projected(face_mesh().vertices).mean(0)
    assert np.linalg.norm(pixels - middle, axis=1).min() > 8  # nothing stands behind the face
    assert np.all(means[:, 2] + 4 > 0)


def test_head_and_torso_are_told_apart_at_the_chin(model: HeadModel) -> None:
    skinning = torch.sigmoid(model.body.skinning_logits).detach().numpy()
    rows = projected(positions(model, "body"))[:, 1]
    chin_y = reference_view().chin_y
    assert skinning[rows < chin_y - 2].max() < 0.1 and skinning[rows > chin_y + 0.12 * SIDE].min() > 0.9
    assert torch.sigmoid(model.face.skinning_logits).max() < 0.1
    assert torch.sigmoid(model.mouth.skinning_logits).max() < 0.1


def test_teeth_and_tongue_lie_behind_the_lips(model: HeadModel) -> None:
    vertices, means = face_mesh().vertices, positions(model, "mouth")
    ring = vertices[list(MEDIAPIPE_478.inner_lips)]
    assert ring[:, 0].min() <= means[:, 0].min() and means[:, 0].max() <= ring[:, 0].max()
    front = vertices[[MEDIAPIPE_478.upper_inner_lip, MEDIAPIPE_478.lower_inner_lip], 2].max()
    assert front + MOUTH_DEPTH[0] - 1e-6 <= means[:, 2].min() and means[:, 2].max() <= front + MOUTH_DEPTH[1] + 1e-6


def test_upper_teeth_stay_and_lower_teeth_follow_the_jaw(model: HeadModel) -> None:
    means, basis = positions(model, "mouth"), model.mouth.field.basis.numpy()
    mesh = face_mesh()
    above = means[:, 1] < mesh.vertices[MEDIAPIPE_478.upper_inner_lip, 1]
    assert above.any() and np.abs(basis[above]).max() == 0
    lowest = means[:, 1].argmax()
    assert np.allclose(basis[lowest, :, :LOWER_CODES], mesh.motion[:LOWER_CODES, MEDIAPIPE_478.lower_inner_lip].T)
    assert np.abs(basis[:, :, LOWER_CODES:]).max() == 0
    mobility = model.mouth.field.mobility.numpy()
    assert mobility[above].max() == 0 and mobility[lowest] == 1


def test_the_neck_starts_behind_a_chin_that_drops(model: HeadModel) -> None:
    torso = torch.sigmoid(model.body.skinning_logits).detach().numpy() > 0.9
    chin = face_mesh().vertices[MEDIAPIPE_478.chin]
    below_chin = torso & (np.abs(positions(model, "body")[:, 0]) < 0.2)
    assert below_chin.any() and positions(model, "body")[below_chin, 2].min() > chin[2] + 0.5 * BODY_DEPTH


def test_a_new_head_covers_the_person(model: HeadModel) -> None:
    model.face.opacity_logits.data.fill_(4)
    model.body.opacity_logits.data.fill_(4)
    with torch.no_grad():
        alpha = model.render(bones(0), torch.zeros(CODES), INTRINSICS.camera()).alpha.numpy()
    assert alpha[reference_view().matte > 0.5].mean() > 0.9


def test_paint_sets_colours() -> None:
    model = tiny_head()
    colors = [np.random.default_rng(0).uniform(0.1, 0.9, (len(b), 3)) for b in (model.face, model.body, model.mouth)]
    paint(model, *colors)
    for branch, expected in zip((model.face, model.body, model.mouth), colors, strict=True):
        assert np.allclose(torch.sigmoid(branch.color_logits).detach().numpy(), expected, atol=1e-6)
    paint(model, *(np.round(color) for color in colors))  # black and white stay trainable
    assert bool(torch.isfinite(model.face.color_logits).all())


def test_the_seed_decides_alone() -> None:
    torch.manual_seed(1)
    first = tiny_head(seed=3).state_dict()
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second, other = tiny_head(seed=3).state_dict(), tiny_head(seed=4).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["face.means"], other["face.means"])
    assert not torch.equal(first["face.field.planes.planes"], other["face.field.planes.planes"])
    assert torch.equal(state, torch.get_rng_state())  # nobody else's random numbers change


def test_a_matte_without_a_person_is_refused() -> None:
    view = replace(reference_view(), matte=np.zeros((SIDE, SIDE), np.float32))
    with pytest.raises(ValueError, match="matte: expected some of the person"):
        seed_head_model(face_mesh(), view, INTRINSICS, SIZES, FIELD, seed=0)
