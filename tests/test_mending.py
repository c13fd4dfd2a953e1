"""A Blend-Net at work in the renderer: a zero one is the identity, no other reaches beyond its region."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from test_blend_net import scrambled
from tiny_avatar import SIDE, TinyClip, source_picture, tiny_avatar

import talkinghead.renderer
from render.blend_net import CONTEXT, BlendNet
from talkinghead.avatar import Avatar
from talkinghead.backgrounds import over
from talkinghead.compositing import BlendRegion
from talkinghead.head_motion import source_pose
from talkinghead.mending import REACH, window_around
from talkinghead.renderer import AvatarRenderer, DrivenFrame
from tools.tracked_clip import CropBox

CLIP = TinyClip(frames=8, width=100, height=96, crop=CropBox(4, 2, SIDE, SIDE), missing=(6,))
ENLARGED = replace(CLIP, crop=CropBox(4, 2, 90, SIDE))
KINDS = ("free", "person", "in_place")


def driven(avatar: Avatar, number: int, **changes: object) -> DrivenFrame:
    """Another frame's lips on a frame."""
    lower = avatar.tracks.lower[(number + 3) % CLIP.frames]
    return replace(DrivenFrame(number, lower, picture=source_picture(CLIP, number)), **changes)


def drawn(avatar: Avatar, kind: str, frame: DrivenFrame, net: BlendNet | None, with_eyes: bool = False) -> np.ndarray:
    (picture,) = getattr(AvatarRenderer(replace(avatar, blend_net=net), "cpu", with_eyes), kind)([frame])
    return picture


def changed(avatar: Avatar, kind: str, frame: DrivenFrame, with_eyes: bool = False) -> np.ndarray:
    """Where a random network changes a picture: bool [H, W]."""
    before, after = (drawn(avatar, kind, frame, net, with_eyes) for net in (None, scrambled()))
    return (before != after).any(axis=2)


def within(mask: np.ndarray, pixels: int) -> np.ndarray:
    """bool: no farther from where a mask is than so many pixels, to either side."""
    return cv2.dilate((mask > 0).astype(np.uint8), np.ones((2 * pixels + 1, 2 * pixels + 1), np.uint8)) > 0


@pytest.mark.parametrize("clip", [CLIP, ENLARGED], ids=["as filmed", "resampled"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_new_network_changes_no_bit(kind: str, clip: TinyClip) -> None:
    avatar = tiny_avatar(clip)
    for number in (0, 5, 6):
        frame = driven(avatar, number)
        assert np.array_equal(drawn(avatar, kind, frame, None), drawn(avatar, kind, frame, BlendNet()))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_changes_beyond_reach_of_mouth_and_chin(kind: str) -> None:
    avatar = tiny_avatar(CLIP)
    mouth = BlendRegion(avatar).mask(3)
    places = changed(avatar, kind, driven(avatar, 3))
    if kind == "in_place":
        places = CLIP.crop.cut(places.astype(np.uint8)) > 0
        assert places.sum() == changed(avatar, kind, driven(avatar, 3)).sum(), "nor outside of the crop"
    assert not places[~within(mouth, REACH)].any()
    assert places[mouth == 255].mean() > 0.8
    if kind == "in_place":
        assert places[(mouth == 0) & within(mouth, REACH)].any(), "beside the pasted part, for its border"


def test_nothing_changes_beyond_reach_where_the_crop_is_resampled() -> None:
    avatar = tiny_avatar(ENLARGED)
    mouth = cv2.resize(BlendRegion(avatar).mask(3), (90, 90), interpolation=cv2.INTER_NEAREST)
    places = changed(avatar, "in_place", driven(avatar, 3))[2:92, 4:94]
    assert places.sum() == changed(avatar, "in_place", driven(avatar, 3)).sum() > 0
    assert not places[~within(mouth, 2 + round((REACH + 2) * 90 / SIDE))].any(), "two more, by cubic resampling"


def test_frames_that_are_not_drawn_are_not_mended() -> None:
    avatar = tiny_avatar(CLIP)
    for frame in (driven(avatar, 6), driven(avatar, 2, opacity=0.0)):
        assert drawn(avatar, "in_place", frame, scrambled()) is frame.picture


def test_what_fades_is_mended_as_far_as_it_is_shown() -> None:
    avatar = tiny_avatar(replace(CLIP, missing=()))
    half = driven(avatar, 2, opacity=0.5)
    plain, mended = (drawn(avatar, "in_place", half, net).astype(int) for net in (None, scrambled()))
    assert 0 < np.abs(mended - plain).max() <= 0.6 * largest_change(avatar, half)


def largest_change(avatar: Avatar, frame: DrivenFrame) -> float:
    """Levels by which the network itself would change the picture, at most."""
    share = cv2.convertScaleAbs(BlendRegion(avatar).mask(frame.number), alpha=frame.opacity)
    picture = CLIP.crop.cut(drawn(avatar, "in_place", frame, None))
    inputs = (torch.from_numpy(part).reshape(SIDE, SIDE, -1).permute(2, 0, 1)[None] / 255 for part in (picture, share))
    return 255 * float(scrambled()(*inputs).abs().max())


def test_eyes_that_are_rendered_are_not_mended() -> None:
    avatar = tiny_avatar(CLIP)
    mouth, eyes = (BlendRegion(avatar, with_eyes).mask(3) for with_eyes in (False, True))
    places = CLIP.crop.cut(changed(avatar, "in_place", driven(avatar, 3), with_eyes=True).astype(np.uint8)) > 0
    assert places.any() and not places[~within(mouth, REACH)].any()
    assert (within(eyes, REACH) & ~within(mouth, REACH)).any()


def test_a_mended_person_has_the_same_outline_and_looks_over_the_plate_as_the_mended_free_picture() -> None:
    avatar, net = tiny_avatar(CLIP), scrambled()
    frame = driven(avatar, 3)
    plain, person = (drawn(avatar, "person", frame, one) for one in (None, net))
    assert np.array_equal(plain[..., 3], person[..., 3])
    assert (person[..., :3] <= person[..., 3:]).all()
    free = drawn(avatar, "free", frame, net).astype(int)
    # A level of rounding in what the network is given, and what colours brighter than alpha lose.
    assert np.median(np.abs(over(person, avatar.background) - free)) <= 1
    background = plain[..., 3] == 0
    assert np.array_equal(free[background], drawn(avatar, "free", frame, None)[background])


def test_the_region_follows_a_head_that_is_turned() -> None:
    avatar = tiny_avatar(CLIP)
    pose = source_pose(avatar.tracks, 3)
    moved = replace(pose, head_translation=pose.head_translation + torch.tensor([0.4, -0.3, 0.0]))
    mouth = BlendRegion(avatar).mask_of_pose(moved.head_rotation.numpy(), moved.head_translation.numpy())
    places = changed(avatar, "free", driven(avatar, 3, pose=moved))
    assert places.any() and not places[~within(mouth, REACH)].any()
    assert changed(avatar, "free", driven(avatar, 3))[~within(mouth, REACH)].any(), "elsewhere before it moved"


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_mended_as_its_frames_one_by_one(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    avatar = replace(tiny_avatar(CLIP), blend_net=scrambled())
    frames = [driven(avatar, number) for number in range(CLIP.frames)]
    alone = [picture for frame in frames for picture in getattr(AvatarRenderer(avatar, "cpu"), kind)([frame])]
    monkeypatch.setattr(talkinghead.renderer, "batch_size_for", lambda device, side: 4)
    for one, other in zip(getattr(AvatarRenderer(avatar, "cpu"), kind)(frames), alone, strict=True):
        # A level of rounding in what the network is given.
        assert (np.abs(one.astype(int) - other) > 1).mean() < 0.01


@pytest.mark.parametrize("net", [None, scrambled()], ids=["without", "with"])
def test_in_crop_and_free_are_what_in_place_and_free_show(net: BlendNet | None) -> None:
    avatar = replace(tiny_avatar(replace(CLIP, missing=())), blend_net=net)
    renderer, source = AvatarRenderer(avatar, "cpu"), source_picture(CLIP, 3)
    ((in_crop, free),) = renderer.in_crop_and_free([driven(avatar, 3, picture=CLIP.crop.cut(source))])
    ((in_place), (alone)) = (getattr(renderer, kind)([driven(avatar, 3)])[0] for kind in ("in_place", "free"))
    assert np.array_equal(free, alone)
    assert np.abs(in_crop.astype(int) - CLIP.crop.cut(in_place)).max() <= 1


def test_windows_begin_with_whole_cells_and_lie_in_the_picture() -> None:
    weights = np.zeros((90, 100), np.uint8)
    assert window_around(weights) is None
    weights[30:33, 41] = 1
    assert window_around(weights) == (slice(12, 76), slice(24, 88))
    weights[80] = 1
    assert window_around(weights) == (slice(12, 90), slice(0, 100))


def test_windows_of_a_moving_region_come_in_few_sizes() -> None:
    sizes = set()
    for shift in range(40):
        weights = np.zeros((512, 512), np.uint8)
        weights[100 + shift : 300 + 2 * shift, 200:450] = 1
        rows, columns = window_around(weights)
        assert rows.start <= 100 + shift - CONTEXT and rows.stop >= 300 + 2 * shift + CONTEXT
        sizes.add((rows.stop - rows.start, columns.stop - columns.start))
    assert len(sizes) <= 3
