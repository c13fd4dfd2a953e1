"""Folders of videos, in which one that cannot be used is left out and named, by every command that learns from them."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from safetensors import safe_open

from talkinghead.cli import main
from talkinghead.file_record import FileRecord
from talkinghead.lip_clips import read_lip_clip
from talkinghead.progress import Progress
from talkinghead.video_folder import find_videos, read_folder
from tools.errors import LandmarkBackendError, MissingFileError
from tools.video import VideoWriter, probe

DEMO = ROOT / "talkinghead" / "assets" / "demo_clip.mp4"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a video that has no sound, and something else."""
    (tmp_path / "videos" / "deeper").mkdir(parents=True)
    (tmp_path / "videos" / "notes.txt").write_text("no video")
    with VideoWriter(tmp_path / "videos" / "deeper" / "silent film.mp4", 64, 64, probe(DEMO).fps) as writer:
        for _ in range(5):
            writer.write(np.zeros((64, 64, 3), np.uint8))
    return tmp_path / "videos"


def test_videos_are_found_in_all_folders(folder: Path, tmp_path: Path) -> None:
    shutil.copy(DEMO, folder / "person.MP4")
    assert find_videos(folder) == (folder / "deeper" / "silent film.mp4", folder / "person.MP4")
    for empty in (tmp_path / "nowhere", tmp_path / "videos" / "notes.txt"):
        with pytest.raises(MissingFileError, match="found none"):
            find_videos(empty)


def test_a_folder_of_which_nothing_can_be_used(folder: Path) -> None:
    with pytest.raises(MissingFileError, match=r"none can be used: .*silent film\.mp4 has no sound"):
        list(read_folder(folder, read_lip_clip))


def test_a_back_end_that_cannot_run_is_no_fault_of_the_videos(folder: Path) -> None:
    def read(video: Path) -> Generator[Progress, None, None]:
        raise LandmarkBackendError("no weights")
        yield

    with pytest.raises(LandmarkBackendError):
        list(read_folder(folder, read))


@pytest.mark.parametrize(
    "method", [["reader", "--steps", "1"], ["se4lip", "--network", "cnn", "--steps", "1"], ["lip-prior"]]
)
def test_training_goes_on_without_the_video(
    method: list[str], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(DEMO, folder / "person.mp4")
    output = tmp_path / "weights.safetensors"
    assert main(["train-encoder", str(folder), "-o", str(output), "--method", *method]) == 0
    last = [line for line in capsys.readouterr().out.splitlines() if line.startswith("left out: ")]
    assert len(last) == 1 and "silent film.mp4 has no sound" in last[0]
    with safe_open(output, framework="pt") as file:
        facts = " ".join(file.metadata().values())
    used = [FileRecord.of(video).sha256 in facts for video in find_videos(folder)]
    assert used == [False, True], "the provenance names what was learned from"
