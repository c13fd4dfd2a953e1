"""The `talkinghead` command with a preset `fast` that takes seconds, and which can be told to die.

Every change to the file system that Python makes is counted, by process, in $TALKINGHEAD_CHANGES; with
TALKINGHEAD_DEATH="worker group 37", a worker kills itself and all others when it is about to make its 37th. Processes
that a run starts import this module again: they are as quick, and counted too.
"""

from __future__ import annotations

import os
import signal
import sys

from kill_restarts import CHANGES_VARIABLE, DEATH_VARIABLE

import talkinghead.fit
from render.fitting import FittingConfig, Stage
from render.motion import MotionFieldConfig
from render.registration import RegistrationConfig
from render.seeding import SeedingConfig
from talkinghead.presets import RECIPES, Recipe

CHANGES = frozenset({"os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate", "subprocess.Popen"})
RECIPE = Recipe(
    FittingConfig(
        steps=40,
        stages=(Stage(0.5, 0.5, 1), Stage(0.5, 0.5, 0, registered=True)),
        cap=900,
        registration=RegistrationConfig(scales=(0.5,)),
    ),
    SeedingConfig(face=300, body=300, mouth=50),
    MotionFieldConfig(plane_resolution=8, plane_channels=2, hidden=8),
    refinement=RegistrationConfig(scales=(0.5,)),
    frames=25,
)
CHECKPOINT_S = 0.3


class Observer:
    """An audit hook (see `sys.addaudithook`): counts changes, and kills at one of them, if nobody did so before.

    What other programs (ffmpeg) and libraries in other languages write is not seen.
    """

    def __init__(self, role: str, counted: str, death: str) -> None:
        self._file = os.open(f"{counted}.{role}", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._marker = f"{counted}.dead"
        doomed, self._extent, number = death.split()
        self._countdown = int(number) if doomed == role else 0

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if event not in CHANGES and not (event == "open" and _writes(*arguments)):
            return
        os.write(self._file, b".")
        self._countdown -= 1
        if self._countdown == 0 and not os.path.exists(self._marker):
            os.mkfifo(self._marker)  # no change that is counted
            os.killpg(0, signal.SIGKILL) if self._extent == "group" else os.kill(os.getpid(), signal.SIGKILL)


def _writes(path: object, mode: object, flags: object) -> bool:
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR)) and path != os.devnull


def _prepare() -> None:
    RECIPES["fast"] = RECIPE
    talkinghead.fit.CHECKPOINT_S = CHECKPOINT_S
    role = "main" if __name__ == "__main__" else "worker"
    sys.addaudithook(Observer(role, os.environ[CHANGES_VARIABLE], os.environ.get(DEATH_VARIABLE, "nobody self 0")))


_prepare()

if __name__ == "__main__":
    from talkinghead.cli import main

    sys.exit(main())
