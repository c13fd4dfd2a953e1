"""A page opened in a real browser, headless Chromium: what went wrong in it, which figures show, what a script finds.

The page is opened as a copy with a script of ours in it, which plays every video, waits for every picture and sends
what it saw to the test. Names of hosts are not resolved, so that a page that needs the network fails on every machine.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
TIME_LIMIT_S = 60
_WATCH = """<script>
window.problems = [];
addEventListener("error", e => problems.push(e.message || `cannot load ${e.target.outerHTML.slice(0, 120)}`), true);
addEventListener("unhandledrejection", e => problems.push(String(e.reason)));
addEventListener("securitypolicyviolation", e => problems.push(`blocked: ${e.blockedURI}`));
console.error = (...words) => problems.push(words.join(" "));
</script>"""
_REPORT = """<script>
addEventListener("load", async () => {
  const waited = ms => new Promise(done => setTimeout(done, ms));
  const size = element => {
    const box = element.getBoundingClientRect();
    return [element.naturalWidth ?? element.videoWidth ?? box.width,
            element.naturalHeight ?? element.videoHeight ?? box.height];
  };
  const played = async video => {
    video.muted = true;
    await Promise.race([video.play().catch(e => problems.push(`video: ${e.message}`)), waited(5000)]);
    for (let turn = 0; turn < 100 && !(video.currentTime > 0.1); turn++) await waited(50);
    return video.currentTime;
  };
  const figures = [];
  for (const element of document.querySelectorAll("img, video, svg")) {
    if (element.localName === "img") await element.decode().catch(e => problems.push(`picture: ${e.message}`));
    const playedTo = element.localName === "video" ? await played(element) : 0;
    const [width, height] = size(element);
    const name = element.getAttribute("alt") ?? element.getAttribute("aria-label") ?? "";
    figures.push({tag: element.localName, name, width, height, played_s: playedTo});
  }
  let value = null;
  try { value = await (async () => { SCRIPT })(); } catch (e) { problems.push(`script: ${e.message}`); }
  const addresses = performance.getEntriesByType("resource").map(entry => entry.name);
  const loaded = addresses.filter(name => !/^(data|blob):/.test(name));
  const overflow = document.documentElement.scrollWidth - innerWidth;
  const body = JSON.stringify({problems, figures, value, overflow, loaded});
  await fetch("ADDRESS", {method: "POST", mode: "no-cors", body});
});
</script>"""


@dataclass(frozen=True)
class Figure:
    """An img, a video or an inline svg."""

    tag: str
    name: str  # its alt text or label
    width: float  # natural size of pictures and videos, shown size of drawings, px
    height: float
    played_s: float  # how far a video got


@dataclass(frozen=True)
class OpenedPage:
    """What the browser made of a page."""

    problems: tuple[str, ...]  # script errors, console errors, what could not be loaded, decoded or played
    figures: tuple[Figure, ...]
    loaded: tuple[str, ...]  # addresses outside of the page that it asked for
    overflow: float  # px by which the page is wider than the window
    value: Any  # what the test's script returned


def chromium() -> str:
    """The browser; skips the test on a machine that has none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    return found


def _folder() -> tempfile.TemporaryDirectory[str]:
    """For a browser's profile, into which an ended browser may still write while it is removed."""
    return tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True)


def open_page(page: Path, script: str = "return null") -> OpenedPage:
    """Opens an HTML file and looks at every figure.

    Args:
        script: body of an async JavaScript function that is run when the figures have been seen; it returns something
            that JSON can hold. It can press buttons and read what then stands there.
    """
    with _Listener(("127.0.0.1", 0), _Receiver) as listener, _folder() as folder:
        listener.timeout = TIME_LIMIT_S
        address = f"http://127.0.0.1:{listener.server_port}/"
        watched = Path(folder) / "page.html"
        watched.write_text(_with_scripts(page.read_text(encoding="utf-8"), script, address), encoding="utf-8")
        options = ["--window-size=1200,900", "--autoplay-policy=no-user-gesture-required", watched.as_uri()]
        with _running([*_command(folder), *options]):
            listener.handle_request()
    assert listener.seen is not None, f"{page} was not finished within {TIME_LIMIT_S} s"
    seen = listener.seen
    figures = tuple(Figure(**figure) for figure in seen["figures"])
    return OpenedPage(tuple(seen["problems"]), figures, tuple(seen["loaded"]), seen["overflow"], seen["value"])


def screenshot(page: Path, picture: Path, width: int, height: int, dark: bool = False) -> None:
    """Writes a PNG of the page's top as the screen shows it."""
    with _folder() as folder:
        options = [f"--window-size={width},{height}", f"--screenshot={picture}", "--virtual-time-budget=5000"]
        scheme = ["--blink-settings=preferredColorScheme=0"] if dark else []
        command = [*_command(folder), *options, *scheme, page.resolve().as_uri()]
        subprocess.run(command, capture_output=True, timeout=TIME_LIMIT_S, check=True)


class _Listener(HTTPServer):
    seen: dict[str, Any] | None = None


class _Receiver(BaseHTTPRequestHandler):
    server: _Listener

    def do_POST(self) -> None:
        self.server.seen = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def _running(command: list[str]) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(TIME_LIMIT_S)


def _command(folder: str) -> list[str]:
    return [
        chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
        f"--user-data-dir={folder}/profile", "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    ]  # fmt: skip


def _with_scripts(page: str, script: str, address: str) -> str:
    """The page with our scripts first and last, where they see what all others do."""
    start = re.search(r"<meta charset[^>]*>", page, re.IGNORECASE)
    assert start, "the page must say its encoding: <meta charset=utf-8>"
    report = _REPORT.replace("SCRIPT", script).replace("ADDRESS", address)
    return page[: start.end()] + _WATCH + report + page[start.end() :]
