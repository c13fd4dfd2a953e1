"""The gallery: which frames are shown, what the sheets hold, how large they are, and what the command says."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_avatar import DISTANCE, TinyClip, save_tiny_avatar, source_picture, tiny_avatar

from talkinghead.avatar import Avatar
from talkinghead.gallery import (
    BEYOND_DEGREES,
    HEAD_CENTRE,
    LARGEST_BYTES,
    TILE_PX,
    choose_transfers,
    expression_sheet,
    main,
    small_jpeg,
    turned,
    turned_poses,
    turns_sheet,
)
from talkinghead.gaze import head_direction
from talkinghead.head_motion import source_pose
from tools.face_topology import MEDIAPIPE_478

WIDE, CLOSED, SHUT, MISSING = 4, 7, 12, 9
LABEL_PX = 24


def talking_avatar() -> Avatar:
    """A tiny avatar with a wide mouth, a closed one and a blink in one frame each, and a frame without a face."""
    avatar = tiny_avatar(TinyClip(missing=(MISSING,)))
    points = avatar.tracks.landmarks
    points[WIDE, MEDIAPIPE_478.lower_inner_lip, 1] += 5
    points[CLOSED, MEDIAPIPE_478.lower_inner_lip] = points[CLOSED, MEDIAPIPE_478.upper_inner_lip]
    for ring in (MEDIAPIPE_478.left_eye, MEDIAPIPE_478.right_eye):
        points[SHUT, list(ring), 1] = points[SHUT, list(ring), 1].mean()
    return avatar


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Avatar:
    return save_tiny_avatar(tmp_path_factory.mktemp("gallery"))


def test_the_extremes_of_the_footage_are_chosen() -> None:
    avatar = talking_avatar()
    transfers = {transfer.title: transfer for transfer in choose_transfers(avatar)}
    assert len(transfers) == 8
    opened, shut = transfers["mouth opened"], transfers["mouth closed"]
    assert (opened.pose, opened.expression) == (CLOSED, WIDE) == (shut.expression, shut.pose)
    assert transfers["eyes shut"].expression == transfers["eyes opened"].pose == SHUT
    assert all(transfer.eyes == title.startswith("eyes") for title, transfer in transfers.items())
    yaws = {k: head_direction(avatar.tracks.head_rotations[k])[0] for k in range(20) if k != MISSING}
    left, right = (next(t for name, t in transfers.items() if name.startswith(side)) for side in ("left", "right"))
    assert left.pose == min(yaws, key=yaws.get) and right.pose == max(yaws, key=yaws.get)
    assert MISSING not in {number for transfer in transfers.values() for number in (transfer.pose, transfer.expression)}


def test_a_mouth_is_put_on_turned_heads_that_is_unlike_their_own() -> None:
    avatar = talking_avatar()
    (left,) = (transfer for transfer in choose_transfers(avatar) if transfer.title.startswith("left"))
    assert left.expression == WIDE and left.title == "left, mouth opened"
    avatar.tracks.landmarks[left.pose, MEDIAPIPE_478.lower_inner_lip, 1] += 4
    (left,) = (transfer for transfer in choose_transfers(avatar) if transfer.title.startswith("left"))
    assert left.expression == CLOSED and left.title == "left, mouth closed"


def test_the_size_of_a_head_in_the_picture_opens_no_mouth() -> None:
    """A person who leans forward has larger lips in the picture, not wider open ones."""
    avatar = talking_avatar()
    leaning, middle = 15, avatar.manifest.crop.resolution / 2
    avatar.tracks.landmarks[leaning] = middle + 6 * (avatar.tracks.landmarks[leaning] - middle)
    avatar.tracks.head_translations[leaning, 2] /= 6
    assert choose_transfers(avatar)[0].expression == WIDE


def test_an_expression_sheet_shows_source_result_and_origin(saved: Avatar) -> None:
    sheet, transfers = expression_sheet(saved), choose_transfers(saved)
    assert sheet.shape == (len(transfers) * TILE_PX, 6 * TILE_PX, 3) and sheet.dtype == np.uint8
    for row, transfer in zip(np.split(sheet, len(transfers)), transfers, strict=True):
        source, result, origin = (tile[LABEL_PX:].astype(int) for tile in np.hsplit(row, 6)[:3])
        for tile, number in ((source, transfer.pose), (origin, transfer.expression)):
            filmed = cv2.resize(source_picture(TinyClip(), number), (TILE_PX, TILE_PX), interpolation=cv2.INTER_CUBIC)
            assert np.abs(tile - filmed[LABEL_PX:]).mean() < 4
        assert np.abs(result - source).max() > 20, "nothing was rendered"
        assert np.array_equal(result[:, :4], source[:, :4]), "beside the face the picture is the source's"


def test_details_are_parts_of_the_pictures_beside_them(saved: Avatar) -> None:
    source, *_, detail, _, _ = np.hsplit(expression_sheet(saved)[:TILE_PX], 6)
    small = cv2.resize(detail, (TILE_PX // 3, TILE_PX // 3), interpolation=cv2.INTER_AREA)
    match = cv2.matchTemplate(source, small, cv2.TM_SQDIFF).min() / small.size
    assert match < 20


def test_turned_poses_reach_beyond_the_footage() -> None:
    tracks = tiny_avatar().tracks
    poses = [head_direction(pose.head_rotation.numpy()) for _, pose in turned_poses(tracks, still=0)]
    filmed = [head_direction(rotation)[0] for rotation in tracks.head_rotations]
    expected = [min(filmed) - BEYOND_DEGREES, min(filmed), filmed[0], max(filmed), max(filmed) + BEYOND_DEGREES]
    assert [yaw for yaw, _ in poses[:5]] == pytest.approx(expected, abs=1e-3)
    assert [pitch for _, pitch in poses[5:]] == pytest.approx([-BEYOND_DEGREES, 0, 0, 0, BEYOND_DEGREES], abs=1e-3)


@pytest.mark.parametrize("axis", ["x", "y"])
def test_a_head_turns_about_its_centre_and_the_torso_stays(axis: str) -> None:
    pose = source_pose(tiny_avatar().tracks, 3)
    other = turned(pose, axis, 25.0)
    before, after = (each.head_rotation.numpy() @ HEAD_CENTRE + each.head_translation.numpy() for each in (pose, other))
    assert np.allclose(before, after, atol=1e-5) and abs(after[2] - DISTANCE) < 1
    assert np.array_equal(other.torso_rotation, pose.torso_rotation)
    assert np.array_equal(other.torso_translation, pose.torso_translation)
    change = head_direction(other.head_rotation.numpy()) - head_direction(pose.head_rotation.numpy())
    assert change["yx".index(axis)] == pytest.approx(25.0, abs=1.0)


def test_a_sheet_of_turns_shows_the_plate_around_the_person() -> None:
    avatar = tiny_avatar()
    sheet = turns_sheet(avatar)
    assert sheet.shape == (2 * 3 * TILE_PX // 2, 5 * 3 * TILE_PX // 2, 3)
    tiles = [tile for row in np.vsplit(sheet, 2) for tile in np.hsplit(row, 5)]
    assert all(np.abs(tile[-1, -1].astype(int) - avatar.background[-1, -1]).max() <= 1 for tile in tiles)
    assert np.abs(tiles[0].astype(int) - tiles[4]).max() > 50, "a head turned the other way looks different"


def test_pictures_are_small() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (900, 900, 3), np.uint8)
    soft = cv2.GaussianBlur(noise, (0, 0), 4)
    assert len(small_jpeg(soft)) <= LARGEST_BYTES
    assert 0 < len(small_jpeg(noise)) < noise.size / 3  # cannot be that small: the smallest is taken
    decoded = cv2.imdecode(np.frombuffer(small_jpeg(soft), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.abs(decoded.astype(int) - soft).mean() < 3


def test_the_command_writes_two_sheets_and_is_silent(
    saved: Avatar, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(saved.path), "-o", str(tmp_path / "new")])
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["tiny-expressions.jpg", "tiny-turns.jpg"]
    assert capsys.readouterr().out == ""


def test_what_is_wrong_is_said_in_a_line(saved: Avatar, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    for arguments, complaint in (
        ([str(tmp_path / "none"), "-o", str(tmp_path)], "does not exist"),
        ([str(saved.path), "-o", str(tmp_path / "file")], "choose another folder with -o"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
        assert complaint in capsys.readouterr().err
