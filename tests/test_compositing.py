"""Blending: exact where nothing changes, aligned where pictures are resampled, in a region that keeps to the face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from tiny_avatar import DISTANCE, TinyClip, face_points, in_picture, tiny_avatar, turned

from talkinghead.avatar import Avatar
from talkinghead.compositing import FEATHER, BlendRegion, composite, feathered_mask, region_outline, triangulate
from talkinghead.renderer import AvatarRenderer, DrivenFrame
from tools.face_topology import IBUG_68, MEDIAPIPE_478, FaceTopology
from tools.tracked_clip import CropBox

SIDE = 256
FOCAL_PX = 512.0
FACE = np.array([0.0, 0.0, DISTANCE])
CROPS = [
    CropBox(left=30, top=11, side=64, resolution=64),
    CropBox(left=30, top=11, side=101, resolution=64),
    CropBox(left=30, top=11, side=47, resolution=64),
]


def random_picture(height: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def disc(side: int, radius: float) -> np.ndarray:
    """A soft disc in the middle, uint8."""
    rows, columns = np.mgrid[:side, :side] + 0.5 - side / 2
    return np.clip(255 * (radius - np.hypot(rows, columns)) / 6, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("crop", CROPS)
def test_source_is_kept_bit_for_bit_outside_the_mask(crop: CropBox) -> None:
    frame, rendered = random_picture(140, 160, 0), random_picture(64, 64, 1)
    before = frame.copy()
    result = composite(frame, rendered, crop, disc(64, 20))
    rows, columns = np.mgrid[:140, :160] + 0.5
    middle = (crop.top + crop.side / 2, crop.left + crop.side / 2)
    outside = np.hypot(rows - middle[0], columns - middle[1]) > 22 * crop.side / 64
    assert np.array_equal(result[outside], frame[outside])
    assert not np.array_equal(result[~outside], frame[~outside])
    assert np.array_equal(frame, before)


def test_weights_mix_exactly_without_resampling() -> None:
    crop, mask = CROPS[0], disc(64, 30)
    frame, rendered = random_picture(140, 160, 0), random_picture(64, 64, 1)
    result = crop.cut(composite(frame, rendered, crop, mask))
    below, above, weight = crop.cut(frame).astype(float), rendered.astype(float), mask[..., None] / 255
    assert np.abs(result - (below + weight * (above - below))).max() <= 0.5 + 1e-6
    assert np.array_equal(result[mask == 255], rendered[mask == 255])


@pytest.mark.parametrize("crop", CROPS)
def test_resampling_moves_nothing(crop: CropBox) -> None:
    """A ramp over the crop lands on the same ramp over the frame: half a pixel of misplacement would show."""
    mask = disc(64, 28)
    rows, columns = (np.mgrid[:64, :64] + 0.5) / 64
    rendered = np.stack([255 * rows, 255 * columns, 127 * (rows + columns)], axis=-1).round().astype(np.uint8)
    result = composite(np.zeros((140, 160, 3), np.uint8), rendered, crop, mask)
    place = result[crop.top : crop.top + crop.side, crop.left : crop.left + crop.side].astype(float)
    rows, columns = (np.mgrid[: crop.side, : crop.side] + 0.5) / crop.side
    inside = np.hypot(rows - 0.5, columns - 0.5) < 20 / 64
    assert abs((place[..., 0] - 255 * rows)[inside].mean()) < 0.2
    assert np.abs((place[..., 1] - 255 * columns)[inside]).max() < 1.6


def test_an_empty_mask_changes_nothing() -> None:
    frame = random_picture(140, 160, 0)
    result = composite(frame, random_picture(64, 64, 1), CROPS[0], np.zeros((64, 64), np.uint8))
    assert np.array_equal(result, frame)


def face_mask(topology: FaceTopology, rotation: np.ndarray, translation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mask [SIDE, SIDE] of a schematic face and its landmarks, px."""
    points = in_picture(face_points(topology), rotation, translation, FOCAL_PX, SIDE)
    return feathered_mask(region_outline(points, topology), SIDE), points


def values_at(mask: np.ndarray, points: np.ndarray) -> np.ndarray:
    columns, rows = np.floor(points).astype(int).T
    return mask[rows, columns]


@pytest.mark.parametrize("topology", [MEDIAPIPE_478, IBUG_68], ids=lambda topology: topology.name)
@pytest.mark.parametrize("yaw_degrees", [-30, 0, 30])
def test_region_holds_mouth_and_chin_but_not_the_eyes(topology: FaceTopology, yaw_degrees: float) -> None:
    mask, points = face_mask(topology, turned(yaw_degrees), FACE)
    eye_to_chin = points[topology.chin] - points[list(topology.left_eye + topology.right_eye)].mean(axis=0)
    assert (values_at(mask, points[list(topology.lips)]) == 255).all()
    assert values_at(mask, points[[topology.chin]]) == 255
    assert values_at(mask, points[[topology.chin]] + 0.2 * eye_to_chin) == 255, "an opened mouth lowers the chin"
    assert (values_at(mask, points[list(topology.left_eye + topology.right_eye)]) == 0).all()
    assert (mask[: int(points[list(topology.left_eye), 1].max())] == 0).all()


def test_region_turns_with_a_tilted_head() -> None:
    quarter_turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])  # the chin then points to the left
    upright, _ = face_mask(MEDIAPIPE_478, np.eye(3), FACE)
    tilted, _ = face_mask(MEDIAPIPE_478, quarter_turn, FACE)
    assert np.abs(np.rot90(upright, -1).astype(int) - tilted).max() <= 1


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.5, 0.6), (-0.9, 0.0), (0.0, 1.2)], ids=str)
def test_feather_is_soft_and_ends_inside_the_crop(shift: Sequence[float]) -> None:
    mask, _ = face_mask(MEDIAPIPE_478, np.eye(3), FACE + np.array([*shift, 0.0]))
    assert mask.any() == (shift != (0.0, 1.2)), "the last face has its mouth below the crop"
    assert not (mask[[0, -1]].any() or mask[:, [0, -1]].any())
    steps = [np.abs(np.diff(mask.astype(int), axis=axis)).max() for axis in (0, 1)]
    assert max(steps) <= 1.5 * 255 / (FEATHER * SIDE) + 1, "steeper than the feather's middle"


def test_mask_follows_a_fraction_of_a_pixel_smoothly() -> None:
    still, _ = face_mask(MEDIAPIPE_478, np.eye(3), FACE)
    tenth_of_a_pixel = 0.1 * DISTANCE / FOCAL_PX
    moved, _ = face_mask(MEDIAPIPE_478, np.eye(3), FACE + np.array([tenth_of_a_pixel, 0, 0]))
    assert 0 < np.abs(moved.astype(int) - still).max() <= 0.1 * 1.5 * 255 / (FEATHER * SIDE) + 1


def with_landmarks(avatar: Avatar, landmarks: np.ndarray) -> Avatar:
    return replace(avatar, tracks=replace(avatar.tracks, landmarks=landmarks.astype(np.float32)))


def test_region_ignores_speech_and_landmark_noise() -> None:
    clip = TinyClip(frames=60, crop=CropBox(0, 0, SIDE, SIDE), width=SIDE, height=SIDE, missing=(3,))
    avatar = tiny_avatar(clip)
    landmarks = avatar.tracks.landmarks.copy()
    jaw = 12 * np.sin(np.arange(60))
    landmarks[:, MEDIAPIPE_478.chin, 1] += jaw - np.delete(jaw, 3).mean()
    landmarks += np.random.default_rng(0).normal(size=landmarks.shape)
    clean, disturbed = BlendRegion(avatar), BlendRegion(with_landmarks(avatar, landmarks))
    for frame in (0, 3, 17, 59):
        assert np.abs(disturbed.mask(frame).astype(int) - clean.mask(frame)).max() < 75, "its border moved by a pixel"


def test_region_lies_on_the_face() -> None:
    avatar = tiny_avatar(TinyClip(crop=CropBox(0, 0, SIDE, SIDE), width=SIDE, height=SIDE))
    region = BlendRegion(avatar)
    for frame in range(0, 20, 4):
        lips = avatar.tracks.landmarks[frame, list(MEDIAPIPE_478.lips)]
        assert (values_at(region.mask(frame), lips) == 255).all()


def test_no_landmarks_at_all_are_refused() -> None:
    avatar = tiny_avatar()
    with pytest.raises(ValueError, match="at least one frame"):
        BlendRegion(with_landmarks(avatar, np.full_like(avatar.tracks.landmarks, np.nan)))


def test_triangulation_finds_known_points() -> None:
    points = face_points()
    rotations = np.stack([turned(degrees) for degrees in (-15, 0, 8)])
    translations = np.array([[0, 0, 4], [0.1, 0, 4.2], [0, -0.2, 3.9]])
    in_camera = points @ rotations.transpose(0, 2, 1) + translations[:, None]
    found = triangulate(in_camera[..., :2] / in_camera[..., 2:], rotations, translations)
    assert np.abs(found - points).max() < 0.01


def test_triangulation_of_one_view_explains_it() -> None:
    """No depth can be seen in a single view; the points must still project where they were seen."""
    in_camera = face_points() + FACE
    slopes = in_camera[:, :2] / in_camera[:, 2:]
    found = triangulate(slopes[None], np.eye(3)[None], FACE[None]) + FACE
    assert np.abs(found[:, :2] / found[:, 2:] - slopes).max() < 1e-3


def test_with_eyes_the_region_begins_above_the_brows() -> None:
    points = face_points()
    points[[*MEDIAPIPE_478.left_brow, *MEDIAPIPE_478.right_brow], 1] = -0.35
    points = in_picture(points, np.eye(3), FACE, FOCAL_PX, SIDE)
    without, eyes = (region_outline(points, MEDIAPIPE_478, with_eyes) for with_eyes in (False, True))
    assert eyes[:, 1].min() < points[MEDIAPIPE_478.left_brow[0], 1] < without[:, 1].min()
    assert eyes[:, 1].min() >= points[list(MEDIAPIPE_478.face_oval), 1].min() - 1, "no further than the face"
    assert eyes[:, 1].max() == pytest.approx(without[:, 1].max())


def test_in_place_is_the_free_render_blended() -> None:
    """Only the window around the mask is rendered; it must not matter."""
    avatar = tiny_avatar(TinyClip(crop=CropBox(4, 2, 90, 64), width=100, height=96))
    renderer, tracks = AvatarRenderer(avatar), avatar.tracks
    frame = random_picture(96, 100, 0)
    driven = DrivenFrame(5, tracks.lower[9], picture=frame)
    (result,), (free,) = renderer.in_place([driven]), renderer.free([driven])
    whole = composite(frame, free, avatar.manifest.crop, BlendRegion(avatar).mask(5))
    assert np.abs(result.astype(int) - whole).max() <= 1
    assert np.array_equal((result != frame).any(axis=2), (whole != frame).any(axis=2))


def test_free_render_follows_the_codes_and_leaves_the_avatar_alone() -> None:
    avatar = tiny_avatar()
    before = {name: tensor.clone() for name, tensor in avatar.model.state_dict().items()}
    renderer, tracks = AvatarRenderer(avatar), avatar.tracks
    changes = [(5, None), (5, tracks.upper[5]), (6, None), (5, tracks.upper[6])]
    own, same, *others = renderer.free([DrivenFrame(5, tracks.lower[lower], upper) for lower, upper in changes])
    assert np.array_equal(own, same)
    assert not any(np.array_equal(own, other) for other in others)
    assert all(tensor.equal(before[name]) for name, tensor in avatar.model.state_dict().items())
    assert avatar.model.face._baked is None
