"""The demo clip, tracked once for all tests, and what is exactly known of it in the form that tracking works on."""

from __future__ import annotations

from collections.abc import Generator
from functools import cache
from typing import TypeVar

import numpy as np

from talkinghead.demo_clip.truth import ASSETS, CLIP_NAME, DemoClipTruth, load_truth
from tools.tracked_clip import TrackedClip
from tools.tracking import TrackingConfig, TrackingProgress, track_clip
from tools.video import VideoInfo, probe

RIGID = (6, 8, 10, 33, 151, 168, 263)
"""Landmarks of the demo clip that neither jaw, lips nor lids move."""
HOLDOUT = 0.13
Result = TypeVar("Result")


def finish(job: Generator[object, None, Result]) -> Result:
    """The value of a generator, its events passed over."""
    while True:
        try:
            next(job)
        except StopIteration as finished:
            return finished.value


@cache
def demo_clip() -> VideoInfo:
    """The encoded clip."""
    return probe(ASSETS / CLIP_NAME)


@cache
def demo_truth() -> DemoClipTruth:
    """Its ground truth."""
    return load_truth()


def fitted_frames() -> int:
    """Frames of the demo clip before the held-out part."""
    return demo_clip().frame_count - round(HOLDOUT * demo_clip().frame_count)


@cache
def demo_tracking() -> tuple[TrackedClip, tuple[TrackingProgress, ...]]:
    """The demo clip's track, its end held out, and the events on the way."""
    events, job = [], track_clip(demo_clip(), TrackingConfig(), fitted_frames())
    while True:
        try:
            events.append(next(job))
        except StopIteration as finished:
            return finished.value, tuple(events)


def demo_track() -> TrackedClip:
    """See `demo_tracking`."""
    return demo_tracking()[0]


def exact_landmarks(rigid: bool) -> np.ndarray:
    """Landmarks [T, 478, 3] of the demo clip, px: free of the expression, or where the clip really shows them.

    Depth is given as a detector does: in the picture's scale, zero in the middle of the head.
    """
    truth = demo_truth()
    rotation, translation = truth.world_to_camera[:, :3, :3], truth.world_to_camera[:, None, :3, 3]
    in_camera = truth.canonical_vertices @ rotation.transpose(0, 2, 1) + translation
    pixels = truth.facts.focal * in_camera[..., :2] / in_camera[..., 2:] + truth.facts.principal_point
    depth = (in_camera - translation)[..., 2:] * truth.facts.focal / translation[..., 2:]
    return np.concatenate([pixels if rigid else truth.landmarks_px, depth], 2).astype(np.float32)
