"""Tags put into Matroska and WebM files: ffmpeg reads them, checks the index's checksum, and finds the same packets."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from test_bmff import made_video, packets

from tools.matroska import MatroskaError, add_tags, is_matroska
from tools.video import ffmpeg_executable

TAGS = {"DigitalSourceType": "http://example.org/“made”", "Other": "x" * 300}


def made_matroska(folder: Path, suffix: str) -> Path:
    if suffix == ".webm":
        return made_video(folder, "video.webm")
    source, path = made_video(folder), folder / "video.mkv"
    copy = ["-c", "copy", "-metadata", "TITLE=mine", str(path)]
    subprocess.run([ffmpeg_executable(), "-v", "error", "-i", str(source), *copy], check=True)
    return path


def tags_by_ffprobe(path: Path) -> dict[str, str]:
    strict = ["-err_detect", "crccheck+explode", "-show_entries", "format_tags", "-of", "json"]
    run = subprocess.run(["ffprobe", "-v", "error", *strict, str(path)], capture_output=True, check=True)
    assert not run.stderr
    return json.loads(run.stdout)["format"]["tags"]


@pytest.mark.parametrize("suffix", [".webm", ".mkv"], ids=["webm", "mkv-with-checksums"])
def test_tags_come_in_and_all_else_stays(tmp_path: Path, suffix: str) -> None:
    path = made_matroska(tmp_path, suffix)
    before, tags, content = packets(path), tags_by_ffprobe(path), path.read_bytes()
    add_tags(path, TAGS)
    assert tags_by_ffprobe(path) == tags | {name.upper(): value for name, value in TAGS.items()}
    assert is_matroska(path) and packets(path) == before
    changed = [place for place, byte in enumerate(path.read_bytes()[: len(content)]) if byte != content[place]]
    assert changed[-1] < 250, "the index and the size of the segment"
    add_tags(path, {"OTHER": "again"})
    assert tags_by_ffprobe(path)["OTHER"] == "again" and packets(path) == before


def test_the_room_in_the_index_ends(tmp_path: Path) -> None:
    path = made_matroska(tmp_path, ".webm")
    with pytest.raises(MatroskaError, match="no room"):
        for _ in range(10):
            content = path.read_bytes()
            add_tags(path, TAGS)
    assert path.read_bytes() == content


def test_what_is_laid_out_otherwise(tmp_path: Path) -> None:
    path = made_matroska(tmp_path, ".webm")
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in range(250):
        damaged = bytearray(content)
        damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            add_tags(path, TAGS)
        except MatroskaError:
            assert path.read_bytes() == damaged
    for cut in (0, 3, 40, 100, len(content) - 1):
        path.write_bytes(content[:cut])
        with pytest.raises(MatroskaError):
            add_tags(path, TAGS)
