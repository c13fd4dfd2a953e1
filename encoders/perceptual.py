"""Learned perceptual image patch similarity, LPIPS v0.1 (Zhang et al. 2018, arXiv 1801.03924, Eq. 1).

The package `lpips` brings the method and its linear weights; the networks below them are torchvision's, trained on
ImageNet, fetched and checked as all weights are. torchvision states the first eight digits of their SHA-256 in the
file names; the rest was taken down from the files as they are published.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib import util

import numpy as np
import torch
from torch import Tensor, nn

from encoders.acoustic.weights import WeightsFile, load_checkpoint, load_state
from encoders.errors import FeatureUnavailableError

_TORCHVISION = "https://download.pytorch.org/models"


@dataclass(frozen=True)
class Backbone:
    """A network whose layers are compared."""

    name: str  # as `lpips` calls it
    weights: WeightsFile


ALEX = Backbone(
    "alex",
    WeightsFile(
        "alexnet-owt-7be5be79.pth",
        f"{_TORCHVISION}/alexnet-owt-7be5be79.pth",
        "BSD-3-Clause",
        244,
        sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
    ),
)
VGG = Backbone(
    "vgg",
    WeightsFile(
        "vgg16-397923af.pth",
        f"{_TORCHVISION}/vgg16-397923af.pth",
        "BSD-3-Clause",
        553,
        sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    ),
)


def require_package() -> None:
    """
    Raises:
        FeatureUnavailableError: `lpips` is not installed.
    """
    if util.find_spec("lpips") is None:
        raise FeatureUnavailableError("LPIPS needs another package: pip install 'talkinghead[lpips]'")


class PerceptualDistance:
    """LPIPS of pictures; 0 is identical. May be used by several threads."""

    def __init__(self, backbone: Backbone) -> None:
        """Reads the weights, which must be here (see `encoders.acoustic.weights.fetch`).

        Raises:
            FeatureUnavailableError: `lpips` is not installed.
            EncoderWeightsError: the weights are missing or damaged.
        """
        require_package()
        import lpips

        state = load_checkpoint(backbone.weights)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # it builds torchvision's networks as was usual in 2020
            self._model = lpips.LPIPS(net=backbone.name, pnet_rand=True, verbose=False)
        layers = {name: f"features.{name.split('.', 1)[1]}" for name in self._model.net.state_dict()}
        found = {name: state[place] for name, place in layers.items() if place in state}
        load_state(self._model.net, found, backbone.weights)
        self._model.requires_grad_(False)

    @property
    def network(self) -> nn.Module:
        """The method's own module."""
        return self._model

    def __call__(self, picture: np.ndarray, truth: np.ndarray) -> float:
        """Distance of two pictures, uint8 [H, W, 3] RGB, 64 px or more each way."""
        if np.array_equal(picture, truth):
            return 0.0
        with torch.inference_mode():
            return float(self._model(_signed(picture), _signed(truth)))


def _signed(picture: np.ndarray) -> Tensor:
    """[1, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1
