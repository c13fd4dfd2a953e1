"""Rendering a fitted avatar: one frame a thread on a processor, many frames a launch on a GPU."""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace

import cv2
import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from render.gaussians import Gaussians
from render.head_model import BonePose
from render.implicit_mouth import PosedSheet, time_stamps
from render.pipelining import batches, mapped
from render.rasterize import RenderOutput
from talkinghead.avatar import Avatar
from talkinghead.compositing import BlendRegion, composite
from talkinghead.config import Device
from talkinghead.devices import device_for
from talkinghead.head_motion import source_pose
from talkinghead.mending import Mender, Window
from tools.tracked_clip import CropBox

WINDOW_MARGIN = 4
"""Pixels rendered around the wanted ones, so that resampling sees no black."""
EASE_FRAMES = 4
"""The render fades in and out over so many frames beside those that are shown as they are."""
GPU_BATCH = 16
"""Frames that a GPU draws at once: posing is many short operations, which take hardly longer for all of them..."""
GPU_BATCH_PIXELS = GPU_BATCH * 512 * 512
"""...but not more than have so many pixels, for the sake of its memory."""
GPU_WORKERS = 2
"""Threads that feed a GPU: while it draws for one, the other blends pictures into frames."""


@dataclass(frozen=True)
class DrivenFrame:
    """What one picture is made of."""

    number: int
    """Source frame: what is not given is as in it."""
    lower: np.ndarray
    """[Kl] expression code of the lower face."""
    upper: np.ndarray | None = None
    """[Ku] expression code of the upper face."""
    pose: BonePose | None = None
    """Head and torso."""
    picture: np.ndarray | None = None
    """[H, W, 3] uint8 RGB, the source frame itself; needed to draw in place only."""
    opacity: float = 1.0
    """How far the source is replaced in place: 0, not at all, to 1."""


Draw = Callable[[Sequence[DrivenFrame]], list[np.ndarray]]


class AvatarRenderer:
    """Draws an avatar, in the poses of its source clip or in others. The avatar itself is not changed.

    Frames are independent of one another and may be drawn by several threads at once; `batch_size` is the number that
    the device draws best at a time. `region` says which part of each source frame `in_place` replaces. What an avatar's
    Blend-Net mends is mended in all that is drawn.

    Args:
        device: "auto" takes the GPU if gsplat can run on it, else the processor.
        with_eyes: the region holds eyes and brows too.

    Raises:
        DeviceUnavailableError: see `talkinghead.devices.device_for`.
    """

    def __init__(self, avatar: Avatar, device: Device = "auto", with_eyes: bool = False) -> None:
        self._tracks = avatar.tracks
        self._presence = presence(avatar.tracks.found)
        self._crop, self._fitted_frames = avatar.manifest.crop, avatar.manifest.fitted_frames
        self._side = self._crop.resolution
        self._whole: Window = (slice(0, self._side), slice(0, self._side))
        self.region = BlendRegion(avatar, with_eyes)
        mends_less = with_eyes and avatar.blend_net is not None
        self._mouth = BlendRegion(avatar) if mends_less else self.region
        self._device = device_for(device)
        self._mender = None if avatar.blend_net is None else Mender(copy.deepcopy(avatar.blend_net), self._device)
        self.batch_size = batch_size_for(self._device, self._side)
        self._model = copy.deepcopy(avatar.model).to(self._device).requires_grad_(False)
        self._model.bake()
        self._camera = self._model.intrinsics.camera(device=self._device)
        self._plate = avatar.background
        background = torch.from_numpy(avatar.background).to(self._device)
        self._background = background.permute(2, 0, 1).float().div(255).contiguous()

    def free(self, frames: Sequence[DrivenFrame]) -> list[np.ndarray]:
        """Head, neck and torso over the background plate: uint8 [R, R, 3] RGB, the crop, of each frame."""
        if self._mender is None:
            return self._drawn(frames, self._whole, lambda person: person.over(self._background))
        return list(map(self._mended_free, frames, self._over_plate(frames)))

    def person(self, frames: Sequence[DrivenFrame]) -> list[np.ndarray]:
        """Head, neck and torso with nothing behind.

        Returns:
            uint8 [R, R, 4] of each frame, the crop: RGB multiplied by alpha, and alpha.
        """
        people = self._drawn(
            frames, self._whole, lambda person: torch.cat([person.rgb, person.alpha.unsqueeze(-3)], dim=-3)
        )
        if self._mender is not None:
            for frame, person in zip(frames, people, strict=True):
                self._mender.alone(person, self._plate, self._free_mask(frame))
        return people

    def in_place(self, frames: Sequence[DrivenFrame]) -> list[np.ndarray]:
        """The source frames with mouth, chin and neck rendered into them; those without a face, or of no opacity, as
        they are. Beside frames without a face the render fades into the source.

        Returns:
            uint8 [H, W, 3] of each frame. The frames' own pictures are not changed.
        """
        found = self._tracks.found
        is_shown = [bool(found[frame.number]) and frame.opacity > 0 for frame in frames]
        shown = list(itertools.compress(frames, is_shown))
        if not shown:
            return [frame.picture for frame in frames]
        masks = [self._mask(frame) for frame in shown]
        window = _window_around(masks)
        background = self._background[(slice(None), *window)]
        people = self._drawn(shown, window, lambda person: person.over(background))

        def blended(frame: DrivenFrame, mask: np.ndarray, person: np.ndarray) -> np.ndarray:
            rendered = np.zeros((self._side, self._side, 3), np.uint8)  # only the window is looked at
            rendered[window] = person
            return self._pasted(frame, rendered, self._crop, mask)

        results = map(blended, shown, masks, people)
        return [next(results) if drawn else frame.picture for frame, drawn in zip(frames, is_shown, strict=True)]

    def in_crop_and_free(self, frames: Sequence[DrivenFrame]) -> list[tuple[np.ndarray, np.ndarray]]:
        """What `in_place` and `free` show of each frame, of one render.

        Args:
            frames: their pictures are the crops of the source, [R, R, 3]; all have a face.

        Returns:
            Pairs of uint8 [R, R, 3]: the crop with mouth, chin and neck rendered into it, nothing faded; the render.
        """
        crop = CropBox(0, 0, self._side, self._side)
        pairs = []
        for frame, person in zip(frames, self._over_plate(frames), strict=True):
            rendered = cv2.cvtColor(person, cv2.COLOR_RGBA2RGB)
            pasted = self._pasted(frame, rendered, crop, self.region.mask(frame.number))
            pairs.append((pasted, rendered if self._mender is None else self._mended_free(frame, person)))
        return pairs

    def _pasted(self, frame: DrivenFrame, rendered: np.ndarray, crop: CropBox, mask: np.ndarray) -> np.ndarray:
        pasted = composite(frame.picture, rendered, crop, mask)
        if self._mender is not None:
            mouth = mask if self._mouth is self.region else cv2.min(mask, self._mouth.mask(frame.number))
            self._mender.in_place(pasted, crop, mask, mouth)
        return pasted

    def _mended_free(self, frame: DrivenFrame, person: np.ndarray) -> np.ndarray:
        """What `_over_plate` gave of a frame, mended: uint8 [R, R, 3]."""
        assert self._mender is not None
        picture, alpha = cv2.cvtColor(person, cv2.COLOR_RGBA2RGB), cv2.extractChannel(person, 3)
        self._mender.over_plate(picture, alpha, self._free_mask(frame))
        return picture

    def _over_plate(self, frames: Sequence[DrivenFrame]) -> list[np.ndarray]:
        """uint8 [R, R, 4] of each frame: RGB over the plate, and the person's alpha."""
        return self._drawn(
            frames,
            self._whole,
            lambda person: torch.cat([person.over(self._background), person.alpha.unsqueeze(-3)], dim=-3),
        )

    def _free_mask(self, frame: DrivenFrame) -> np.ndarray:
        """The region around mouth and chin, wherever the head is."""
        if frame.pose is None:
            return self._mouth.mask(frame.number)
        return self._mouth.mask_of_pose(frame.pose.head_rotation.numpy(), frame.pose.head_translation.numpy())

    def _mask(self, frame: DrivenFrame) -> np.ndarray:
        mask = self.region.mask(frame.number)
        opacity = frame.opacity * float(self._presence[frame.number])
        return mask if opacity == 1 else cv2.convertScaleAbs(mask, alpha=opacity)

    def stream(self, draw: Draw, frames: Iterable[DrivenFrame]) -> Iterator[np.ndarray]:
        """What `draw` makes of any number of frames, in order; some threads work ahead, on a batch each."""
        workers = GPU_WORKERS if self._device.type == "cuda" else os.cpu_count() or 1
        for pictures in mapped(draw, batches(frames, self.batch_size), workers):
            yield from pictures

    @torch.inference_mode()
    def posed(self, frames: Sequence[DrivenFrame]) -> tuple[Gaussians, Gaussians | PosedSheet]:
        """What is drawn of up to `batch_size` frames: face with body, and inside of the mouth."""
        return self._model.posed(*self._inputs(frames))

    @torch.inference_mode()
    def _drawn(
        self, frames: Sequence[DrivenFrame], window: Window, finished: Callable[[RenderOutput], Tensor]
    ) -> list[np.ndarray]:
        """The person in a window of the crop, `finished` on the device: uint8 [h, w, C] of each frame."""
        rows, columns = window
        camera = replace(
            self._camera,
            cx=self._camera.cx - columns.start,
            cy=self._camera.cy - rows.start,
            width=columns.stop - columns.start,
            height=rows.stop - rows.start,
        )
        pictures = []
        for batch in batches(frames, self.batch_size):
            bones, codes, stamps = self._inputs(batch)
            pictures += to_uint8(finished(self._model.render(bones, codes, camera, time=stamps)))
        return pictures

    def _inputs(self, frames: Sequence[DrivenFrame]) -> tuple[BonePose, Tensor, Tensor]:
        """Bones, expression codes and time stamps.

        A frame alone has no batch dimension: the processor's kernels pose one.
        """

        def placed(tensors: list[Tensor]) -> Tensor:
            return torch.stack(tensors).squeeze(0).to(self._device, torch.float32)

        poses = [source_pose(self._tracks, frame.number) if frame.pose is None else frame.pose for frame in frames]
        bones = BonePose(*(placed([getattr(pose, bone.name) for pose in poses]) for bone in fields(BonePose)))
        codes = placed([torch.from_numpy(self._code(frame)) for frame in frames])
        stamps = torch.from_numpy(time_stamps([frame.number for frame in frames], self._fitted_frames))
        return bones, codes, placed(list(stamps))

    def _code(self, frame: DrivenFrame) -> np.ndarray:
        upper = self._tracks.upper[frame.number] if frame.upper is None else frame.upper
        return np.concatenate([frame.lower, upper])


def presence(found: np.ndarray) -> np.ndarray:
    """Weight [F] of the render in each frame: 0 where no face is found [F], 1 more than EASE_FRAMES from there."""
    if found.all():
        return np.ones(len(found))
    return np.minimum(1, distance_transform_edt(found) / (EASE_FRAMES + 1))


def batch_size_for(device: torch.device, side: int) -> int:
    """How many crops of `side` px are drawn best at a time: one on a processor, whose threads draw one each."""
    return max(1, min(GPU_BATCH, GPU_BATCH_PIXELS // side**2)) if device.type == "cuda" else 1


def to_uint8(pictures: Tensor) -> list[np.ndarray]:
    """Pictures [B, C, H, W], or one [C, H, W], in [0, 1]: each rounded and clipped to uint8 [H, W, C]."""
    pictures = pictures.reshape(-1, *pictures.shape[-3:])
    if pictures.device.type == "cpu":  # where OpenCV is several times faster than torch
        # convertScaleAbs takes the absolute value: of a blend of colours, none of which is negative.
        return [cv2.merge([cv2.convertScaleAbs(plane, alpha=255) for plane in planes]) for planes in pictures.numpy()]
    return list(rounded(pictures).cpu().numpy())


def rounded(pictures: Tensor) -> Tensor:
    """Pictures [B, C, H, W] in [0, 1] as uint8 [B, H, W, C], where they are: a quarter of the bytes to transfer."""
    return pictures.mul(255).round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _window_around(masks: Sequence[np.ndarray]) -> Window:
    """The bounding box of what any of the masks holds, with a margin, inside the picture."""
    height, width = masks[0].shape
    boxes = np.array([cv2.boundingRect(mask) for mask in masks])
    (left, top), (right, bottom) = boxes[:, :2].min(axis=0), (boxes[:, :2] + boxes[:, 2:]).max(axis=0)
    rows = slice(max(0, int(top) - WINDOW_MARGIN), min(height, int(bottom) + WINDOW_MARGIN))
    columns = slice(max(0, int(left) - WINDOW_MARGIN), min(width, int(right) + WINDOW_MARGIN))
    return rows, columns
