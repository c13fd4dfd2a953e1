"""gsplat for machines without a GPU: the whole of it, or the kernels under its own Python code."""

from __future__ import annotations

import torch

from render._constants import ALPHA_MAX, ALPHA_MIN, TRANSMITTANCE_MIN
from render.cameras import Camera
from render.gaussians import Gaussians
from render.rasterize import rasterize


class FakeGsplat:
    """Stands in for the module: takes gsplat's arguments in gsplat's shapes, and composites with the reference."""

    def __init__(self) -> None:
        self.calls: list[dict] = []
        self.batches: list[tuple[int, ...]] = []

    def rasterization(self, *, means, quats, scales, opacities, colors, viewmats, Ks, width, height, **options):
        batch = tuple(means.shape[:-2])
        assert viewmats.shape == (*batch, 1, 4, 4) and Ks.shape == (*batch, 1, 3, 3)
        self.calls.append(options)
        self.batches.append(batch)
        per_image = (*(means, quats, scales, opacities, colors), viewmats[..., 0, :, :], Ks[..., 0, :, :])
        images = []
        for *tensors, view, intrinsics in zip(*per_image, strict=True) if batch else [per_image]:
            (fx, _, cx), (_, fy, cy), _ = intrinsics.tolist()
            image = rasterize(Gaussians(*tensors), Camera(view, fx, fy, cx, cy, width, height), "torch")
            images.append(torch.cat([image.rgb, image.alpha[None]]).permute(1, 2, 0))
        rgb, alpha = torch.stack(images).reshape(*batch, 1, height, width, 4).split([3, 1], dim=-1)
        return rgb, alpha, {}


class TorchKernels:
    """gsplat's CUDA kernels in torch, by the names under which its Python code asks for them; without gradients."""

    def __init__(self) -> None:
        from gsplat.cuda import _torch_impl

        self._torch = _torch_impl
        self.launches: list[str] = []

    def find(self, name: str):
        self.launches.append(name)
        return getattr(self, name)

    def projection_ewa_3dgs_fused_fwd(
        self, means, covars, quats, scales, opacities, viewmats, Ks, width, height, eps2d, near, far, *rest
    ):
        assert covars is None and opacities is not None
        covars, _ = self._torch._quat_scale_to_covar_preci(quats, scales, compute_preci=False)
        return self._torch._fully_fused_projection(means, covars, viewmats, Ks, width, height, eps2d, near, far)

    def intersect_tile(
        self, means2d, radii, depths, image_ids, gaussian_ids, images, tile_size, tile_width, tile_height, *rest
    ):
        return self._torch._isect_tiles(means2d, radii, depths, tile_size, tile_width, tile_height)

    def intersect_offset(self, isect_ids, images, tile_width, tile_height):
        return self._torch._isect_offset_encode(isect_ids, images, tile_width, tile_height)

    def rasterize_to_pixels_3dgs_fwd(
        self, means2d, conics, colors, opacities, backgrounds, masks, width, height, tile_size, offsets, ids
    ):
        """Every pixel of every image, over the splats of its tile."""
        starts, ends = offsets.flatten().long(), torch.cat([offsets.flatten()[1:], torch.tensor([len(ids)])]).long()
        image_dims, (tile_height, tile_width) = means2d.shape[:-2], offsets.shape[-2:]
        xy, conics, opacities = means2d.reshape(-1, 2), conics.reshape(-1, 3), opacities.reshape(-1)
        pixels = torch.zeros(len(starts) // (tile_height * tile_width), height, width, 4)
        for image, row, column in torch.cartesian_prod(*map(torch.arange, pixels.shape[:3])).tolist():
            tile = (image * tile_height + row // tile_size) * tile_width + column // tile_size
            splats = ids[starts[tile] : ends[tile]].long()
            dx, dy = (torch.tensor([column + 0.5, row + 0.5]) - xy[splats]).T
            xx, xy_, yy = conics[splats].T
            falloff = torch.exp(-0.5 * (xx * dx**2 + yy * dy**2) - xy_ * dx * dy)
            alpha = (opacities[splats] * falloff).clamp(max=ALPHA_MAX)
            alpha = torch.where(alpha < ALPHA_MIN, 0, alpha)
            alpha = torch.where(torch.cumprod(1 - alpha, 0) > TRANSMITTANCE_MIN, alpha, 0)
            through = torch.cumprod(torch.cat([torch.ones(1), 1 - alpha]), 0)
            pixels[image, row, column, :3] = (alpha * through[:-1]) @ colors.reshape(-1, 3)[splats]
            pixels[image, row, column, 3] = 1 - through[-1]
        rgb, alpha = pixels.reshape(*image_dims, height, width, 4).split([3, 1], dim=-1)
        return rgb, alpha, None
