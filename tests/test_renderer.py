"""Frames drawn in batches, as on a GPU, are those drawn one by one: on the processor, with gsplat stood in for."""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gsplat_stand_ins import FakeGsplat
from tiny_avatar import SIDE, TinyClip, source_picture, tiny_avatar

import talkinghead.renderer
from render.rasterize import BackendStatus
from talkinghead.avatar import Avatar
from talkinghead.head_motion import source_pose
from talkinghead.renderer import GPU_BATCH, AvatarRenderer, DrivenFrame, batch_size_for, presence, rounded, to_uint8
from tools.tracked_clip import CropBox

BATCH = 4
CLIP = TinyClip(frames=11, width=100, height=96, crop=CropBox(4, 2, 90, SIDE), missing=(4, 10))
KINDS = ("free", "person", "in_place")


@pytest.fixture(scope="module")
def avatar() -> Avatar:
    """Its network has learned something, and so has its neck."""
    avatar = tiny_avatar(CLIP)
    with torch.no_grad():
        for branch in (avatar.model.face, avatar.model.body, avatar.model.mouth):
            branch.field.output_layer.weight.normal_(std=0.3)
    avatar.model.learn_neck_range(source_pose(avatar.tracks, number) for number in range(CLIP.frames))
    return avatar


def driven(avatar: Avatar, number: int) -> DrivenFrame:
    """Another frame's lips on a frame."""
    lower = avatar.tracks.lower[(number + 5) % CLIP.frames]
    return DrivenFrame(number, lower, picture=source_picture(CLIP, number))


def batched(avatar: Avatar, monkeypatch: pytest.MonkeyPatch) -> AvatarRenderer:
    monkeypatch.setattr(talkinghead.renderer, "batch_size_for", lambda device, side: BATCH)
    return AvatarRenderer(avatar, "cpu")


def assert_alike(pictures: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> None:
    """A level more or less where a half is rounded."""
    for picture, other in zip(pictures, others, strict=True):
        assert picture.dtype == np.uint8 and picture.shape == other.shape
        difference = np.abs(picture.astype(int) - other)
        assert difference.max() <= 1 and (difference > 0).mean() < 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_drawn_as_its_frames_one_by_one(kind: str, avatar: Avatar, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eleven frames, so the last batch is smaller; all pictures differ, so their order shows."""
    frames = [driven(avatar, number) for number in range(CLIP.frames)]
    one_by_one = AvatarRenderer(avatar, "cpu")
    assert one_by_one.batch_size == 1
    alone = [picture for frame in frames for picture in getattr(one_by_one, kind)([frame])]
    renderer = batched(avatar, monkeypatch)
    streamed = list(renderer.stream(getattr(renderer, kind), iter(frames)))
    assert_alike(streamed, alone)
    assert_alike(getattr(renderer, kind)(frames), alone)
    assert_alike(getattr(one_by_one, kind)(frames), alone)
    assert all((one != other).mean() > 0.01 for one, other in itertools.pairwise(alone))


def test_frames_of_other_poses_are_drawn_together(avatar: Avatar, monkeypatch: pytest.MonkeyPatch) -> None:
    tracks = avatar.tracks
    frames = [DrivenFrame(3, tracks.lower[3], pose=source_pose(tracks, number)) for number in range(BATCH)]
    moved = batched(avatar, monkeypatch).free(frames)
    filmed = [DrivenFrame(number, tracks.lower[3], tracks.upper[3]) for number in range(BATCH)]
    assert_alike(moved, AvatarRenderer(avatar, "cpu").free(filmed))


def test_a_batch_is_drawn_in_a_window_around_all_of_its_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    avatar = tiny_avatar(CLIP)
    for number, shift in ((1, (0.6, 0.4)), (2, (-0.6, 0.0)), (3, (0.0, -0.5))):
        avatar.tracks.head_translations[number, :2] += shift
    frames = [driven(avatar, number) for number in range(BATCH)]
    alone = [picture for frame in frames for picture in AvatarRenderer(avatar, "cpu").in_place([frame])]
    for batch in (slice(None), slice(None, None, -1)):
        assert_alike(batched(avatar, monkeypatch).in_place(frames[batch]), alone[batch])


def test_gsplat_is_launched_once_a_batch_and_layer(avatar: Avatar, monkeypatch: pytest.MonkeyPatch) -> None:
    """Face with body is one layer, the inside of the mouth the other; frames without a face are not drawn in place."""
    fake = FakeGsplat()
    monkeypatch.setitem(sys.modules, "gsplat", SimpleNamespace(rasterization=fake.rasterization))
    monkeypatch.setattr("render.rasterize.why_gsplat_is_unusable", lambda: None)
    frames = [driven(avatar, number) for number in range(CLIP.frames)]
    expected = [AvatarRenderer(avatar, "cpu").in_place(frames), AvatarRenderer(avatar, "cpu").free(frames)]
    renderer = batched(avatar, monkeypatch)
    monkeypatch.setattr("render.rasterize.choose_backend", lambda device: BackendStatus("gsplat", True, "faked"))
    actual, batches = [], []
    for draw in (renderer.in_place, renderer.free):
        actual.append([picture for start in (0, 4, 8) for picture in draw(frames[start : start + BATCH])])
        batches.append(fake.batches.copy())
        fake.batches.clear()
    for pictures, others in zip(actual, expected, strict=True):
        assert_alike(pictures, others)
    assert batches == [[(4,)] * 2 + [(3,)] * 2 + [(2,)] * 2, [(4,)] * 4 + [(3,)] * 2]


def test_frames_without_a_face_are_left_as_they_are(avatar: Avatar, monkeypatch: pytest.MonkeyPatch) -> None:
    renderer = batched(avatar, monkeypatch)
    frames = [driven(avatar, number) for number in (3, 4, 5, 10)]
    pictures = renderer.in_place(frames)
    assert [picture is frame.picture for picture, frame in zip(pictures, frames, strict=True)] == [False, True] * 2
    monkeypatch.setattr(renderer, "_model", None)  # none of these is drawn
    assert renderer.in_place([frames[1], frames[3]])[1] is frames[3].picture


def test_the_render_fades_beside_frames_without_a_face(avatar: Avatar, monkeypatch: pytest.MonkeyPatch) -> None:
    """No step in time is larger than a fifth of the whole change; farther away nothing fades."""
    found = np.ones(20, bool)
    assert presence(found).tolist() == [1.0] * 20
    found[8:11] = False
    weights = presence(found)
    assert weights[8:11].tolist() == [0] * 3 and weights[3:8].tolist() == pytest.approx([1, 0.8, 0.6, 0.4, 0.2])
    assert weights[11:16].tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8, 1]) and weights[:3].tolist() == [1] * 3
    seen = replace(avatar, tracks=replace(avatar.tracks, found=np.ones(CLIP.frames, bool)))
    eased, whole = (batched(one, monkeypatch) for one in (avatar, seen))
    for number, share in ((3, 0.2), (6, 0.4), (7, 0.6), (0, 0.8)):  # 4 and 10 are missing
        frame = driven(avatar, number)
        source = frame.picture.astype(float)
        change = whole.in_place([frame])[0] - source
        assert np.abs(change).max() > 20
        assert np.abs(eased.in_place([frame])[0] - source - share * change).max() <= 16  # see above


class Counted:
    """Endless frames, and how many of them were taken."""

    def __init__(self, avatar: Avatar) -> None:
        self._avatar = avatar
        self.taken = 0

    def __iter__(self) -> Iterator[DrivenFrame]:
        while True:
            self.taken += 1
            yield driven(self._avatar, self.taken % CLIP.frames)


def test_opacity_is_how_far_the_source_is_replaced(avatar: Avatar, monkeypatch: pytest.MonkeyPatch) -> None:
    renderer, frame = batched(avatar, monkeypatch), driven(avatar, 2)
    whole, half, none = renderer.in_place([replace(frame, opacity=opacity) for opacity in (1.0, 0.5, 0.0)])
    assert none is frame.picture
    source = frame.picture.astype(float)
    assert np.abs(whole - source).max() > 20
    # Enlarging a mask overshoots at its edges, where 255 is the most.
    assert np.abs((half - source) - (whole - source) / 2).max() <= 8


def test_a_stream_holds_few_frames_and_ends_when_it_is_closed(avatar: Avatar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(talkinghead.renderer.os, "cpu_count", lambda: 2)
    renderer, frames, threads = batched(avatar, monkeypatch), Counted(avatar), threading.active_count()
    stream = renderer.stream(renderer.in_place, frames)
    for shown in range(1, 40):
        next(stream)
        assert frames.taken - shown <= BATCH * (2 * 2 + 1), "two batches a thread, and the one that is shown"
    stream.close()
    assert threading.active_count() == threads


def test_what_goes_wrong_in_a_batch_is_raised_in_its_place(avatar: Avatar, monkeypatch: pytest.MonkeyPatch) -> None:
    renderer = batched(avatar, monkeypatch)

    def draw(frames: Sequence[DrivenFrame]) -> list[np.ndarray]:
        if any(frame.number == 6 for frame in frames):
            raise torch.OutOfMemoryError("no memory for frame 6")
        return renderer.free(frames)

    stream = renderer.stream(draw, (driven(avatar, number) for number in range(CLIP.frames)))
    assert len([next(stream) for _ in range(BATCH)]) == BATCH
    with pytest.raises(torch.OutOfMemoryError, match="frame 6"):
        next(stream)


@pytest.mark.parametrize(
    ("device", "side", "size"),
    [("cpu", 64, 1), ("cuda", 64, GPU_BATCH), ("cuda", 512, GPU_BATCH), ("cuda", 1024, 4), ("cuda", 2048, 1)],
)
def test_batches_are_of_as_many_frames_as_the_device_likes(device: str, side: int, size: int) -> None:
    assert batch_size_for(torch.device(device), side) == size


@pytest.mark.parametrize("channels", [3, 4])
def test_pictures_are_rounded_alike_on_both_devices(channels: int) -> None:
    pictures = torch.rand(2, channels, 16, 12, generator=torch.Generator().manual_seed(0)) * 1.2
    pictures[0, 0, 0, :4] = torch.tensor([0.5, 1.5, 2.5, 254.5]) / 255
    on_gpu, on_processor = rounded(pictures), to_uint8(pictures)
    assert on_gpu.dtype == torch.uint8 and on_gpu.is_contiguous()
    assert np.array_equal(on_gpu.numpy(), np.stack(on_processor))
    assert np.array_equal(to_uint8(pictures[1])[0], on_processor[1])
