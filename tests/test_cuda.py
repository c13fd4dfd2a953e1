"""What a GPU renders and fits, against the processor. `pytest -m cuda` runs these and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rasterize_scenes import PARAMETERS, ball, relative_error, render_with_gradients, stacked
from test_implicit_avatar import with_implicit_mouth
from tiny_avatar import TinyClip, source_picture, tiny_avatar
from tiny_head import CONFIG, background, rendered_frames, targets, tiny_head

from render._rasterize_gsplat import why_gsplat_is_unusable
from render.fitting import HeadFitter
from render.gaussians import Gaussians
from render.gsplat_kernels import are_compiled, compile_kernels
from render.rasterize import rasterize
from talkinghead.renderer import AvatarRenderer, DrivenFrame
from tools.picture_quality import psnr

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(
        why_gsplat_is_unusable() is not None, reason=f"needs a CUDA device for gsplat: {why_gsplat_is_unusable()}"
    ),
]
LEAST_PSNR_DB = 45.0


def test_compiling_leaves_kernels_that_are_found() -> None:
    compile_kernels()
    assert are_compiled()


@pytest.mark.parametrize(("count", "size"), [(40, 0.3), (2000, 0.05)])
def test_gsplat_splats_as_the_reference_does(count: int, size: float) -> None:
    """A splat right at a threshold may count here and not there, which is worth 1/255 of its colour."""
    scene = ball(count, 90, 70, size=size)
    expected, expected_gradients = render_with_gradients(scene, "torch")
    on_gpu = scene.replaced(**{name: tensor.cuda() for name, tensor in scene.parameters.items()})
    actual, gradients = render_with_gradients(on_gpu, "gsplat")
    difference = (actual.rgb.cpu() - expected.rgb).abs()
    assert difference.max() < 2 / 255 and difference.mean() < 1e-4
    for name in PARAMETERS:
        assert relative_error(gradients[name].cpu(), expected_gradients[name]) < 1e-2, name


@pytest.mark.parametrize("mouth", ["gaussians", "implicit"])
def test_an_avatar_looks_alike_on_both_devices(mouth: str) -> None:
    avatar = with_implicit_mouth(tiny_avatar()) if mouth == "implicit" else tiny_avatar()
    on_gpu, on_processor = (AvatarRenderer(avatar, device) for device in ("cuda", "cpu"))
    lower = np.roll(avatar.tracks.lower, 5, axis=0)
    frames = [DrivenFrame(number, lower[number]) for number in (0, 7, 13)]
    for one, other in zip(on_gpu.free(frames), on_processor.free(frames), strict=True):
        assert psnr(one, other) > LEAST_PSNR_DB


def test_gsplat_splats_a_batch_as_it_splats_every_frame() -> None:
    scenes = [ball(500, 90, 70, seed=seed) for seed in range(3)]
    frames = [Gaussians(*(tensor.cuda() for tensor in vars(scene.gaussians).values())) for scene in scenes]
    camera = scenes[0].replaced(world_to_camera=scenes[0].parameters["world_to_camera"].cuda()).camera
    images = rasterize(stacked(frames), camera, "gsplat")
    for index, frame in enumerate(frames):
        alone = rasterize(frame, camera, "gsplat")
        torch.testing.assert_close(images.rgb[index], alone.rgb)
        torch.testing.assert_close(images.alpha[index], alone.alpha)


@pytest.mark.parametrize("kind", ["free", "person", "in_place"])
def test_a_batch_is_drawn_as_its_frames_alone(kind: str) -> None:
    """A splat right at a threshold may count in one and not in the other: sums are not in the same order."""
    clip = TinyClip(missing=(4,))
    avatar = tiny_avatar(clip)
    renderer = AvatarRenderer(avatar, "cuda")
    assert renderer.batch_size == 16
    frames = [DrivenFrame(n, avatar.tracks.lower[n], picture=source_picture(clip, n)) for n in range(clip.frames)]
    together = list(renderer.stream(getattr(renderer, kind), iter(frames)))  # 16 and the other 4
    alone = [picture for frame in frames for picture in getattr(renderer, kind)([frame])]
    assert len(together) == clip.frames
    for one, other in zip(together, alone, strict=True):
        assert one.dtype == np.uint8 and psnr(one, other) > LEAST_PSNR_DB


def test_a_fit_goes_down_on_a_gpu() -> None:
    fitter = HeadFitter(tiny_head(), targets(), rendered_frames(), background(), CONFIG, seed=0, device="cuda")
    losses = [event.loss for event in fitter.run()]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    assert {parameter.device.type for parameter in fitter.model.parameters()} == {"cuda"}
