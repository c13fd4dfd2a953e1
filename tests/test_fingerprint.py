"""Fingerprints of what jobs read: equal for equal content, whatever the name, and of nothing else."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from tiny_avatar import save_tiny_avatar

from talkinghead.fingerprint import fingerprint


def test_a_file_is_its_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    (tmp_path / "b").write_bytes(b"content")
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b") == hashlib.sha256(b"content").hexdigest()
    (tmp_path / "a").write_bytes(b"another")
    os.utime(tmp_path / "a", ns=(0, (tmp_path / "b").stat().st_mtime_ns + 1))
    assert fingerprint(tmp_path / "a") == hashlib.sha256(b"another").hexdigest()
    with pytest.raises(FileNotFoundError):
        fingerprint(tmp_path / "c")


def test_a_folder_is_names_and_contents_of_its_files(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for name in ("1.wav", "2.wav"):
            (tmp_path / folder / name).write_text(name)
    one, two = (fingerprint(tmp_path / folder) for folder in ("one", "two"))
    assert one == two
    (tmp_path / "two" / "2.wav").rename(tmp_path / "two" / "3.wav")
    assert fingerprint(tmp_path / "two") != one


def test_an_avatar_is_its_manifest(tmp_path: Path) -> None:
    avatar = save_tiny_avatar(tmp_path).path
    before = fingerprint(avatar)
    (avatar / "log.jsonl").write_text("a video was made\n")
    assert fingerprint(avatar) == before, "what it has been used for is not what it is"
    assert before == hashlib.sha256((avatar / "avatar.json").read_bytes()).hexdigest()
