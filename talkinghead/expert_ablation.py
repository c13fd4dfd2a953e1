"""What Speech2Lip's and TalkLip's parts are worth, each and all: a table as their own (Table 4; Table 1).

    python -m talkinghead.expert_ablation VIDEO... -o FOLDER

For every clip and seed a head is fitted without the last part of the clip; the variants start from it and are measured
on that part. One observer, a lip reader that no variant has learned from, is trained on the fitted parts of all clips.
What is in the folder is not done again, so that a stopped run goes on:

observer.safetensors     the observer
CLIP.SEED.KIND.avatar    the heads, with the mouth of a KIND
CLIP.SEED.VARIANT.json   what was measured
table.md                 the table of each clip, that of all, and what each variant changes on each clip
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any

import tyro

from encoders.bundle import DEFAULT_BUNDLE
from encoders.errors import EncoderWeightsError, LipClipError
from encoders.experts.observer import VisemeObserver
from encoders.experts.viseme_file import LipReaderProvenance, load_observer, save_lip_reader
from encoders.experts.viseme_recipe import lip_reader_training, train_lip_reader
from talkinghead import __version__
from talkinghead.avatar import load_avatar
from talkinghead.config import EVALUATION_HOLDOUT, LARGEST_HOLDOUT, EvaluateConfig, FitConfig, Preset
from talkinghead.errors import UnjudgedClipError
from talkinghead.evaluate import LEAST_FRAMES, measure
from talkinghead.evaluation.available import Available
from talkinghead.evaluation.drives import AUDIO, SHUFFLED, TRACKED, TRUTH
from talkinghead.evaluation.lips import LipInstrument
from talkinghead.evaluation.pictures import PictureInstrument
from talkinghead.evaluation.result import Figures, cell, finite, restored
from talkinghead.evaluation.visemes import VisemeInstrument
from talkinghead.file_record import FileRecord
from talkinghead.fit import exchange_lips, fit
from talkinghead.lip_clips import read_lip_clip
from talkinghead.lip_fit import delayed
from talkinghead.outputs import MANIFEST_NAME, check_new_avatar
from talkinghead.presets import RECIPES
from talkinghead.progress import Progress, relayed
from talkinghead.terminal import exit_code, print_table, show, write_text
from tools.errors import UserError
from tools.video import probe

COLUMNS = {
    "hull_psnr": "hull PSNR, dB",
    "lmd_px": "LMD, px",
    "mouth_opening_r": "opening r",
    "closure_recall": "closure hits",
    "viseme_accuracy": "observer",
    "mouth_cpbd": "CPBD",
    "seconds": "fit, s",
}
"""Measures of the table and their headings."""
CHANGES = {
    "lmd_px": ("LMD", "%", 1),
    "viseme_accuracy": ("Observer", "%", 0),
    "hull_psnr": ("Hull PSNR", "dB", 2),
    "seconds": ("Fit", "%", 0),
}
"""What decides whether a variant pays; the unit in which changes of it are said, % of the baseline's; decimals."""
OBSERVER_NAME, TABLE_NAME = "observer.safetensors", "table.md"
BASELINE = "baseline"
CONTROLS = (TRUTH, TRACKED, SHUFFLED)
"""Rows that are measured with the baseline: what the figures of the others can be compared with."""
EXPERTS = ("sync", "reading", "discriminator")


@dataclass(frozen=True)
class Variant:
    """A change of the fit."""

    changes: Mapping[str, Any]
    """To `FitConfig`."""

    def of(self, config: FitConfig) -> FitConfig:
        """The fit with the change."""
        return replace(config, **self.changes)


VARIANTS: dict[str, Variant] = {
    BASELINE: Variant({}),
    "+ driven, real pictures alone": Variant({"experts": ("picture",)}),
    "+ contrastive sync": Variant({"experts": ("sync",)}),
    "+ reading expert": Variant({"experts": ("reading",)}),
    "+ discriminator": Variant({"experts": ("discriminator",)}),
    "+ Blend-Net": Variant({"blend_net": True}),
    "implicit mouth": Variant({"mouth": "implicit"}),
    "local audio encoder": Variant({"speech": "talklip-local"}),
    "global audio encoder": Variant({"speech": "talklip-global"}),
    "all experts and Blend-Net": Variant({"experts": EXPERTS, "blend_net": True}),
    "all, implicit mouth": Variant({"experts": EXPERTS, "blend_net": True, "mouth": "implicit"}),
}


@dataclass(frozen=True)
class ExpertAblation:
    """Measures what each part of two papers adds to a fit, on held-out footage."""

    videos: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Clips of people."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for figures, heads and working files."""
    preset: Preset = "standard"
    """Recipe of the heads."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the heads and of everything that learns from them."""
    variants: tuple[str, ...] = tuple(VARIANTS)
    """Lines of the table."""

    def __post_init__(self) -> None:
        unknown = set(self.variants) - set(VARIANTS)
        if unknown:
            raise UserError(f"--variants takes {', '.join(VARIANTS)}, got {', '.join(sorted(unknown))}")

    def config(self, video: Path, seed: int) -> FitConfig:
        """The baseline's fit. Of a short clip more is held out, so that there is enough to measure."""
        share = max(EVALUATION_HOLDOUT, (LEAST_FRAMES + 1) / probe(video).frame_count)
        return FitConfig(self.preset, seed, min(share, LARGEST_HOLDOUT))


@dataclass(frozen=True)
class Line:
    """What was measured of one clip with one seed."""

    name: str
    """Of a variant, or of a row that its figures can be compared with."""
    clip: str
    seed: int
    figures: Figures
    note: str = ""
    """Why nothing was measured."""


def ablate(job: ExpertAblation) -> Generator[Progress, None, list[Line]]:
    """Measures all variants (the generator's value). What cannot be judged on a clip is a line with a note.

    Raises:
        UserError: see `fit`.
    """
    for video in job.videos:
        probe(video)  # complains before anything slow begins
    job.output.mkdir(parents=True, exist_ok=True)
    observer = yield from _observer(job)
    lines = []
    for seed in job.seeds:
        for video in job.videos:
            instruments = (PictureInstrument(), LipInstrument(), VisemeInstrument(observer, probe(video).fps))
            for name in job.variants:
                task = _Task(job, video, seed, name)
                steps = relayed(
                    _measured(task, Available(instruments, ())),
                    lambda event, task=task: replace(event, stage=f"{task}: {event.stage}"),
                )
                try:
                    rows = yield from steps
                except (UnjudgedClipError, LipClipError) as error:
                    lines.append(Line(name, video.stem, seed, dict.fromkeys(COLUMNS, math.nan), f"{task}: {error}"))
                    continue
                lines += [Line(name if row == AUDIO else row, video.stem, seed, rows[row]) for row in rows]
    return lines


@dataclass(frozen=True)
class _Task:
    """A variant, a clip and a seed."""

    job: ExpertAblation
    video: Path
    seed: int
    variant: str

    def __str__(self) -> str:
        return f"{self.video.stem}, seed {self.seed}, {self.variant}"

    @cached_property
    def config(self) -> FitConfig:
        return VARIANTS[self.variant].of(self.job.config(self.video, self.seed))

    @property
    def head(self) -> Path:
        return self.job.output / f"{self.video.stem}.{self.seed}.{self.config.mouth}.avatar"

    @property
    def figures(self) -> Path:
        name = "".join(letter if letter.isalnum() else "-" for letter in self.variant)
        return self.job.output / f"{self.video.stem}.{self.seed}.{name}.json"

    @property
    def key(self) -> str:
        """What a fit must share to be taken for this one."""
        facts = [__version__, FileRecord.of(self.video).sha256, asdict(self.config), asdict(RECIPES[self.job.preset])]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _observer(job: ExpertAblation) -> Generator[Progress, None, VisemeObserver]:
    """Trained on the parts of all clips that heads are fitted to, unless it is there."""
    path, clips = job.output / OBSERVER_NAME, []
    for video in job.videos:
        task = _Task(job, video, job.seeds[0], BASELINE)
        yield from _head(task)
        facts = load_avatar(task.head).manifest
        whole = yield from read_lip_clip(video)
        samples = delayed(whole.samples, facts.sound_delay_frames, facts.fps)
        clips.append(replace(whole, samples=samples).part(0, facts.fitted_frames))
    provenance = LipReaderProvenance.of("observer", clips, lip_reader_training("observer", len(clips), 0), None)
    with contextlib.suppress(EncoderWeightsError):  # none yet, or half a file: it is trained below
        observer, known = load_observer(path)
        if known == provenance:
            return observer
    steps = train_lip_reader("observer", clips, DEFAULT_BUNDLE.load(), held_out=0.0, seed=0)
    observer, provenance = yield from relayed(steps, lambda event: Progress("observer", event.step, event.steps))
    save_lip_reader(observer, provenance, path)
    return observer


def _measured(task: _Task, looking: Available) -> Generator[Progress, None, dict[str, Figures]]:
    """The figures of one variant, and with the baseline those of the controls, by row; from the folder if known."""
    key = f"{task.key} {FileRecord.of(task.job.output / OBSERVER_NAME).sha256}"
    known = _read(task.figures, key)
    if known is not None:
        return known
    head_seconds = yield from _head(task)
    head, output = load_avatar(task.head), task.job.output / "variant.avatar"
    started = time.monotonic()
    yield from exchange_lips(head, probe(task.video), task.config, output)
    seconds = {AUDIO: head_seconds + time.monotonic() - started}
    rows = [AUDIO, *CONTROLS] if task.variant == BASELINE else [AUDIO]
    evaluation = yield from measure(load_avatar(output), looking, EvaluateConfig(task.config), rows)
    shutil.rmtree(output)
    figures = {row: {**evaluation.rows[row], "seconds": seconds.get(row, math.nan)} for row in rows}
    _write(task.figures, key, figures)
    return figures


def _head(task: _Task) -> Generator[Progress, None, float]:
    """Fits the head that a variant starts from, unless it is there; the seconds that took (the generator's value)."""
    plain = replace(task, variant=BASELINE)
    config = replace(plain.config, mouth=task.config.mouth)
    record, key = task.head.with_suffix(".json"), plain.key
    known = _read(record, key)
    if known is None or not (task.head / MANIFEST_NAME).exists():
        check_new_avatar(task.head, overwrite=True)
        started = time.monotonic()
        yield from fit(task.video, task.head, config)
        known = {"head": {"seconds": time.monotonic() - started}}
        _write(record, key, known)
    return known["head"]["seconds"]


def _write(path: Path, key: str, rows: Mapping[str, Figures]) -> None:
    content = {"key": key, "rows": {row: finite(values) for row, values in rows.items()}}
    write_text(path, json.dumps(content, indent=2, allow_nan=False))


def _read(path: Path, key: str) -> dict[str, Figures] | None:
    """What was measured by an earlier run; None when there is nothing, or of something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["key"] != key:
            return None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return {row: restored(figures) for row, figures in content["rows"].items()}


def table(lines: Sequence[Line]) -> list[tuple[str, ...]]:
    """A heading and a row for each name: the mean over clips, and its standard deviation over seeds."""
    rows = []
    for name in dict.fromkeys(line.name for line in lines):
        seeds: dict[int, list[Figures]] = {}
        for line in lines:
            if line.name == name:
                seeds.setdefault(line.seed, []).append(line.figures)
        rows.append((name, *(_spread([_mean(clips, column) for clips in seeds.values()]) for column in COLUMNS)))
    return [("", *COLUMNS.values()), *rows]


def changes(lines: Sequence[Line], column: str) -> list[tuple[str, ...]]:
    """A heading with the clips and a row for each variant: by how much a measure differs from the baseline's of the
    same clip and seed, its mean and standard deviation over seeds. Empty without a baseline."""
    _, unit, decimals = CHANGES[column]
    before = {(line.clip, line.seed): line.figures[column] for line in lines if line.name == BASELINE}
    found: dict[str, dict[str, list[float]]] = {}
    for line in lines:
        if line.name in VARIANTS and line.name != BASELINE and (line.clip, line.seed) in before:
            base = before[line.clip, line.seed]
            change = line.figures[column] - base
            share = 100 * change / base if base else math.nan
            found.setdefault(line.name, {}).setdefault(line.clip, []).append(share if unit == "%" else change)
    clips = dict.fromkeys(line.clip for line in lines)
    written = f"{{:+.{decimals}f}}".format, f"{{:.{decimals}f}}".format
    rows = [(name, *(_spread(by_clip.get(clip, []), *written) for clip in clips)) for name, by_clip in found.items()]
    return [("", *clips), *rows] if rows else []


def _mean(clips: Sequence[Figures], column: str) -> float:
    """Over the clips for which a measure is defined; NaN if it is for none."""
    values = [figures[column] for figures in clips if math.isfinite(figures[column])]
    return mean(values) if values else math.nan


def _spread(
    values: Sequence[float], middle: Callable[[float], str] = cell, width: Callable[[float], str] = "{:.2g}".format
) -> str:
    """Mean and standard deviation of what is known, each as a function writes it."""
    known = [value for value in values if not math.isnan(value)]
    if len(known) < 2:
        return middle(known[0]) if known else "-"
    return f"{middle(mean(known))} ± {width(stdev(known))}"


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints the table and writes it; returns the exit code."""
    return exit_code(lambda: _run(tyro.cli(ExpertAblation, args=arguments)))


def _run(job: ExpertAblation) -> None:
    lines = show(ablate(job))
    text = []
    for clip in [video.stem for video in job.videos]:
        text += [f"{clip}:", "", *_markdown(table([line for line in lines if line.clip == clip])), ""]
    rows, notes = table(lines), [line.note for line in lines if line.note]
    text += ["All clips:", "", *_markdown(rows), ""]
    print_table(rows)
    for column, (name, unit, _) in CHANGES.items():
        if compared := changes(lines, column):
            title = f"{name} against the {BASELINE}'s, {unit}:"
            text += [title, "", *_markdown(compared), ""]
            print(f"\n{title}")
            print_table(compared)
    write_text(job.output / TABLE_NAME, "\n".join([*text, *notes]))
    for note in notes:
        print(note)


def _markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    heading, *others = ["| " + " | ".join(row) + " |" for row in rows]
    return [heading, "| --- " * len(rows[0]) + "|", *others]


if __name__ == "__main__":
    sys.exit(main())
