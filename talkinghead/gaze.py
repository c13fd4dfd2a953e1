"""Where the eyes look: read from the irises of footage, and set in its expression codes.

Angles are in degrees, yaw to the right of the picture and pitch up. A code holds the eyes' turn in the head; a gaze is
the eyes' and the head's together, so eyes that are held on a point turn back when the head turns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from talkinghead.compositing import triangulate
from talkinghead.errors import GazeError
from talkinghead.source_tracks import SourceTracks
from tools.face_topology import FaceTopology

EYE_WIDTHS_PER_RADIUS = 12.0 / 30.0
"""An eyeball's radius over the distance of an eye's corners: about 12 and 30 mm in adults."""
RIDGE = 1e-2
"""Weight of the penalty on the regression from codes to angles, relative to the codes' variance."""
EXTREMES_PERCENT = (1.0, 99.0)
"""What a clip shows of the eyes' turns; the detector's mistakes lie outside."""


@dataclass(frozen=True)
class GazeControl:
    """Eye turns as a linear function of the upper-face code, and how the code changes least with a turn of the eyes."""

    code_mean: np.ndarray  # [Ku]
    decoder: np.ndarray  # [Ku, 2] degrees per unit of code
    encoder: np.ndarray  # [2, Ku] code per degree; encoder @ decoder is the identity
    turn_mean: np.ndarray  # [2]
    turn_range: np.ndarray  # [2, 2] least and greatest turn that the clip shows
    camera: np.ndarray  # [2] the clip's median gaze

    def turn(self, code: np.ndarray) -> np.ndarray:
        """Yaw and pitch of the eyes in the head, degrees [..., 2], of codes [..., Ku] of open eyes."""
        return self.turn_mean + (code - self.code_mean) @ self.decoder

    def held(self, code: np.ndarray, gaze: np.ndarray, head_rotation: np.ndarray) -> np.ndarray:
        """The code [Ku] with the eyes on `gaze` [2], degrees away from the camera, as far as the clip shows them turn.

        Args:
            head_rotation: [3, 3] head to camera.
        """
        wanted = self.camera + gaze - head_direction(head_rotation)
        return code + (np.clip(wanted, *self.turn_range) - self.turn(code)) @ self.encoder


def fit_gaze(
    tracks: SourceTracks,
    codes: np.ndarray,
    frames: np.ndarray,
    topology: FaceTopology,
    focal_px: float,
    resolution: int,
) -> GazeControl:
    """Learns from the frames [F] of footage in which the eyes are open how their turns depend on the codes [F, Ku].

    Raises:
        GazeError: the landmarks have no irises.
    """
    turns = eye_turns(tracks, frames, topology, focal_px, resolution)
    code_mean, turn_mean = codes.mean(axis=0), turns.mean(axis=0)
    centred = codes - code_mean
    covariance = centred.T @ centred / len(codes)
    strength = RIDGE * np.trace(covariance) / len(covariance)
    decoder = np.linalg.solve(
        covariance + strength * np.eye(len(covariance)), centred.T @ (turns - turn_mean) / len(codes)
    )
    # Of all changes of code that turn the eyes alike, the likeliest: proportional to covariance @ decoder.
    towards = decoder.T @ covariance
    encoder = np.linalg.pinv(towards @ decoder, rcond=1e-6) @ towards
    decoded = turn_mean + centred @ decoder
    gaze = decoded + head_direction(tracks.head_rotations[frames])
    extremes = np.percentile(decoded, EXTREMES_PERCENT, axis=0)
    return GazeControl(code_mean, decoder, encoder, turn_mean, extremes, np.median(gaze, axis=0))


def eye_turns(
    tracks: SourceTracks, frames: np.ndarray, topology: FaceTopology, focal_px: float, resolution: int
) -> np.ndarray:
    """Yaw and pitch of the eyes in the head, degrees [F, 2], apart from a constant.

    They follow from how far the middle of the iris is from its mean place in the head, for an eyeball of usual size.

    Raises:
        GazeError: the landmarks have no irises.
    """
    if not topology.left_iris:
        raise GazeError(
            f"--gaze needs the irises, which {topology.name} landmarks do not have: "
            "leave it away, or fit the avatar again with --landmarks mediapipe"
        )
    rotations, translations = tracks.head_rotations[frames], tracks.head_translations[frames]
    eyes = ((topology.left_iris, topology.left_eye), (topology.right_iris, topology.right_eye))
    turns = np.zeros((len(frames), 2))
    for iris, ring in eyes:
        seen = [iris[0], ring[0], ring[len(ring) // 2]]
        slopes = (tracks.landmarks[frames][:, seen] - resolution / 2) / focal_px
        centre, *corners = triangulate(slopes, rotations, translations)
        in_camera = centre @ np.swapaxes(rotations, 1, 2) + translations
        away = np.concatenate([slopes[:, 0] * in_camera[:, 2:] - in_camera[:, :2], np.zeros((len(frames), 1))], axis=1)
        in_head = np.einsum("fji,fj->fi", rotations, away)[:, :2] * (1, -1)
        radius = EYE_WIDTHS_PER_RADIUS * np.linalg.norm(corners[0] - corners[1])
        turns += np.degrees(np.arcsin(np.clip(in_head / radius, -1, 1))) / len(eyes)
    return turns


def head_direction(rotation: np.ndarray) -> np.ndarray:
    """Yaw and pitch of a face, degrees [..., 2]; without rotation [..., 3, 3] it looks along the camera's axis."""
    x, y, z = np.moveaxis(-rotation[..., 2], -1, 0)
    return np.degrees(np.stack([np.arctan2(x, -z), np.arctan2(-y, np.hypot(x, z))], axis=-1))
