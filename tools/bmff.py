"""Boxes of MP4 and QuickTime files (ISO/IEC 14496-12): finding them, and putting in new ones before the media.

Pictures and sound stay as they are, byte for byte; only the tables that say where they lie are written anew. Memory
does not grow with the media, only with the tables (a few MB for hours).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

C2PA_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
"""Of the box with a C2PA manifest (C2PA 2.x, "Embedding manifests into BMFF-based assets")."""
XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
"""Of the box with an XMP packet (ISO 16684-1, XMP specification part 3, 1.2.7.1)."""
UNBOUND = frozenset({b"ftyp", b"mfra"})
"""Boxes that C2PA's hash leaves out, beside the manifest's own."""
MOST_BOXES = 100_000
LARGEST_TABLES = 1 << 30
"""Above what days of video need: what is larger is no video, and is not read into memory."""
LARGEST_NARROW_PLACE = 0xFFFFFFFF
_TABLE_PARENTS = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl"})
_BLOCK_BYTES = 1 << 20

Moved = Callable[[np.ndarray], np.ndarray]
"""Old places in a file, bytes, to new ones: int64 [N] to int64 [N]."""


class BoxError(ValueError):
    """A file whose boxes are not those of an MP4 or QuickTime file, or of a kind that cannot be rewritten."""


@dataclass(frozen=True)
class Box:
    """A box at the top level of a file."""

    kind: bytes
    start: int  # byte
    size: int  # bytes, header included
    header: int  # bytes
    uuid: bytes = b""  # of a box of kind `uuid`

    @property
    def stop(self) -> int:
        """First byte after it."""
        return self.start + self.size


def is_bmff(path: Path) -> bool:
    """Whether a file begins as MP4 and QuickTime files do."""
    with path.open("rb") as file:
        return file.read(8)[4:] == b"ftyp"


def top_level_boxes(file: BinaryIO) -> Iterator[Box]:
    """The boxes of a file, in order.

    Raises:
        BoxError: they do not fill the file exactly, or there are absurdly many.
    """
    end = file.seek(0, 2)
    start = count = 0
    while start < end:
        file.seek(start)
        head = file.read(32)
        count += 1
        if len(head) < 8 or count > MOST_BOXES:
            raise BoxError(f"no box at byte {start}")
        size, kind = struct.unpack(">I4s", head[:8])
        header = 8
        if size == 1 and len(head) >= 16:
            size, header = int.from_bytes(head[8:16], "big"), 16
        elif size == 0:  # to the end of the file
            size = end - start
        if not header <= size <= end - start:
            raise BoxError(f"a box of {size} bytes at byte {start} of {end}")
        yield Box(kind, start, size, header, head[header : header + 16] if kind == b"uuid" else b"")
        start += size


def uuid_payload(path: Path, uuid: bytes, most_bytes: int) -> bytes | None:
    """What the first box with this UUID holds; None if there is no such box, or if it holds more than `most_bytes`.

    Raises:
        BoxError: see `top_level_boxes`.
    """
    with path.open("rb") as file:
        box = next((box for box in top_level_boxes(file) if box.uuid == uuid), None)
        if box is None or box.size > most_bytes:
            return None
        file.seek(box.start + box.header + len(uuid))
        return file.read(box.stop - file.tell())


def uuid_box(uuid: bytes, payload: bytes) -> bytes:
    """A box of kind `uuid`."""
    return _box(b"uuid", uuid + payload)


def manifest_box(store: bytes) -> bytes:
    """The box with a C2PA manifest store: version and flags, purpose, the place of a Merkle tree (none), the store."""
    return uuid_box(C2PA_UUID, bytes(4) + b"manifest\0" + bytes(8) + store)


def with_boxes(source: Path, destination: Path, manifest: bytes, others: Sequence[bytes]) -> bytes:
    """Copies a file, putting in whole boxes: the C2PA manifest's after the first one (`ftyp`), `others` after `moov`.

    Boxes with the same UUIDs that were there are left out. (ffmpeg's reader finds XMP only after `moov`.)

    Returns:
        The SHA-256 [32] that binds the copy to a manifest of that size (C2PA's `c2pa.hash.bmff.v3` without a Merkle
        tree): of every box's place, 8 bytes, and content, but for the manifest's and those of `UNBOUND`. It does not
        depend on what is in `manifest`, so that a placeholder can be put in and then exchanged by `put_manifest`.

    Raises:
        BoxError: not the boxes of a whole, unfragmented file.
        OSError: the disk is full, or a file cannot be read or written.
    """
    replaced = {C2PA_UUID, *(other[8:24] for other in others)}
    with source.open("rb") as old, destination.open("wb") as new:
        boxes = [box for box in top_level_boxes(old) if box.uuid not in replaced]
        kinds = [box.kind for box in boxes]
        if kinds[:1] != [b"ftyp"] or kinds.count(b"moov") != 1 or b"moof" in kinds:
            raise BoxError("expected the boxes ftyp and moov and no fragments")
        moov = boxes[kinds.index(b"moov")]
        tables = _moved_tables(_read(old, moov), boxes, len(manifest), sum(map(len, others)))
        digest = hashlib.sha256()
        _copy(old, new, boxes[0])
        new.write(manifest)
        for box in boxes[1:]:
            if box is moov:
                for written in (tables, *others):
                    digest.update(struct.pack(">Q", new.tell()) + written)
                    new.write(written)
            elif box.kind in UNBOUND:
                _copy(old, new, box)
            else:
                digest.update(struct.pack(">Q", new.tell()))
                _copy(old, new, box, digest.update)
    return digest.digest()


def put_manifest(path: Path, manifest: bytes) -> None:
    """Exchanges the box that `with_boxes` put after the first one by another of the same size.

    Raises:
        BoxError: it has another size.
    """
    with path.open("r+b") as file:
        boxes = top_level_boxes(file)
        first, place = next(boxes), next(boxes)
        if place.uuid != C2PA_UUID or place.size != len(manifest):
            raise BoxError(f"a manifest of {len(manifest)} bytes, and room for {place.size}")
        file.seek(first.stop)
        file.write(manifest)


def _read(file: BinaryIO, box: Box) -> bytes:
    """What a box holds, without its header."""
    if box.size > LARGEST_TABLES:
        raise BoxError(f"tables of {box.size} bytes")
    file.seek(box.start + box.header)
    return file.read(box.size - box.header)


def _copy(old: BinaryIO, new: BinaryIO, box: Box, seen: Callable[[memoryview], None] | None = None) -> None:
    """A box as it is, in blocks; `seen` gets each."""
    block = memoryview(bytearray(_BLOCK_BYTES))
    old.seek(box.start)
    left = box.size
    while left:
        count = old.readinto(block[: min(left, _BLOCK_BYTES)])
        if not count:
            raise BoxError("the file became shorter while it was read")
        if seen is not None:
            seen(block[:count])
        new.write(block[:count])
        left -= count


def _moved_tables(content: bytes, boxes: Sequence[Box], after_first: int, after_tables: int) -> bytes:
    """The box `moov` for a file in which so many bytes are put after the first box and after `moov`.

    Places are kept in 32 bits, or in 64 where one would not fit, which makes the box longer and moves what follows.
    """
    old = np.array([box.start for box in boxes])
    for is_wide in (False, True):
        size = 8 + len(_tables(content, lambda places: places, is_wide))
        sizes = [size + after_tables if box.kind == b"moov" else box.size for box in boxes]
        sizes[0] += after_first
        new = np.cumsum([0, *sizes[:-1]])

        def moved(places: np.ndarray, by: np.ndarray = new - old) -> np.ndarray:
            return places + by[np.searchsorted(old, places, side="right") - 1]

        try:
            return _box(b"moov", _tables(content, moved, is_wide))
        except OverflowError:
            continue
    raise AssertionError("64 bits hold every place")


def _tables(content: bytes, moved: Moved, is_wide: bool) -> bytes:
    """What a box that holds boxes holds, with new places in every table of chunks below it.

    Raises:
        OverflowError: a place does not fit into 32 bits, and tables are not to be wide.
        BoxError: the boxes do not fill it exactly.
    """
    parts, start = [], 0
    while start < len(content):
        head = content[start : start + 16]
        size = int.from_bytes(head[:4], "big")
        kind, header = head[4:8], 8
        if size == 1:
            size, header = int.from_bytes(head[8:16], "big"), 16
        if not header <= size <= len(content) - start:
            # QuickTime ends some lists of boxes with 4 bytes of zeros.
            parts.append(content[start:])
            break
        inside = content[start + header : start + size]
        if kind in _TABLE_PARENTS:
            parts.append(_box(kind, _tables(inside, moved, is_wide)))
        elif kind in (b"stco", b"co64"):
            parts.append(_chunk_places(inside, kind, moved, is_wide))
        else:
            parts.append(content[start : start + size])
        start += size
    return b"".join(parts)


def _chunk_places(table: bytes, kind: bytes, moved: Moved, is_wide: bool) -> bytes:
    """A chunk offset box (ISO/IEC 14496-12, 8.7.5), moved."""
    width = {b"stco": 4, b"co64": 8}[kind]
    count = int.from_bytes(table[4:8], "big")
    if len(table) < 8 + count * width:
        raise BoxError("a table of chunks that is cut off")
    places = moved(np.frombuffer(table, f">u{width}", count, 8).astype(np.int64))
    if kind == b"stco" and not is_wide:
        if count and places.max() > LARGEST_NARROW_PLACE:
            raise OverflowError("places beyond 32 bits")
        return _box(kind, table[:8] + places.astype(">u4").tobytes())
    return _box(b"co64", table[:8] + places.astype(">u8").tobytes())


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content
