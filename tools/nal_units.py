"""H.264 and HEVC as a container holds them: units, the pictures that start afresh, and parameter sets.

Units are either preceded by their length (MP4, Matroska) or by a start code (Annex B of both standards).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

Codec = Literal["h264", "hevc"]

_START_CODE = b"\x00\x00\x00\x01"
_ANY_START_CODE = re.compile(rb"\x00*\x00\x00\x01")
_H264_SPS, _H264_PPS = 7, 8
_HEVC_ACCESS_UNIT_DELIMITER = 35
_PARAMETER_SETS: dict[Codec, frozenset[int]] = {"h264": frozenset({7, 8, 13}), "hevc": frozenset({32, 33, 34})}
# ITU-T H.264 table 7-1: IDR, not the pictures of recovery points. ITU-T H.265 table 7-1: IDR, and BLA of which all
# leading pictures can be decoded.
_AFRESH: dict[Codec, frozenset[int]] = {"h264": frozenset({5}), "hevc": frozenset({17, 18, 19, 20})}
_HEVC_CRA, _HEVC_BLA_WITHOUT_LEADING = 21, 18
_SLICES: dict[Codec, range] = {"h264": range(1, 6), "hevc": range(32)}
H264_IDENTIFIERS = 32
"""Sequence parameter sets are numbered 0 to 31."""


@dataclass(frozen=True)
class StreamHeader:
    """What a track says once: how units are delimited, and its parameter sets."""

    codec: Codec
    length_bytes: int
    """Bytes of the length before every unit; 0 where units have start codes."""
    units: tuple[bytes, ...]
    """Parameter sets, and what else the header holds, in its order."""

    def split(self, packet: bytes) -> Iterator[bytes]:
        """The units of a packet."""
        return _split(packet, self.length_bytes)

    def join(self, units: Iterable[bytes]) -> bytes:
        """A packet of these units."""
        if not self.length_bytes:
            return b"".join(_START_CODE + unit for unit in units)
        return b"".join(len(unit).to_bytes(self.length_bytes, "big") + unit for unit in units)

    def starts_afresh(self, packet: bytes) -> bool:
        """Whether nothing from this picture on refers to an earlier one (IDR)."""
        return self._slice_type(packet) in _AFRESH[self.codec]

    def is_open(self, packet: bytes) -> bool:
        """Whether it begins an open group (CRA of HEVC).

        Nothing that is shown after it refers to earlier pictures, but what is stored after and shown before it may.
        """
        return self.codec == "hevc" and self._slice_type(packet) == _HEVC_CRA

    def as_broken_link(self, packet: bytes) -> bytes:
        """An open group's first picture as the start of a closed one, without pictures that are shown before it."""
        return self.join(_as_broken_link(unit) for unit in self.split(packet))

    def _slice_type(self, packet: bytes) -> int | None:
        """Type of the first unit that is a part of the picture."""
        kinds = (_kind(unit, self.codec) for unit in self.split(packet))
        return next((kind for kind in kinds if kind in _SLICES[self.codec]), None)

    def with_parameter_sets(self, packet: bytes) -> bytes:
        """The packet with this header's units in front, unless it brings its own."""
        units = list(self.split(packet))
        if not units or any(_kind(unit, self.codec) in _PARAMETER_SETS[self.codec] for unit in units):
            return packet
        place = 1 if _kind(units[0], self.codec) == _HEVC_ACCESS_UNIT_DELIMITER else 0
        return self.join((*units[:place], *self.units, *units[place:]))


def read_header(codec: Codec, extradata: bytes) -> StreamHeader:
    """Reads avcC or hvcC (ISO/IEC 14496-15, 5.3.3.1 and 8.3.3.1), or units with start codes.

    Raises:
        ValueError: it is none of them, or cut off.
    """
    if extradata[:3] == _START_CODE[1:] or extradata[:4] == _START_CODE or not extradata:
        return StreamHeader(codec, 0, tuple(_split(extradata, 0)))
    try:
        return _read_avcc(extradata) if codec == "h264" else _read_hvcc(extradata)
    except IndexError as error:
        raise ValueError(f"a {codec} header of {len(extradata)} bytes is cut off") from error


def free_h264_identifier(header: StreamHeader) -> int:
    """A number that none of the header's parameter sets has."""
    taken = {_h264_identifier(unit) for unit in header.units if _kind(unit, "h264") in (_H264_SPS, _H264_PPS)}
    return max(set(range(H264_IDENTIFIERS)) - taken)


def with_h264_sets(extradata: bytes, added: bytes) -> bytes:
    """A header (avcC or with start codes) that also holds the parameter sets of `added`, which has start codes."""
    sets = [unit for unit in _split(added, 0) if _kind(unit, "h264") in (_H264_SPS, _H264_PPS)]
    header = read_header("h264", extradata)
    if not header.length_bytes:
        return replace(header).join((*header.units, *sets))
    sequence = [unit for unit in (*header.units, *sets) if _kind(unit, "h264") == _H264_SPS]
    picture = [unit for unit in (*header.units, *sets) if _kind(unit, "h264") == _H264_PPS]
    tail = extradata[_avcc_sets_end(extradata) :]
    lengths = replace(header, length_bytes=2)
    return b"".join(
        (
            extradata[:5],
            bytes([0xE0 | len(sequence)]),
            lengths.join(sequence),
            bytes([len(picture)]),
            lengths.join(picture),
            tail,
        )
    )


def _as_broken_link(unit: bytes) -> bytes:
    if _kind(unit, "hevc") != _HEVC_CRA:
        return unit
    return bytes([unit[0] & 0x81 | _HEVC_BLA_WITHOUT_LEADING << 1]) + unit[1:]


def _split(data: bytes, length_bytes: int) -> Iterator[bytes]:
    if not length_bytes:
        yield from (unit.rstrip(b"\x00") for unit in _ANY_START_CODE.split(data) if unit)
        return
    place = 0
    while place + length_bytes < len(data):
        end = place + length_bytes + int.from_bytes(data[place : place + length_bytes], "big")
        yield data[place + length_bytes : end]
        place = end


def _kind(unit: bytes, codec: Codec) -> int:
    """nal_unit_type."""
    if not unit:
        return -1
    return unit[0] & 0x1F if codec == "h264" else (unit[0] >> 1) & 0x3F


def _read_avcc(data: bytes) -> StreamHeader:
    return StreamHeader("h264", (data[4] & 3) + 1, tuple(unit for unit, _ in _avcc_sets(data)))


def _avcc_sets(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Every parameter set and where it ends."""
    place = 5
    for mask in (0x1F, 0xFF):
        count = data[place] & mask
        place += 1
        for _ in range(count):
            end = place + 2 + int.from_bytes(data[place : place + 2], "big")
            if end > len(data):
                raise IndexError(end)
            yield data[place + 2 : end], end
            place = end


def _avcc_sets_end(data: bytes) -> int:
    return max(end for _, end in _avcc_sets(data))


def _read_hvcc(data: bytes) -> StreamHeader:
    units = []
    place = 23
    for _ in range(data[22]):
        count = int.from_bytes(data[place + 1 : place + 3], "big")
        place += 3
        for _ in range(count):
            end = place + 2 + int.from_bytes(data[place : place + 2], "big")
            if end > len(data):
                raise IndexError(end)
            units.append(data[place + 2 : end])
            place = end
    return StreamHeader("hevc", (data[21] & 3) + 1, tuple(units))


def _h264_identifier(unit: bytes) -> int:
    """seq_parameter_set_id or pic_parameter_set_id (ITU-T H.264, 7.3.2.1.1 and 7.3.2.2)."""
    fixed = 4 if _kind(unit, "h264") == _H264_SPS else 1  # type; and profile, constraints, level
    bits = "".join(f"{byte:08b}" for byte in unit[fixed : fixed + 8])
    zeros = bits.index("1")
    return int(bits[zeros : 2 * zeros + 1], 2) - 1  # Exp-Golomb, 9.1
