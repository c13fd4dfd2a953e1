"""Encoder bundles: weights tied to their sample rate, provenance and factory, in the manner of torchaudio's bundles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from encoders.errors import EncoderWeightsError
from encoders.spectrogram import SAMPLE_RATE
from encoders.speech import SpeechEncoder


@dataclass(frozen=True)
class EncoderBundle:
    """One trained encoder: where its weights lie, what they were trained on and how to build it."""

    name: str
    sample_rate: int  # Hz
    weights: Path  # safetensors
    paper: str
    data: str
    licence: str
    factory: Callable[[], SpeechEncoder]

    def load(self) -> SpeechEncoder:
        """The encoder in evaluation mode, float32, on the CPU.

        Raises:
            EncoderWeightsError: the file is missing, damaged or made for another architecture.
        """
        encoder = self.factory()
        try:
            state = load_file(self.weights)
            encoder.load_state_dict({name: _full_precision(tensor) for name, tensor in state.items()})
        except FileNotFoundError as error:
            raise EncoderWeightsError(f"no encoder weights at {self.weights}; reinstall the package") from error
        except (SafetensorError, RuntimeError) as error:
            raise EncoderWeightsError(
                f"{self.weights} does not hold the weights of encoder {self.name!r} ({error}); replace the file"
            ) from error
        return encoder.eval().requires_grad_(False)

    def provenance(self) -> dict[str, str]:
        """The metadata written into the weights file: training data, hours, phones, figures."""
        with safe_open(self.weights, framework="pt") as file:
            return dict(file.metadata() or {})


def save_encoder(encoder: SpeechEncoder, path: Path, provenance: Mapping[str, str]) -> None:
    """Writes the weights in half precision, with what they were trained on."""
    write_weights({name: _half_precision(tensor) for name, tensor in encoder.state_dict().items()}, path, provenance)


def write_weights(tensors: Mapping[str, torch.Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Writes a safetensors file under a temporary name first, so that one that exists is whole."""
    temporary = path.with_name(f".{path.name}.unfinished")
    # safetensors' own save_file makes files that only their owner may read.
    temporary.write_bytes(save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, dict(metadata)))
    temporary.replace(path)


def with_prefix(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The tensors whose names begin with `prefix`, which is taken off."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _half_precision(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.half() if tensor.is_floating_point() else tensor


def _full_precision(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


DEFAULT_BUNDLE = EncoderBundle(
    name="synthetic-phones",
    sample_rate=SAMPLE_RATE,
    weights=Path(__file__).parent / "weights" / "default.safetensors",
    paper=(
        "spectrogram of SE4Lip (Huang et al. 2025), phone anchors after PASE (Huang et al.); "
        "architecture and training are this project's"
    ),
    data="synthetic speech only: espeak-ng, flite and festival voices, 12 h, with the synthesisers' own phone timing",
    licence="Apache-2.0",
    factory=SpeechEncoder,
)
"""The embedded default: speaker-independent, nothing to download."""
