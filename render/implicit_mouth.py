"""The inside of the mouth as a continuous function: from place, speech and time to colour, on a sheet in the head.

After Speech2Lip (arXiv 2309.04814, Sec. 4.2-4.3). A network draws the inside of the lips in one canonical view, where
no head moves (Eq. 1), and the pose of the head maps that picture into the observed one (Eq. 3-5). The paper's canonical
view is one of the frames, with a depth map that is learned beside the network. Here it is the head's own frame: the
picture lies on a plane as deep as the tracked mesh is at the inner lips, so the maps between the views are homographies
in closed form. Nothing is warped or filled, any camera can look at it, and gradients flow to the pose as well. The
paper learns from frames that are warped into the canonical view (Eq. 7); here the observed frames themselves teach,
through the same loss as the Gaussians, which leaves the face before the mouth in its place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from render.cameras import Camera
from render.rasterize import Backend, RenderOutput

PLACE_BANDS, TIME_BANDS = 5, 3
"""Octaves of the frequency encodings. The finest of a place has a period of 1/16 of the sheet's width, some six pixels
of a face that fills 512: finer ones show as a grid on teeth that are seldom seen. The finest of time has a quarter of
the clip."""
HIDDEN = 64
"""Width of the hidden layers."""
SOFT_EDGE = 0.15
"""The sheet fades in over this share of its half width and half height."""
LEAST_SEEN = 1 / 512
"""Where the face before it leaves less to see, half a grey level, nothing is drawn unless gradients are asked for."""
LEAST_FACING = 0.05
"""Cosine of the largest angle under which the sheet is drawn: beyond, and from behind, there is none."""
MIDDLE = 0.5
"""Time stamp where none is known: the middle of what was learned from."""


@dataclass(frozen=True)
class PosedSheet:
    """What one frame shows of an implicit mouth; a leading dimension of all tensors makes it B frames."""

    rotation: Tensor  # [3, 3] head to world
    translation: Tensor  # [3] head units
    code: Tensor  # [C] expression
    time: Tensor  # [] in [0, 1]


class LipField(nn.Module):
    """Place on the sheet, speech and time to colour (Speech2Lip Eq. 1): two hidden layers over encoded coordinates.

    Speech is the lip-motion code of the frame, the part of the expression code that moves the lower face: it is the
    bottleneck between sound and picture in this system, so what is tracked, heard, shuffled or silent all drives the
    colour through it. The paper gives no layers; the frequency encoding is NeRF's (arXiv 2003.08934, Eq. 4), and code
    and time enter the first layer, for all places alike. The last layer starts at zero: one colour everywhere.

    Args:
        reach: [C] in [0, 1], how much each code may matter: those of the lower face.
    """

    def __init__(self, reach: Tensor) -> None:
        super().__init__()
        self.register_buffer("reach", reach.clone())
        self.place_layer = nn.Linear(2 + 4 * PLACE_BANDS, HIDDEN)
        self.code_layer = nn.Linear(len(reach), HIDDEN, bias=False)
        self.time_layer = nn.Linear(1 + 2 * TIME_BANDS, HIDDEN, bias=False)
        self.hidden_layer = nn.Linear(HIDDEN, HIDDEN)
        self.output_layer = nn.Linear(HIDDEN, 3)
        nn.init.zeros_(self.output_layer.weight)
        nn.init.zeros_(self.output_layer.bias)

    def forward(self, places: Tensor, code: Tensor, time: Tensor) -> Tensor:
        """Colours [..., N, 3] in [0, 1] of places [..., N, 2], the same unit across and down, in which both are within
        [-1, 1], for codes [..., C] and time stamps [...]."""
        of_frame = self.code_layer(code * self.reach) + self.time_layer(encoded(time[..., None], TIME_BANDS))
        hidden = (self.place_layer(encoded(places, PLACE_BANDS)) + of_frame[..., None, :]).relu_()
        return torch.sigmoid(self.output_layer(self.hidden_layer(hidden).relu_()))


class ImplicitMouth(nn.Module):
    """A `LipField` on a plane across the mouth, parallel to the front of the head, that the head's bone carries.

    It lies under the face as the Gaussian mouth does, opaque but for its soft edge.

    Args:
        middle: [3] of the sheet, head units.
        half_size: [2] half its width and height, head units.
        reach: see `LipField`.
    """

    def __init__(self, middle: Tensor, half_size: Tensor, reach: Tensor) -> None:
        super().__init__()
        self.register_buffer("middle", middle.clone())
        self.register_buffer("half_size", half_size.clone())
        self.field = LipField(reach)

    @property
    def means(self) -> Tensor:
        """[1, 3] where its first colour is looked for, as that of a Gaussian is."""
        return self.middle[None]

    @property
    def color_logits(self) -> Tensor:
        """[1, 3] the colour that it starts with."""
        return self.field.output_layer.bias[None]

    def layer(
        self, posed: PosedSheet, front: RenderOutput, camera: Camera, backend: Backend, corners: torch.Generator | None
    ) -> RenderOutput:
        """The sheet alone, with nothing behind, differentiable in the network, the pose and the camera.

        Args:
            front: what is drawn over it. Without gradients nothing is drawn where it hides the sheet.
            backend: nothing is rasterized.
            corners: the colours of pixels are those of random rectangles around them (`sampling_grid`); None: those of
                their centres.
        """
        with torch.no_grad():
            facing = self._facing(posed, camera)
            rows, columns = self._window(posed, camera, facing)
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        if corners is not None:
            (down, weights_down), (across, weights_across) = (
                sampling_grid(part.start, part.stop, corners, posed.rotation) for part in (rows, columns)
            )
            drawn = self._drawn(posed, camera, torch.cartesian_prod(down, across))
            picture = weights_down @ drawn.unflatten(-1, (len(down), len(across))) @ weights_across.T
        elif torch.is_grad_enabled():
            picture = self._drawn(posed, camera, _centres(rows, columns, posed.rotation)).unflatten(-1, shape)
        else:
            seen = front.alpha[..., rows, columns].flatten(-2) < 1 - LEAST_SEEN
            chosen = torch.nonzero(seen.flatten(0, -2).any(0) if seen.dim() > 1 else seen)[:, 0]
            centres = _centres(rows, columns, posed.rotation)[chosen]
            picture = centres.new_zeros((*posed.translation.shape[:-1], 4, math.prod(shape)))
            picture[..., chosen] = self._drawn(posed, camera, centres)
            picture = picture.unflatten(-1, shape)
        picture = torch.where(facing[..., None, None, None], picture, 0)
        around = (columns.start, camera.width - columns.stop, rows.start, camera.height - rows.stop)
        return RenderOutput(
            functional.pad(picture[..., :3, :, :], around), functional.pad(picture[..., 3, :, :], around)
        )

    def places(self, posed: PosedSheet, camera: Camera, pixels: Tensor) -> Tensor:
        """Where the rays through pixels [N, 2] (down, across) meet the sheet: [..., N, 2] across and down in units of
        its half size (Eq. 3-5 for a plane: the inverse of the homography that projects it)."""
        across, down, middle = self._in_camera(posed, camera)
        rows = [torch.linalg.cross(down, middle), torch.linalg.cross(middle, across), torch.linalg.cross(across, down)]
        y, x = pixels.unbind(-1)
        rays = torch.stack([(x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy, torch.ones_like(x)], -1)
        homogeneous = rays @ torch.stack(rows, -1)
        return homogeneous[..., :2] / homogeneous[..., 2:]

    def _in_camera(self, posed: PosedSheet, camera: Camera) -> tuple[Tensor, Tensor, Tensor]:
        """From the sheet's middle to its right and lower edge, and the middle itself: [..., 3] in camera space."""
        turn, shift = camera.world_to_camera[:3, :3], camera.world_to_camera[:3, 3]
        axes = turn @ posed.rotation
        middle = (posed.rotation @ self.middle + posed.translation) @ turn.T + shift
        return axes[..., 0] * self.half_size[0], axes[..., 1] * self.half_size[1], middle

    def _facing(self, posed: PosedSheet, camera: Camera) -> Tensor:
        """bool [...]: whether the sheet turns its front to the camera, as a whole before it."""
        across, down, middle = self._in_camera(posed, camera)
        normal = functional.normalize(torch.linalg.cross(across, down), dim=-1)
        cosine = (normal * functional.normalize(middle, dim=-1)).sum(-1)
        return (cosine > LEAST_FACING) & (middle[..., 2] > across[..., 2].abs() + down[..., 2].abs())

    def _window(self, posed: PosedSheet, camera: Camera, facing: Tensor) -> tuple[slice, slice]:
        """The part of the picture that holds the sheet of all frames in which it faces the camera."""
        across, down, middle = self._in_camera(posed, camera)
        edges = torch.stack([middle + x * across + y * down for x in (-1, 1) for y in (-1, 1)], -2)[facing]
        if edges.numel() == 0:
            return slice(0, 0), slice(0, 0)
        x = (camera.fx * edges[..., 0] / edges[..., 2] + camera.cx).clamp(0, camera.width)
        y = (camera.fy * edges[..., 1] / edges[..., 2] + camera.cy).clamp(0, camera.height)
        top, bottom, left, right = torch.stack([y.min(), y.max(), x.min(), x.max()]).tolist()
        return slice(math.floor(top), math.ceil(bottom)), slice(math.floor(left), math.ceil(right))

    def _drawn(self, posed: PosedSheet, camera: Camera, pixels: Tensor) -> Tensor:
        """Premultiplied colour and alpha [..., 4, N] at pixels [N, 2]."""
        places = self.places(posed, camera, pixels)
        depth = ((1 - places.abs()) / SOFT_EDGE).clamp(0, 1)
        alpha = (depth * depth * (3 - 2 * depth)).prod(-1, keepdim=True)
        colors = self.field(places * (self.half_size / self.half_size.amax()), posed.code, posed.time)
        return torch.cat([alpha * colors, alpha], -1).transpose(-1, -2)


def encoded(values: Tensor, bands: int) -> Tensor:
    """Values [..., D] in [-1, 1] with sines and cosines of `bands` octaves: [..., D * (1 + 2 * bands)]."""
    octaves = math.pi * 2.0 ** torch.arange(bands, device=values.device).to(values)
    angles = (values[..., None] * octaves).flatten(-2)
    return torch.cat([values, angles.sin(), angles.cos()], -1)


def sampling_grid(first: int, last: int, generator: torch.Generator, like: Tensor) -> tuple[Tensor, Tensor]:
    """Where the rectangles around the pixels [first, last) of a row or column begin and end, and their weights.

    Speech2Lip's continuous sampling (Sec. 4.2, Eq. 2, whose formula is LIIF's, arXiv 2012.09161, Eq. 4): around each
    pixel a rectangle of random shape is drawn, and the pixel's colour is the mean of the colours at its four corners,
    each with the area of the part of the rectangle that is diagonally opposite. So the network is supervised at
    continuous places. Those areas are products of lengths, and a corner may serve four pixels: here neighbouring
    rectangles share their edges, which lie anywhere between the pixels' centres, and a picture takes as many
    evaluations of the network as it has pixels, not four times as many.

    Returns:
        Edges [last - first + 1] px and weights [last - first, last - first + 1]: their product with what is found at
        the edges, along both sides of a picture, is Eq. 2.
    """
    count = last - first
    random = torch.rand(count + 1, generator=generator, dtype=torch.float64)
    edges = torch.arange(first, last + 1, dtype=torch.float64) - 0.5 + random
    return edges.to(like), area_weights(edges, torch.arange(first, last) + 0.5).to(like)


def area_weights(edges: Tensor, centres: Tensor) -> Tensor:
    """[N, N + 1]: each centre [N] lies between two of the edges [N + 1]; the weight of one is the share of their
    distance that is on the side of the other."""
    before, after = centres - edges[:-1], edges[1:] - centres
    weights = torch.stack([after, before], 1) / (before + after)[:, None]
    every = torch.arange(len(centres))
    matrix = weights.new_zeros(len(centres), len(edges))
    matrix[every, every], matrix[every, every + 1] = weights.unbind(1)
    return matrix


def time_stamps(frames: np.ndarray, fitted_frames: int) -> np.ndarray:
    """Time stamps of source frames, float32 in [0, 1]: the frame's number over that of the last fitted one.

    Frames after that one, held out, have its stamp, for time that was never seen means nothing to the network. A frame
    of new audio has that of the source frame whose pose and picture it is drawn into.
    """
    return np.clip(np.asarray(frames) / max(1, fitted_frames - 1), 0, 1).astype(np.float32)


def _centres(rows: slice, columns: slice, like: Tensor) -> Tensor:
    """[N, 2] of the pixels in a window, down and across."""
    down, across = (torch.arange(part.start, part.stop, device=like.device) + 0.5 for part in (rows, columns))
    return torch.cartesian_prod(down.to(like), across.to(like))
