"""Boxes put into MP4 and QuickTime files: media untouched, tables right, also beyond 4 GiB."""

from __future__ import annotations

import hashlib
import re
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_samples import write_sound

from tools.bmff import (
    C2PA_UUID,
    XMP_UUID,
    BoxError,
    is_bmff,
    manifest_box,
    put_manifest,
    top_level_boxes,
    uuid_box,
    uuid_payload,
    with_boxes,
)
from tools.video import EncodeSettings, VideoWriter, stream_copy

STORE = bytes(range(256)) * 20
XMP = b"<x:xmpmeta/>"


def made_video(folder: Path, name: str = "video.mp4") -> Path:
    """A second of picture and sound."""
    sound = write_sound(folder / "tone.wav", np.sin(np.arange(16_000) / 8).astype(np.float32) / 4, 16_000)
    channels = 3 if name.endswith("mp4") else 4
    with VideoWriter(folder / name, 64, 48, Fraction(25), sound, EncodeSettings(crf=30)) as writer:
        for index in range(25):
            writer.write(np.full((48, 64, channels), 10 * index, np.uint8))
    return folder / name


def packets(path: Path) -> list[tuple[int, int | None, int | None, bytes]]:
    """Stream, times and content of every packet."""
    with av.open(str(path)) as container:
        return [(p.stream_index, p.pts, p.dts, bytes(p)) for p in container.demux() if p.size]


def kinds(path: Path) -> list[bytes]:
    with path.open("rb") as file:
        return [box.uuid or box.kind for box in top_level_boxes(file)]


@pytest.mark.parametrize("name", ["video.mp4", "video.mov"], ids=["tables-first", "tables-last"])
def test_boxes_come_in_and_the_media_stay(tmp_path: Path, name: str) -> None:
    source, marked, again = made_video(tmp_path, name), tmp_path / f"marked-{name}", tmp_path / f"again-{name}"
    with_boxes(source, marked, manifest_box(STORE), [uuid_box(XMP_UUID, XMP)])
    assert is_bmff(marked) and packets(marked) == packets(source)
    expected = kinds(source)
    expected.insert(expected.index(b"moov") + 1, XMP_UUID)
    expected.insert(1, C2PA_UUID)
    assert kinds(marked) == expected
    assert uuid_payload(marked, XMP_UUID, 100) == XMP and uuid_payload(marked, XMP_UUID, 10) is None
    with_boxes(marked, again, manifest_box(STORE[:100]), [uuid_box(XMP_UUID, XMP * 2)])
    assert packets(again) == packets(source) and kinds(again) == expected, "boxes that were there are exchanged"


def test_the_hash_is_of_places_and_content(tmp_path: Path) -> None:
    source, marked = made_video(tmp_path), tmp_path / "marked.mp4"
    digest = with_boxes(source, marked, manifest_box(STORE), [uuid_box(XMP_UUID, XMP)])
    content, expected = marked.read_bytes(), hashlib.sha256()
    with marked.open("rb") as file:
        for box in top_level_boxes(file):
            if box.kind != b"ftyp" and box.uuid != C2PA_UUID:
                expected.update(box.start.to_bytes(8, "big") + content[box.start : box.start + box.size])
    assert digest == expected.digest()
    other = manifest_box(STORE[::-1])
    put_manifest(marked, other)
    assert len(other) == marked.read_bytes().find(b"moov") - 4 - 32 and other in marked.read_bytes()
    with pytest.raises(BoxError, match="room for"):
        put_manifest(marked, manifest_box(STORE + b"1"))


def full_box(kind: bytes, *content: bytes) -> bytes:
    joined = b"".join(content)
    return struct.pack(">I4s", 8 + len(joined), kind) + joined


@pytest.mark.parametrize("margin", [-1, 0])
def test_places_that_no_longer_fit_into_32_bits(tmp_path: Path, margin: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As at 4 GiB, at a limit that the last chunk reaches or exceeds by one; ffmpeg still finds every packet."""
    source, marked = made_video(tmp_path), tmp_path / "marked.mp4"
    with_boxes(source, marked, manifest_box(STORE), [])
    content = marked.read_bytes()
    places = []
    for match in re.finditer(b"stco", content):
        (count,) = struct.unpack_from(">I", content, match.start() + 8)
        places += struct.unpack_from(f">{count}I", content, match.start() + 12)
    monkeypatch.setattr("tools.bmff.LARGEST_NARROW_PLACE", max(places) + margin)
    with_boxes(source, marked, manifest_box(STORE), [uuid_box(XMP_UUID, b"")] if margin else [])
    assert packets(marked) == packets(source)
    assert (b"co64" in marked.read_bytes(), b"stco" in marked.read_bytes()) == (
        (True, False) if margin else (False, True)
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"RIFF....WAVE",
        full_box(b"ftyp", b"isom") + full_box(b"mdat", b"x"),
        full_box(b"ftyp", b"isom") + full_box(b"moov") + full_box(b"moof"),
        full_box(b"ftyp", b"isom") + full_box(b"moov") + full_box(b"mdat", b"x" * 9)[:-3],
        full_box(b"ftyp", b"isom") + full_box(b"moov") + b"\0\0\0\4mdat",
        full_box(b"ftyp", b"isom") + full_box(b"moov", full_box(b"stbl", full_box(b"stco", b"\xff" * 8))),
    ],
    ids=["empty", "other", "no-tables", "fragments", "cut-off", "too-small", "cut-off-table"],
)  # fmt: skip
def test_what_is_no_whole_video(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "source.mp4").write_bytes(content)
    with pytest.raises(BoxError):
        with_boxes(tmp_path / "source.mp4", tmp_path / "marked.mp4", manifest_box(STORE), [])


def test_a_film_that_was_remuxed_is_rewritten_too(tmp_path: Path) -> None:
    copied = tmp_path / "copied.mp4"
    stream_copy(made_video(tmp_path), copied)  # its tables come last
    with_boxes(copied, tmp_path / "marked.mp4", manifest_box(STORE), [])
    assert packets(tmp_path / "marked.mp4") == packets(copied)
