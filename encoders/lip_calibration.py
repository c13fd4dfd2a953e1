"""Calibration of predicted lip-motion codes on out-of-fold predictions: how far to trust them, how far to raise them.

All functions take codes as deviations from their mean over the fitted frames, [N, K].
"""

from __future__ import annotations

import numpy as np

from encoders.measured_lips import without_trend

CLOSED_SHARE = 0.05
"""Share of the fitted frames, those with the smallest mouth opening, whose mean opening is that of the closed mouth."""
PRIOR_SHARES = (1.0, 0.5)
"""Shares of the generic and the personal part before a clip has shown how well they predict it..."""
PRIOR_FRAMES = 200.0
"""...and how many frames of evidence that assumption is worth."""

MINIMUM_CORRELATION = 0.2
"""Out-of-fold correlation under which the opening is not raised: a louder guess is no better."""


def stacking_shares(generic: np.ndarray, full: np.ndarray, codes: np.ndarray, fps: float) -> np.ndarray:
    """Shares [2, K] in [0, 1] of `generic` and of what `full` adds to it: stacked regression (Breiman 1996).

    Least squares on out-of-fold predictions, both sides freed of posture, shrunk to PRIOR_SHARES. What cannot be heard
    gets small shares and stays near its mean; where a clip is too short to tell, the generic part leads.

    Args:
        generic: [N, K] predictions of the generic part alone.
        full: [N, K] of both parts.
        codes: [N, K] the truth.
        fps: rows per second.
    """
    first, second, truth = (without_trend(series, fps) for series in (generic, full - generic, codes))
    shares = np.empty((2, codes.shape[1]))
    for k in range(codes.shape[1]):
        parts = np.stack([first[:, k], second[:, k]], axis=1)
        power = parts.T @ parts
        penalty = np.diag(np.diag(power)) * (PRIOR_FRAMES / len(codes)) + 1e-12 * np.eye(2)
        shares[:, k] = np.linalg.solve(power + penalty, parts.T @ truth[:, k] + penalty @ PRIOR_SHARES)
    return np.clip(shares, 0.0, 1.0)


def opening_gain(
    predicted: np.ndarray, codes: np.ndarray, opening: np.ndarray, amplitude: float, maximum: float
) -> np.ndarray:
    """Matrix [K, K] that raises the mouth opening in predicted codes to `amplitude` of its real spread.

    A regression on noisy inputs predicts too little motion. Only the opening is raised, along the mean change of all
    codes with it, so that the other lip motion keeps its amplitude.

    Args:
        predicted: [N, K] out-of-fold.
        codes: [N, K] the truth.
        opening: [N] in any unit.
        amplitude: wanted spread of the opening, relative to the real one.
        maximum: largest factor.
    """
    identity = np.eye(codes.shape[1])
    deviation = opening - opening.mean()
    readout = np.linalg.lstsq(codes, deviation, rcond=1e-6)[0]  # opening ~ codes @ readout
    covaried = codes.T @ deviation
    explained = readout @ covaried
    heard = predicted @ readout
    if explained <= 0 or heard.std() == 0 or np.corrcoef(heard, deviation)[0, 1] < MINIMUM_CORRELATION:
        return identity
    gain = np.clip(amplitude * deviation.std() / heard.std(), 1.0, maximum)
    return identity + (gain - 1.0) * np.outer(readout, covaried / explained)


def closed_mouth(codes: np.ndarray, opening: np.ndarray) -> np.ndarray:
    """Change of code [K] from the mean face to the closed mouth, for openings [N].

    Along the mean change of all codes with the opening: the mean over the few closed frames themselves would take the
    smile and the head-pose error of just these frames into every pause.
    """
    deviation = opening - opening.mean()
    spread = deviation @ deviation
    closed = np.sort(deviation)[: max(1, round(CLOSED_SHARE * len(deviation)))].mean()
    return closed * (codes.T @ deviation) / spread if spread > 0 else np.zeros(codes.shape[1])
