"""What each part of a fit is worth: the recipe without it, on held-out footage.

    python -m talkinghead.ablation VIDEO... -o FOLDER

Every variant is fitted with the same seed to the first 80 % of each clip and measured on the rest by `evaluate`. A
variant whose figures are in the folder is not measured again, so that a stopped run goes on.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from talkinghead.config import EVALUATION_HOLDOUT, EvaluateConfig, FitConfig, Preset
from talkinghead.evaluate import evaluate
from talkinghead.evaluation.drives import AUDIO, TRACKED
from talkinghead.fit import fit
from talkinghead.presets import RECIPES, Recipe
from talkinghead.progress import Progress
from talkinghead.terminal import exit_code, print_table, show
from tools.video import probe

MEASURES = ("whole_psnr", "hull_psnr", "face_psnr", "mouth_sharpness", "lmd_px", "mouth_opening_r", "head_jitter")


def _without_loss(**weights: float) -> Callable[[Recipe], Recipe]:
    return lambda recipe: replace(
        recipe, fitting=replace(recipe.fitting, loss=replace(recipe.fitting.loss, **weights))
    )


def _fitting(**changes: object) -> Callable[[Recipe], Recipe]:
    return lambda recipe: replace(recipe, fitting=replace(recipe.fitting, **changes))


VARIANTS: dict[str, Callable[[Recipe], Recipe]] = {
    "as it is": lambda recipe: recipe,
    "no registration while fitting": _fitting(registration=None),
    "no pose gradient": _fitting(refine_poses=False),
    "no body motion": _fitting(body_motion=False),
    "no detail loss": _without_loss(detail=0.0),
    "no D-SSIM": _without_loss(dssim=0.0),
    "no extra weight on the face": _without_loss(face=0.0),
    "no mouth opening": _without_loss(hole=0.0),
    "twice the steps": lambda recipe: replace(
        recipe, fitting=replace(recipe.fitting, steps=2 * recipe.fitting.steps)
    ),
}


@dataclass(frozen=True)
class Ablation:
    """Compares variants of a fit on held-out footage."""

    videos: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Clips of people."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for figures and working files."""
    preset: Preset = "standard"
    """Recipe that parts are taken from."""
    seed: int = 0
    """Of every fit."""


def measure(video: Path, name: str, job: Ablation) -> Generator[Progress, None, dict[str, float | None]]:
    """The measures of one variant on one clip, from the folder if they are there."""
    path = job.output / f"{video.stem}.{job.preset}.{job.seed}.{name.replace(' ', '-')}.json"
    if not path.exists():
        avatar = job.output / f"{video.stem}.avatar"  # one for all variants: its track is found again
        RECIPES[name] = VARIANTS[name](RECIPES[job.preset])
        yield from fit(video, avatar, FitConfig(preset=name, seed=job.seed, holdout=EVALUATION_HOLDOUT))
        evaluation = yield from evaluate(avatar, EvaluateConfig())
        path.write_text(evaluation.to_json())
    rows = json.loads(path.read_text())["rows"]
    figures = {measure: rows[TRACKED][measure] for measure in MEASURES}
    return figures | {"audio lmd_px": rows[AUDIO]["lmd_px"]}


def main(arguments: list[str] | None = None) -> int:
    """Measures and prints a table for each clip; returns the exit code."""
    return exit_code(lambda: _ablate(tyro.cli(Ablation, args=arguments)))


def _ablate(job: Ablation) -> None:
    for video in job.videos:
        probe(video)  # complains before anything slow begins
    job.output.mkdir(parents=True, exist_ok=True)
    for video in job.videos:
        rows = {name: show(measure(video, name, job)) for name in VARIANTS}
        columns = next(iter(rows.values()))
        print(video.name)
        print_table([("", *columns), *((name, *(_printed(v) for v in row.values())) for name, row in rows.items())])


def _printed(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


if __name__ == "__main__":
    sys.exit(main())
