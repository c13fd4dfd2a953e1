"""The Numba back end computes what the torch reference defines, which is what gsplat 1.5.3 defines."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from rasterize_scenes import PARAMETERS, Scene, ball, relative_error, render_with_gradients

from render._constants import ALPHA_MAX, ALPHA_MIN, TRANSMITTANCE_MIN
from render.cameras import Camera
from render.gaussians import Gaussians
from render.rasterize import rasterize

RGB_TOLERANCE = 1e-4
GRADIENT_TOLERANCE = 1e-3


def opaque_stack() -> Scene:
    """Layers of nearly opaque splats: every pixel in the middle is finished early, many alphas are clamped."""
    scene = ball(600, 70, 50, seed=3, size=0.3)
    opacities = 1 - 0.05 * scene.parameters["opacities"] ** 4
    return scene.replaced(opacities=opacities)


def around_the_camera() -> Scene:
    """A camera inside of the cloud: Gaussians behind it, beside it (where slopes are clamped), on the near plane."""
    scene = ball(400, 60, 44, seed=4, size=0.03, distance=0.2)
    return scene.replaced(opacities=0.3 * scene.parameters["opacities"])


def needles() -> Scene:
    """Long thin splats at every angle: the quadratic form of their inverse covariance cancels."""
    scene = ball(150, 130, 90, seed=5)
    return scene.replaced(scales=torch.tensor([0.5, 0.001, 0.001]).expand(150, 3))


SCENES = {
    "one Gaussian": lambda: ball(1, 33, 17, size=0.2),
    "one pixel": lambda: ball(20, 1, 1, size=0.3),
    "one column": lambda: ball(50, 1, 90, size=0.2),
    "one row": lambda: ball(50, 90, 1, size=0.2),
    "a lane short of two blocks": lambda: ball(31, 64, 32, size=0.2),
    "two whole blocks and tiles": lambda: ball(32, 128, 64, size=0.2),
    "odd size over several tiles": lambda: ball(700, 100, 73),
    "larger than the image": lambda: ball(40, 37, 41, size=1.5),
    "smaller than a pixel": lambda: ball(500, 90, 70, size=1e-4),
    "opaque stack": opaque_stack,
    "around the camera": around_the_camera,
    "needles": needles,
}


@pytest.mark.parametrize("name", SCENES)
def test_numba_matches_the_reference(name: str) -> None:
    scene = SCENES[name]()
    # In double precision the reference has no rounding of its own to speak of.
    expected, expected_gradients = render_with_gradients(scene, "torch", torch.float64)
    actual, gradients = render_with_gradients(scene, "numba")
    assert expected.alpha.max() > ALPHA_MIN, "the scene shows something"
    assert (actual.rgb - expected.rgb).abs().max() < RGB_TOLERANCE
    assert (actual.alpha - expected.alpha).abs().max() < RGB_TOLERANCE
    for parameter in PARAMETERS:
        error = relative_error(gradients[parameter], expected_gradients[parameter])
        assert error < GRADIENT_TOLERANCE, f"gradient of {parameter} is off by {error:.1e}"


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_gradients_match_finite_differences(backend: str) -> None:
    """Away from every threshold, where the image is a smooth function."""
    scene = ball(6, 24, 20, seed=7, size=1.0)
    scene = scene.replaced(opacities=0.2 + 0.5 * scene.parameters["opacities"])
    _, gradients = render_with_gradients(scene, backend)
    generator = torch.Generator().manual_seed(1)
    rgb_weights = torch.randn(3, 20, 24, generator=generator).double()
    alpha_weights = torch.randn(20, 24, generator=generator).double()

    def loss(name: str, step: torch.Tensor) -> torch.Tensor:
        doubles = scene.leaves(torch.float64)
        moved = doubles.replaced(**{name: doubles.parameters[name].detach() + step})
        output = rasterize(moved.gaussians, moved.camera, "torch")
        return (output.rgb * rgb_weights).sum() + (output.alpha * alpha_weights).sum()

    for name in PARAMETERS:
        direction = torch.randn(scene.parameters[name].shape, generator=generator).double()
        if name == "world_to_camera":
            direction[3] = 0  # the last row is fixed
        step = 1e-5 * direction
        with torch.no_grad():
            measured = (loss(name, step) - loss(name, -step)) / 2e-5
        predicted = (gradients[name].double() * direction).sum()
        assert predicted.item() == pytest.approx(measured.item(), rel=5e-3), name


# --- known answers ---------------------------------------------------------------------------------------------------


def on_axis(opacities: list[float], colors: list[list[float]], sigma: float = 0.2) -> tuple[Gaussians, Camera]:
    """Round Gaussians one behind the other on the optical axis, which passes through the centre of pixel (16, 16)."""
    count = len(opacities)
    means = torch.zeros(count, 3)
    means[:, 2] = torch.arange(count)
    quats = torch.tensor([[2.0, 0.0, 0.0, 0.0]]).expand(count, 4)
    gaussians = Gaussians(means, quats, torch.full((count, 3), sigma), torch.tensor(opacities), torch.tensor(colors))
    view = torch.eye(4)
    view[2, 3] = 4.0
    return gaussians, Camera(view, 40.0, 40.0, 16.5, 16.5, 33, 33)


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_a_round_gaussian_has_its_analytic_profile(backend: str) -> None:
    gaussians, camera = on_axis([0.8], [[0.5, 0.25, 1.0]])
    variance = (40.0 * 0.2 / 4.0) ** 2 + 0.3
    distance = torch.arange(33) - 16.0
    profile = 0.8 * torch.exp(-(distance**2) / (2 * variance))
    profile = torch.where(profile >= ALPHA_MIN, profile, 0.0)
    output = rasterize(gaussians, camera, backend)
    torch.testing.assert_close(output.alpha[16], profile, atol=2e-6, rtol=0)
    torch.testing.assert_close(output.alpha[:, 16], profile, atol=2e-6, rtol=0)
    torch.testing.assert_close(output.rgb, torch.tensor([0.5, 0.25, 1.0])[:, None, None] * output.alpha)


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_alpha_is_clamped_and_the_next_splat_no_longer_drawn(backend: str) -> None:
    gaussians, camera = on_axis([1.0, 1.0], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    output = rasterize(gaussians, camera, backend)
    # A second clamped splat would leave (1 - ALPHA_MAX)^2 < TRANSMITTANCE_MIN.
    assert (1 - ALPHA_MAX) ** 2 < TRANSMITTANCE_MIN
    torch.testing.assert_close(output.rgb[:, 16, 16], torch.tensor([ALPHA_MAX, 0.0, 0.0]))
    assert output.alpha[16, 16].item() == pytest.approx(ALPHA_MAX)


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_a_pixel_is_finished_before_the_splat_that_would_close_it(backend: str) -> None:
    gaussians, camera = on_axis([0.9, 0.9, 0.9, 0.95, 0.05], [[0.0, 0.0, 1.0]] * 3 + [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    output = rasterize(gaussians, camera, backend)
    # The fourth would leave 5e-5; it is not drawn, and the fifth, which would fit, is not drawn behind it.
    torch.testing.assert_close(output.rgb[:, 16, 16], torch.tensor([0.0, 0.0, 0.999]))


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_nearer_splats_cover_further_ones_in_any_order_of_the_input(backend: str) -> None:
    scene = ball(300, 50, 40, seed=8)
    shuffle = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    shuffled = scene.replaced(**{name: scene.parameters[name][shuffle] for name in PARAMETERS[:5]})
    expected, actual = (rasterize(s.gaussians, s.camera, backend) for s in (scene, shuffled))
    torch.testing.assert_close(actual.rgb, expected.rgb, atol=1e-6, rtol=0)
    assert (expected.rgb <= expected.alpha + 1e-6).all(), "premultiplied, and no color is above 1"


def test_over_puts_the_background_behind() -> None:
    gaussians, camera = on_axis([0.6], [[1.0, 0.0, 0.0]])
    output = rasterize(gaussians, camera)
    over_white = output.over(torch.ones(3))
    torch.testing.assert_close(over_white[:, 16, 16], torch.tensor([1.0, 0.4, 0.4]))
    torch.testing.assert_close(output.over(torch.ones(3, 33, 33)), over_white)
    with pytest.raises(ValueError, match=r"background must have shape \(3,\) or \(3, 33, 33\), got \(33, 33\)"):
        output.over(torch.ones(33, 33))


# --- inputs that are not drawn ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_no_gaussians_give_an_empty_image(backend: str) -> None:
    output, gradients = render_with_gradients(ball(0, 30, 20), backend)
    assert output.rgb.shape == (3, 20, 30)
    assert output.alpha.shape == (20, 30)
    assert not output.rgb.any() and not output.alpha.any()
    assert gradients["quats"].shape == (0, 4)
    assert not gradients["world_to_camera"].any()


@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_skipped(backend: str, value: float) -> None:
    scene = ball(53, 40, 30, seed=9, size=0.2)
    broken = {name: scene.parameters[name].clone() for name in PARAMETERS[:5]}
    for number, name in enumerate(PARAMETERS[:5]):
        broken[name][10 * number, ...] = value
    broken["quats"][52] = 0.0
    invalid = [0, 10, 20, 30, 40, 52]
    valid = [number for number in range(53) if number not in invalid]
    rest = scene.replaced(**{name: scene.parameters[name][valid] for name in PARAMETERS[:5]})

    expected, expected_gradients = render_with_gradients(rest, backend)
    actual, gradients = render_with_gradients(scene.replaced(**broken), backend)
    torch.testing.assert_close(actual.rgb, expected.rgb)
    for name in PARAMETERS[:5]:
        assert not gradients[name][invalid].any(), f"{name} of a Gaussian that is not drawn has no gradient"
        assert relative_error(gradients[name][valid], expected_gradients[name]) < 1e-5
    assert relative_error(gradients["world_to_camera"], expected_gradients["world_to_camera"]) < 1e-5


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_a_camera_that_is_not_finite_sees_nothing(backend: str) -> None:
    scene = ball(20, 16, 16)
    scene = scene.replaced(world_to_camera=torch.full((4, 4), float("nan")))
    output, gradients = render_with_gradients(scene, backend)
    assert not output.alpha.any()
    assert not any(gradient.any() for gradient in gradients.values())


# --- Numba and threads -----------------------------------------------------------------------------------------------


@pytest.fixture
def torch_threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_the_image_does_not_depend_on_the_number_of_threads(torch_threads) -> None:
    scene = ball(9000, 150, 130, seed=10, size=0.03)
    torch_threads(1)
    expected, expected_gradients = render_with_gradients(scene, "numba")
    for threads in (2, 3):
        torch_threads(threads)
        actual, gradients = render_with_gradients(scene, "numba")
        assert torch.equal(actual.rgb, expected.rgb)
        for name in PARAMETERS:
            assert relative_error(gradients[name], expected_gradients[name]) < 1e-5, name


def test_calls_from_several_threads_do_not_disturb_each_other(torch_threads) -> None:
    torch_threads(2)
    scenes = [ball(3000, 140, 70, seed=seed, size=0.03) for seed in range(4)]
    expected = [render_with_gradients(scene, "numba") for scene in scenes]
    with ThreadPoolExecutor(4) as executor:
        for _ in range(5):
            results = executor.map(lambda scene: render_with_gradients(scene, "numba"), scenes)
            for (actual, gradients), (image, expected_gradients) in zip(results, expected, strict=True):
                assert torch.equal(actual.rgb, image.rgb)
                assert relative_error(gradients["means"], expected_gradients["means"]) < 1e-5


def test_strided_inputs_and_gradients_are_understood() -> None:
    scene = ball(40, 30, 20)
    strided = scene.replaced(means=scene.parameters["means"].T.contiguous().T)
    leaves, strided_leaves = scene.leaves(), strided.leaves()
    rasterize(leaves.gaussians, leaves.camera, "numba").rgb.sum().backward()  # an expanded scalar as gradient
    rasterize(strided_leaves.gaussians, strided_leaves.camera, "numba").rgb.sum().backward()
    torch.testing.assert_close(strided_leaves.parameters["means"].grad, leaves.parameters["means"].grad)


def test_without_gradients_the_image_is_the_same_and_nothing_is_kept() -> None:
    leaves = ball(100, 40, 30).leaves()
    with_gradients = rasterize(leaves.gaussians, leaves.camera, "numba")
    with torch.no_grad():
        without = rasterize(leaves.gaussians, leaves.camera, "numba")
    assert torch.equal(with_gradients.rgb, without.rgb)
    assert with_gradients.rgb.requires_grad and not without.rgb.requires_grad


def test_backward_may_run_twice_but_not_after_an_input_changed() -> None:
    leaves = ball(100, 40, 30).leaves()
    means = leaves.parameters["means"]
    rgb = rasterize(leaves.gaussians, leaves.camera, "numba").rgb
    first, second = (torch.autograd.grad(rgb.sum(), means, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)
    with torch.no_grad():
        leaves.parameters["world_to_camera"].add_(0.1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        rgb.sum().backward()


def test_every_call_runs_the_same_compiled_kernels() -> None:
    """A second signature would mean another wait for the compiler in the middle of a fit."""
    from render import _rasterize_numba as numba_backend

    for count, width, height in ((0, 1, 1), (1, 5, 300), (33, 300, 5)):
        render_with_gradients(ball(count, width, height), "numba")
    kernels = ("project", "sort_by_depth", "bin_into_tiles", "blend", "blend_backward", "project_backward")
    assert {name: len(getattr(numba_backend, name).signatures) for name in kernels} == dict.fromkeys(kernels, 1)


def test_kernels_need_no_instruction_set() -> None:
    """Compiled for a processor without any extension, the kernels still match the reference."""
    program = """
import torch
from rasterize_scenes import PARAMETERS, ball, relative_error, render_with_gradients
scene = ball(60, 70, 40, size=0.2)
expected, expected_gradients = render_with_gradients(scene, "torch", torch.float64)
actual, gradients = render_with_gradients(scene, "numba")
assert (actual.rgb - expected.rgb).abs().max() < 1e-4
assert all(relative_error(gradients[name], expected_gradients[name]) < 1e-3 for name in PARAMETERS)
"""
    tests = Path(__file__).parent
    environment = {
        **os.environ,
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CPU_FEATURES": "",
        "PYTHONPATH": os.pathsep.join([str(tests.parent), str(tests)]),
    }
    result = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
