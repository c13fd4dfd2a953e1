"""A browser shows every picture of a spliced film at its time, whether it plays up to it or jumps there."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from browser import open_page
from film_samples import rewritten
from media_samples import CELL, COLUMNS, ROWS, write_clip

from tools.film_pictures import FilmPicture

COUNT = 60
LAST = (1 << COLUMNS * ROWS) - 1
SCRIPT = """
const video = document.querySelector("video"), canvas = document.createElement("canvas");
[canvas.width, canvas.height] = [WIDTH, HEIGHT];
const context = canvas.getContext("2d", {willReadFrequently: true}), seen = [];
if (video.readyState < video.HAVE_CURRENT_DATA) await new Promise(done => video.onloadeddata = done);
const shownAt = time => new Promise(done => {  // a busy browser says that it has jumped before it shows the picture
  const look = (_, picture) => Math.abs(picture.mediaTime - time) < .03 ? done() : wait();
  const wait = () => video.requestVideoFrameCallback(look);
  wait();
});
for (const time of TIMES) {
  const jumped = new Promise(done => video.onseeked = done);
  const shown = shownAt(time);
  video.pause(); video.currentTime = time;
  await jumped; await shown;
  context.drawImage(video, 0, 0);
  const cells = [];
  for (let row = 0; row < ROWS; row++) for (let column = 0; column < COLUMNS; column++)
    cells.push(context.getImageData((column + .5) * CELL, (row + .5) * CELL, 1, 1).data[1] > 128);
  seen.push(cells.reduce((sum, cell, digit) => sum + cell * 2 ** digit, 0));
}
return [seen, video.duration];
"""


def inverted(pictures: Iterator[FilmPicture]) -> Iterator[np.ndarray]:
    for picture in pictures:
        yield 255 - picture.rgb


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_browser_shows_the_right_pictures(suffix: str, tmp_path: Path) -> None:
    film = write_clip(tmp_path / f"film{suffix}", [Fraction(k, 25) for k in range(COUNT)])
    output = tmp_path / f"out{suffix}"
    report = rewritten(film, output, [("0.6", "0.8"), ("1.6", "1.8")], inverted)
    assert report.copied == COUNT - report.encoded > 30
    expected = [LAST - k if 15 <= k < 20 or 40 <= k < 45 else k for k in range(COUNT)]
    order = [*range(0, COUNT, 3), 41, 12, 44, 46, 19, 21, 58, 0]
    script = SCRIPT.replace("TIMES", str([(k + 0.5) / 25 for k in order]))
    for name, value in {"COLUMNS": COLUMNS, "ROWS": ROWS, "CELL": CELL, "WIDTH": 64, "HEIGHT": 48}.items():
        script = script.replace(name, str(value))
    kind = {".mp4": "video/mp4", ".mkv": "video/x-matroska"}[suffix]
    source = f"data:{kind};base64,{base64.b64encode(output.read_bytes()).decode()}"
    page = tmp_path / "page.html"
    page.write_text(f'<meta charset="utf-8"><video src="{source}"></video>')
    opened = open_page(page, script)
    assert opened.problems == ()
    seen, duration = opened.value
    assert seen == [expected[k] for k in order]
    assert abs(duration - COUNT / 25) < 0.05
