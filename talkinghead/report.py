"""report.html: what an avatar looks like and what the preflight found, in one file that opens anywhere."""

from __future__ import annotations

import base64
import html
from pathlib import Path

import cv2
import numpy as np

from talkinghead.avatar import Avatar
from talkinghead.config import Device
from talkinghead.renderer import AvatarRenderer, DrivenFrame
from talkinghead.training_frames import TrainingFrames

SAMPLES = 6
STILL_PX = 320
DIFFERENCE_GAIN = 4
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem}}
img{{max-width:100%}}td,th{{padding:.1rem 1rem .1rem 0;text-align:left}}</style>
<h1>{title}</h1>
<h2>What the avatar looks like</h2>
<p>Columns: source, rendered head over the background plate, difference times {gain}.</p>
<img alt="source, rendered and difference" src="data:image/jpeg;base64,{sheet}">
<h2>What was found in the clip</h2>{findings}
<h2>Facts</h2><table>{facts}</table></html>
"""


def contact_sheet(pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Rows of source, rendered and amplified difference, uint8 RGB, from pairs of pictures [R, R, 3]."""
    rows = []
    for source, rendered in pairs:
        difference = np.abs(source.astype(int) - rendered) * DIFFERENCE_GAIN
        row = np.hstack([source, rendered, difference.clip(0, 255).astype(np.uint8)])
        rows.append(cv2.resize(row, (3 * STILL_PX, STILL_PX), interpolation=cv2.INTER_AREA))
    return np.vstack(rows)


def write_report(avatar: Avatar, frames: TrainingFrames, folder: Path, device: Device = "auto") -> Path:
    """Writes report.html into a folder and returns its path."""
    places = np.linspace(0, len(frames) - 1, min(SAMPLES, len(frames))).astype(int)
    numbers = [int(frames.indices[place]) for place in places]
    rendered = AvatarRenderer(avatar, device).free([DrivenFrame(n, avatar.tracks.lower[n]) for n in numbers])
    pairs = [(frames.images[place], picture) for place, picture in zip(places, rendered, strict=True)]
    _, encoded = cv2.imencode(".jpg", contact_sheet(pairs)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    manifest, crop = avatar.manifest, avatar.manifest.crop
    facts = {
        "Source": manifest.source_name,
        "Frames": f"{manifest.frame_count} at {float(manifest.fps):.3f}/s, {manifest.width} x {manifest.height} px",
        "Fitted": f"frames 0 to {manifest.fitted_frames - 1}, preset {manifest.preset}, seed {manifest.seed}",
        "Crop": f"{crop.side} px at ({crop.left}, {crop.top}), worked on in {crop.resolution} px",
        "Gaussians": f"{manifest.face} face, {manifest.body} hair, neck and torso, {manifest.mouth} mouth",
        "Speech encoder": manifest.speech_encoder,
        "Made": f"{manifest.created} by talkinghead {manifest.talkinghead_version}",
    }
    lines = "".join(f"<li>{html.escape(line)}</li>" for line in manifest.findings)
    page = _PAGE.format(
        title=html.escape(f"Avatar of {manifest.source_name}"),
        gain=DIFFERENCE_GAIN,
        sheet=base64.b64encode(encoded.tobytes()).decode("ascii"),
        findings=f"<ul>{lines}</ul>" if lines else "<p>Nothing to worry about.</p>",
        facts="".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in facts.items()),
    )
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path
