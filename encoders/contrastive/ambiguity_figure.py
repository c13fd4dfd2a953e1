"""Fig. 4 of SE4Lip for any features: /d/ and /t/ in the plane, by PCA and by t-SNE."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from encoders.contrastive.ambiguity import ALIKE, DIFFERENT, PhoneRows, ambiguity_scores
from encoders.contrastive.tsne import principal_components, tsne

MOST_POINTS = 200
"""Of each phone."""
_COLOURS = ("tab:blue", "tab:orange", "lightgray")


def draw_ambiguity(features: Mapping[str, PhoneRows], path: Path) -> None:
    """Writes a picture with a column per feature: PCA above, t-SNE below; what looks different in grey.

    Args:
        features: what to write above the column -> rows of the phones in ALIKE and DIFFERENT.
        path: its suffix says the format, such as .png or .svg.
    """
    figure = Figure(figsize=(2.6 * len(features), 5.4), layout="constrained")
    axes = figure.subplots(2, len(features), squeeze=False)
    for column, (name, rows) in enumerate(features.items()):
        scores = ambiguity_scores(rows)
        shown = {phone: _thinned(rows.of(phone)) for phone in (*ALIKE, DIFFERENT[1])}
        points = np.concatenate(list(shown.values()))
        points = (points - points.mean(axis=0)) / np.linalg.norm(points.std(axis=0))
        sizes = [len(part) for part in shown.values()]
        for row, placed in enumerate((principal_components(points), tsne(points))):
            _scatter(axes[row, column], placed, dict(zip(shown, sizes, strict=True)))
        axes[0, column].set_title(f"{name}\nd-t {scores.alike:.2f}, d-b {scores.different:.2f}", fontsize=9)
    for row, label in enumerate(("PCA", "t-SNE")):
        axes[row, 0].set_ylabel(label)
    axes[0, -1].legend(fontsize=8, loc="upper right")
    figure.savefig(path, dpi=150)


def _thinned(rows: np.ndarray) -> np.ndarray:
    return rows[np.linspace(0, len(rows) - 1, min(MOST_POINTS, len(rows))).astype(int)]


def _scatter(axes: Axes, points: np.ndarray, sizes: Mapping[str, int]) -> None:
    begin = 0
    for order, ((phone, size), colour) in enumerate(zip(sizes.items(), _COLOURS, strict=True)):
        part = points[begin : begin + size]
        axes.scatter(part[:, 0], part[:, 1], s=6, color=colour, label=f"/{phone}/", zorder=3 - order // 2)
        begin += size
    axes.set_xticks([])
    axes.set_yticks([])
