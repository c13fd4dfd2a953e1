"""Tags put into Matroska and WebM files (RFC 9559) in place: a few bytes change, and every stream stays as it is.

ffmpeg would have to write the whole file anew, with times rounded once more.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path

EBML, SEGMENT, SEEK_HEAD, VOID = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\x11\x4d\x9b\x74", b"\xec"
CRC_32, SEEK, SEEK_ID, SEEK_POSITION = b"\xbf", b"\x4d\xbb", b"\x53\xab", b"\x53\xac"
TAGS, TAG, TARGETS, SIMPLE_TAG = b"\x12\x54\xc3\x67", b"\x73\x73", b"\x63\xc0", b"\x67\xc8"
TAG_NAME, TAG_STRING = b"\x45\xa3", b"\x44\x87"
"""Identifiers of elements."""
_HEAD_BYTES = 4096
"""In which EBML's header and the index of the segment lie."""


class MatroskaError(ValueError):
    """A file that is none, or is laid out in a way that leaves no room for an entry in its index."""


def is_matroska(path: Path) -> bool:
    """Whether a file begins as Matroska and WebM files do."""
    with path.open("rb") as file:
        return file.read(len(EBML)) == EBML


def add_tags(path: Path, tags: Mapping[str, str]) -> None:
    """Appends tags of the whole file, and lists them in its index, in the room that ffmpeg leaves there.

    Raises:
        MatroskaError: not as ffmpeg writes files: a segment of known size up to the end, first its index, then room.
        OSError: the file cannot be written.
    """
    simple = (
        _element(SIMPLE_TAG, _element(TAG_NAME, name.upper().encode()) + _element(TAG_STRING, value.encode()))
        for name, value in tags.items()
    )
    appended = _element(TAGS, _element(TAG, _element(TARGETS, b"") + b"".join(simple)))
    with path.open("r+b") as file:
        head = file.read(_HEAD_BYTES)
        end = file.seek(0, 2)
        _, _, segment = _header(head, 0, EBML)
        sizes, start, stop = _header(head, segment, SEGMENT)
        if stop != end or start - sizes != 8:
            raise MatroskaError("expected a segment whose size is known, up to the end of the file")
        index = _extended_index(head, start, end - start)
        file.write(appended)
        file.seek(start)
        file.write(index)
        file.seek(sizes)
        file.write(_size(end - start + len(appended), 8))


def _extended_index(head: bytes, start: int, position: int) -> bytes:
    """The index at `start` with an entry for tags at `position` in the segment, and what is left of the room."""
    _, content, stop = _header(head, start, SEEK_HEAD)
    _, _, room = _header(head, stop, VOID)
    entries = head[content:stop]
    if entries.startswith(CRC_32):
        _, _, after = _header(entries, 0, CRC_32)
        entries = entries[after:]
        is_checked = True
    else:
        is_checked = False
    entries += _element(SEEK, _element(SEEK_ID, TAGS) + _element(SEEK_POSITION, position.to_bytes(8, "big")))
    if is_checked:  # of everything that follows it (RFC 8794, 11.3.1)
        entries = _element(CRC_32, zlib.crc32(entries).to_bytes(4, "little")) + entries
    index = _element(SEEK_HEAD, entries)
    left = room - start - len(index)
    if room > len(head) or left < 9:
        raise MatroskaError("no room in the index")
    return index + VOID + _size(left - 9, 8) + bytes(left - 9)


def _header(content: bytes, start: int, name: bytes) -> tuple[int, int, int]:
    """Where the element of that name at `start` has its size, its content, and its end.

    Raises:
        MatroskaError: there is another, or one whose size is not known.
    """
    place = start + len(name)
    if content[start:place] != name or place >= len(content) or not content[place]:
        raise MatroskaError(f"expected the element {name.hex()} at byte {start}")
    width = 9 - content[place].bit_length()
    size = int.from_bytes(content[place : place + width], "big") & ((1 << 7 * width) - 1)
    if size == (1 << 7 * width) - 1:
        raise MatroskaError(f"the size of the element {name.hex()} is not known")
    return place, place + width, place + width + size


def _element(name: bytes, content: bytes) -> bytes:
    width = next(width for width in range(1, 9) if len(content) < (1 << 7 * width) - 1)
    return name + _size(len(content), width) + content


def _size(size: int, width: int) -> bytes:
    """In so many bytes, of which the leading bits tell their number."""
    return (size | 1 << 7 * width).to_bytes(width, "big")
