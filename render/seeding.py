"""Where Gaussians start: on the tracked face mesh, behind the lips, and across the person's matte."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import ConvexHull, Delaunay, cKDTree
from scipy.special import expit

from render.head_model import Branch, CanonicalGaussians, HeadModel, Intrinsics, neck_field
from render.implicit_mouth import SOFT_EDGE, ImplicitMouth
from render.motion import MotionField, MotionFieldConfig

LOWER_REACH, UPPER_REACH = 0.25, 0.12
"""Distance (head units) over which the influence of a code fades away from the landmarks it was measured on."""
MESH_THICKNESS = 0.01
BODY_SLOPE, BODY_DEPTH, BODY_THICKNESS = 0.5, 0.3, 0.03
"""Hair and ears start on a surface that goes back from the rim of the face by this slope, to this depth (head units),
and this thick: layers far apart would slide over one another when the head turns. Neck and torso start at the depth, so
that a chin that drops lies in front of them."""
MOUTH_DEPTH = (0.06, 0.1)
"""Depth range of teeth and tongue behind the lips, head units: nearly a sheet, for deeper layers would slide over one
another when the head turns, which shows as dots."""
WIDEST = 4.0
"""Standard deviations of the expression that the sheet of an implicit mouth is wide enough for..."""
SHEET_MARGIN = 0.04
"""...and how far it then reaches under the lips, head units."""
BOUND, FREE = -4.0, 4.0
"""Skinning logits of what belongs to the head and to the torso."""


@dataclass(frozen=True)
class FaceMesh:
    """The tracked face: rest position of its vertices and their linear motion, in head units."""

    vertices: np.ndarray  # [K, 3]
    motion: np.ndarray  # [C, K, 3] displacement per unit of each code
    lower_codes: int  # the first codes belong to the lower face, the others to the upper face
    lower_vertices: np.ndarray  # indices of the landmarks that the lower codes were measured on
    upper_vertices: np.ndarray
    inner_lips: np.ndarray  # ring of indices around the mouth opening
    upper_inner_lip: int
    lower_inner_lip: int


@dataclass(frozen=True)
class ReferenceView:
    """One frame in which the person is seen, for what the mesh does not cover."""

    rotation: np.ndarray  # [3, 3] head to camera
    translation: np.ndarray  # [3]
    matte: np.ndarray  # [H, W] in [0, 1], the person
    chin_y: float  # px: below it the torso begins


@dataclass(frozen=True)
class SeedingConfig:
    """How many Gaussians a model starts with."""

    face: int = 7_000
    """On the face mesh."""
    body: int = 9_500
    """Hair, ears, neck and torso."""
    mouth: int = 1_800
    """Teeth, tongue and cavity behind the lips."""
    implicit_mouth: bool = False
    """A continuous function takes their place, see `render.implicit_mouth`."""


def seed_head_model(
    mesh: FaceMesh,
    view: ReferenceView,
    intrinsics: Intrinsics,
    config: SeedingConfig,
    field: MotionFieldConfig,
    seed: int,
) -> HeadModel:
    """A head model that already moves as the tracked mesh does; its colours are grey until fitting paints them."""
    rng = np.random.default_rng(seed)
    pixel = view.translation[2] / intrinsics.focal  # head units a pixel covers at the head's depth
    with torch.random.fork_rng(devices=[]):  # layers and planes draw from the global generator
        torch.manual_seed(seed)
        face = _face_branch(mesh, config.face, pixel, field, rng)
        body = _body_branch(mesh, view, intrinsics, config.body, pixel, field, rng)
        mouth = _implicit_mouth(mesh) if config.implicit_mouth else _mouth_branch(mesh, config, pixel, field, rng)
    return HeadModel(face, body, mouth, intrinsics)


def paint(model: HeadModel, colors_face: np.ndarray, colors_body: np.ndarray, colors_mouth: np.ndarray) -> None:
    """Set the starting colours, each [N, 3] in [0, 1] at the `means` of a part."""
    with torch.no_grad():
        for branch, colors in ((model.face, colors_face), (model.body, colors_body), (model.mouth, colors_mouth)):
            branch.color_logits.copy_(torch.logit(torch.from_numpy(colors).float().clamp(0.02, 0.98)))


def _extent(mesh: FaceMesh) -> float:
    return 1.3 * float(np.abs(mesh.vertices).max())


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def _start(means: np.ndarray, size: float, skinning: np.ndarray) -> CanonicalGaussians:
    count = len(means)
    return CanonicalGaussians(
        _tensor(means), torch.full((count, 3), math.log(size)), torch.zeros(count, 3), _tensor(skinning)
    )


def _reach(points: np.ndarray, mesh: FaceMesh) -> np.ndarray:
    """[N, C]: a Gaussian fall-off with the distance to the landmarks of the code's half of the face."""
    lower = cKDTree(mesh.vertices[mesh.lower_vertices]).query(points)[0]
    upper = cKDTree(mesh.vertices[mesh.upper_vertices]).query(points)[0]
    columns = np.stack([np.exp(-((lower / LOWER_REACH) ** 2)), np.exp(-((upper / UPPER_REACH) ** 2))], 1)
    columns[columns < 1e-2] = 0
    codes = len(mesh.motion)
    return np.repeat(columns, [mesh.lower_codes, codes - mesh.lower_codes], axis=1)


def _face_branch(
    mesh: FaceMesh, count: int, pixel: float, field: MotionFieldConfig, rng: np.random.Generator
) -> Branch:
    triangles = Delaunay(mesh.vertices[:, :2]).simplices
    triangles = triangles[~np.isin(triangles, mesh.inner_lips).all(1)]
    first, second, third = (mesh.vertices[triangles[:, corner], :2] for corner in range(3))
    area = np.abs(np.cross(second - first, third - first))
    # The detector puts small triangles where detail is (eyes, lips): the square root gives them more than their area.
    share = np.sqrt(area) / np.sqrt(area).sum()
    chosen = triangles[rng.choice(len(triangles), count, p=share)]
    corners = rng.dirichlet([1, 1, 1], count)
    means = np.einsum("nk,nkd->nd", corners, mesh.vertices[chosen]) + MESH_THICKNESS * rng.normal(size=(count, 3))
    reach = _reach(means, mesh)
    basis = np.einsum("nk,cnkd->ndc", corners, mesh.motion[:, chosen]) * np.clip(20 * reach, 0, 1)[:, None]
    spacing = math.sqrt(area.sum() / 2 / count)
    start = _start(means, max(1.6 * spacing, 0.5 * pixel), np.full(count, BOUND))
    return Branch(start, MotionField(_tensor(basis), _tensor(reach), _extent(mesh), field))


def _body_branch(
    mesh: FaceMesh,
    view: ReferenceView,
    intrinsics: Intrinsics,
    count: int,
    pixel: float,
    field: MotionFieldConfig,
    rng: np.random.Generator,
) -> Branch:
    camera = mesh.vertices @ view.rotation.T + view.translation
    pixels = camera[:, :2] / camera[:, 2:] * intrinsics.focal + intrinsics.resolution / 2
    rows, columns = np.nonzero(view.matte > 0.5)
    person = np.stack([columns, rows], 1) + 0.5
    # Behind the face nothing is seen, and what would stand there would fill the open mouth; a rim closes the seam.
    middle = pixels.mean(0)
    rim = ConvexHull(pixels).vertices
    covered = Delaunay(middle + 0.9 * (pixels[rim] - middle)).find_simplex(person) >= 0
    person = person[~covered]
    if len(person) == 0:
        raise ValueError("matte: expected some of the person outside the face, found none")
    spot = person[rng.integers(0, len(person), count)] + rng.uniform(-0.5, 0.5, (count, 2))
    below_chin = (spot[:, 1] - view.chin_y) / intrinsics.resolution
    skinning = np.clip((below_chin - 0.03) / 0.02, BOUND, FREE)
    away, nearest = cKDTree(pixels[rim]).query(spot)
    behind = np.maximum(np.minimum(BODY_SLOPE * pixel * away / BODY_DEPTH, 1), expit(skinning))
    depth = camera[rim, 2][nearest] + BODY_DEPTH * behind + BODY_THICKNESS * rng.normal(size=count)
    in_camera = np.concatenate(
        [(spot - intrinsics.resolution / 2) * (depth / intrinsics.focal)[:, None], depth[:, None]], 1
    )
    means = (in_camera - view.translation) @ view.rotation
    size = 1.1 * math.sqrt(len(person) / count) * pixel
    return Branch(_start(means, size, skinning), neck_field(count, 1.1 * float(np.abs(means).max()), field))


def _mouth_branch(
    mesh: FaceMesh, config: SeedingConfig, pixel: float, field: MotionFieldConfig, rng: np.random.Generator
) -> Branch:
    count = config.mouth
    ring = mesh.vertices[mesh.inner_lips]
    top, bottom = mesh.vertices[mesh.upper_inner_lip], mesh.vertices[mesh.lower_inner_lip]
    margin = 0.15 * np.ptp(ring[:, 0])
    means = np.stack(
        [
            rng.uniform(ring[:, 0].min(), ring[:, 0].max(), count),
            rng.uniform(top[1] - margin, bottom[1] + 2 * margin, count),
            max(top[2], bottom[2]) + rng.uniform(*MOUTH_DEPTH, count),
        ],
        1,
    )
    # Upper teeth stay with the skull, lower teeth and tongue follow the lower lip.
    below = np.clip((means[:, 1] - top[1]) / margin, 0, 1)
    reach = np.zeros((count, len(mesh.motion)))
    reach[:, : mesh.lower_codes] = 1
    basis = below[:, None, None] * mesh.motion[:, mesh.lower_inner_lip].T * reach[:, None]
    size = 1.3 * math.sqrt(np.ptp(ring[:, 0]) * (bottom[1] - top[1] + 3 * margin) / count)
    start = _start(means, max(size, 0.5 * pixel), np.full(count, BOUND))
    motion = MotionField(_tensor(basis), _tensor(reach), _extent(mesh), field, mobility=_tensor(below))
    return Branch(start, motion, keeps_order=True)


def _implicit_mouth(mesh: FaceMesh) -> ImplicitMouth:
    """A sheet at the mean depth of the inner lips, a little larger than they ever open: codes are uncorrelated and have
    unit variance, so the squares of their motions add up."""
    ring = mesh.vertices[mesh.inner_lips]
    reach = np.zeros(len(mesh.motion))
    reach[: mesh.lower_codes] = 1
    spread = WIDEST * np.sqrt(np.square(mesh.motion[: mesh.lower_codes, mesh.inner_lips]).sum(0)) + SHEET_MARGIN
    low, high = (ring - spread)[:, :2].min(0), (ring + spread)[:, :2].max(0)
    middle = np.append((low + high) / 2, ring[:, 2].mean())
    return ImplicitMouth(_tensor(middle), _tensor((high - low) / 2 / (1 - SOFT_EDGE)), _tensor(reach))
