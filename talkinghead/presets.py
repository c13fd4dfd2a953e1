"""What the presets mean: how many Gaussians, how large a motion network, how many steps."""

from __future__ import annotations

from dataclasses import dataclass, field

from render.fitting import FittingConfig, Stage
from render.motion import MotionFieldConfig
from render.registration import RegistrationConfig
from render.seeding import SeedingConfig
from talkinghead.config import Preset
from talkinghead.experts import ExpertsConfig


@dataclass(frozen=True)
class Recipe:
    """The sizes and the schedule of a fit, and how the track is refined after it."""

    fitting: FittingConfig = field(default_factory=FittingConfig)
    seeding: SeedingConfig = field(default_factory=SeedingConfig)
    motion: MotionFieldConfig = field(default_factory=MotionFieldConfig)
    refinement: RegistrationConfig = field(default_factory=lambda: RegistrationConfig(scales=(1.0,) * 5))
    frames: int = 600
    """Most frames that are fitted. They wait on disk, about 1 MB each at 512 px."""
    experts: ExpertsConfig = field(default_factory=ExpertsConfig)
    """How the mouth learns to be driven, where experts judge it."""


RECIPES: dict[Preset, Recipe] = {
    "fast": Recipe(
        FittingConfig(steps=700, cap=24_000),
        SeedingConfig(face=5_500, body=7_500, mouth=1_500),
        refinement=RegistrationConfig(scales=(0.5, 1.0, 1.0)),
        frames=200,
    ),
    "standard": Recipe(),
    "best": Recipe(
        FittingConfig(
            steps=6000,
            cap=60_000,
            stages=(Stage(0.3, 0.5, 4), Stage(0.3, 1.0, 6, registered=True), Stage(0.4, 1.0, 0, registered=True)),
        )
    ),
}
