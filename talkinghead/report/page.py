"""The page: sections of HTML from what the other modules made. It needs no script and loads nothing."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from talkinghead.avatar import Avatar, AvatarManifest
from talkinghead.config import Device
from talkinghead.evaluation.drives import AUDIO
from talkinghead.evaluation.result import Evaluation
from talkinghead.outputs import check_writable
from talkinghead.renderer import AvatarRenderer
from talkinghead.report.curves import speech_drawing, training_drawing
from talkinghead.report.preview import Preview, Scene, make_preview
from talkinghead.report.sheets import DIFFERENCE_GAIN, data_uri, extremes, jpeg, mouth_strip, whole_strip
from talkinghead.report.style import STYLE
from talkinghead.training_history import TrainingHistory, read_history
from tools.errors import OutputError
from tools.video import VideoInfo

REPORT_NAME = "report.html"
MOUTHS = 3
"""Closed mouths shown, and as many open ones..."""
MOUTHS_APART_S = 0.2
"""...with so much time between any two."""
_BEST = {"high": "higher is better", "low": "lower is better", "one": "1 is best", None: ""}


def write_report(
    avatar: Avatar, info: VideoInfo, folder: Path, evaluation: Evaluation | None = None, device: Device = "auto"
) -> Path:
    """Writes report.html into a folder, with the training history that lies there, and returns its path.

    Args:
        info: the clip that the avatar was made from, or its copy in the avatar folder.

    Raises:
        OutputError: the folder or the file cannot be written; asked before the work.
        DamagedAvatarError: the training history is something else.
    """
    path = folder / REPORT_NAME
    check_writable(path)
    history = read_history(folder)
    preview = make_preview(avatar, info, AvatarRenderer(avatar, device), folder)
    temporary = path.with_name(f".{path.name}.unfinished")
    try:
        temporary.write_text(page(avatar.manifest, preview, history, evaluation), encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def page(manifest: AvatarManifest, preview: Preview, history: TrainingHistory, evaluation: Evaluation | None) -> str:
    """The whole document."""
    title = html.escape(f"Avatar of {manifest.source_name}")
    findings = "".join(f"<li>{html.escape(line)}</li>" for line in manifest.findings)
    sections = {
        "Speaking": _speaking(preview),
        "Whole pictures": _whole_sheet(preview),
        "Mouths, three times as large": _mouth_sheet(preview),
        "Lips and sound": f"<figure>{speech_drawing(preview)}</figure>",
        "How good it is": _not_measured(manifest) if evaluation is None else _measured(evaluation),
        "How the fit went": f"<figure>{training_drawing(history)}</figure>" if history.steps else _UNRECORDED,
        "What was found in the clip": f"<ul>{findings}</ul>" if findings else "<p>Nothing to worry about.</p>",
        "Facts": _table(_facts(manifest)),
    }
    body = "".join(f"<section><h2>{heading}</h2>{content}</section>" for heading, content in sections.items())
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head>\n<body><h1>{title}</h1>{body}</body></html>\n"
    )


_UNRECORDED = "<p>Its steps were not recorded.</p>"


def _speaking(preview: Preview) -> str:
    last = preview.first + len(preview.real) - 1
    part = "held-out: the fit has not seen them" if preview.is_held_out else "of the fitted part"
    video = data_uri("video/mp4", preview.video)
    return (
        f"<p>Source on the left; on the right the avatar in place, its lips driven by the sound alone. Frames "
        f"{preview.first} to {last}, {part}.</p>"
        f'<figure><video controls playsinline loop preload="auto" aria-label="source and avatar" src="{video}">'
        "</video></figure>"
    )


def _whole_sheet(preview: Preview) -> str:
    columns = (
        "source",
        "avatar in place",
        f"difference × {DIFFERENCE_GAIN}",
        "head alone",
        f"difference × {DIFFERENCE_GAIN}",
    )
    strips = ((_when(scene, preview), whole_strip(scene.source, scene.output, scene.free)) for scene in preview.scenes)
    return _sheet(columns, strips)


def _mouth_sheet(preview: Preview) -> str:
    mouths = {mouth.number - preview.first: mouth for mouth in preview.mouths}
    real = preview.real.copy()
    real[[place for place in range(len(real)) if place not in mouths]] = np.nan
    places = extremes(real, MOUTHS, max(1, round(MOUTHS_APART_S * preview.frames_per_second)))
    strips = (
        (
            f"{_when(mouths[place], preview)}: opening {preview.real[place]:.3f} real, "
            f"{preview.rendered[place]:.3f} rendered",
            mouth_strip(mouths[place].source, mouths[place].output),
        )
        for place in places
    )
    return _sheet(("source", "avatar in place", f"difference × {DIFFERENCE_GAIN}"), strips)


def _when(scene: Scene, preview: Preview) -> str:
    return f"Frame {scene.number}, {scene.number / preview.frames_per_second:.2f} s"


def _sheet(columns: Iterable[str], strips: Iterable[tuple[str, np.ndarray]]) -> str:
    headings = "".join(f"<span>{column}</span>" for column in columns)
    figures = "".join(
        f'<figure><img alt="{caption}" width="{strip.shape[1]}" height="{strip.shape[0]}" src="{jpeg(strip)}">'
        f"<figcaption>{caption}</figcaption></figure>"
        for caption, strip in strips
    )
    if not figures:
        return "<p>No face is seen in these frames.</p>"
    return f'<div class="columns">{headings}</div>{figures}'


def _not_measured(manifest: AvatarManifest) -> str:
    if manifest.fitted_frames == manifest.frame_count:
        return (
            "<p>Not measured: the whole clip was fitted. <code>talkinghead fit --holdout 0.2</code> keeps a part.</p>"
        )
    return "<p>Not measured yet: <code>talkinghead evaluate</code> with this folder writes its table here.</p>"


def _measured(evaluation: Evaluation) -> str:
    (_, *rows), *lines = evaluation.to_table()
    own = [' class="own"' if row == AUDIO else "" for row in rows]
    head = "".join(f"<th{mark}>{_words(row)}</th>" for row, mark in zip(rows, own, strict=True))
    body = []
    for measure, (_, *cells) in zip(evaluation.measures, lines, strict=True):
        hint = ", ".join(filter(None, (measure.unit, _BEST[measure.best])))
        label = f'{_words(measure.name)} <span class="soft">{html.escape(hint)}</span>'
        values = "".join(f"<td{mark}>{html.escape(cell)}</td>" for cell, mark in zip(cells, own, strict=True))
        body.append(f"<tr><th>{label}</th>{values}</tr>")
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in evaluation.notes)
    return (
        "<p>What the avatar does with the clip's own sound is in the column <em>audio</em>; the other columns are "
        "controls, driven by something else, and the clip itself.</p>"
        f'<div class="wide"><table class="figures"><thead><tr><th></th>{head}</tr></thead><tbody>{"".join(body)}'
        f"</tbody></table></div>{f'<ul>{notes}</ul>' if notes else ''}"
        f"<h3>Definitions</h3>{_table({_words(m.name): m.definition for m in evaluation.measures})}"
        f"<h3>Protocol</h3>{_table({_words(name): str(value) for name, value in evaluation.protocol.items()})}"
    )


def _words(name: str) -> str:
    return html.escape(name.replace("_", " "))


def _table(lines: Mapping[str, str]) -> str:
    rows = "".join(f"<tr><th>{name}</th><td>{html.escape(text)}</td></tr>" for name, text in lines.items())
    return f"<table>{rows}</table>"


def _facts(manifest: AvatarManifest) -> dict[str, str]:
    crop = manifest.crop
    mouth = "implicit" if manifest.mouth_kind == "implicit" else manifest.mouth
    return {
        "Source": manifest.source_name,
        "Frames": f"{manifest.frame_count} at {float(manifest.fps):.3f}/s, {manifest.width} x {manifest.height} px",
        "Fitted": f"frames 0 to {manifest.fitted_frames - 1}, preset {manifest.preset}, seed {manifest.seed}",
        "Crop": f"{crop.side} px at ({crop.left}, {crop.top}), worked on in {crop.resolution} px",
        "Gaussians": f"{manifest.face} face, {manifest.body} hair, neck and torso, {mouth} mouth",
        "Speech": f"{manifest.speech_feature} feature, encoder {manifest.speech_encoder}",
        "Made": f"{manifest.created} by talkinghead {manifest.talkinghead_version}",
    }
