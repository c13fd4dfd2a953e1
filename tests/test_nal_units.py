"""Headers and packets of H.264 and HEVC, compared with what ffmpeg's own bitstream filters make of them."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from av.bitstream import BitStreamFilterContext
from film_samples import TEST_PICTURE, ffmpeg

from tools.nal_units import Codec, free_h264_identifier, read_header, with_h264_sets

CODINGS = {
    "h264": ["libx264", "-g", "25", "-bf", "3", "-x264-params", "slices=3"],
    "hevc": ["libx265", "-x265-params", "log-level=error:keyint=25:min-keyint=25:scenecut=0:open-gop=1:bframes=4"],
}


@pytest.fixture(scope="module", params=CODINGS)
def film(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Codec, Path]:
    path = tmp_path_factory.mktemp("units") / "film.mp4"
    ffmpeg(*TEST_PICTURE, "-c:v", *CODINGS[request.param], "-pix_fmt", "yuv420p", path)
    return request.param, path


def test_units_are_those_of_ffmpegs_filter(film: tuple[Codec, Path]) -> None:
    codec, path = film
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        header = read_header(codec, bytes(stream.codec_context.extradata))
        to_start_codes = BitStreamFilterContext(f"{codec}_mp4toannexb", stream)
        assert header.length_bytes == 4 and len(header.units) >= 2
        for packet in container.demux(stream):
            if not packet.size:
                continue
            ours, is_key = bytes(packet), packet.is_keyframe
            [theirs] = to_start_codes.filter(packet)
            units = list(read_header(codec, bytes(theirs)).units)
            assert header.join(header.split(ours)) == ours
            if is_key:  # theirs has the parameter sets in front
                assert set(header.split(header.with_parameter_sets(ours))) == set(units)
            else:
                assert list(header.split(ours)) == units


def test_entries_are_told_apart(film: tuple[Codec, Path]) -> None:
    codec, path = film
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        header = read_header(codec, bytes(stream.codec_context.extradata))
        packets = [bytes(packet) for packet in container.demux(stream) if packet.size]
    afresh = [k for k, packet in enumerate(packets) if header.starts_afresh(packet)]
    opens = [k for k, packet in enumerate(packets) if header.is_open(packet)]
    if codec == "h264":
        assert afresh == [0, 25, 50] and opens == []
    else:
        assert afresh == [0] and len(opens) == 2
        linked = header.as_broken_link(packets[opens[0]])
        assert header.starts_afresh(linked) and len(linked) == len(packets[opens[0]])


def test_a_header_takes_more_parameter_sets() -> None:
    def sets_of(number: int) -> bytes:
        context = av.CodecContext.create("libx264", "w")
        context.width, context.height, context.pix_fmt = 160, 120, "yuv420p"
        context.framerate, context.flags = 25, context.flags | 1 << 22
        context.options = {"x264-params": f"sps-id={number}"}
        context.open()
        return bytes(context.extradata)

    with_start_codes = sets_of(0)
    header = read_header("h264", with_start_codes)
    number = free_h264_identifier(header)
    assert number == 31
    both = read_header("h264", with_h264_sets(with_start_codes, sets_of(number)))
    assert both.units[: len(header.units)] == header.units and free_h264_identifier(both) == 30


@pytest.mark.parametrize("codec", CODINGS)
def test_a_header_that_is_cut_off_is_refused(codec: Codec, tmp_path: Path) -> None:
    ffmpeg(*TEST_PICTURE, "-frames:v", "1", "-c:v", *CODINGS[codec], "-pix_fmt", "yuv420p", tmp_path / "film.mp4")
    with av.open(str(tmp_path / "film.mp4")) as container:
        whole = bytes(container.streams.video[0].codec_context.extradata)
    for length in (4, 12, 30):
        with pytest.raises(ValueError, match="cut off"):
            read_header(codec, whole[:length])
