"""The demo clip fitted end to end with a recipe that takes a moment; the track is the one all tests share."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from demo_clip_track import HOLDOUT, demo_clip, demo_track, demo_tracking, fitted_frames

import talkinghead.fit
from render.fitting import FittingConfig, Stage
from render.motion import MotionFieldConfig
from render.seeding import SeedingConfig
from talkinghead.config import FitConfig
from talkinghead.fit import fit
from talkinghead.presets import RECIPES, Recipe
from talkinghead.progress import Progress
from tools.tracked_clip import TrackedClip
from tools.tracking import TrackingConfig, TrackingProgress
from tools.video import VideoInfo

STEPS = 60
CONFIG = FitConfig(preset="fast", holdout=HOLDOUT)
RECIPE = Recipe(
    FittingConfig(steps=STEPS, stages=(Stage(0.5, 0.5, 1), Stage(0.5, 0.5, 0, registered=True)), cap=1900),
    SeedingConfig(face=700, body=700, mouth=100),
    MotionFieldConfig(plane_resolution=8, plane_channels=2, hidden=8),
)


@dataclass(frozen=True)
class FittedDemo:
    """What a whole fit left, said and did."""

    avatar: Path
    events: tuple[Progress, ...]
    tracked: int
    """How often the clip was tracked."""


@contextmanager
def quick_fit() -> Iterator[list[TrackingConfig]]:
    """The preset `fast` takes the tiny recipe, and tracking gives the shared track; yields a growing list of calls."""
    calls: list[TrackingConfig] = []

    def shared_track(
        info: VideoInfo, config: TrackingConfig, fitted: int, joints: tuple[int, ...]
    ) -> Generator[TrackingProgress, None, TrackedClip]:
        assert (info, config, fitted, joints) == (demo_clip(), TrackingConfig(), fitted_frames(), ())
        calls.append(config)
        yield from demo_tracking()[1]
        return demo_track()

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RECIPES, "fast", RECIPE)
        patch.setattr(talkinghead.fit, "track_clip", shared_track)
        yield calls


def fit_demo_clip(folder: Path) -> FittedDemo:
    """Fits the demo clip into a folder."""
    with quick_fit() as calls:
        events = tuple(fit(demo_clip().path, folder / "demo.avatar", CONFIG))
        return FittedDemo(folder / "demo.avatar", events, len(calls))
