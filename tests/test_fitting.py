"""Fitting on a scene of 64 px: it gets better, it is repeatable, it can be interrupted, its gradients are right."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from itertools import groupby, islice

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from tiny_head import (
    CONFIG,
    FRAMES,
    SIDE,
    RenderedFrames,
    background,
    bones,
    fitter,
    painted_head,
    rendered_frames,
    targets,
    tiny_head,
)
from torch import Tensor

from render.fitting import FittingProgress, FrameStates, HeadFitter, LearningRates, Stage, TrainingFrame
from render.head_model import BonePose, HeadModel, Intrinsics, small_rotation
from render.losses import LossTarget, LossWeights, picture_loss, reference_picture_loss

frames = cache(rendered_frames)


def steps_of(events: Iterable[FittingProgress]) -> list[int]:
    """The steps that were taken, in order."""
    return [step for step, _ in groupby(event.step for event in events)]


def finished(job: HeadFitter) -> HeadFitter:
    for _ in job.run():
        pass
    return job


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert tensor.dtype == second[name].dtype and torch.equal(tensor, second[name]), name


@pytest.fixture(scope="module")
def uninterrupted() -> dict[str, Tensor]:
    return finished(fitter(frames())).to_tensors()


# --- progress ---


def test_the_pictures_are_approached() -> None:
    job = fitter(frames(), steps=150)
    losses = [event.loss for event in job.run()]
    assert np.mean(losses[-15:]) < 0.5 * np.mean(losses[:15])
    assert steps_of(fitter(frames(), steps=5).run()) == [1, 2, 3, 4, 5]


def test_an_event_tells_steps_and_gaussians() -> None:
    job = fitter(frames())
    events = list(job.run())
    assert steps_of(events) == list(range(1, 41)) and {event.steps for event in events} == {40}
    assert len(events) == 40 + 2 * FRAMES  # while frames are registered the step stands still
    assert events[-1].gaussians == len(job.model) > events[0].gaussians
    assert list(job.run()) == []


@pytest.mark.parametrize("cap", [100, 280, 301])
def test_the_count_stays_under_the_cap(cap: int) -> None:
    started = len(tiny_head())
    for event in fitter(frames(), cap=cap, growth=0.5).run():
        assert event.gaussians <= max(cap, started)


def test_poses_are_refined_only_if_asked_for() -> None:
    refined, fixed = finished(fitter(frames())), finished(fitter(frames(), refine_poses=False))
    assert refined.states.head_turn.abs().max() > 0
    assert all(bool((parameter == 0).all()) for parameter in fixed.states.parameters())


# --- repeatable ---


def test_the_same_seed_gives_the_same_bits(uninterrupted: dict[str, Tensor]) -> None:
    torch.manual_seed(123)
    np.random.seed(123)
    assert_same(finished(fitter(frames())).to_tensors(), uninterrupted)


def test_another_seed_gives_another_fit(uninterrupted: dict[str, Tensor]) -> None:
    other = finished(fitter(frames(), seed=1)).to_tensors()
    assert not torch.equal(other["states.head_turn"], uninterrupted["states.head_turn"])


@pytest.mark.parametrize("stopped_after", [3, 13, 17, 51])  # the second while frames are registered
def test_an_interrupted_fit_goes_on_to_the_same_bits(uninterrupted: dict[str, Tensor], stopped_after: int) -> None:
    first = fitter(frames())
    events = list(islice(first.run(), stopped_after))
    tensors = first.to_tensors()
    assert all(tensor.is_contiguous() and not tensor.requires_grad for tensor in tensors.values())
    kept = {name: tensor.clone() for name, tensor in tensors.items()}
    second = fitter(frames(), model_seed=5)  # whatever it started from is replaced
    second.restore(kept)
    rest = list(second.run())
    assert steps_of(events + rest) == list(range(1, 41))
    assert_same(second.to_tensors(), uninterrupted)


def test_restoring_does_not_tie_the_fit_to_the_tensors() -> None:
    first = fitter(frames())
    list(islice(first.run(), 7))
    tensors = {name: tensor.clone() for name, tensor in first.to_tensors().items()}
    kept = {name: tensor.clone() for name, tensor in tensors.items()}
    second = fitter(frames())
    second.restore(tensors)
    list(islice(second.run(), 7))
    assert_same(tensors, kept)


def test_tensors_of_another_fit_are_refused() -> None:
    tensors = fitter(frames()).to_tensors()
    del tensors["model.face.means"]
    with pytest.raises(KeyError, match=r"model\.face\.means"):
        fitter(frames()).restore(tensors)


# --- schedule ---


class Watched(RenderedFrames):
    """Remembers what was asked for."""

    asked: list[tuple[int, int]] = []  # noqa: RUF012 - set anew by the test

    def load(self, index: int, resolution: int) -> TrainingFrame:
        self.asked.append((index, resolution))
        return super().load(index, resolution)


def test_stages_set_the_resolution_and_every_frame_comes_once_an_epoch() -> None:
    watched = Watched(frames().frames)
    Watched.asked = []
    finished(fitter(watched, registration=None))
    assert [side for _, side in watched.asked] == [32] * 10 + [64] * 30
    order = [index for index, _ in watched.asked]
    epochs = [order[start : start + FRAMES] for start in range(0, 36, FRAMES)]
    assert all(sorted(epoch) == list(range(FRAMES)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_densification_comes_when_the_stage_says_so() -> None:
    stages = (Stage(0.5, 0.5, 3), Stage(0.5, 1.0, 0))
    job = fitter(frames(), stages=stages, cap=10_000, registration=None)
    counts = [len(tiny_head()), *(event.gaussians for event in job.run())]
    assert [step for step in range(1, 41) if counts[step] != counts[step - 1]] == [5, 10, 15]


def test_learning_rates_stay_and_then_fall() -> None:
    job = fitter(frames(), rates=LearningRates(means=1e-3, final=0.01), stages=(Stage(1.0, 0.5, 0),))
    rates = []
    for _ in job.run():
        rates.append(job.optimizer.param_groups[0]["lr"])
    assert rates[:20] == [1e-3] * 20
    assert np.allclose(rates[20:], 1e-3 * 0.01 ** (np.arange(20) / 20))
    assert job.optimizer.param_groups[3]["lr"] == pytest.approx(LearningRates().opacity_logits * 0.01 ** (19 / 20))


def test_windows_lie_inside_the_picture_around_the_face() -> None:
    job = fitter(frames())
    face = np.zeros((50, 60), np.uint8)
    face[0, 59] = 1  # at the corner
    for step in range(20):
        job.step = step
        assert job._window(face) == (slice(0, 24), slice(36, 60))
    assert job._window(np.zeros((12, 12), np.uint8)) == (slice(0, 12), slice(0, 12))
    middle = np.zeros((64, 64), np.uint8)
    middle[20:40, 20:40] = 1
    windows = set()
    for step in range(20):
        job.step = step
        rows, columns = job._window(middle)
        assert rows.stop - rows.start == columns.stop - columns.start == 24
        windows.add((rows.start, columns.start))
    assert len(windows) > 10


# --- poses ---


def test_small_rotations_are_those_of_scipy_and_differentiable_at_zero() -> None:
    vector = torch.tensor([0.02, -0.3, 0.1])
    assert np.allclose(small_rotation(vector).numpy(), Rotation.from_rotvec(vector.numpy()).as_matrix(), atol=1e-6)
    zero = torch.zeros(3, requires_grad=True)
    small_rotation(zero)[2, 1].backward()
    assert torch.allclose(zero.grad, torch.tensor([1.0, 0.0, 0.0]))


def test_unrefined_poses_are_the_tracked_ones() -> None:
    poses = FrameStates(targets())
    for index in range(FRAMES):
        for name, expected in vars(bones(index)).items():
            assert torch.allclose(getattr(poses.pose(index), name), expected, atol=1e-6), name


def test_a_wrong_pose_is_corrected() -> None:
    """The true model, one head shifted by two pixels: refining brings it back."""
    wrong = targets()
    wrong.head_translations[2, 0] += 2 * 4 / 130
    rates = LearningRates(**{name: 0.0 for name in vars(LearningRates())} | {"pose_translation": 4e-3, "final": 0.1})
    config = replace(CONFIG, steps=FRAMES * 25, rates=rates, stages=(Stage(1.0, 1.0, 0),))
    model = painted_head().requires_grad_(True)
    job = finished(HeadFitter(model, wrong, frames(), background(), config, seed=0))
    shift = job.states.head_shift.detach().numpy()
    assert shift[2, 0] * 130 / 4 == pytest.approx(-2, abs=0.5)
    assert np.abs(np.delete(shift, 2, axis=0)[:, :2]).max() * 130 / 4 < 0.5


# --- gradients ---


def perturbed_head() -> HeadModel:
    """Nothing at zero or at its bounds any more, so that every parameter has a gradient."""
    model = tiny_head()
    torch.manual_seed(0)
    for branch in (model.face, model.body, model.mouth):
        branch.log_scales.data += 0.4 * torch.randn_like(branch.log_scales)
        branch.skinning_logits.data = torch.randn_like(branch.skinning_logits)
    for branch in (model.face, model.body, model.mouth):
        torch.nn.init.normal_(branch.field.output_layer.weight, std=0.3)
    return model


def loss_target() -> LossTarget:
    frame = frames().load(1, SIDE)
    tensors = (torch.from_numpy(part) for part in vars(frame).values())
    behind = torch.from_numpy(background()).permute(2, 0, 1).float() / 255
    return LossTarget(*tensors, behind, slice(20, 44), slice(16, 40))


def in_double(pose: BonePose) -> BonePose:
    return BonePose(*(part.double() for part in vars(pose).values()))


def gradient_names() -> Iterator[str]:
    for name, _ in perturbed_head().named_parameters():
        yield name


@pytest.mark.parametrize("name", [*gradient_names()])
def test_gradients_through_rasterizer_and_motion_agree_with_finite_differences(name: str) -> None:
    """The float32 path that fits (Numba, fused loss) against differences of the float64 reference."""
    model, target, weights = perturbed_head(), loss_target(), LossWeights()
    code = torch.from_numpy(targets().codes[1])
    camera = Intrinsics(130.0, SIDE).camera()
    picture_loss(*model.render_branches(bones(1), code, camera, "numba"), target, weights).backward()
    gradient = model.get_parameter(name).grad.double()
    exact = copy.deepcopy(model).double()
    if name.endswith("means"):
        exact.bake()  # where a Gaussian is chooses its motion, by design without a gradient into where it is
    camera = replace(camera, world_to_camera=camera.world_to_camera.double())
    generator = torch.Generator().manual_seed(0)
    # Half along the gradient, half anywhere: a random direction alone would be all but orthogonal to it.
    direction = torch.randn(gradient.shape, generator=generator, dtype=torch.float64)
    direction = direction / direction.norm() + gradient / gradient.norm()

    @torch.no_grad()
    def moved(step: float) -> float:
        parameter = exact.get_parameter(name)
        parameter += step * direction
        renders = exact.render_branches(in_double(bones(1)), code.double(), camera, "torch")
        parameter -= step * direction
        return float(reference_picture_loss(*renders, target, weights))

    slope = (moved(3e-6) - moved(-3e-6)) / 6e-6
    assert float((gradient * direction).sum()) == pytest.approx(slope, rel=2e-2)
