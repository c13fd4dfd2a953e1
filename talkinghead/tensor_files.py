"""safetensors files whose content is checked against what is expected before memory is taken."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from talkinghead.errors import DamagedAvatarError


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raises OSError when the disk is full or the place may not be written."""
    # safetensors' own save_file makes files that only their owner may read.
    path.write_bytes(save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}))


def read_tensors(path: Path, expected: Mapping[str, Tensor] | None, prefix: str = "") -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, which is taken off.

    Args:
        expected: tensors (on the meta device) whose names, shapes and types the file must have; None: any.

    Raises:
        DamagedAvatarError: not such a file, cut off, or with other tensors.
    """
    try:
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 - not a dict
            if expected is not None:
                found = {name.removeprefix(prefix): file.get_slice(name).get_shape() for name in names}
                check_shapes(path, found, {name: list(tensor.shape) for name, tensor in expected.items()})
            tensors = {name.removeprefix(prefix): file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise DamagedAvatarError(path, f"cannot be read ({error})") from error
    for name, tensor in (expected or {}).items():
        if tensors[name].dtype != tensor.dtype:
            raise DamagedAvatarError(path, f"holds {name} as {tensors[name].dtype}, expected {tensor.dtype}")
    return tensors


def check_shapes(path: Path, found: Mapping[str, list[int]], expected: Mapping[str, list[int]]) -> None:
    """
    Raises:
        DamagedAvatarError: names or shapes differ; the message gives the first that does.
    """
    for name in sorted({*found, *expected}):
        if found.get(name) != expected.get(name):
            was, should = (shapes.get(name, "nothing") for shapes in (found, expected))
            raise DamagedAvatarError(path, f"holds {was} under {name}, expected {should}")
