"""The projection against gsplat 1.5.3's own torch functions, and the vector helpers against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rasterize_scenes import ball

from render import _rasterize_torch as reference
from render._constants import GSPLAT_VERSION
from render._numba_binning import sort_by_depth, tile_grid
from render._numba_columns import load_columns, store_columns, sums
from render._numba_math import EXPONENT_STEPS, exp2_scaled, log2
from render._numba_projection import (
    BOTTOM,
    CULLED,
    FALLOFF_X,
    LEFT,
    MEAN_X,
    MEAN_Y,
    RIGHT,
    ROOT_FALLOFF_Y,
    ROW,
    SHEAR,
    TILE_HEIGHT,
    TILE_WIDTH,
    TOP,
    SplatArrays,
    project,
)
from render._numba_simd import LANES, kernel, load, store
from render._rasterize_numba import _camera_arrays, _gaussian_arrays


def gsplat_projection(scene, dtype: torch.dtype):
    """Radii, means, depths and conics from gsplat's torch code, for one camera without batch dimensions."""
    gsplat = pytest.importorskip("gsplat")
    assert gsplat.__version__ == GSPLAT_VERSION
    from gsplat.cuda._torch_impl import _fully_fused_projection, _quat_scale_to_covar_preci

    gaussians, camera = scene.leaves(dtype).gaussians, scene.leaves(dtype).camera
    covariances, _ = _quat_scale_to_covar_preci(gaussians.quats, gaussians.scales, compute_preci=False)
    radii, means, depths, conics, _ = _fully_fused_projection(
        gaussians.means,
        covariances,
        camera.world_to_camera[None],
        camera.intrinsic_matrix[None],
        camera.width,
        camera.height,
    )
    return (radii[0] > 0).all(dim=1), means[0].detach(), depths[0].detach(), conics[0].detach()


SCENES = {
    "in front": lambda: ball(500, 90, 70, size=0.1),
    "around the camera": lambda: ball(500, 60, 44, seed=4, size=0.03, distance=0.2),
}


@pytest.mark.parametrize("name", SCENES)
def test_reference_projects_like_gsplat(name: str) -> None:
    scene = SCENES[name]()
    drawn, means, depths, conics = gsplat_projection(scene, torch.float64)
    doubles = scene.leaves(torch.float64)
    splats = reference.project(doubles.gaussians, doubles.camera)
    assert 50 < drawn.sum() <= len(drawn)
    torch.testing.assert_close(splats.means2d.detach()[drawn], means[drawn])
    torch.testing.assert_close(splats.depths.detach()[drawn], depths[drawn])
    torch.testing.assert_close(splats.conics.detach()[drawn], conics[drawn])


@pytest.mark.parametrize("name", SCENES)
def test_numba_projects_like_gsplat(name: str) -> None:
    scene = SCENES[name]()
    drawn, means, depths, conics = gsplat_projection(scene, torch.float64)
    count = len(drawn)
    padded = -(-count // LANES) * LANES
    splats = SplatArrays(*(np.empty(padded * width, np.float32) for width in (ROW, 1, 4)))
    camera = _camera_arrays(scene.camera.world_to_camera, scene.camera)
    counts = np.zeros(tile_grid(camera.width, camera.height), np.int32)
    project(_gaussian_arrays(tuple(scene.parameters.values())[:5]), camera, splats, counts, 0, count)
    rows = torch.from_numpy(splats.rows.reshape(padded, ROW)[:count]).double()
    visible = torch.from_numpy(splats.depths[:count] != CULLED)
    assert (splats.depths[count:] == CULLED).all(), "the padding is never drawn"
    left, right, top, bottom = rows[visible][:, [LEFT, RIGHT, TOP, BOTTOM]].T
    for (row, column), touching in np.ndenumerate(counts):
        x, y = column * TILE_WIDTH, row * TILE_HEIGHT
        inside = (left < x + TILE_WIDTH) & (right >= x) & (top < y + TILE_HEIGHT) & (bottom >= y)
        assert touching == inside.sum(), "a tile's count is that of the splats whose bounds overlap it"

    # gsplat's torch code keeps more: its radius knows nothing of the opacity.
    assert not (visible & ~drawn).any()
    transparent = scene.parameters["opacities"] < 1 / 255
    outside = ((rows[:, LEFT] > rows[:, RIGHT]) | (rows[:, TOP] > rows[:, BOTTOM])) & ~visible
    assert (visible | ~drawn | transparent | outside).all(), "what gsplat draws is drawn, or touches no pixel"

    torch.testing.assert_close(rows[visible][:, [MEAN_X, MEAN_Y]], means[visible], rtol=1e-5, atol=1e-4)
    numba_depths = torch.from_numpy(splats.depths[:count]).double()
    torch.testing.assert_close(numba_depths[visible], depths[visible], rtol=1e-5, atol=1e-6)
    falloff_x, shear, root = rows[visible][:, [FALLOFF_X, SHEAR, ROOT_FALLOFF_Y]].unbind(-1)
    falloff_y = -(root**2)
    completed = torch.stack([falloff_x + falloff_y * shear**2, -falloff_y * shear, falloff_y], dim=-1)
    scale = -0.5 * np.log2(np.e) / EXPONENT_STEPS
    torch.testing.assert_close(completed / scale, conics[visible], rtol=1e-4, atol=1e-5)


def test_depths_are_sorted_like_numpy_sorts_them() -> None:
    rng = np.random.default_rng(0)
    depths = np.exp(rng.uniform(-4, 20, 5000)).astype(np.float32)
    depths[rng.integers(0, 5000, 1000)] = CULLED
    depths[rng.integers(0, 5000, 500)] = depths[17]
    visible = np.flatnonzero(depths > 0)
    expected = visible[np.argsort(depths[visible], kind="stable")]
    np.testing.assert_array_equal(sort_by_depth(depths), expected)


@kernel
def _evaluate(x, exponentials, logarithms):
    for first in range(0, x.size, LANES):
        store(exponentials, first, exp2_scaled(load(x, first)))
        store(logarithms, first, log2(-load(x, first)))


def test_exponential_and_logarithm_keep_their_promised_errors() -> None:
    x = -np.linspace(1 / 255, 1, 100_000, dtype=np.float32)
    exponentials, logarithms = np.empty_like(x), np.empty_like(x)
    _evaluate(x, exponentials, logarithms)
    exact = np.exp2(EXPONENT_STEPS * x.astype(np.float64))
    assert np.abs(exponentials / exact - 1).max() < 2.5e-6
    assert np.abs(logarithms - np.log2(-x.astype(np.float64))).max() < 8e-7


@kernel
def _rearrange(rows, triples, copies, total):
    columns = load_columns(rows, 0, LANES)
    store_columns(copies, 0, columns)
    three = load_columns(triples, 0, 3)
    store_columns(triples, 0, (three[2], three[0], three[1]))
    store(total, 0, sums((three[0], three[1], three[2], columns[5], columns[15])))


def test_rows_become_columns_and_rows_again() -> None:
    rng = np.random.default_rng(0)
    rows, triples = rng.random((LANES, LANES), np.float32), rng.random((LANES, 3), np.float32)
    copies, total, rolled = np.empty(LANES * LANES, np.float32), np.empty(LANES, np.float32), triples.copy()
    flat = rolled.reshape(-1)
    _rearrange(rows.reshape(-1), flat, copies, total)
    np.testing.assert_array_equal(copies.reshape(LANES, LANES), rows)
    np.testing.assert_array_equal(rolled, np.roll(triples, 1, axis=1))
    expected = [*triples.sum(axis=0), rows[:, 5].sum(), rows[:, 15].sum()]
    np.testing.assert_allclose(total[:5], expected, rtol=1e-6)
