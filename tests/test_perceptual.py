"""LPIPS: the package's method on networks of random weights, and what is said where it cannot be had."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import alexnet

import encoders.perceptual
from encoders.acoustic.weights import weights_folder
from encoders.errors import EncoderWeightsError
from encoders.perceptual import ALEX, VGG, Backbone, PerceptualDistance
from talkinghead.evaluation.faces import RowFaces
from talkinghead.evaluation.instruments import Drive, ObservedFrame
from talkinghead.evaluation.perceptual import EVERY, PerceptualInstrument, perceptual_instruments


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    weights_folder().mkdir(parents=True)
    return weights_folder()


@pytest.fixture
def random_alex(cache: Path) -> tuple[Backbone, nn.Sequential]:
    """A backbone as torchvision publishes it, of random weights, and its layers."""
    pytest.importorskip("lpips", reason="needs downloaded weights: LPIPS's own come with its package")
    torch.manual_seed(0)
    network = alexnet().features.eval()
    path = cache / ALEX.weights.name
    torch.save({f"features.{name}": value for name, value in network.state_dict().items()}, path)
    weights = replace(ALEX.weights, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    return replace(ALEX, weights=weights), network


def pictures() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    truth = random.integers(0, 256, (64, 96, 3), dtype=np.uint8)
    return np.clip(truth + random.normal(scale=20, size=truth.shape), 0, 255).astype(np.uint8), truth


def test_the_distance_is_that_of_the_paper(random_alex: tuple[Backbone, nn.Sequential]) -> None:
    backbone, layers = random_alex
    distance, (picture, truth) = PerceptualDistance(backbone), pictures()
    mean, spread = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    a, b = (((torch.from_numpy(part) / 255 - mean) / spread).permute(2, 0, 1)[None] for part in (picture, truth))
    expected, linear = 0.0, iter(distance.network.lins)
    with torch.inference_mode():
        for number, layer in enumerate(layers):
            a, b = layer(a), layer(b)
            if number in (1, 4, 7, 9, 11):  # after every ReLU
                unit = [part / part.square().sum(1, keepdim=True).sqrt().clamp(min=1e-10) for part in (a, b)]
                weight = next(linear).model[-1].weight
                expected += float(((unit[0] - unit[1]).square() * weight[0, :, :, :]).sum(1).mean())
    assert distance(picture, truth) == pytest.approx(expected, rel=1e-3) and expected > 0
    assert distance(truth, truth) == 0.0


def test_a_row_is_measured_on_some_of_its_frames(random_alex: tuple[Backbone, nn.Sequential]) -> None:
    instrument, (picture, truth) = PerceptualInstrument(random_alex[0], lambda *_: 0.25), pictures()
    area = (np.ones((64, 96), bool), (slice(10, 30), slice(10, 40)), RowFaces(ExitStack()))
    for has_truth, expected in ((True, 0.25), (False, np.nan)):
        observer = instrument.observer(Drive("row", np.zeros((EVERY, 3)), np.zeros(1), has_truth), ExitStack())
        for number in range(EVERY + 1):
            observer.see(ObservedFrame(number, truth, picture, picture, *area))
        figures = observer.figures(observer)
        assert list(figures) == [measure.name for measure in instrument.measures]
        assert list(figures.values()) == pytest.approx([expected] * 3, nan_ok=True)


def test_damaged_weights_are_refused_before_they_are_read(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders.perceptual, "require_package", lambda: None)
    for backbone in (ALEX, VGG):
        backbone.weights.path.write_bytes(b"damaged")
        assert backbone.weights.sha256.startswith(backbone.weights.path.stem.split("-")[-1])
        with pytest.raises(EncoderWeightsError, match=f"{backbone.weights.sha256}: delete it"):
            encoders.perceptual.load_checkpoint(backbone.weights)


def finished(job: object) -> tuple[list[PerceptualInstrument], list[str]]:
    try:
        while True:
            next(job)
    except StopIteration as end:
        return end.value


def test_without_the_package_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders.perceptual.util, "find_spec", lambda name: None)
    assert finished(perceptual_instruments()) == (
        [],
        ["LPIPS needs another package: pip install 'talkinghead[lpips]'"],
    )


def test_damaged_weights_are_a_line_each(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lpips", reason="needs downloaded weights: LPIPS's own come with its package")
    for backbone in (ALEX, VGG):
        backbone.weights.path.write_bytes(b"damaged")
    instruments, notes = finished(perceptual_instruments())
    assert instruments == [] and [note[:12] for note in notes] == ["LPIPS (alex)", "LPIPS (vgg) "]
    assert all("SHA-256" in note and "delete it" in note for note in notes)
