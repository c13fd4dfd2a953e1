"""From a clip to everything that is known of the person in it: `track_clip`.

Two passes over the pictures, each a stream: the first finds landmarks in the whole frame; then the crop, the head's
shape and poses and the expression are computed; the second sees the crops and follows the torso and gathers the
background.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tools import occlusion, preflight
from tools.background import BackgroundPlate
from tools.errors import UnusableClipError
from tools.expression import encode_expression, fit_expression_basis, head_displacements
from tools.face_topology import FaceTopology
from tools.head_pose import HeadPoseTrack, estimate_head_shape, solve_head_poses
from tools.landmarks import LandmarkDetector, landmark_detector
from tools.segmentation import PersonSegmenter
from tools.torso import TorsoTracker, torso_poses
from tools.tracked_clip import CropBox, TorsoPoseTrack, TrackedClip
from tools.video import VideoInfo, read_frames

CROP_FACE_HEIGHTS = 2.4
"""Side of the crop in face heights: head, neck and shoulders."""
CROP_DROP = 0.2
"""How far (face heights) the middle of the crop lies below that of the face."""
WHOLE_FRAME_SHARE = 0.8
"""A crop that would take this share of the frame's shorter side takes all of it."""
FOCAL_GUESS = 2.0
"""Focal length to start from, in sides of the crop."""
BACKGROUND_FRAMES = 150
CHIN_MARGIN = 0.25
"""The torso begins this far (face heights) below the chin."""


@dataclass(frozen=True)
class TrackingConfig:
    """How a clip is tracked."""

    landmarks: Literal["mediapipe", "face-alignment"] = "mediapipe"
    """Landmark back end."""
    face: int = 1
    """Which face, when there are several: 1 is the largest."""
    resolution: int = 512
    """Side of the square crop around the face, px; a smaller crop of the source is not enlarged."""


@dataclass(frozen=True)
class TrackingProgress:
    """How far tracking is."""

    stage: str
    done: int
    total: int


def track_clip(
    info: VideoInfo, config: TrackingConfig, fitted_frames: int, joints: Sequence[int] = ()
) -> Generator[TrackingProgress, None, TrackedClip]:
    """Tracks a clip.

    Args:
        fitted_frames: statistics (shape, bases, background) come from the frames before this one; those after only get
            their pose and their expression in the bases.
        joints: frames before which it was cut, in order: everything that is followed over time starts anew at them.

    Yields:
        Progress.

    Returns:
        The track (the generator's value).

    Raises:
        UnusableClipError: see `tools.preflight`.
    """
    preflight.check_length(info)
    with landmark_detector(config.landmarks, still=True) as detector:
        choice = preflight.choose_face(info, detector, config.face)
    with landmark_detector(config.landmarks, max_faces=1 if choice.faces == 1 else choice.faces) as detector:
        topology = detector.topology
        landmarks, colours = yield from _find_landmarks(info, detector, choice, joints)
    findings = preflight.findings(info, choice, landmarks)
    covered = occlusion.covered_frames(colours, fitted_frames)
    landmarks[covered] = np.nan  # guessed at, under what covers them
    fitted = np.isfinite(landmarks[:fitted_frames, 0, 0])
    if fitted.sum() < preflight.MINIMUM_SECONDS * info.fps / 2:
        raise UnusableClipError(f"the face in {info.path} is seen in {fitted.sum()} frames only: give a clearer clip")
    crop = _choose_crop(info, landmarks[:fitted_frames][fitted], config.resolution)
    in_crop = _to_crop(landmarks, crop)
    yield TrackingProgress("head pose", 0, 1)
    shape = estimate_head_shape(in_crop[:fitted_frames][fitted], crop.resolution, FOCAL_GUESS * crop.resolution)
    head = solve_head_poses(in_crop, shape, crop.resolution, fitted_frames, joints)
    displacements = head_displacements(in_crop, shape, head)
    lower, upper = np.array(topology.lower_face), np.array(topology.upper_face)
    basis = fit_expression_basis(displacements[:fitted_frames][fitted], lower, upper)
    reference = _reference_frame(head, fitted)
    torso, background = yield from _see_crops(
        info, crop, in_crop, head, topology, reference, fitted_frames, joints
    )
    return TrackedClip(
        crop=crop,
        topology=topology,
        fitted_frames=fitted_frames,
        landmarks=in_crop,
        shape=shape,
        head=head,
        torso=torso,
        basis=basis,
        expression=encode_expression(displacements, basis, lower, upper, joints),
        reference_frame=reference,
        background=background,
        findings=(*findings, *occlusion.findings(covered, info.fps)),
    )


def _find_landmarks(
    info: VideoInfo, detector: LandmarkDetector, choice: preflight.FaceChoice, joints: Sequence[int]
) -> Generator[TrackingProgress, None, tuple[np.ndarray, np.ndarray]]:
    """Landmarks [F, K, 3] of the chosen face in source px and the lower face's colours [F, C, 3], NaN where missing."""
    landmarks = np.full((info.frame_count, detector.topology.count, 3), np.nan, np.float32)
    colours = np.full((info.frame_count, occlusion.colour_count(detector.topology), 3), np.nan, np.float32)
    centre, anew = choice.centre, frozenset(joints)
    for index, frame in enumerate(read_frames(info)):
        if index in anew:
            detector.restart()
            centre = choice.centre
        face = choice.which(preflight.faces_in(frame, detector), centre)
        if face is not None:
            landmarks[index], colours[index], centre = face.landmarks, face.look, face.centre
        yield TrackingProgress("landmarks", index + 1, info.frame_count)
    return landmarks, colours


def _choose_crop(info: VideoInfo, landmarks: np.ndarray, resolution: int) -> CropBox:
    """A square that holds the face in every frame, the same for the whole clip. landmarks: [F, K, 3] source px."""
    low, high = landmarks[..., :2].min(1), landmarks[..., :2].max(1)
    height = float(np.median(high[:, 1] - low[:, 1]))
    reach = float((np.percentile(high, 99, axis=0) - np.percentile(low, 1, axis=0)).max())
    shorter = min(info.width, info.height)
    side = max(CROP_FACE_HEIGHTS * height, reach + 0.5 * height)
    side = shorter if side > WHOLE_FRAME_SHARE * shorter else int(side) // 2 * 2
    centre = np.median((low + high) / 2, axis=0) + np.array([0, CROP_DROP * height])
    left, top = np.clip(np.round(centre - side / 2), 0, (info.width - side, info.height - side)).astype(int)
    return CropBox(int(left), int(top), side, min(resolution, side))


def _to_crop(landmarks: np.ndarray, crop: CropBox) -> np.ndarray:
    """Source pixels to crop pixels; depth is scaled alike."""
    return ((landmarks - np.float32([crop.left, crop.top, 0])) * np.float32(crop.resolution / crop.side)).astype(
        np.float32
    )


def _reference_frame(head: HeadPoseTrack, fitted: np.ndarray) -> int:
    """The fitted frame whose pose is nearest the median."""
    shift = head.translations[: len(fitted)] - np.median(head.translations[: len(fitted)][fitted], axis=0)
    turn = head.rotations[: len(fitted), 2] - np.median(head.rotations[: len(fitted), 2][fitted], axis=0)
    distance = np.linalg.norm(shift, axis=1) + np.linalg.norm(turn, axis=1)
    return int(np.argmin(np.where(fitted, distance, np.inf)))


def _see_crops(
    info: VideoInfo,
    crop: CropBox,
    landmarks: np.ndarray,
    head: HeadPoseTrack,
    topology: FaceTopology,
    reference: int,
    fitted_frames: int,
    joints: Sequence[int],
) -> Generator[TrackingProgress, None, tuple[TorsoPoseTrack, np.ndarray]]:
    """The pass over the crops: torso poses and background plate."""
    plate, transforms, anew = BackgroundPlate(), [], frozenset(joints)
    every = max(1, fitted_frames // BACKGROUND_FRAMES)
    with PersonSegmenter() as segmenter:
        first = crop.cut(next(read_frames(info, reference, 1)))
        points = landmarks[reference]
        chin = points[topology.chin, 1] + CHIN_MARGIN * np.ptp(points[:, 1])
        below = np.arange(crop.resolution)[:, None] > chin
        tracker = TorsoTracker(first, (segmenter.person_matte(first) > 0.5) & below)
        for index, frame in enumerate(read_frames(info)):
            picture = crop.cut(frame)
            if index in anew:
                tracker.restart()
            transforms.append(tracker.follow(picture))
            if index < fitted_frames and index % every == 0:
                plate.add(picture, segmenter.person_matte(picture))
            yield TrackingProgress("torso and background", index + 1, info.frame_count)
    return torso_poses(transforms, head, reference, joints), plate.finish()
