"""Rendering a fitted avatar frame by frame."""

from __future__ import annotations

import copy
from dataclasses import fields, replace

import cv2
import numpy as np
import torch
from torch import Tensor

from render.gaussians import Gaussians
from render.head_model import BonePose
from render.rasterize import RenderOutput
from talkinghead.avatar import Avatar
from talkinghead.compositing import BlendRegion, composite
from talkinghead.config import Device
from talkinghead.devices import device_for
from talkinghead.head_motion import source_pose

Window = tuple[slice, slice]
"""Rows and columns of the crop."""
WINDOW_MARGIN = 4
"""Pixels rendered around the wanted ones, so that resampling sees no black."""


class AvatarRenderer:
    """Draws an avatar, in the poses of its source clip or in others. The avatar itself is not changed.

    Frames are independent of one another and may be drawn by several threads at once. `region` says which part of each
    source frame `in_place` replaces.

    Args:
        device: "auto" takes the GPU if gsplat can run on it, else the processor.
        with_eyes: the region holds eyes and brows too.

    Raises:
        DeviceUnavailableError: see `talkinghead.devices.device_for`.
    """

    def __init__(self, avatar: Avatar, device: Device = "auto", with_eyes: bool = False) -> None:
        self._tracks = avatar.tracks
        self._crop = avatar.manifest.crop
        self._side = self._crop.resolution
        self._whole: Window = (slice(0, self._side), slice(0, self._side))
        self.region = BlendRegion(avatar, with_eyes)
        self._device = device_for(device)
        self._model = copy.deepcopy(avatar.model).to(self._device).requires_grad_(False)
        self._model.bake()
        self._camera = self._model.intrinsics.camera(device=self._device)
        background = torch.from_numpy(avatar.background).to(self._device)
        self._background = background.permute(2, 0, 1).float().div(255).contiguous()

    def free(self, frame: int, lower: np.ndarray, upper: np.ndarray | None = None) -> np.ndarray:
        """Head, neck and torso over the background plate, in the pose of source frame `frame`.

        Args:
            lower: [Kl] expression code of the lower face.
            upper: [Ku] expression code of the upper face; the source frame's own by default.

        Returns:
            uint8 [R, R, 3] RGB, the crop.
        """
        person = self._render(source_pose(self._tracks, frame), self._code(frame, lower, upper), self._whole)
        return to_uint8(person.over(self._background))

    def person(self, pose: BonePose, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
        """Head, neck and torso in any pose, with nothing behind.

        Args:
            lower: [Kl] expression code of the lower face.
            upper: [Ku] expression code of the upper face.

        Returns:
            uint8 [R, R, 4], the crop: RGB multiplied by alpha, and alpha.
        """
        person = self._render(pose, np.concatenate([lower, upper]), self._whole)
        return to_uint8(torch.cat([person.rgb, person.alpha[None]]))

    def in_place(
        self, frame: int, source: np.ndarray, lower: np.ndarray, upper: np.ndarray | None = None
    ) -> np.ndarray:
        """Source frame `frame` with mouth, chin and neck rendered into it; a frame without a face as it is.

        Args:
            source: [H, W, 3] uint8 RGB, not changed.
            lower: [Kl] expression code of the lower face.
            upper: [Ku] expression code of the upper face; the source frame's own by default.

        Returns:
            uint8 [H, W, 3].
        """
        if not self._tracks.found[frame]:
            return source
        mask = self.region.mask(frame)
        window = _window_around(mask)
        rendered = np.zeros((self._side, self._side, 3), np.uint8)  # only the window is looked at
        person = self._render(source_pose(self._tracks, frame), self._code(frame, lower, upper), window)
        rendered[window] = to_uint8(person.over(self._background[(slice(None), *window)]))
        return composite(source, rendered, self._crop, mask)

    @torch.inference_mode()
    def posed(self, frame: int, lower: np.ndarray) -> tuple[Gaussians, Gaussians]:
        """What is rasterized for source frame `frame`: face with body, and inside of the mouth."""
        return self._model.posed(self._bones(source_pose(self._tracks, frame)), self._tensor(self._code(frame, lower)))

    @torch.inference_mode()
    def _render(self, pose: BonePose, code: np.ndarray, window: Window) -> RenderOutput:
        """The person in a window of the crop."""
        rows, columns = window
        camera = replace(
            self._camera,
            cx=self._camera.cx - columns.start,
            cy=self._camera.cy - rows.start,
            width=columns.stop - columns.start,
            height=rows.stop - rows.start,
        )
        return self._model.render(self._bones(pose), self._tensor(code), camera)

    def _bones(self, pose: BonePose) -> BonePose:
        return BonePose(*(getattr(pose, bone.name).to(self._device) for bone in fields(BonePose)))

    def _code(self, frame: int, lower: np.ndarray, upper: np.ndarray | None = None) -> np.ndarray:
        return np.concatenate([lower, self._tracks.upper[frame] if upper is None else upper])

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self._device, torch.float32)


def to_uint8(picture: Tensor) -> np.ndarray:
    """A picture [C, H, W] in [0, 1], rounded and clipped to uint8 [H, W, C]; several times faster than in torch."""
    # convertScaleAbs takes the absolute value: of a blend of colours, none of which is negative.
    return cv2.merge([cv2.convertScaleAbs(plane, alpha=255) for plane in picture.cpu().numpy()])


def _window_around(mask: np.ndarray) -> Window:
    """The bounding box of what a mask holds, with a margin, inside the picture."""
    left, top, width, height = cv2.boundingRect(mask)
    rows = slice(max(0, top - WINDOW_MARGIN), min(mask.shape[0], top + height + WINDOW_MARGIN))
    columns = slice(max(0, left - WINDOW_MARGIN), min(mask.shape[1], left + width + WINDOW_MARGIN))
    return rows, columns
