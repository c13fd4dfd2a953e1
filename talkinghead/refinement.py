"""From the fitted head back to the track: poses and expressions of all frames as the pictures say.

Landmarks know a face to half a pixel; the fitted model, which looks like the person, does better. Frames that were
fitted, held out, or left out of a long clip are treated alike, and nothing of the model changes.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import fields, replace

import numpy as np
import torch

from render.fitting import FrameStates, HeadFitter, MotionTargets
from render.head_model import BonePose
from render.implicit_mouth import time_stamps
from render.registration import Registration, RegistrationConfig
from talkinghead.progress import Progress
from tools.expression import ExpressionTrack
from tools.tracked_clip import TorsoPoseTrack, TrackedClip
from tools.video import VideoInfo, read_frames


def motion_targets(clip: TrackedClip, frames: np.ndarray) -> MotionTargets:
    """What is tracked of some frames [N], for the fit."""
    return MotionTargets(
        clip.head.rotations[frames],
        clip.head.translations[frames],
        clip.torso.rotations[frames],
        clip.torso.translations[frames],
        clip.expression.codes[frames],
        time_stamps(frames, clip.fitted_frames),
    )


def refine_track(
    info: VideoInfo, clip: TrackedClip, fitter: HeadFitter, fitted: np.ndarray, config: RegistrationConfig
) -> Generator[Progress, None, TrackedClip]:
    """The track with poses and expression registered to the pictures, where a face is seen.

    Args:
        fitted: [N] numbers of the frames that the model was fitted to, in the order of the fitter's states: they start
            from there, all others from what was tracked.
    """
    registration = Registration(fitter.model, fitter.background, config)
    tracked = FrameStates(motion_targets(clip, np.arange(len(clip)))).to(fitter.device)
    found = [tracked.state(number) for number in range(len(clip))]
    for place, number in enumerate(fitted):
        found[number] = fitter.states.state(place)
    seen = np.flatnonzero(clip.found)
    frames = enumerate(read_frames(info, 0, len(clip)))
    jobs = ((*found[number], clip.crop.cut(frame)) for number, frame in frames if clip.found[number])
    for done, (number, state) in enumerate(zip(seen, registration.register_all(jobs), strict=True), start=1):
        found[number] = state
        yield Progress("aligning", done, len(seen))
    poses, codes = zip(*found, strict=True)
    stacked = (torch.stack([getattr(pose, bone.name) for pose in poses]) for bone in fields(BonePose))
    head_rotations, head_translations, torso_rotations, torso_translations = (part.cpu().numpy() for part in stacked)
    lower, upper = np.split(torch.stack(codes).cpu().numpy(), [clip.expression.lower.shape[1]], axis=1)
    return replace(
        clip,
        head=replace(clip.head, rotations=head_rotations, translations=head_translations),
        torso=TorsoPoseTrack(torso_rotations, torso_translations),
        expression=ExpressionTrack(lower, upper),
    )
