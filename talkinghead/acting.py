"""What head and upper face do in every frame of the output, as far as the sound does not decide it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np

from render.head_model import BonePose
from talkinghead.avatar import Avatar
from talkinghead.blinks import BlinkSplit, eye_opening, find_blinks, natural_blinks, split_blinks
from talkinghead.config import CAMERA, SOURCE, SpeakConfig
from talkinghead.gaze import GazeControl, fit_gaze
from talkinghead.head_motion import BodyMotion, IdleMotion, source_pose
from talkinghead.pose_file import FileMotion, read_poses
from talkinghead.timeline import PingPong
from tools.tracked_clip import TOPOLOGIES

NO_BLINKS = "nobody blinks in the part of the clip that was learned, so the eyes stay open"


@dataclass(frozen=True)
class Performance:
    """One frame of the output, but for the lips."""

    source_frame: int
    """Of the footage: shown in place, and replayed where something is to be as in the source."""
    pose: BonePose
    upper: np.ndarray
    """[Ku] expression code of the upper face."""


class Actor:
    """Decides pose and upper face of `frames` frames of output. Memory does not grow with their number.

    Everything is learned from the fitted frames of the avatar's footage that show a face. `notes` are for the user, who
    may have asked for something that the footage does not hold.

    Raises:
        PoseFileError: the pose is a file that holds no poses.
        GazeError: a gaze is asked for, and the avatar's landmarks have no irises.
    """

    def __init__(self, avatar: Avatar, config: SpeakConfig, frames: int) -> None:
        facts = avatar.manifest
        self._frames = frames
        self._fps = float(facts.fps)
        self._timeline = PingPong(facts.fitted_frames, facts.fps)
        self._config = config
        self._tracks = avatar.tracks
        self._learned = np.flatnonzero(avatar.tracks.found[: facts.fitted_frames])
        self._pose = self._poses(facts.fps)
        self._eyes = self._split(avatar) if config.changes_upper_face else BlinkSplit.without(avatar.tracks.upper)
        self._still = np.median(self._eyes.opened[self._learned], axis=0).astype(np.float32)
        self._gaze = self._gaze_control(avatar) if config.gaze != SOURCE else None
        lacks_blinks = config.blink == "natural" and not self._eyes.templates()
        self.notes = (NO_BLINKS,) if lacks_blinks else ()

    def performances(self) -> Iterator[Performance]:
        """One for each frame, in order."""
        closings = itertools.islice(self._closings(), self._frames)
        for frame, closing in enumerate(closings):
            source_frame, pose = self._timeline[frame], self._pose(frame)
            yield Performance(source_frame, pose, self._open_eyed(source_frame, pose) + closing)

    def _poses(self, fps: Fraction) -> Callable[[int], BonePose]:
        """From a frame of the output to its pose."""
        kind, tracks = self._config.pose, self._tracks
        if kind == SOURCE:
            return lambda frame: source_pose(tracks, self._timeline[frame])
        body = BodyMotion(tracks, self._learned, self._fps)
        if kind == "still":
            pose = source_pose(tracks, body.still_frame())
            return lambda frame: pose
        if kind == "idle":
            return partial(body.pose, IdleMotion(body.head.motion, self._fps, self._config.seed))
        return partial(body.pose, FileMotion(read_poses(Path(kind)), self._frames, fps))

    def _split(self, avatar: Avatar) -> BlinkSplit:
        fitted = slice(0, avatar.manifest.fitted_frames)
        opening = eye_opening(avatar.tracks.landmarks[fitted], TOPOLOGIES[avatar.manifest.topology])
        return split_blinks(avatar.tracks.upper[fitted], find_blinks(opening, self._fps))

    def _gaze_control(self, avatar: Avatar) -> GazeControl:
        facts = avatar.manifest
        open_eyed = self._learned[~self._eyes.in_blink()[self._learned]]
        codes, topology = self._eyes.opened[open_eyed], TOPOLOGIES[facts.topology]
        return fit_gaze(self._tracks, codes, open_eyed, topology, facts.focal_px, facts.crop.resolution)

    def _open_eyed(self, source_frame: int, pose: BonePose) -> np.ndarray:
        code = self._still if self._config.expression == "still" else self._eyes.opened[source_frame]
        if self._gaze is None:
            return code
        away = np.zeros(2) if self._config.gaze == CAMERA else np.array(self._config.gaze_degrees)
        return self._gaze.held(code, away, pose.head_rotation.numpy())

    def _closings(self) -> Iterator[np.ndarray]:
        """What blinks add to the code of frame 0, 1, ..."""
        templates = self._eyes.templates()
        if self._config.blink == SOURCE:
            return (self._eyes.closing[self._timeline[frame]] for frame in itertools.count())
        if self._config.blink == "off" or not templates:
            return itertools.repeat(np.zeros_like(self._still))
        return natural_blinks(templates, self._fps, self._config.seed)
