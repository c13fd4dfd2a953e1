"""IPTC's digital source type, which says whether media were made by trained algorithms, in the files themselves.

MP4 and QuickTime files and PNG pictures hold an XMP packet (ISO 16684-1) with Iptc4xmpExt:DigitalSourceType (IPTC Photo
and Video Metadata); Matroska and WebM, which have no place for XMP, hold tags of the same names.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from xml.sax.saxutils import escape

from tools.bmff import XMP_UUID, BoxError, is_bmff, uuid_box, uuid_payload
from tools.matroska import add_tags
from tools.media import open_media

SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
"""IPTC's vocabulary: the types are addresses that begin so."""
LARGEST_PACKET = 1 << 20
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEYWORD = b"XML:com.adobe.xmp\0\0\0\0\0"
"""How a PNG's text chunk with XMP begins (XMP specification part 3, 1.1.5)."""
_PROPERTIES = ("Iptc4xmpExt:DigitalSourceType", "xmp:CreatorTool", "xmp:CreateDate")
_PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about=""
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 {}/>
</rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>"""


@dataclass(frozen=True)
class SourceType:
    """What a file says of how it came to be."""

    name: str
    """IPTC's name of the type, such as trainedAlgorithmicMedia."""
    creator: str = ""
    """Program that made it, with its version."""
    created: str = ""
    """ISO 8601."""


def xmp_packet(source_type: SourceType) -> bytes:
    """UTF-8."""
    quotes = {'"': "&quot;"}
    written = (
        f'{name}="{escape(value, quotes)}"' for name, value in zip(_PROPERTIES, _values(source_type), strict=True)
    )
    return _PACKET.format("\n ".join(written)).encode()


def xmp_box(source_type: SourceType) -> bytes:
    """The box of an MP4 or QuickTime file that holds the packet."""
    return uuid_box(XMP_UUID, xmp_packet(source_type))


def put_in_png(path: Path, source_type: SourceType) -> None:
    """Puts the packet into a PNG file, after its header. OSError: it cannot be written."""
    content = path.read_bytes()
    (header,) = struct.unpack_from(">I", content, len(PNG_SIGNATURE))
    place = len(PNG_SIGNATURE) + 12 + header
    chunk = b"iTXt" + _KEYWORD + xmp_packet(source_type)
    length, check = struct.pack(">I", len(chunk) - 4), struct.pack(">I", zlib.crc32(chunk))
    path.write_bytes(content[:place] + length + chunk + check + content[place:])


def put_in_matroska(path: Path, source_type: SourceType) -> None:
    """Puts tags into a Matroska or WebM file.

    Raises:
        MatroskaError: it is laid out otherwise than ffmpeg does it.
        OSError: it cannot be written.
    """
    add_tags(path, dict(zip(map(_tag, _PROPERTIES), _values(source_type), strict=True)))


def read_source_type(path: Path) -> SourceType | None:
    """What a file says of its source; None if it says nothing.

    Raises:
        UserError: the file cannot be opened, see `tools.media.open_media`.
        OSError: it cannot be read.
    """
    if is_bmff(path):
        try:
            return _from_xmp(uuid_payload(path, XMP_UUID, LARGEST_PACKET) or b"")
        except BoxError:
            return None
    if is_png(path):
        return next(filter(None, map(_from_xmp, _texts(path))), None)
    with open_media(path) as container:
        tags = {name.lower(): value for name, value in container.metadata.items()}
    return _source_type(*(tags.get(_tag(name).lower(), "") for name in _PROPERTIES))


def is_png(path: Path) -> bool:
    """Whether a file begins as PNG files do."""
    with path.open("rb") as file:
        return file.read(len(PNG_SIGNATURE)) == PNG_SIGNATURE


def _values(source_type: SourceType) -> tuple[str, str, str]:
    """Of `_PROPERTIES`."""
    return SOURCE_TYPES + source_type.name, source_type.creator, source_type.created


def _tag(property_name: str) -> str:
    return property_name.partition(":")[2]


def _from_xmp(packet: bytes) -> SourceType | None:
    text = packet.decode(errors="replace")
    found = (
        re.search(rf"""\b{name}\s*(?:=\s*["']|>|[^>]{{0,100}}\brdf:resource=["'])([^"'<]*)""", text)
        for name in _PROPERTIES
    )
    return _source_type(*(unescape(match[1]) if match else "" for match in found))


def _source_type(address: str, creator: str, created: str) -> SourceType | None:
    return SourceType(address.rpartition("/")[2], creator, created) if address else None


def _texts(path: Path) -> Iterator[bytes]:
    """The XMP packets among the chunks of a PNG file, those of a sensible size."""
    with path.open("rb") as file:
        file.seek(len(PNG_SIGNATURE))
        while len(head := file.read(8)) == 8:
            size, kind = struct.unpack(">I4s", head)
            content = file.read(size) if kind == b"iTXt" and size < LARGEST_PACKET else b""
            if content.startswith(_KEYWORD):
                yield content
            file.seek(size - len(content) + 4, os.SEEK_CUR)
