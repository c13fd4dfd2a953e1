"""t-SNE (van der Maaten and Hinton 2008) for a few hundred points, exactly; PCA beside it."""

from __future__ import annotations

import numpy as np

ITERATIONS = 500
EXAGGERATED = 100
"""The first iterations, in which the affinities are multiplied by 12 (van der Maaten 2014)."""
_SMALLEST = 1e-12


def principal_components(rows: np.ndarray, count: int = 2) -> np.ndarray:
    """Coordinates [n, count] of rows [n, D] along the directions of largest variance."""
    centred = rows - rows.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    return centred @ directions[:count].T


def tsne(rows: np.ndarray, perplexity: float = 30.0) -> np.ndarray:
    """Coordinates [n, 2] in which neighbours among rows [n, D] stay neighbours. It starts at PCA: no chance is in it.

    Raises:
        ValueError: fewer than three times as many rows as `perplexity`.
    """
    if len(rows) < 3 * perplexity:
        raise ValueError(
            f"expected {3 * perplexity:g} rows or more for a perplexity of {perplexity:g}, got {len(rows)}"
        )
    affinities = _joint_affinities(_squared_distances(rows.astype(np.float64)), perplexity)
    points = principal_components(rows.astype(np.float64))
    points *= 1e-4 / points[:, 0].std()
    velocity, gains = np.zeros_like(points), np.ones_like(points)
    for iteration in range(ITERATIONS):
        early = iteration < EXAGGERATED
        gradient = _gradient(points, affinities * (12.0 if early else 1.0))
        gains = np.maximum(np.where(np.sign(gradient) != np.sign(velocity), gains + 0.2, gains * 0.8), 0.01)
        velocity = (0.5 if early else 0.8) * velocity - max(50.0, len(rows) / 48.0) * gains * gradient
        points = points + velocity
        points -= points.mean(axis=0)
    return points


def _gradient(points: np.ndarray, affinities: np.ndarray) -> np.ndarray:
    """Eq. 5 of the paper."""
    closeness = 1.0 / (1.0 + _squared_distances(points))
    np.fill_diagonal(closeness, 0.0)
    pull = (affinities - np.maximum(closeness / closeness.sum(), _SMALLEST)) * closeness
    return 4.0 * (pull.sum(axis=1)[:, None] * points - pull @ points)


def _joint_affinities(squared: np.ndarray, perplexity: float) -> np.ndarray:
    """Eq. 1, made symmetric: every row's Gaussian is as wide as the perplexity asks, found by bisection."""
    count = len(squared)
    others = ~np.eye(count, dtype=bool)
    conditional = np.zeros_like(squared)
    for row in range(count):
        distances = squared[row, others[row]]
        distances = distances - distances.min()
        low, high = 0.0, np.inf
        precision = 1.0 / max(distances.mean(), _SMALLEST)
        for _ in range(60):
            weights = np.exp(-precision * distances)
            shares = weights / weights.sum()
            entropy = np.log(weights.sum()) + precision * (distances * shares).sum()
            if entropy > np.log(perplexity):
                low, precision = precision, 2 * precision if np.isinf(high) else (precision + high) / 2
            else:
                high, precision = precision, (precision + low) / 2
        conditional[row, others[row]] = shares
    return np.maximum((conditional + conditional.T) / (2 * count), _SMALLEST)


def _squared_distances(rows: np.ndarray) -> np.ndarray:
    norms = (rows * rows).sum(axis=1)
    return np.maximum(norms[:, None] + norms - 2.0 * rows @ rows.T, 0.0)
