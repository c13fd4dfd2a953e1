"""Training a contrastive encoder: a generator of progress that can be killed and gone on with.

What a step does follows from the seed and the step's number alone, so a training that goes on from a checkpoint takes
the same steps as one that was never stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from encoders.bundle import with_prefix
from encoders.contrastive.se4lip import SE4Lip
from encoders.contrastive.windows import ClipWindows, augmented, draw_batch
from encoders.errors import EncoderWeightsError


@dataclass(frozen=True)
class ContrastiveTraining:
    """How an encoder is trained; batch and learning rate are the paper's (Sec. 5.1), which names no optimiser."""

    steps: int = 20_000
    """Batches."""
    batch: int = 16
    """Windows per batch; every sound is compared with the lips of every window."""
    learning_rate: float = 5e-5
    """Of Adam."""
    augment: bool = True
    """Mirror, move and relight the pictures (ours)."""
    seed: int = 0
    """Initial weights are the model's; everything else random follows from this."""
    device: str = "cpu"
    """Where to compute: cpu or cuda."""
    checkpoint_s: float = 60.0
    """Seconds between checkpoints."""


@dataclass(frozen=True)
class TrainingProgress:
    """State after a step."""

    step: int  # steps done
    steps: int
    loss: float
    accuracy: float  # see `losses.pair_accuracy`


def train(
    model: SE4Lip, windows: Sequence[ClipWindows], config: ContrastiveTraining, checkpoint: Path | None = None
) -> Iterator[TrainingProgress]:
    """Trains in place; after the last event the model is on the CPU and in evaluation mode.

    Args:
        checkpoint: where the state is kept while training. If it is there, training goes on from it.

    Raises:
        LipClipError: too few windows.
        EncoderWeightsError: the checkpoint is damaged or belongs to another training.
        RuntimeError: the device cannot be used.
    """
    device = torch.device(config.device)
    model.to(device).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    key = _key(model, windows, config)
    done = _restore(checkpoint, model, optimiser, key) if checkpoint and checkpoint.exists() else 0
    saved = time.monotonic()
    for step in range(done, config.steps):
        result = _take_step(model, optimiser, windows, config, step)
        yield TrainingProgress(step + 1, config.steps, *result)
        if checkpoint and time.monotonic() - saved >= config.checkpoint_s:
            _save(checkpoint, model, optimiser, key, step + 1)
            saved = time.monotonic()
    model.cpu().eval()


def _take_step(
    model: SE4Lip,
    optimiser: torch.optim.Optimizer,
    windows: Sequence[ClipWindows],
    config: ContrastiveTraining,
    step: int,
) -> tuple[float, float]:
    """Loss and accuracy of the batch."""
    random = np.random.default_rng((config.seed, step))
    batch = draw_batch(windows, config.batch, random)
    if config.augment:
        batch.lips.copy_(augmented(batch.lips, random))
    generator = torch.Generator().manual_seed(int(random.integers(2**62)))
    result = model.step(batch.to(torch.device(config.device)), generator)
    optimiser.zero_grad(set_to_none=True)
    result.loss.backward()
    optimiser.step()
    return result.loss.item(), result.accuracy


def _key(model: SE4Lip, windows: Sequence[ClipWindows], config: ContrastiveTraining) -> str:
    """What a checkpoint must share with a training that goes on from it."""
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    free = ("steps", "device", "checkpoint_s")
    settings = {name: value for name, value in asdict(config).items() if name not in free}
    clips = [(item.clip.sha256, len(item.clip), len(item.frames)) for item in windows]
    return json.dumps([model.method, shapes, settings, clips])


def _save(path: Path, model: SE4Lip, optimiser: torch.optim.Optimizer, key: str, step: int) -> None:
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{name}": tensor for name, tensor in state.items()}
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    temporary = path.with_name(f".{path.name}.part")
    save_file(tensors, temporary, {"key": key, "step": str(step)})
    temporary.replace(path)


def _restore(path: Path, model: SE4Lip, optimiser: torch.optim.Optimizer, key: str) -> int:
    """Steps that the checkpoint's training had done."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise EncoderWeightsError(f"the checkpoint {path} cannot be read ({error}); delete it to begin anew") from error
    if metadata.get("key") != key:
        raise EncoderWeightsError(
            f"the checkpoint {path} belongs to a training with other clips or settings; delete it to begin anew"
        )
    model.load_state_dict(with_prefix(tensors, "model."))
    state = {index: with_prefix(tensors, f"adam.{index}.") for index, _ in enumerate(model.parameters())}
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    return int(metadata["step"])
