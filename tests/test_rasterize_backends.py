"""The choice of the back end, its reasons, and what gsplat is handed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from gsplat_stand_ins import FakeGsplat, TorchKernels
from rasterize_scenes import PARAMETERS, ball, relative_error, render_with_gradients, stacked

from render import _rasterize_gsplat
from render import rasterize as module
from render._constants import EPS2D, FAR_PLANE, NEAR_PLANE
from render.cameras import Camera
from render.gaussians import Gaussians
from render.rasterize import (
    Backend,
    BackendStatus,
    BackendUnavailableError,
    RenderOutput,
    available_backends,
    choose_backend,
    rasterize,
)


@pytest.fixture
def gsplat_status(monkeypatch: pytest.MonkeyPatch):
    """Makes gsplat (un)usable, as on another machine."""

    def set_problem(problem: str | None) -> None:
        monkeypatch.setattr(module, "why_gsplat_is_unusable", lambda: problem)

    return set_problem


def test_every_backend_has_a_reason() -> None:
    statuses = {status.name: status for status in available_backends()}
    assert list(statuses) == ["gsplat", "numba", "torch"]
    assert all(status.reason for status in statuses.values())
    assert statuses["numba"].usable and statuses["torch"].usable


def test_auto_follows_the_device_and_says_why(gsplat_status) -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert choose_backend(cpu).name == "numba"
    gsplat_status(None)
    assert choose_backend(cuda).name == "gsplat"
    gsplat_status("nvcc is missing; install it")
    assert choose_backend(cuda) == BackendStatus("torch", True, "gsplat cannot run: nvcc is missing; install it")
    assert choose_backend(torch.device("meta")).name == "torch"


def test_auto_renders_what_numba_renders() -> None:
    scene = ball(30, 20, 20)
    automatic, numba = (rasterize(scene.gaussians, scene.camera, backend) for backend in ("auto", "numba"))
    assert torch.equal(automatic.rgb, numba.rgb)


def test_a_missing_backend_asked_for_by_name_names_reason_and_remedy(gsplat_status) -> None:
    scene = ball(5, 8, 8)
    gsplat_status("gsplat is not installed; install it with: pip install gsplat==1.5.3")
    with pytest.raises(BackendUnavailableError, match="gsplat rasterizer cannot run here: gsplat is not installed; in"):
        rasterize(scene.gaussians, scene.camera, "gsplat")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_gsplat_without_cuda_is_unavailable() -> None:
    scene = ball(5, 8, 8)
    with pytest.raises(BackendUnavailableError, match="gsplat"):
        rasterize(scene.gaussians, scene.camera, "gsplat")


@pytest.mark.parametrize(
    ("version", "cuda", "reason"),
    [
        (None, True, "gsplat is not installed; install it with: pip install gsplat==1.5.3"),
        ("1.6.0", True, "gsplat 1.6.0 may blend differently from the 1.5.3"),
        ("1.5.3+pt24cu124", False, "torch sees no CUDA device"),
    ],
)
def test_reasons_why_gsplat_cannot_run(monkeypatch, version: str | None, cuda: bool, reason: str) -> None:
    def find_version(name: str) -> str:
        if version is None:
            raise _rasterize_gsplat.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(_rasterize_gsplat, "version", find_version)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert reason in _rasterize_gsplat.why_gsplat_is_unusable.__wrapped__()


@pytest.fixture
def fake_gsplat(monkeypatch: pytest.MonkeyPatch, gsplat_status) -> FakeGsplat:
    gsplat_status(None)
    fake = FakeGsplat()
    monkeypatch.setitem(sys.modules, "gsplat", SimpleNamespace(rasterization=fake.rasterization))
    return fake


def test_gsplat_is_handed_the_scene_and_the_thresholds(fake_gsplat: FakeGsplat) -> None:
    scene = ball(40, 30, 22, size=0.2)
    expected, expected_gradients = render_with_gradients(scene, "torch")
    actual, gradients = render_with_gradients(scene, "gsplat")
    torch.testing.assert_close(actual.rgb, expected.rgb)
    torch.testing.assert_close(actual.alpha, expected.alpha)
    for name in PARAMETERS:
        assert relative_error(gradients[name], expected_gradients[name]) < 1e-5, name
    (options,) = fake_gsplat.calls
    assert options == {
        "near_plane": NEAR_PLANE,
        "far_plane": FAR_PLANE,
        "eps2d": EPS2D,
        "packed": False,
        "rasterize_mode": "classic",
    }


def test_gsplat_is_spared_values_that_are_not_finite(fake_gsplat: FakeGsplat) -> None:
    scene = ball(12, 30, 22, size=0.2)
    means, colors, quats = (scene.parameters[name].clone() for name in ("means", "colors", "quats"))
    means[0, 1], colors[1, 2], quats[2] = float("nan"), float("inf"), 0.0
    output, gradients = render_with_gradients(scene.replaced(means=means, colors=colors, quats=quats), "gsplat")
    rest = scene.replaced(**{name: scene.parameters[name][3:] for name in PARAMETERS[:5]})
    torch.testing.assert_close(output.rgb, rasterize(rest.gaussians, rest.camera, "torch").rgb)
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())


# --- batches ---


def three_frames() -> tuple[list[Gaussians], Camera]:
    """Different Gaussians before one camera, that of the first scene."""
    scenes = [ball(40, 30, 22, seed=seed, size=0.2) for seed in range(3)]
    return [scene.gaussians for scene in scenes], scenes[0].camera


def assert_equal_frames(batch: RenderOutput, frames: list[RenderOutput], **tolerances: float) -> None:
    torch.testing.assert_close(batch.rgb, torch.stack([frame.rgb for frame in frames]), **tolerances)
    torch.testing.assert_close(batch.alpha, torch.stack([frame.alpha for frame in frames]), **tolerances)


@pytest.mark.parametrize("backend", ["torch", "numba", "gsplat"])
def test_a_batch_is_its_frames(backend: Backend, fake_gsplat: FakeGsplat) -> None:
    frames, camera = three_frames()
    batch = rasterize(stacked(frames), camera, backend)
    assert len(fake_gsplat.calls) == (backend == "gsplat"), "one launch"
    assert_equal_frames(batch, [rasterize(frame, camera, backend) for frame in frames])
    background = torch.rand(3, 22, 30)
    over = [rasterize(frame, camera, backend).over(background) for frame in frames]
    torch.testing.assert_close(batch.over(background), torch.stack(over))


@pytest.mark.parametrize("backend", ["numba", "gsplat"])
def test_gradients_of_a_batch_are_those_of_its_frames(backend: Backend, fake_gsplat: FakeGsplat) -> None:
    scenes = [ball(40, 30, 22, seed=seed, size=0.2).leaves() for seed in range(2)]
    view = scenes[0].parameters["world_to_camera"]
    frames = [scene.replaced(world_to_camera=view) for scene in scenes]

    def gradients(loss: torch.Tensor) -> list[torch.Tensor]:
        leaves = [scene.parameters[name] for scene in scenes for name in PARAMETERS[:5]]
        return list(torch.autograd.grad(loss, [*leaves, view]))

    alone = sum(rasterize(frame.gaussians, frame.camera, backend).rgb.square().sum() for frame in frames)
    batch = rasterize(stacked([frame.gaussians for frame in frames]), frames[0].camera, backend)
    for actual, expected in zip(gradients(batch.rgb.square().sum()), gradients(alone), strict=True):
        assert relative_error(actual, expected) < 1e-5


def test_a_value_that_is_not_finite_counts_in_its_frame_alone(fake_gsplat: FakeGsplat) -> None:
    frames, camera = three_frames()
    means = stacked(frames).means.clone()
    means[1, 4, 2] = float("nan")
    broken = [Gaussians(each, *list(vars(frame).values())[1:]) for each, frame in zip(means, frames, strict=True)]
    batch = rasterize(stacked(broken), camera, "gsplat")
    assert_equal_frames(batch, [rasterize(frame, camera, "torch") for frame in broken])


@pytest.mark.parametrize("is_batch", [False, True])
def test_real_gsplat_takes_what_it_is_handed(is_batch: bool, monkeypatch: pytest.MonkeyPatch, gsplat_status) -> None:
    """All of gsplat's own Python code, with its assertions on shapes, down to the kernels."""
    wrapper = pytest.importorskip("gsplat.cuda._wrapper")
    kernels = TorchKernels()
    gsplat_status(None)
    monkeypatch.setattr(wrapper, "_make_lazy_cuda_func", kernels.find)
    monkeypatch.setattr(wrapper, "_make_lazy_cuda_obj", lambda name: name)
    frames, camera = three_frames()
    frames = frames if is_batch else frames[:1]
    with torch.no_grad():
        image = rasterize(stacked(frames) if is_batch else frames[0], camera, "gsplat")
    image = image if is_batch else RenderOutput(image.rgb[None], image.alpha[None])
    assert_equal_frames(image, [rasterize(frame, camera, "torch") for frame in frames], atol=1e-4, rtol=1e-4)
    assert len(kernels.launches) == 4, "one launch of each kernel"


def test_real_gsplat_has_the_arguments_that_it_is_handed() -> None:
    """The fake takes any option; this binds the same ones to the signature of the real function."""
    import inspect

    gsplat = pytest.importorskip("gsplat")
    names = set(inspect.signature(gsplat.rasterization).parameters)
    assert names >= {"means", "quats", "scales", "opacities", "colors", "viewmats", "Ks", "width", "height"}
    assert names >= {"near_plane", "far_plane", "eps2d", "packed", "rasterize_mode"}


def test_tensors_a_backend_cannot_take_are_named() -> None:
    doubles = ball(5, 8, 8).leaves(torch.float64)
    with pytest.raises(ValueError, match=r"float32 on the cpu, got torch.float64 on cpu as gaussians"):
        rasterize(doubles.gaussians, doubles.camera, "numba")
    scene = ball(5, 8, 8)
    elsewhere = scene.replaced(world_to_camera=torch.empty(4, 4, device="meta"))
    with pytest.raises(ValueError, match=r"device of the Gaussians \(cpu\), got meta"):
        rasterize(scene.gaussians, elsewhere.camera)


def test_importing_the_rasterizer_loads_no_backend() -> None:
    program = "import sys, render.rasterize; print([m for m in ('numba', 'gsplat') if m in sys.modules])"
    root = Path(__file__).parent.parent
    result = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
