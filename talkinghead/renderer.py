"""Rendering a fitted avatar frame by frame."""

from __future__ import annotations

import copy
from dataclasses import replace

import cv2
import numpy as np
import torch
from torch import Tensor

from render.head_model import BonePose
from render.rasterize import Backend, available_backends
from talkinghead.avatar import Avatar


class AvatarRenderer:
    """Draws an avatar in the poses of its source clip. The avatar itself is not changed.

    Args:
        backend: rasterizer; "auto" takes the GPU if gsplat can run on it, else the processor.

    Raises:
        render.rasterize.BackendUnavailableError: on the first frame, if `backend` names one that cannot run here.
    """

    def __init__(self, avatar: Avatar, backend: Backend = "auto") -> None:
        self._tracks = avatar.tracks
        self._backend = backend
        self._device = _device_for(backend)
        self._model = copy.deepcopy(avatar.model).to(self._device).requires_grad_(False)
        self._model.bake()
        camera = self._model.intrinsics.camera()
        self._camera = replace(camera, world_to_camera=camera.world_to_camera.to(self._device))
        background = torch.from_numpy(avatar.background).to(self._device)
        self._background = background.permute(2, 0, 1).float().div(255).contiguous()

    @torch.inference_mode()
    def free(self, frame: int, lower: np.ndarray, upper: np.ndarray | None = None) -> np.ndarray:
        """Head, neck and torso over the background plate, in the pose of source frame `frame`.

        Args:
            lower: [Kl] expression code of the lower face.
            upper: [Ku] expression code of the upper face; the source frame's own by default.

        Returns:
            uint8 [R, R, 3] RGB, the crop.
        """
        upper = self._tracks.upper[frame] if upper is None else upper
        code = self._tensor(np.concatenate([lower, upper]))
        picture = self._model.render(self._pose(frame), code, self._camera, self._backend).over(self._background)
        return to_uint8(picture)

    def _pose(self, frame: int) -> BonePose:
        tracks = self._tracks
        return BonePose(
            self._tensor(tracks.head_rotations[frame]),
            self._tensor(tracks.head_translations[frame]),
            self._tensor(tracks.torso_rotations[frame]),
            self._tensor(tracks.torso_translations[frame]),
        )

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self._device, torch.float32)


def to_uint8(picture: Tensor) -> np.ndarray:
    """A picture [3, H, W] in [0, 1], rounded and clipped to uint8 [H, W, 3]; several times faster than in torch."""
    # convertScaleAbs takes the absolute value: of a blend of colours, none of which is negative.
    return cv2.merge([cv2.convertScaleAbs(plane, alpha=255) for plane in picture.cpu().numpy()])


def _device_for(backend: Backend) -> torch.device:
    gsplat = next(status for status in available_backends() if status.name == "gsplat")
    return torch.device("cuda" if backend in ("auto", "gsplat") and gsplat.usable else "cpu")
