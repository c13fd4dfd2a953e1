"""The rasterizer in plain torch: the reference that defines what every back end computes.

Slow and differentiable by autograd, in the dtype and on the device of its inputs. The projection is the EWA splatting
of Zwicker et al. 2001 as Kerbl et al. 2023 use it; thresholds are those of `_constants`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from render._constants import (
    ALPHA_MAX,
    ALPHA_MIN,
    EPS2D,
    FAR_PLANE,
    FOV_MARGIN,
    NEAR_PLANE,
    TRANSMITTANCE_MIN,
)
from render.cameras import Camera
from render.gaussians import Gaussians

TILE_SIZE = 32
"""Side of the square tiles in px. It bounds memory (tile pixels x splats in the tile) and changes no result."""


@dataclass(frozen=True)
class Splats:
    """M Gaussians projected into the image."""

    means2d: Tensor  # [M, 2] px
    depths: Tensor  # [M] camera-space z, world units
    covariances: Tensor  # [M, 3] px^2: xx, xy, yy, low-pass filter included
    conics: Tensor  # [M, 3] px^-2: xx, xy, yy of the inverse covariance


def rasterize_torch(gaussians: Gaussians, camera: Camera) -> tuple[Tensor, Tensor]:
    """Premultiplied rgb [3, H, W] and alpha [H, W]; see `render.rasterize.rasterize` for the meaning."""
    gaussians = _select(gaussians, _splattable(gaussians, camera))
    splats = project(gaussians, camera)
    order = torch.argsort(splats.depths.detach(), stable=True)
    bounds = _pixel_bounds(splats, gaussians.opacities)[order]  # [M, 4]

    rows = []
    for top in range(0, camera.height, TILE_SIZE):
        bottom = min(top + TILE_SIZE, camera.height)
        tiles = []
        for left in range(0, camera.width, TILE_SIZE):
            right = min(left + TILE_SIZE, camera.width)
            inside = (bounds[:, 0] < right) & (bounds[:, 1] > left) & (bounds[:, 2] < bottom) & (bounds[:, 3] > top)
            tiles.append(_composite_tile((left, top, right, bottom), order[inside], splats, gaussians))
        rows.append(torch.cat(tiles, dim=2))
    image = torch.cat(rows, dim=1)
    return image[:3], image[3]


def project(gaussians: Gaussians, camera: Camera) -> Splats:
    """Perspective projection, its linearisation at each mean carrying the covariance (Zwicker et al. 2001, eq. 31)."""
    rotation, translation = camera.world_to_camera[:3, :3], camera.world_to_camera[:3, 3]
    x, y, z = (gaussians.means @ rotation.T + translation).unbind(-1)
    axes = rotation @ (rotation_matrices(gaussians.quats) * gaussians.scales[:, None, :])  # [N, 3, 3] camera space

    margin_x, margin_y = FOV_MARGIN * camera.width / (2 * camera.fx), FOV_MARGIN * camera.height / (2 * camera.fy)
    slope_x = (x / z).clamp(-camera.cx / camera.fx - margin_x, (camera.width - camera.cx) / camera.fx + margin_x)
    slope_y = (y / z).clamp(-camera.cy / camera.fy - margin_y, (camera.height - camera.cy) / camera.fy + margin_y)
    # Rows of the projection's Jacobian times the axes: the splat's axes seen along image x and y, [N, 3] px.
    along_x = (camera.fx / z)[:, None] * (axes[:, 0] - slope_x[:, None] * axes[:, 2])
    along_y = (camera.fy / z)[:, None] * (axes[:, 1] - slope_y[:, None] * axes[:, 2])

    variance_x, variance_y = along_x.square().sum(-1), along_y.square().sum(-1)
    covariance_xy = (along_x * along_y).sum(-1)
    # det(J S J^T + eps I), expanded by Lagrange's identity: xx * yy - xy^2 cancels catastrophically for thin splats.
    parallelogram = torch.linalg.cross(along_x, along_y).square().sum(-1)
    determinant = parallelogram + EPS2D * (variance_x + variance_y) + EPS2D**2
    xx, yy = variance_x + EPS2D, variance_y + EPS2D
    return Splats(
        means2d=torch.stack([camera.fx * x / z + camera.cx, camera.fy * y / z + camera.cy], dim=-1),
        depths=z,
        covariances=torch.stack([xx, covariance_xy, yy], dim=-1),
        conics=torch.stack([yy, -covariance_xy, xx], dim=-1) / determinant[:, None],
    )


def rotation_matrices(quats: Tensor) -> Tensor:
    """[N, 4] quaternions (w, x, y, z) of any length but zero -> [N, 3, 3]."""
    w, x, y, z = (quats / quats.norm(dim=-1, keepdim=True)).unbind(-1)
    entries = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(entries, dim=-1).unflatten(-1, (3, 3))


@torch.no_grad()
def _splattable(gaussians: Gaussians, camera: Camera) -> Tensor:
    """[N] bool: opaque enough, between the planes, and finite. Selecting first keeps NaN out of every gradient."""
    splats = project(gaussians, camera)
    fields = (splats.means2d, splats.covariances, splats.conics, gaussians.colors, gaussians.opacities[:, None])
    finite = torch.cat([torch.isfinite(field) for field in fields], dim=1).all(dim=1)
    between_planes = (splats.depths > NEAR_PLANE) & (splats.depths < FAR_PLANE)
    return finite & between_planes & (gaussians.opacities >= ALPHA_MIN)


def _select(gaussians: Gaussians, mask: Tensor) -> Gaussians:
    return Gaussians(
        means=gaussians.means[mask],
        quats=gaussians.quats[mask],
        scales=gaussians.scales[mask],
        opacities=gaussians.opacities[mask],
        colors=gaussians.colors[mask],
    )


@torch.no_grad()
def _pixel_bounds(splats: Splats, opacities: Tensor) -> Tensor:
    """[M, 4] left, right, top, bottom in px, outside of which alpha is below ALPHA_MIN (Radl et al. 2024, app. B.2)."""
    extent = (2 * torch.log(opacities / ALPHA_MIN)).clamp(min=0).sqrt()
    half = extent[:, None] * splats.covariances[:, [0, 2]].sqrt() + 1  # a pixel more than needed, against rounding
    low, high = splats.means2d - half, splats.means2d + half
    return torch.stack([low[:, 0], high[:, 0], low[:, 1], high[:, 1]], dim=-1)


def _composite_tile(box: tuple[int, int, int, int], ids: Tensor, splats: Splats, gaussians: Gaussians) -> Tensor:
    """Blends the splats `ids`, front to back, over the pixels of (left, top, right, bottom): [4, h, w] rgb, alpha."""
    left, top, right, bottom = box
    like = {"dtype": gaussians.means.dtype, "device": gaussians.means.device}
    ys, xs = torch.meshgrid(
        torch.arange(top, bottom, **like) + 0.5, torch.arange(left, right, **like) + 0.5, indexing="ij"
    )
    dx = xs.reshape(-1, 1) - splats.means2d[ids, 0]  # [pixels, splats]
    dy = ys.reshape(-1, 1) - splats.means2d[ids, 1]
    xx, xy, yy = splats.conics[ids].unbind(-1)
    falloff = torch.exp(-0.5 * (xx * dx * dx + yy * dy * dy) - xy * dx * dy)
    alpha = (gaussians.opacities[ids] * falloff).clamp(max=ALPHA_MAX)
    alpha = torch.where(alpha >= ALPHA_MIN, alpha, 0)
    alpha = torch.where(torch.cumprod(1 - alpha.detach(), dim=1) > TRANSMITTANCE_MIN, alpha, 0)

    transmittance = torch.cumprod(torch.cat([alpha.new_ones(len(alpha), 1), 1 - alpha], dim=1), dim=1)
    weights = alpha * transmittance[:, :-1]
    pixels = torch.cat([weights @ gaussians.colors[ids], 1 - transmittance[:, -1:]], dim=1)
    return pixels.T.reshape(4, bottom - top, right - left)
