"""gaussians.ply: a head model's Gaussians in the layout of Kerbl et al. 2023, which splat viewers open, and back.

Viewers read position, colour (as the constant term of spherical harmonics), opacity (logit), scales (natural logarithm)
and rotation (w, x, y, z). What they ignore makes the file exact for us: branch, skinning, and the colour's own logits,
which the harmonics' term cannot give back to the last bit.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from plyfile import PlyData, PlyElement

from render.head_model import PER_GAUSSIAN, HeadModel
from talkinghead.errors import DamagedAvatarError
from talkinghead.outputs import MANIFEST_NAME

SH_CONSTANT = 0.28209479177387814
"""The spherical harmonic of degree 0: colour = 0.5 + SH_CONSTANT * f_dc."""
BRANCHES = ("face", "body", "mouth")
_COLUMNS = {
    "means": ("x", "y", "z"),
    "opacity_logits": ("opacity",),
    "log_scales": ("scale_0", "scale_1", "scale_2"),
    "quats": ("rot_0", "rot_1", "rot_2", "rot_3"),
    "color_logits": ("color_logit_0", "color_logit_1", "color_logit_2"),
    "skinning_logits": ("skinning",),
}
_HARMONICS = ("f_dc_0", "f_dc_1", "f_dc_2")
_LAYOUT = np.dtype(
    [
        *((name, "<f4") for name in (*_COLUMNS["means"], *_HARMONICS, *_COLUMNS["opacity_logits"])),
        *((name, "<f4") for name in (*_COLUMNS["log_scales"], *_COLUMNS["quats"])),
        *((name, "<f4") for name in (*_COLUMNS["color_logits"], *_COLUMNS["skinning_logits"])),
        ("branch", "u1"),
    ]
)


def write_gaussians(model: HeadModel, path: Path) -> None:
    """Writes all branches of a model, face first; an implicit mouth has none."""
    branches = [model.branches[name] for name in BRANCHES if name in model.branches]
    rows = np.zeros(len(model), _LAYOUT)
    for parameter, columns in _COLUMNS.items():
        values = torch.cat([getattr(branch, parameter).detach().cpu() for branch in branches])
        for column, part in zip(columns, values.view(len(rows), -1).unbind(1), strict=True):
            rows[column] = part.numpy()
    for harmonic, logit in zip(_HARMONICS, _COLUMNS["color_logits"], strict=True):
        color = 1 / (1 + np.exp(-rows[logit].astype(np.float64)))
        rows[harmonic] = (color - 0.5) / SH_CONSTANT
    rows["branch"] = np.repeat(np.arange(len(branches)), [len(branch) for branch in branches])
    with path.open("wb") as file:
        PlyData([PlyElement.describe(rows, "vertex")], byte_order="<").write(file)


def _header(count: int) -> bytes:
    """What a file of so many Gaussians begins with: only that is read, so nobody else's numbers decide about memory."""
    names = {"f4": "float", "u1": "uchar"}
    properties = [f"property {names[kind[-2:]]} {name}" for name, kind in _LAYOUT.descr]
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {count}", *properties, "end_header", ""]
    return "\n".join(lines).encode()


def read_gaussians(path: Path, counts: tuple[int, int, int]) -> dict[str, dict[str, torch.Tensor]]:
    """Unactivated parameters by branch and by name (see `render.head_model.PER_GAUSSIAN`), float32.

    Args:
        counts: expected Gaussians of face, body and mouth.

    Raises:
        DamagedAvatarError: not such a file, cut off, or with other counts.
    """
    total = sum(counts)
    header = _header(total)
    with path.open("rb") as file:
        is_expected = file.read(len(header)) == header
        is_expected &= path.stat().st_size == len(header) + total * _LAYOUT.itemsize
        vertices = np.fromfile(file, _LAYOUT, total if is_expected else 0)
    if not np.array_equal(vertices["branch"], np.repeat(np.arange(len(BRANCHES)), counts)):
        raise DamagedAvatarError(path, f"does not hold the {' + '.join(map(str, counts))} Gaussians of {MANIFEST_NAME}")
    parameters = {
        name: torch.from_numpy(np.stack([vertices[column] for column in _COLUMNS[name]], axis=1))
        for name in PER_GAUSSIAN
    }
    parameters = {name: values[:, 0] if len(_COLUMNS[name]) == 1 else values for name, values in parameters.items()}
    parts = {name: values.split(list(counts)) for name, values in parameters.items()}
    return {
        branch: {name: values[index].contiguous() for name, values in parts.items()}
        for index, branch in enumerate(BRANCHES)
    }
