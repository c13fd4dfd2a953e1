"""Expression from landmarks: what is left of their motion after the rigid head pose is removed.

The lower face (lips, jaw, cheeks) and the upper face (eyes, brows, gaze) get separate codes, because speech drives the
first and not the second. Each code is a principal-component projection whose basis comes from the fitted frames only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tools.head_pose import HeadPoseTrack, HeadShape, project_points
from tools.joints import interpolated

LOWER_COMPONENTS = 10
UPPER_COMPONENTS = 8


@dataclass(frozen=True)
class ExpressionBasis:
    """Linear face motion: displacement of all landmarks = codes @ motion, in head units."""

    lower_mean: np.ndarray  # [3 * L] displacement of the lower-face landmarks at rest (clip mean)
    lower_components: np.ndarray  # [Kl, 3 * L], scaled so that fitted codes have unit variance
    upper_mean: np.ndarray  # [3 * U]
    upper_components: np.ndarray  # [Ku, 3 * U]
    motion: np.ndarray  # [Kl + Ku, K, 3] displacement of every landmark per unit of code
    mean: np.ndarray  # [K, 3] mean displacement


@dataclass(frozen=True)
class ExpressionTrack:
    """Expression codes per frame, zero mean and unit variance over the fitted frames."""

    lower: np.ndarray  # [F, Kl] float32: lips, jaw, cheeks
    upper: np.ndarray  # [F, Ku] float32: eyes, brows, gaze

    def __len__(self) -> int:
        return len(self.lower)

    @property
    def codes(self) -> np.ndarray:
        """[F, Kl + Ku], lower face first."""
        return np.concatenate([self.lower, self.upper], axis=1)


def head_displacements(landmarks: np.ndarray, shape: HeadShape, poses: HeadPoseTrack) -> np.ndarray:
    """Landmark displacements [F, K, 3] in head units that explain the reprojection residual exactly.

    The residual is lifted to the landmark's own depth, parallel to the picture, and turned into the head's frame; the
    detector's depth is too noisy to be used.
    """
    residual_px = landmarks[..., :2] - project_points(shape.points, poses)
    depth = np.einsum("fj,kj->fk", poses.rotations[:, 2], shape.points) + poses.translations[:, 2:3]
    in_camera = np.concatenate([residual_px * (depth / poses.focal_px)[..., None], np.zeros_like(depth)[..., None]], -1)
    return np.einsum("fji,fkj->fki", poses.rotations, in_camera).astype(np.float32)


def _principal_components(data: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean [D] and components [k, D] times their standard deviation, so that codes are in standard deviations."""
    mean = data.mean(0)
    _, scale, directions = np.linalg.svd(data - mean, full_matrices=False)
    count = min(count, int((scale > 1e-6 * scale[0]).sum())) if scale[0] > 0 else 0
    return mean, directions[:count] * (scale[:count, None] / np.sqrt(len(data)))


def _code(displacements: np.ndarray, mean: np.ndarray, components: np.ndarray) -> np.ndarray:
    variance = (components * components).sum(1)
    return ((displacements - mean) @ components.T / variance).astype(np.float32)


def fit_expression_basis(displacements: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> ExpressionBasis:
    """Bases from the fitted frames.

    Args:
        displacements: [F, K, 3] of the fitted frames, finite.
        lower, upper: indices of the landmarks of the lower and upper face.
    """
    frames = len(displacements)
    lower_mean, lower_components = _principal_components(displacements[:, lower].reshape(frames, -1), LOWER_COMPONENTS)
    upper_mean, upper_components = _principal_components(displacements[:, upper].reshape(frames, -1), UPPER_COMPONENTS)
    codes = np.concatenate(
        [
            _code(displacements[:, lower].reshape(frames, -1), lower_mean, lower_components),
            _code(displacements[:, upper].reshape(frames, -1), upper_mean, upper_components),
        ],
        1,
    )
    mean = displacements.mean(0)
    flat = (displacements - mean).reshape(frames, -1)
    ridge = 1e-3 * frames * np.eye(codes.shape[1])
    motion = np.linalg.solve(codes.T @ codes + ridge, codes.T @ flat).reshape(-1, *mean.shape)
    return ExpressionBasis(
        lower_mean, lower_components, upper_mean, upper_components, motion.astype(np.float32), mean.astype(np.float32)
    )


def encode_expression(
    displacements: np.ndarray, basis: ExpressionBasis, lower: np.ndarray, upper: np.ndarray, joints: Sequence[int] = ()
) -> ExpressionTrack:
    """Codes of any frames in a given basis; frames without a face (NaN) get codes between their neighbours'.

    Args:
        joints: frames before which the clip was cut; nothing is filled in from across them.
    """
    frames = len(displacements)
    track = ExpressionTrack(
        _code(displacements[:, lower].reshape(frames, -1), basis.lower_mean, basis.lower_components),
        _code(displacements[:, upper].reshape(frames, -1), basis.upper_mean, basis.upper_components),
    )
    return ExpressionTrack(_fill_missing(track.lower, joints), _fill_missing(track.upper, joints))


def _fill_missing(codes: np.ndarray, joints: Sequence[int]) -> np.ndarray:
    known = np.flatnonzero(np.isfinite(codes).all(1))
    return codes if len(known) == len(codes) else interpolated(codes[known], known, len(codes), joints)
