"""Backgrounds: what may be named, how pictures are fitted, and how a person is laid over them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from talkinghead import backgrounds
from talkinghead.backgrounds import background_picture, over, parse_color, straight_alpha
from talkinghead.errors import BackgroundError

PLATE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


def person(side: int = 96) -> np.ndarray:
    """A soft disc with a colour gradient, premultiplied."""
    rows, columns = np.mgrid[:side, :side]
    alpha = np.clip((0.35 * side - np.hypot(rows - side / 2, columns - side / 2)) / 6, 0, 1)
    colors = np.stack([60 + columns, 200 - rows, 90 + 0 * rows], axis=-1)
    return np.rint(np.dstack([colors * alpha[..., None], 255 * alpha])).astype(np.uint8)


@pytest.mark.parametrize(
    ("text", "color"),
    [("#00b140", (0, 177, 64)), ("#FFFFFF", (255, 255, 255)), ("navy", (0, 0, 128)), ("Grey", (128, 128, 128))],
)
def test_colours(text: str, color: tuple[int, int, int]) -> None:
    assert parse_color(text) == color
    assert (background_picture(text, PLATE, 50) == np.array(color)).all()


@pytest.mark.parametrize("text", ["#12", "#00b14", "#ggg000", "#00b1400", "# 0b140"])
def test_a_colour_misspelt(text: str) -> None:
    with pytest.raises(BackgroundError, match="#rrggbb, got"):
        background_picture(text, PLATE, 50)


def test_plate_and_nothing() -> None:
    assert np.array_equal(background_picture("plate", PLATE, 64), PLATE)
    assert background_picture("plate", PLATE, 100).shape == (100, 100, 3)
    assert background_picture("alpha", PLATE, 64) is None


@pytest.mark.parametrize("size", [(300, 100), (100, 300), (40, 30)])
def test_a_picture_covers_the_square_and_is_cut_around_its_middle(size: tuple[int, int], tmp_path: Path) -> None:
    width, height = size
    picture = np.zeros((height, width, 3), np.uint8)
    side = min(size)
    top, left = (height - side) // 2, (width - side) // 2
    picture[top : top + side, left : left + side] = (200, 100, 50)
    Image.fromarray(picture).save(tmp_path / "wide.png")
    shown = background_picture(str(tmp_path / "wide.png"), PLATE, 60)
    assert shown.shape == (60, 60, 3)
    assert np.abs(shown[8:-8, 8:-8].astype(int) - (200, 100, 50)).max() <= 1


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "I;16"])
def test_every_kind_of_picture(mode: str, tmp_path: Path) -> None:
    path = tmp_path / ("picture.tif" if mode == "CMYK" else "picture.png")
    if mode == "I;16":
        Image.fromarray(np.full((40, 40), 40_000, np.uint16)).save(path)
    else:
        Image.new("RGB", (40, 40), (120, 120, 120)).convert(mode).save(path)
    shown = background_picture(str(path), PLATE, 32)
    assert shown.shape == (32, 32, 3) and shown.dtype == np.uint8


def test_a_phone_picture_is_turned_upright(tmp_path: Path) -> None:
    picture = Image.new("RGB", (40, 40))
    picture.paste((255, 0, 0), (0, 0, 40, 20))  # red above
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    picture.save(tmp_path / "phone.jpg", exif=exif, quality=95)
    shown = background_picture(str(tmp_path / "phone.jpg"), PLATE, 40)
    assert shown[35, 20, 0] > 200 and shown[5, 20, 0] < 50


def test_what_is_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.png").write_text("no picture")
    whole = cv2.imencode(".png", PLATE)[1].tobytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    for name in ("text.png", "cut.png"):
        with pytest.raises(BackgroundError, match="cannot be read as a picture: give a PNG"):
            background_picture(str(tmp_path / name), PLATE, 32)
    for name in ("purpel", "", str(tmp_path)):
        with pytest.raises(BackgroundError, match=r"' is none of them: check the spelling"):
            background_picture(name, PLATE, 32)
    monkeypatch.setattr(backgrounds, "LARGEST_PICTURE", 4_000_000)
    Image.new("L", (2001, 2000)).save(tmp_path / "huge.png")
    with pytest.raises(BackgroundError, match="has 2001x2000 px, expected 4 million at most"):
        background_picture(str(tmp_path / "huge.png"), PLATE, 32)


def test_laid_over_a_picture() -> None:
    made, below = person(), np.random.default_rng(1).integers(0, 256, (96, 96, 3), np.uint8)
    exact = made[..., :3] + below * (1 - made[..., 3:] / 255)
    assert np.abs(over(made, below) - exact).max() <= 1


def test_straight_colours_give_the_same_picture() -> None:
    made = person()
    straight = straight_alpha(made)
    assert np.array_equal(straight[..., 3], made[..., 3])
    for below in (0, 255):
        weight = made[..., 3:] / 255
        shown = straight[..., :3] * weight + below * (1 - weight)
        assert np.abs(shown - (made[..., :3] + below * (1 - weight))).max() <= 3
    inside = made[..., 3] > 128
    columns = np.nonzero(inside)[1]
    assert np.abs(straight[inside][:, 0] - (60.0 + columns)).max() <= 3


def test_colours_go_on_beyond_the_edge() -> None:
    """An encoder that halves the colours' resolution mixes those of transparent pixels in."""
    made = person()
    straight = straight_alpha(made)
    rim = (made[..., 3] == 0) & (cv2.dilate(made[..., 3], np.ones((3, 3), np.uint8)) > 0)
    assert (straight[rim][:, 2] > 60).all(), "not black; blue is 90 all over the person"
