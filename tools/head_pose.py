"""Head shape, focal length and one rigid pose per frame, by bundle adjustment over face landmarks.

No morphable model: unknown are one 3D point per landmark, a rotation and translation per frame and one focal length.
Points that move with the expression are down-weighted by their own residual after a first rigid alignment, so that the
jaw does not pull the skull along; a robust loss copes with single bad detections and a second-difference prior with
jitter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from tools.joints import interpolated
from tools.reprojection import reprojection_error

SMOOTHNESS = 1000.0
"""Weight of the squared second difference of rotation (rad) and translation (head units)."""
FOCAL_PRIOR = 0.05
"""Weight of the squared log-ratio between the focal length and its initial guess: a face that turns little cannot
tell it."""
SHAPE_FRAMES = 300
"""Frames the shape is estimated from: more no longer change it, and the cost stays independent of the clip's length."""
POSE_CHUNK_FRAMES = 1000
"""Frames whose poses are solved together (memory does not grow with the clip)."""
ABSENCE_FRAMES = 5
"""A face that was away for longer may be anywhere."""


@dataclass(frozen=True)
class HeadShape:
    """A rigid head as its landmarks, in head units (the farthest landmark is about 1 from the centre; +x right, +y
    down, +z away from the camera in a frontal view, as seen in the picture)."""

    points: np.ndarray  # [K, 3] float32
    weights: np.ndarray  # [K] float32, mean 1: how rigidly a landmark follows the skull
    focal_px: float  # of the crop's resolution


@dataclass(frozen=True)
class HeadPoseTrack:
    """World-to-camera poses of the head in OpenCV axes: x_camera = rotation @ x_head + translation."""

    rotations: np.ndarray  # [F, 3, 3] float32
    translations: np.ndarray  # [F, 3] float32, head units
    focal_px: float
    resolution: int  # the square crop's side, px; the principal point is its centre

    def __len__(self) -> int:
        return len(self.rotations)


def axis_angle_to_matrix(axis_angle: Tensor) -> Tensor:
    """Rodrigues' formula. axis_angle: [..., 3] in radians -> rotation matrices [..., 3, 3]."""
    angle = torch.sqrt((axis_angle * axis_angle).sum(-1, keepdim=True) + 1e-12)
    x, y, z = (axis_angle / angle).unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    angle = angle[..., None]
    return torch.eye(3) + torch.sin(angle) * cross + (1 - torch.cos(angle)) * (cross @ cross)


def align_rigidly(
    points: np.ndarray, reference: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, float, np.ndarray]:
    """Weighted similarity transform taking points to reference (Umeyama 1991, Eq. 40-42).

    Args:
        points, reference: [K, 3]; weights: [K], non-negative.

    Returns:
        rotation [3, 3], scale and translation [3] such that reference ~ scale * points @ rotation.T + translation.
    """
    w = (weights / weights.sum())[:, None]
    mean_p, mean_r = (w * points).sum(0), (w * reference).sum(0)
    p, r = points - mean_p, reference - mean_r
    u, s, vt = np.linalg.svd((w * r).T @ p)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * sign) @ vt
    scale = float((s * sign).sum() / (w * p * p).sum())
    return rotation, scale, mean_r - scale * rotation @ mean_p


def _initial_shape(landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the landmarks after rigid alignment, and rigidity weights. landmarks: [F, K, 3] px with depth."""
    reference = landmarks[0] - landmarks[0].mean(0)
    weights = np.ones(landmarks.shape[1])
    for _ in range(4):
        aligned = np.empty_like(landmarks)
        for index, points in enumerate(landmarks):
            rotation, scale, translation = align_rigidly(points, reference, weights)
            aligned[index] = scale * points @ rotation.T + translation
        reference = aligned.mean(0)
        reference -= reference.mean(0)
        spread = aligned.std(0).mean(1)
        weights = 1 / (1 + (spread / (np.median(spread) + 1e-9)) ** 2)
    return reference / np.abs(reference).max(), weights / weights.mean()


def _initial_poses(
    landmarks: np.ndarray, shape: np.ndarray, weights: np.ndarray, focal: float, resolution: int
) -> np.ndarray:
    """Weak-perspective poses [F, 6] (axis-angle, translation) from the detector's own depth."""
    poses = np.zeros((len(landmarks), 6))
    for index, points in enumerate(landmarks):
        rotation, scale, translation = align_rigidly(shape, points, weights)
        depth = focal / scale
        poses[index, :3] = Rotation.from_matrix(rotation).as_rotvec()
        poses[index, 3:5] = (translation[:2] - resolution / 2) * depth / focal
        poses[index, 5] = depth
    return poses


def _planes(landmarks: np.ndarray) -> Tensor:
    """Pixels [F, 2, K] of landmarks [F, K, 3]."""
    return torch.tensor(landmarks[..., :2].transpose(0, 2, 1), dtype=torch.float32).contiguous()


def _minimise(unknowns: list[Tensor], objective: torch.nn.Module, iterations: int) -> None:
    optimizer = torch.optim.LBFGS(unknowns, max_iter=iterations, history_size=20, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = objective()
        value.backward()
        return value

    optimizer.step(closure)


def _roughness(poses: Tensor) -> Tensor:
    if len(poses) < 3:
        return poses.new_zeros(())
    return SMOOTHNESS * (poses[2:] - 2 * poses[1:-1] + poses[:-2]).pow(2).mean()


def estimate_head_shape(landmarks: np.ndarray, resolution: int, focal_guess_px: float) -> HeadShape:
    """Bundle adjustment over (a sample of) a clip's frames.

    Args:
        landmarks: [F, K, 3] float, crop pixels, depth in the same scale; no missing frames. Use the fitted part only.
        resolution: side of the square crop, px.
        focal_guess_px: initial focal length, px of the crop.
    """
    landmarks = landmarks[np.linspace(0, len(landmarks) - 1, min(len(landmarks), SHAPE_FRAMES)).round().astype(int)]
    initial, weights = _initial_shape(landmarks.astype(np.float64))
    anchor = torch.tensor(initial, dtype=torch.float32)
    shape = anchor.clone().requires_grad_()
    log_focal = torch.zeros((), requires_grad=True)
    poses = torch.tensor(_initial_poses(landmarks, initial, weights, focal_guess_px, resolution), dtype=torch.float32)
    poses.requires_grad_()
    observed = _planes(landmarks)
    rigidity = torch.tensor(weights, dtype=torch.float32)

    def objective() -> Tensor:
        rotations, translations = axis_angle_to_matrix(poses[:, :3]), poses[:, 3:]
        focal = focal_guess_px * log_focal.exp()
        return (
            reprojection_error(rotations, translations, shape, focal, observed, rigidity, resolution)
            + 1e-2 * (shape - anchor).pow(2).mean()
            + FOCAL_PRIOR * log_focal.square()
        )

    _minimise([shape, poses, log_focal], objective, iterations=150)
    return HeadShape(
        shape.detach().numpy(), weights.astype(np.float32), float(focal_guess_px * log_focal.detach().exp())
    )


def solve_head_poses(
    landmarks: np.ndarray, shape: HeadShape, resolution: int, fitted_frames: int, joints: Sequence[int] = ()
) -> HeadPoseTrack:
    """Poses of a rigid head of known shape, smooth over time but for joints and long absences.

    Args:
        landmarks: [F, K, 3] crop pixels; frames without a face hold NaN and get a pose interpolated from their
            neighbours.
        fitted_frames: the poses of the frames with a face before this one do not depend on those from it on.
        joints: frames before which the clip was cut.

    Raises:
        ValueError: no frame has a face.
    """
    found = np.flatnonzero(np.isfinite(landmarks[:, 0, 0]))
    if len(found) == 0:
        raise ValueError("landmarks: expected at least one frame with a face, all are NaN")
    points, rigidity = torch.from_numpy(shape.points), torch.from_numpy(shape.weights)
    focal = torch.tensor(shape.focal_px)
    solved = np.empty((len(found), 6), np.float32)
    anew = {*np.searchsorted(found, joints).tolist(), *(np.flatnonzero(np.diff(found) > ABSENCE_FRAMES) + 1).tolist()}
    bounds = sorted({0, int(np.searchsorted(found, fitted_frames)), *anew, len(found)})
    starts = [start for part in pairwise(bounds) for start in range(*part, POSE_CHUNK_FRAMES)]
    for start, end in pairwise((*starts, len(found))):
        chunk = landmarks[found[start:end]]
        # A chunk goes on smoothly from the one before.
        before = torch.from_numpy(solved[start if start in anew else max(0, start - 2) : start])
        initial = _initial_poses(chunk, shape.points, shape.weights, shape.focal_px, resolution)
        poses = torch.tensor(initial, dtype=torch.float32, requires_grad=True)
        observed = _planes(chunk)

        def objective(poses: Tensor = poses, observed: Tensor = observed, before: Tensor = before) -> Tensor:
            rotations, translations = axis_angle_to_matrix(poses[:, :3]), poses[:, 3:]
            error = reprojection_error(rotations, translations, points, focal, observed, rigidity, resolution)
            return error + _roughness(torch.cat([before, poses]))

        _minimise([poses], objective, iterations=100)
        solved[start:end] = poses.detach().numpy()
    poses_all = interpolated(solved, found, len(landmarks), joints)
    rotations = Rotation.from_rotvec(poses_all[:, :3]).as_matrix().astype(np.float32)
    return HeadPoseTrack(rotations, poses_all[:, 3:].astype(np.float32), shape.focal_px, resolution)


def project_points(points: np.ndarray, track: HeadPoseTrack) -> np.ndarray:
    """Pixels of head points in every frame. points: [K, 3] or [F, K, 3] in head units -> [F, K, 2] crop px."""
    camera = np.einsum("fij,fkj->fki", track.rotations, np.broadcast_to(points, (len(track), *points.shape[-2:])))
    camera = camera + track.translations[:, None]
    return camera[..., :2] / camera[..., 2:] * track.focal_px + track.resolution / 2
