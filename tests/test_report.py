"""report.html: complete in one file, its pictures, curves and table right, whole in a real browser."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from browser import open_page
from fitted_demo import STEPS, FittedDemo
from tiny_avatar import SIDE, save_speaking_avatar, tiny_avatar

import talkinghead.evaluate
from talkinghead.avatar import Avatar
from talkinghead.config import EvaluateConfig
from talkinghead.errors import DamagedAvatarError
from talkinghead.evaluation.instruments import Measure
from talkinghead.evaluation.result import Evaluation
from talkinghead.report.curves import HEAD, LEFT, RIGHT, WIDTH, Panel, spectrogram_picture, ticks
from talkinghead.report.page import write_report
from talkinghead.report.preview import PREVIEW_PX, stretch
from talkinghead.report.sheets import (
    DIFFERENCE_GAIN,
    MOUTH_ZOOM,
    STILL_PX,
    MouthWindow,
    difference,
    extremes,
    mouth_strip,
    whole_strip,
)
from talkinghead.training_history import TRAINING_NAME, TrainingHistory, read_history
from tools.errors import OutputError

EVALUATION = Evaluation(
    {"held_out_frames": 59, "source": "<b>.mp4"},
    (Measure("whole_psnr", "peak <signal>", "dB", "high"), Measure("lag", "frames late")),
    {"audio": {"whole_psnr": 31.25, "lag": math.nan}, "ground_truth": {"whole_psnr": math.inf, "lag": 0.0}},
    ("LPIPS is not <there>",),
)


@pytest.fixture(scope="module")
def speaking(tmp_path_factory: pytest.TempPathFactory) -> Avatar:
    """With a training history; no test changes it."""
    avatar = save_speaking_avatar(tmp_path_factory.mktemp("report"))
    history = TrainingHistory([1, 2, 3], [0.5, 0.25, 0.125], [90, 90, 95])
    (avatar.path / TRAINING_NAME).write_text(history.to_json())
    return avatar


def written(avatar: Avatar, evaluation: Evaluation | None = None) -> str:
    path = write_report(avatar, avatar.source_video(), avatar.path, evaluation, "cpu")
    assert path == avatar.path / "report.html"
    return path.read_text(encoding="utf-8")


# --- in a browser ---


def test_every_figure_of_a_fits_report_shows_and_the_video_plays(fitted_demo: FittedDemo) -> None:
    script = "return [...document.querySelectorAll('h2')].map(h => h.textContent)"
    opened = open_page(fitted_demo.avatar / "report.html", script)
    assert opened.problems == opened.loaded == () and opened.overflow <= 0
    kinds = [figure.tag for figure in opened.figures]
    assert (kinds.count("video"), kinds.count("img"), kinds.count("svg")) == (1, 4 + 6, 2)
    assert all(figure.width > 0 and figure.height > 0 and figure.name for figure in opened.figures)
    (video,) = (figure for figure in opened.figures if figure.tag == "video")
    assert (video.width, video.height) == (2 * PREVIEW_PX, PREVIEW_PX) and video.played_s > 0.1
    assert len(opened.value) == 8
    assert len(read_history(fitted_demo.avatar).steps) == STEPS


def test_the_table_stands_in_the_page(speaking: Avatar) -> None:
    written(speaking, EVALUATION)
    script = "return [...document.querySelectorAll('.figures tr')].map(r => [...r.cells].map(c => c.textContent))"
    opened = open_page(speaking.path / "report.html", script)
    assert opened.problems == opened.loaded == ()
    assert opened.value == [
        ["", "audio", "ground truth"],
        ["whole psnr dB, higher is better", "31.25", "inf"],
        ["lag ", "-", "0"],
    ]


def test_a_page_that_is_broken_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "broken.html"
    page.write_text(
        '<!doctype html><meta charset="utf-8"><img src="data:image/png;base64,AAAA"><img src="https://example.com/a.png">'
        '<video src="data:video/mp4;base64,AAAA"></video><svg width="0" height="0"></svg>'
        '<script>console.error("complaint"); missing()</script>'
    )
    opened = open_page(page)
    told = " ".join(opened.problems)
    assert all(word in told for word in ("complaint", "missing is not defined", "data:image", "example.com", "video:"))
    assert opened.loaded == ("https://example.com/a.png",)
    assert all(figure.width == 0 and figure.played_s == 0 for figure in opened.figures if figure.tag != "video")


# --- the page ---


def test_nothing_is_fetched_and_facts_are_told(speaking: Avatar) -> None:
    page = written(speaking)
    assert not re.search(r'(src|href)="(?!data:)', page) and "<script" not in page and "url(" not in page
    assert "Nothing to worry about" in page and f"{SIDE} x {SIDE} px" in page
    assert "20 at 25.000/s" in page and "40 face, 40 hair, neck and torso, 10 mouth" in page
    assert "the whole clip was fitted" in page and "of the fitted part" in page
    assert "No face is seen in these frames" in page  # of a mouth: it is a schematic head


def test_no_name_becomes_markup(speaking: Avatar) -> None:
    manifest = replace(
        speaking.manifest, source_name="<script>a&b</script>.mp4", findings=("2 cut(s) <b>", "small & soft")
    )
    page = written(replace(speaking, manifest=manifest), EVALUATION)
    assert "<script" not in page and "&lt;script&gt;a&amp;b" in page
    assert "<li>2 cut(s) &lt;b&gt;</li><li>small &amp; soft</li>" in page
    assert "peak &lt;signal&gt;" in page and "<td>&lt;b&gt;.mp4</td>" in page
    assert "<li>LPIPS is not &lt;there&gt;</li>" in page


def test_an_avatar_without_a_history_has_a_report_too(speaking: Avatar, tmp_path: Path) -> None:
    assert "were not recorded" in write_report(speaking, speaking.source_video(), tmp_path).read_text()


def test_evaluation_writes_the_table_into_the_report(speaking: Avatar) -> None:
    assert talkinghead.evaluate._reported(speaking, EVALUATION, EvaluateConfig()) is EVALUATION
    assert "31.25" in (speaking.path / "report.html").read_text()


def test_a_report_that_cannot_be_written_is_a_note(tmp_path: Path) -> None:
    avatar = save_speaking_avatar(tmp_path)
    (avatar.path / "report.html").mkdir()
    evaluation = talkinghead.evaluate._reported(avatar, EVALUATION, EvaluateConfig())
    assert evaluation.rows == EVALUATION.rows and evaluation.notes[0] == EVALUATION.notes[0]
    assert re.fullmatch(r"report.html lacks the table: cannot write .*report.html: Is a directory", evaluation.notes[1])
    assert not list(avatar.path.glob(".*"))  # nothing half-written
    with pytest.raises(OutputError, match="is not a folder"):
        write_report(avatar, avatar.source_video(), tmp_path / "nowhere")


# --- which seconds ---


def test_the_held_out_part_is_shown_where_the_face_is_seen() -> None:
    avatar = tiny_avatar()
    whole = replace(avatar.manifest, frame_count=400, fitted_frames=400)
    found = np.ones(400, bool)
    assert stretch(replace(avatar, manifest=whole, tracks=replace(avatar.tracks, found=found)), 25.0) == range(75)
    found[310:330] = False
    held_out = replace(avatar, manifest=replace(whole, fitted_frames=300), tracks=replace(avatar.tracks, found=found))
    assert stretch(held_out, 25.0) == range(325, 400)
    short = replace(held_out, manifest=replace(whole, fitted_frames=390))
    assert stretch(short, 25.0) == range(75)
    assert stretch(held_out, 1000.0) == range(300)  # 0.1 s: too short


# --- sheets ---


def test_a_strip_shows_source_output_and_difference() -> None:
    source, output = np.full((40, 40, 3), 100, np.uint8), np.full((40, 40, 3), 90, np.uint8)
    output[..., 2] = 180
    expected = [10 * DIFFERENCE_GAIN, 10 * DIFFERENCE_GAIN, 255]
    assert difference(source, output)[0, 0].tolist() == difference(output, source)[0, 0].tolist() == expected
    strip = whole_strip(source, output, source)
    assert strip.shape == (STILL_PX, 5 * STILL_PX, 3) and strip.dtype == np.uint8
    middles = [strip[STILL_PX // 2, STILL_PX * place + STILL_PX // 2].tolist() for place in range(5)]
    assert middles == [[100] * 3, [90, 90, 180], expected, [100] * 3, [0, 0, 0]]
    assert mouth_strip(source[:10], output[:10]).shape == (10 * MOUTH_ZOOM, 120 * MOUTH_ZOOM, 3)


def test_a_mouth_window_follows_the_lips() -> None:
    landmarks = np.full((3, 4, 2), np.nan)
    landmarks[0] = [[10, 20], [20, 22], [0, 0], [0, 0]]
    landmarks[2] = [[40, 30], [60, 30], [0, 0], [0, 0]]
    window = MouthWindow.around(landmarks, [0, 1])
    assert (window.width, window.height) == (26, 18)  # 1.3 times the widest lips, 0.7 of that
    picture = np.repeat(np.arange(64, dtype=np.uint8)[None, :, None], 64, axis=0).repeat(3, axis=2)
    cut = window.cut(picture, 2)
    assert cut.shape == (18, 26, 3) and abs(int(cut[9, 13, 0]) - 50) <= 1
    assert MouthWindow.around(np.full((2, 4, 2), np.nan), [0, 1]).width == 2


def test_extremes_are_apart_and_never_undefined() -> None:
    values = np.array([5, 1, 0, np.nan, 7, 8, 9, 6, 2])
    assert extremes(values, 2, 3) == [2, 8, 5]  # 6 and 4 are near 8 and 2, nothing else is far enough
    assert extremes(values, 2, 1) == [2, 1, 6, 5]
    assert extremes(np.full(4, np.nan), 2, 1) == []


# --- curves ---


def test_a_curve_is_drawn_where_its_numbers_are() -> None:
    panel = Panel(HEAD, 100, (0.0, 4.0), (0.0, 2.0))
    inner = WIDTH - LEFT - RIGHT
    path = panel.curve(np.arange(5.0), np.array([0.0, 1.0, np.nan, 2.0, 9.0]), "first")
    (data,) = re.findall(r' d="([^"]*)"', path)
    points = re.findall(r"([ML])([\d.]+) ([\d.]+)", data)
    assert [kind for kind, *_ in points] == ["M", "L", "M", "L"]
    assert [float(y) for *_, y in points] == [HEAD + 100, HEAD + 50, HEAD, HEAD]  # the last one lies on the border
    assert [float(x) for _, x, _ in points] == [LEFT, LEFT + inner / 4, LEFT + 3 * inner / 4, LEFT + inner]


def test_ticks_are_round_numbers_inside() -> None:
    assert ticks(0, 0.182, 3) == pytest.approx([0, 0.1])
    assert ticks(16, 19, 8) == pytest.approx([16, 16.5, 17, 17.5, 18, 18.5, 19])
    assert ticks(0, 1200, 8) == pytest.approx(range(0, 1201, 200))
    assert ticks(3, 3, 4) == [3]


def test_a_tone_is_one_line_of_the_spectrogram() -> None:
    seconds = np.arange(16_000) / 16_000
    low, high = (spectrogram_picture(np.sin(2 * np.pi * hertz * seconds).astype(np.float32)) for hertz in (300, 5000))
    brightest = [int(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY)[:, 100].argmax()) / len(p) for p in (low, high)]
    assert brightest[1] < 0.25 < 0.75 < brightest[0]  # high tones above low ones
    assert spectrogram_picture(np.zeros(0, np.float32)).size


# --- the history of a fit ---


def test_a_history_tells_each_step_once_and_survives_its_file(tmp_path: Path) -> None:
    history = TrainingHistory()
    for step, loss in ((1, 0.5), (2, 0.25), (2, 0.25), (3, 0.125)):  # step 2 is told again while poses are registered
        history.add(step, loss, 90 + step)
    assert history == TrainingHistory([1, 2, 3], [0.5, 0.25, 0.125], [91, 92, 93])
    (tmp_path / TRAINING_NAME).write_text(history.to_json())
    assert read_history(tmp_path) == history
    assert read_history(tmp_path / "nowhere") == TrainingHistory()


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", '{"steps": [1], "losses": [1.0]}', '{"steps": [1], "losses": [NaN], "gaussians": [1]}',
        '{"steps": [1], "losses": ["<b>"], "gaussians": [1]}', '{"steps": [1, 2], "losses": [1], "gaussians": [1]}',
        '{"steps": 1, "losses": 1, "gaussians": 1}',
    ],
)  # fmt: skip
def test_a_damaged_history_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / TRAINING_NAME).write_text(text)
    with pytest.raises(DamagedAvatarError, match=r"training\.json is damaged"):
        read_history(tmp_path)
