"""Curves as SVG that stands in the page: colours come from the page's style, so that they suit light and dark."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from encoders.spectrogram import mel_filter_bank, mel_power_blocks
from talkinghead.report.preview import Preview
from talkinghead.report.sheets import jpeg
from talkinghead.training_history import TrainingHistory

WIDTH, LEFT, RIGHT = 960, 64, 16
"""Of a drawing, and its margins: px at full size."""
HEAD, GAP = 24, 14
"""Height of a panel's heading, and the space under it."""
DYNAMIC_RANGE_DB = 60.0
"""What is so much weaker than the loudest moment is black in the spectrogram."""
SMOOTHING = 50
"""The mean of the loss is taken over this part of the fit: each step sees one frame, and frames differ."""


@dataclass(frozen=True)
class Panel:
    """A plot in a drawing: data coordinates to px."""

    top: float
    height: float
    xs: tuple[float, float]
    ys: tuple[float, float]

    def x(self, values: np.ndarray | float) -> np.ndarray | float:
        """Data to px."""
        first, last = self.xs
        return LEFT + (np.asarray(values) - first) / ((last - first) or 1) * (WIDTH - LEFT - RIGHT)

    def y(self, values: np.ndarray | float) -> np.ndarray | float:
        """Data to px; what lies outside is drawn on the border."""
        lowest, highest = self.ys
        share = np.clip((np.asarray(values) - lowest) / ((highest - lowest) or 1), 0, 1)
        return self.top + self.height * (1 - share)

    def curve(self, xs: np.ndarray, ys: np.ndarray, style: str) -> str:
        """A line through points, broken where a value is NaN."""
        pieces, drawing = [], False
        for x, y in zip(self.x(xs), self.y(ys), strict=True):
            if math.isfinite(y):
                pieces.append(f"{'L' if drawing else 'M'}{x:.1f} {y:.1f}")
            drawing = math.isfinite(y)
        return f'<path class="curve {style}" d="{"".join(pieces)}"/>'

    def frame(self, heading: str, unit: str = "") -> str:
        """Heading, horizontal grid and its numbers."""
        lines = [f'<text class="heading" x="{LEFT}" y="{self.top - 8}">{html.escape(heading)}</text>']
        for value in ticks(*self.ys, 3):
            y = self.y(value)
            lines.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            lines.append(f'<text class="end" x="{LEFT - 8}" y="{y + 4:.1f}">{number(value)}{unit}</text>')
        return "".join(lines)

    def time_axis(self, unit: str) -> str:
        """Numbers under the panel."""
        marks = ticks(*self.xs, 8)
        bottom = self.top + self.height + 18
        texts = [f'<text class="middle" x="{self.x(mark):.1f}" y="{bottom}">{number(mark)}</text>' for mark in marks]
        return "".join(texts) + f'<text class="end" x="{LEFT - 28}" y="{bottom}">{unit}</text>'


def ticks(lowest: float, highest: float, most: int) -> list[float]:
    """Up to most + 1 round numbers between two others."""
    if not highest > lowest:
        return [lowest]
    rough = (highest - lowest) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
    return [step * k for k in range(math.ceil(lowest / step - 1e-9), math.floor(highest / step + 1e-9) + 1)]


def number(value: float) -> str:
    """As short as it can be; large ones with a space between thousands."""
    return f"{value:,.0f}".replace(",", "\u202f") if abs(value) >= 1000 else f"{value:.4g}"


def speech_drawing(preview: Preview) -> str:
    """Mouth opening, real and rendered, over the waveform and the spectrogram of the same seconds."""
    count = len(preview.real)
    begin = preview.first / preview.frames_per_second
    span = (begin, begin + count / preview.frames_per_second)
    times = (preview.first + np.arange(count) + 0.5) / preview.frames_per_second
    both = np.concatenate([preview.real, preview.rendered])
    widest = float(np.nanmax(both)) if np.isfinite(both).any() else 1.0
    openings = Panel(HEAD, 150, span, (0.0, widest))
    sound = Panel(openings.top + openings.height + GAP + HEAD, 70, span, (-1.0, 1.0))
    spectrum = Panel(sound.top + sound.height + GAP + HEAD, 120, span, (0.0, 1.0))
    box = f'x="{LEFT}" y="{spectrum.top}" width="{WIDTH - LEFT - RIGHT}" height="{spectrum.height}"'
    parts = [
        openings.frame("Mouth opening, in distances of the outer eye corners"),
        _legend(openings, [("real", "first"), ("rendered", "second")]),
        openings.curve(times, preview.real, "first"),
        openings.curve(times, preview.rendered, "second"),
        f'<text class="heading" x="{LEFT}" y="{sound.top - 8}">Sound</text>',
        _waveform(sound, preview.samples),
        f'<text class="heading" x="{LEFT}" y="{spectrum.top - 8}">Mel spectrogram, 50 Hz to 7.6 kHz</text>',
        f'<image {box} preserveAspectRatio="none" href="{jpeg(spectrogram_picture(preview.samples))}"/>',
        spectrum.time_axis("s"),
    ]
    return _drawing(parts, spectrum.top + spectrum.height + 28, "Mouth opening over waveform and spectrogram")


def training_drawing(history: TrainingHistory) -> str:
    """Loss and number of Gaussians over the steps of a fit."""
    steps, losses, gaussians = (np.array(values, float) for values in
                                (history.steps, history.losses, history.gaussians))  # fmt: skip
    span = (0.0, float(steps[-1]))
    width = max(1, len(losses) // SMOOTHING)
    smooth = np.convolve(losses, np.ones(width) / width, "valid")
    loss = Panel(HEAD, 150, span, (0.0, float(np.percentile(losses, 98))))
    count = Panel(loss.top + loss.height + GAP + HEAD, 90, span, (0.0, float(gaussians.max())))
    parts = [
        loss.frame("Loss"),
        _legend(loss, [("each step", "faint"), (f"mean of {width} steps", "first")]),
        loss.curve(steps, losses, "faint"),
        loss.curve(steps[(width - 1) // 2 :][: len(smooth)], smooth, "first"),
        count.frame("Gaussians"),
        count.curve(steps, gaussians, "first"),
        count.time_axis("step"),
    ]
    return _drawing(parts, count.top + count.height + 28, "Loss and number of Gaussians over the steps")


def spectrogram_picture(samples: np.ndarray) -> np.ndarray:
    """Mel power in decibels under its largest as colours: uint8 [bands, frames, 3] RGB, low tones at the bottom."""
    power = np.concatenate(list(mel_power_blocks([samples], mel_filter_bank())))
    decibels = 10 * np.log10(np.maximum(power, 1e-12))
    level = (decibels - decibels.max()) / DYNAMIC_RANGE_DB + 1
    grey = np.round(255 * level.clip(0, 1)).astype(np.uint8)
    colors = cv2.applyColorMap(np.ascontiguousarray(grey.T[::-1]), cv2.COLORMAP_INFERNO)
    return cv2.resize(colors, None, fx=2, fy=3, interpolation=cv2.INTER_LINEAR)[..., ::-1]


def _waveform(panel: Panel, samples: np.ndarray) -> str:
    """The range of the samples in every column, as a filled outline."""
    columns = np.array_split(samples, min(len(samples), WIDTH - LEFT - RIGHT))
    loudest = max(float(np.abs(samples).max(initial=0)), 1e-3)
    highest, lowest = (np.array([end(column) for column in columns]) / loudest for end in (np.max, np.min))
    times = np.linspace(*panel.xs, len(columns))
    outline = zip(
        panel.x(np.concatenate([times, times[::-1]])), panel.y(np.concatenate([highest, lowest[::-1]])), strict=True
    )
    return f'<path class="sound" d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in outline)}Z"/>'


def _legend(panel: Panel, entries: Sequence[tuple[str, str]]) -> str:
    parts, right = [], WIDTH - RIGHT
    for name, style in reversed(entries):
        parts.append(f'<text class="end" x="{right}" y="{panel.top - 8}">{html.escape(name)}</text>')
        right -= 7 * len(name) + 10
        line = f"M{right - 20} {panel.top - 12}H{right}"
        parts.append(f'<path class="curve {style}" d="{line}"/>')
        right -= 36
    return "".join(parts)


def _drawing(parts: Sequence[str], height: float, label: str) -> str:
    size = f'viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" height="{height:.0f}"'
    return f'<svg {size} role="img" aria-label="{html.escape(label)}">{"".join(parts)}</svg>'
