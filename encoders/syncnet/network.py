"""The network of "Out of time: automated lip sync in the wild" (Chung and Zisserman, ACCV Workshops 2016).

A convolutional network for 0.2 s of sound and one for the five video frames of the same time, trained so that outputs
are near where both belong together. This is the model that the authors publish and that LSE-C and LSE-D (Prajwal et
al. 2020, Wav2Lip, Sec. 4.2) are defined by: 224 px pictures in colour and 1024 outputs, not the paper's 120 px and 256.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from encoders.acoustic.weights import WeightsFile, load_checkpoint, load_state

SYNCNET = WeightsFile(
    "syncnet_v2.model",
    "http://www.robots.ox.ac.uk/~vgg/software/lipsync/data/syncnet_v2.model",
    "not stated; the code beside it is MIT",
    55,
    sha256="961e8696f888fce4f3f3a6c3d5b3267cf5b343100b238e79b2659bff2c605442",
)
"""The published weights. The hash is that which several projects state who use the file; its authors state none."""
FRAMES = 5
"""Pictures that the video branch sees at once."""
PICTURE_SIZE = 224
COEFFICIENTS, STEPS = 13, 20
"""Cepstral coefficients, and steps of 10 ms, that the audio branch hears at once."""
EMBEDDING_SIZE = 1024


@dataclass(frozen=True)
class _Convolution:
    """Convolution, batch normalisation, ReLU and, where `pool` says so, the maximum over a window."""

    channels: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...] | int = 1
    padding: tuple[int, ...] | int = 0
    pool: nn.Module | None = None


_SOUND = (
    _Convolution(64, (3, 3), padding=1, pool=nn.MaxPool2d(1)),
    _Convolution(192, (3, 3), padding=1, pool=nn.MaxPool2d(3, stride=(1, 2))),
    _Convolution(384, (3, 3), padding=1),
    _Convolution(256, (3, 3), padding=1),
    _Convolution(256, (3, 3), padding=1, pool=nn.MaxPool2d(3, stride=2)),
    _Convolution(512, (5, 4)),
)
_PICTURES = (
    _Convolution(96, (FRAMES, 7, 7), (1, 2, 2), pool=nn.MaxPool3d((1, 3, 3), (1, 2, 2))),
    _Convolution(256, (1, 5, 5), (1, 2, 2), (0, 1, 1), nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))),
    _Convolution(256, (1, 3, 3), padding=(0, 1, 1)),
    _Convolution(256, (1, 3, 3), padding=(0, 1, 1)),
    _Convolution(256, (1, 3, 3), padding=(0, 1, 1), pool=nn.MaxPool3d((1, 3, 3), (1, 2, 2))),
    _Convolution(512, (1, 6, 6)),
)
_PUBLISHED_NAMES = {
    "netcnnaud": "sound_convolutions",
    "netfcaud": "sound_head",
    "netcnnlip": "picture_convolutions",
    "netfclip": "picture_head",
}


class SyncNet(nn.Module):
    """Both branches; in evaluation mode windows do not depend on each other."""

    def __init__(self) -> None:
        super().__init__()
        self.sound_convolutions = _stack(1, _SOUND, nn.Conv2d, nn.BatchNorm2d)
        self.sound_head = _head()
        self.picture_convolutions = _stack(3, _PICTURES, nn.Conv3d, nn.BatchNorm3d)
        self.picture_head = _head()

    def embed_sound(self, windows: Tensor) -> Tensor:
        """[n, EMBEDDING_SIZE] for cepstral windows [n, COEFFICIENTS, STEPS] (see `sound`)."""
        return self.sound_head(self.sound_convolutions(windows[:, None]).flatten(1))

    def embed_pictures(self, windows: Tensor) -> Tensor:
        """[n, EMBEDDING_SIZE] for pictures [n, 3, FRAMES, PICTURE_SIZE, PICTURE_SIZE] in [0, 255], blue first."""
        return self.picture_head(self.picture_convolutions(windows).flatten(1))


def load_syncnet(file: WeightsFile = SYNCNET) -> SyncNet:
    """The network with its weights, which `weights.fetch` has brought, in evaluation mode.

    Raises:
        EncoderWeightsError: the file is missing, damaged, or holds another network.
    """
    state = load_checkpoint(file)
    renamed = {}
    for name, tensor in state.items():
        part, _, rest = name.partition(".")
        renamed[f"{_PUBLISHED_NAMES.get(part, part)}.{rest}"] = tensor
    network = SyncNet()
    load_state(network, renamed, file)
    return network.eval().requires_grad_(False)


def _stack(
    channels: int, layers: Sequence[_Convolution], convolution: type[nn.Module], normalisation: type[nn.Module]
) -> nn.Sequential:
    modules: list[nn.Module] = []
    for layer in layers:
        modules += [
            convolution(channels, layer.channels, layer.kernel, layer.stride, layer.padding),
            normalisation(layer.channels),
            nn.ReLU(inplace=True),
        ]
        if layer.pool is not None:
            modules.append(layer.pool)
        channels = layer.channels
    return nn.Sequential(*modules)


def _head() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(inplace=True), nn.Linear(512, EMBEDDING_SIZE)
    )
