"""What a film says about itself, its times and its edit list are the same after rewriting."""

from __future__ import annotations

import struct
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from film_samples import IDENTICAL_DB, SeenPicture, ffmpeg, rewritten, seen
from media_samples import ClipRecipe, write_clip

from tools.errors import DamagedMediaError
from tools.film import ColourTags, HdrLight, probe_film
from tools.video import probe

X265 = "log-level=error:keyint=25:min-keyint=25:scenecut=0:bframes=4"
HDR_TAGS = "colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:chromaloc=2:max-cll=1000,400"
MASTERING = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
FOUR_SECONDS = ("-f", "lavfi", "-i", "testsrc2=s=160x120:r=25:d=4")


def copied_and_others(film: Path, output: Path) -> tuple[int, float]:
    """Pictures that are identical, and the least PSNR of the others, after comparing all times."""
    before, after = seen(film), seen(output)
    assert [picture.time for picture in before] == [picture.time for picture in after]
    quality = [a.psnr_to(b) for a, b in zip(before, after, strict=True)]
    return quality.count(IDENTICAL_DB), min(quality)


def test_hdr_colours_and_light_stay(tmp_path: Path) -> None:
    film, output = tmp_path / "film.mp4", tmp_path / "out.mp4"
    ffmpeg(*FOUR_SECONDS, "-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-tag:v", "hvc1",
           "-x265-params", f"{X265}:open-gop=0:{HDR_TAGS}:master-display={MASTERING}", film)  # fmt: skip
    before = probe_film(film)
    assert before.colours == ColourTags(9, 16, 9, 1, "topleft")
    assert before.light == HdrLight((34000, 16000, 13250, 34500, 7500, 3000, 15635, 16450, 1, 10_000_000), (1000, 400))
    for ranges in ([("0.1", "0.2")], [("1.2", "1.4")]):  # probing looks at the first picture: encoded, then copied
        rewritten(film, output, ranges)
        after = probe_film(output)
        assert (after.colours, after.light, after.profile) == (before.colours, before.light, "Main 10")
        assert after.video == replace(before.video, path=output)


@pytest.mark.parametrize(
    "options",
    [
        ["-vf", "setsar=16/11"],
        ["-color_primaries", "bt709", "-color_trc", "bt709", "-colorspace", "bt709", "-color_range", "tv"],
        ["-pix_fmt", "yuvj444p", "-colorspace", "smpte170m"],
    ],
)
def test_shape_and_colours_stay(options: list[str], tmp_path: Path) -> None:
    film, output = tmp_path / "film.mp4", tmp_path / "out.mp4"
    form = [] if "-pix_fmt" in options else ["-pix_fmt", "yuv420p"]
    ffmpeg(*FOUR_SECONDS, "-c:v", "libx264", "-g", "25", *form, *options, film)
    before = probe_film(film)
    rewritten(film, output, [("0.1", "0.2"), ("2.2", "2.4")])
    after = probe_film(output)
    assert (after.colours, after.sample_aspect, after.profile) == (before.colours, before.sample_aspect, before.profile)
    assert after.video == replace(before.video, path=output)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_uneven_times_stay_exactly(suffix: str, tmp_path: Path) -> None:
    steps = np.random.default_rng(1).choice([2970, 3000, 3030, 4500, 6000], size=89)
    times = [Fraction(int(ticks), 90_000) for ticks in np.concatenate([[0], np.cumsum(steps)])]
    film = write_clip(tmp_path / f"film{suffix}", times, ClipRecipe(rate=Fraction(30)))
    output = tmp_path / f"out{suffix}"
    report = rewritten(film, output, [("1.01", "1.5"), ("2.4", "2.5")])
    assert report.encoded < 60
    identical, least = copied_and_others(film, output)
    assert identical >= report.copied and least > 50
    assert probe(output).frame_count == probe(film).frame_count


@pytest.mark.parametrize("open_group", [0, 1])
def test_groups_of_hevc_are_cut(open_group: int, tmp_path: Path) -> None:
    film, output = tmp_path / "film.mp4", tmp_path / "out.mp4"
    options = ["-pix_fmt", "yuv420p", "-x265-params", f"{X265}:open-gop={open_group}"]
    ffmpeg(*FOUR_SECONDS, "-c:v", "libx265", *options, film)
    report = rewritten(film, output, [("1.2", "1.4")])
    assert report.copied > 70
    identical, least = copied_and_others(film, output)
    assert identical >= report.copied and least > 50
    assert ffmpeg("-i", output, "-f", "null", "-") == ""
    assert ffmpeg("-ss", "2.5", "-i", output, "-f", "null", "-") == ""
    again = tmp_path / "again.mp4"  # a film that was spliced can be spliced
    report = rewritten(output, again, [("2.8", "2.9")])
    assert report.copied > 60 and copied_and_others(output, again)[1] > 50


def test_an_edit_list_cuts_off_the_same(tmp_path: Path) -> None:
    whole, film, output = (tmp_path / name for name in ("whole.mp4", "film.mp4", "out.mp4"))
    options = ["-c:v", "libx264", "-g", "25", "-bf", "2", "-pix_fmt", "yuv420p", "-c:a", "aac"]
    ffmpeg(*FOUR_SECONDS, "-f", "lavfi", "-i", "sine=d=4", *options, whole)
    ffmpeg("-ss", "0.6", "-i", whole, "-c", "copy", film)
    assert len(seen(film)) == 85
    for ranges in ([("0.1", "0.2")], [("1.2", "1.4")]):
        report = rewritten(film, output, ranges)
        identical, least = copied_and_others(film, output)
        assert identical > 40 and least > 50 and report.encoded < 45


def test_an_edit_list_that_cuts_the_end(tmp_path: Path) -> None:
    film, output = tmp_path / "film.mp4", tmp_path / "out.mp4"
    ffmpeg(*FOUR_SECONDS, "-c:v", "libx264", "-g", "25", "-bf", "2", "-pix_fmt", "yuv420p", film)
    shorten_edit(film, Fraction("3.08"))
    assert len(seen(film)) == 77
    report = rewritten(film, output, [("1.2", "1.4")])
    assert report.copied + report.encoded == 77
    identical, least = copied_and_others(film, output)
    assert identical >= report.copied > 40 and least > 50


def shorten_edit(path: Path, seconds: Fraction) -> None:
    """Writes another duration into the one entry of an MP4's edit list (ISO/IEC 14496-12, 8.6.6), in milliseconds."""
    content = bytearray(path.read_bytes())
    place = content.index(b"elst") + 12
    struct.pack_into(">I", content, place, round(seconds * 1000))
    path.write_bytes(content)


@pytest.mark.parametrize(("order", "name"), [("tff", "top first"), ("bff", "bottom first")])
def test_fields_stay(order: str, name: str, tmp_path: Path) -> None:
    film, output = tmp_path / "film.mp4", tmp_path / "out.mp4"
    fields = ["-flags", "+ildct+ilme", "-x264-params", f"{order}=1", "-vf", "fieldorder=" + order]
    ffmpeg(*FOUR_SECONDS, "-c:v", "libx264", "-g", "25", "-pix_fmt", "yuv420p", *fields, film)
    assert probe_film(film).field_order == name
    rewritten(film, output, [("0.1", "0.2")])
    assert probe_film(output).field_order == name


def test_two_pictures_of_one_time_are_damage(tmp_path: Path) -> None:
    film = tmp_path / "film.mkv"
    ffmpeg(*FOUR_SECONDS, "-c:v", "libx264", "-bf", "0", "-pix_fmt", "yuv420p", "-vf", "setpts=floor(N/2)/25/TB",
           "-fps_mode", "passthrough", "-enc_time_base", "1/1000000", film)  # fmt: skip
    times = [picture.time for picture in seen(film)]
    if len(set(times)) == len(times):
        pytest.fail("the film was to hold two pictures of one time")
    with pytest.raises(DamagedMediaError, match="time stamp"):
        probe_film(film)


def test_pictures_compare_as_they_should() -> None:
    flat = SeenPicture(Fraction(0), (np.full((4, 4), 100),), 255)
    other = SeenPicture(Fraction(0), (np.full((4, 4), 101),), 255)
    assert flat.psnr_to(flat) == IDENTICAL_DB and abs(flat.psnr_to(other) - 48.13) < 0.01
