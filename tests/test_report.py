"""report.html: complete in one file, its pictures and facts right, nothing from outside taken as markup."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from demo_clip_track import demo_track
from tiny_avatar import SIDE, TinyClip, source_picture, tiny_avatar

from talkinghead.avatar import Avatar
from talkinghead.report import DIFFERENCE_GAIN, STILL_PX, contact_sheet, write_report
from talkinghead.training_frames import TrainingFrames


def written(folder: Path, avatar: Avatar, frames: int = 20) -> str:
    pictures = [source_picture(TinyClip(), index) for index in range(frames)]
    path = write_report(avatar, TrainingFrames(np.arange(frames), pictures, [], demo_track()), folder)
    assert path == folder / "report.html"
    return path.read_text(encoding="utf-8")


def sheet_in(page: str) -> np.ndarray:
    (data,) = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    return cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def test_a_sheet_shows_source_render_and_their_difference() -> None:
    source, rendered = np.full((40, 40, 3), 100, np.uint8), np.full((40, 40, 3), 90, np.uint8)
    rendered[..., 2] = 180
    sheet = contact_sheet([(source, rendered), (rendered, source)])
    assert sheet.shape == (2 * STILL_PX, 3 * STILL_PX, 3) and sheet.dtype == np.uint8
    middle = STILL_PX // 2
    first = [sheet[middle, column].tolist() for column in (middle, 3 * middle, 5 * middle)]
    assert first == [[100, 100, 100], [90, 90, 180], [10 * DIFFERENCE_GAIN, 10 * DIFFERENCE_GAIN, 255]]
    assert sheet[3 * middle, middle].tolist() == [90, 90, 180]


def test_the_report_holds_pictures_and_facts(tmp_path: Path) -> None:
    avatar = tiny_avatar()
    page = written(tmp_path, avatar)
    sheet = sheet_in(page)
    assert sheet.shape == (6 * STILL_PX, 3 * STILL_PX, 3)
    first = cv2.resize(source_picture(TinyClip(), 0), (STILL_PX, STILL_PX), interpolation=cv2.INTER_AREA)
    assert np.abs(sheet[:STILL_PX, :STILL_PX].astype(int) - first).mean() < 4
    assert "Nothing to worry about" in page and f"{SIDE} x {SIDE} px" in page
    assert "20 at 25.000/s" in page and "40 face, 40 hair, neck and torso, 10 mouth" in page
    assert not re.search(r'(src|href)="(?!data:)', page)  # nothing is fetched


def test_findings_are_listed_and_no_name_becomes_markup(tmp_path: Path) -> None:
    avatar = tiny_avatar()
    manifest = replace(
        avatar.manifest, source_name="<script>a&b</script>.mp4", findings=("2 cut(s) <b>", "small & soft")
    )
    page = written(tmp_path, replace(avatar, manifest=manifest), frames=1)
    assert "<script>" not in page and "&lt;script&gt;a&amp;b" in page
    assert "<li>2 cut(s) &lt;b&gt;</li><li>small &amp; soft</li>" in page
    assert "Nothing to worry about" not in page
