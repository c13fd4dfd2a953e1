"""How a fit went: loss and number of Gaussians after every step, and their file in the avatar folder."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

from talkinghead.errors import DamagedAvatarError

TRAINING_NAME = "training.json"
_KINDS = {"steps": int, "losses": (int, float), "gaussians": int}


@dataclass(frozen=True)
class TrainingHistory:
    """Grows during a fit: the k-th entries belong together, and steps ascend."""

    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    gaussians: list[int] = field(default_factory=list)

    def add(self, step: int, loss: float, gaussians: int) -> None:
        """Takes in what is known after a step; a step that is told once more (while poses are registered) is not."""
        if not self.steps or step > self.steps[-1]:
            self.steps.append(step)
            self.losses.append(loss)
            self.gaussians.append(gaussians)

    def to_json(self) -> str:
        """One line; `from_json` reads it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> TrainingHistory:
        """
        Raises:
            ValueError: not what `to_json` wrote.
        """
        content = json.loads(text)
        if not isinstance(content, dict) or set(content) != set(_KINDS):
            raise ValueError(f"expected {', '.join(_KINDS)}")
        for name, kind in _KINDS.items():
            values = content[name]
            if not isinstance(values, list) or not all(isinstance(v, kind) and math.isfinite(v) for v in values):
                raise ValueError(f"{name} are not finite numbers")
        if len({len(values) for values in content.values()}) != 1:
            raise ValueError("its lists differ in length")
        return cls(**content)


def read_history(folder: Path) -> TrainingHistory:
    """The history in an avatar folder; an empty one if it holds none.

    Raises:
        DamagedAvatarError: the file is something else.
    """
    path = folder / TRAINING_NAME
    if not path.is_file():
        return TrainingHistory()
    try:
        return TrainingHistory.from_json(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DamagedAvatarError(path, f"is damaged ({error})") from error
