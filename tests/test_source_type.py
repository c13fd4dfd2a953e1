"""IPTC's digital source type: as other programs read it, and as they write it."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from PIL import Image
from test_bmff import made_video

from tools.bmff import XMP_UUID, manifest_box, uuid_box, with_boxes
from tools.source_type import (
    LARGEST_PACKET,
    SourceType,
    put_in_matroska,
    put_in_png,
    read_source_type,
    xmp_box,
    xmp_packet,
)

MADE = SourceType("trainedAlgorithmicMedia", 'maker <1> & "2" “3”', "2026-01-02T03:04:05+00:00")
DESCRIPTION = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description"
IPTC, XMP = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}", "{http://ns.adobe.com/xap/1.0/}"
ADDRESS = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


def picture(path: Path) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 4), np.uint8)
    cv2.imwrite(str(path), pixels)
    return pixels


def properties(packet: bytes) -> dict[str, str]:
    """By an XML parser."""
    return ElementTree.fromstring(packet.decode()).find(f".//{DESCRIPTION}").attrib


def test_the_packet_is_xml_with_iptcs_and_adobes_names() -> None:
    found = properties(xmp_packet(MADE))
    assert found[f"{IPTC}DigitalSourceType"] == ADDRESS
    assert (found[f"{XMP}CreatorTool"], found[f"{XMP}CreateDate"]) == (MADE.creator, MADE.created)


def test_png(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    pixels = picture(path)
    assert read_source_type(path) is None
    put_in_png(path, MADE)
    with Image.open(path) as opened:
        opened.verify()  # checksums too
        assert properties(opened.info["xmp"])[f"{IPTC}DigitalSourceType"] == ADDRESS
    assert np.array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), pixels)
    assert read_source_type(path) == MADE


def test_mp4_and_webm(tmp_path: Path) -> None:
    with_boxes(made_video(tmp_path), tmp_path / "marked.mp4", manifest_box(b""), [xmp_box(MADE)])
    assert read_source_type(tmp_path / "marked.mp4") == MADE and read_source_type(tmp_path / "video.mp4") is None
    path = made_video(tmp_path, "video.webm")
    assert read_source_type(path) is None
    put_in_matroska(path, MADE)
    assert read_source_type(path) == MADE


@pytest.mark.parametrize(
    "written",
    [
        f"<Iptc4xmpExt:DigitalSourceType>{ADDRESS}</Iptc4xmpExt:DigitalSourceType>",
        f'<Iptc4xmpExt:DigitalSourceType rdf:resource="{ADDRESS}"/>',
        f"<rdf:Description Iptc4xmpExt:DigitalSourceType = '{ADDRESS}'/>",
    ],
    ids=["element", "resource", "attribute"],
)
def test_as_other_programs_write_it(tmp_path: Path, written: str) -> None:
    source, path = made_video(tmp_path), tmp_path / "other.mp4"
    with_boxes(source, path, manifest_box(b""), [uuid_box(XMP_UUID, f"<x:xmpmeta>{written}</x:xmpmeta>".encode())])
    assert read_source_type(path) == SourceType("trainedAlgorithmicMedia")


def test_what_strangers_write_is_not_believed_in_size(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    picture(path)
    content = path.read_bytes()
    large = b"iTXt" + b"XML:com.adobe.xmp\0\0\0\0\0" + bytes(LARGEST_PACKET)
    chunk = struct.pack(">I", len(large) - 4) + large + struct.pack(">I", zlib.crc32(large))
    for damaged in (content[:33] + chunk + content[33:], content[:33] + b"\xff\xff\xff\xffiTXt", content[:35]):
        path.write_bytes(damaged)
        assert read_source_type(path) is None
    (tmp_path / "other.mp4").write_bytes(b"\0\0\0\x08ftyp\0\0\0\x04moov")
    assert read_source_type(tmp_path / "other.mp4") is None
