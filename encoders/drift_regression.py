"""Gaussian-process regression under drifting noise: the mathematics behind `lip_motion`.

Kernel: constant + linear + squared exponential. Noise: white plus an Ornstein-Uhlenbeck process in time, which
stands for slow changes of the targets that the inputs cannot explain (generalised least squares). The predictive mean
is Rasmussen and Williams 2006, Eq. 2.25, with that noise covariance in place of a multiple of the identity.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve

_FOLDS = 5
_GAP_S = 0.25


@dataclass(frozen=True)
class DriftRegressionSettings:
    """Variances are relative to one another; inputs are expected to have unit mean square norm."""

    constant: float = 1.0
    """Variance of the constant kernel: how far the mean may be from that of the fitted targets."""
    linear: float = 0.25
    """Variance of the linear kernel."""
    local: float = 0.8
    """Variance of the squared exponential kernel."""
    local_scale: float = 0.45
    """Its length scale."""
    noise: float = 0.25
    """Variance of the white noise."""
    drift: float = 0.6
    """Variance of the drift."""
    drift_s: float = 1.2
    """Correlation time of the drift, seconds."""


def kernel(a: np.ndarray, b: np.ndarray, settings: DriftRegressionSettings) -> np.ndarray:
    """Covariances [N, M] of the signal at inputs a [N, D] and b [M, D]."""
    product = a @ b.T
    squared_distance = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2.0 * product
    local = np.exp(-0.5 * np.maximum(squared_distance, 0.0) / settings.local_scale**2)
    return settings.constant + settings.linear * product + settings.local * local


def regression_weights(
    covariance: np.ndarray, times: np.ndarray, targets: np.ndarray, settings: DriftRegressionSettings
) -> np.ndarray:
    """Weights [N, K] such that kernel(x, inputs) @ weights predicts the targets' deviation from their mean.

    Args:
        covariance: [N, N] kernel of the fitted inputs.
        times: [N] seconds.
        targets: [N, K] of zero mean.
    """
    drift = settings.drift * np.exp(-np.abs(times[:, None] - times) / settings.drift_s)
    return cho_solve(cho_factor(covariance + drift + settings.noise * np.eye(len(times))), targets)


def cross_validated(
    covariance: np.ndarray, times: np.ndarray, targets: np.ndarray, settings: DriftRegressionSettings
) -> np.ndarray:
    """Predictions [N, K] of targets [N, K], each block of time predicted from the others.

    Frames closer than _GAP_S to a block are left out when it is predicted: their inputs overlap.
    """
    predicted = np.empty_like(targets)
    for block in np.array_split(np.arange(len(times)), _FOLDS):
        others = (times < times[block[0]] - _GAP_S) | (times > times[block[-1]] + _GAP_S)
        mean = targets[others].mean(axis=0)
        weights = regression_weights(
            covariance[np.ix_(others, others)], times[others], targets[others] - mean, settings
        )
        predicted[block] = mean + covariance[np.ix_(block, others)] @ weights
    return predicted
