"""What an avatar's Blend-Net changes in finished pictures: around mouth and chin, in place and free.

In place it is given the footage with the render in it, and how much of every pixel is the render's. Free, it is given
the person over the plate of the footage, whatever is shown behind in the end, and the person's alpha: what it changes
is weighted by that, and alpha stays, so that with nothing behind (`--background alpha`) the person has mended colours
and the same outline.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from render.blend_net import CONTEXT, FOLD, BlendNet
from talkinghead.backgrounds import over
from tools.tracked_clip import CropBox, resampled

Window = tuple[slice, slice]
"""Rows and columns of a picture."""
REACH = 4
"""Pixels of the crop by which what may be changed goes beyond the blended region."""
SIZE_STEP = 8 * FOLD
"""Of the windows that are looked at, px."""


class Mender:
    """A Blend-Net at work; several threads may use one.

    Args:
        device: where it computes.
    """

    def __init__(self, net: BlendNet, device: torch.device) -> None:
        self._net = net.to(device)
        self._device = device

    def in_place(self, frame: np.ndarray, crop: CropBox, mask: np.ndarray, mouth: np.ndarray) -> None:
        """Mends a source frame with a render in it; farther than REACH from `mouth` it stays bit for bit.

        Args:
            frame: [H, W, 3] uint8, as `talkinghead.compositing.composite` made it; changed.
            mask: [R, R] uint8, weight of the render in the crop.
            mouth: [R, R] uint8, the same around mouth and chin alone.
        """
        weights = within_reach(mouth)
        window = window_around(weights)
        if window is None:
            return
        place = frame[crop.top : crop.top + crop.side, crop.left : crop.left + crop.side]
        if crop.side == crop.resolution:
            _add(place[window], self._change(place[window], mask[window], weights[window]))
        else:
            change = np.zeros((crop.resolution, crop.resolution, 3), np.int16)
            change[window] = self._change(crop.cut(frame)[window], mask[window], weights[window])
            _add(place, resampled(change, crop.side))

    def over_plate(self, picture: np.ndarray, alpha: np.ndarray, mouth: np.ndarray) -> None:
        """Mends a person over the plate; what is behind the person stays.

        Args:
            picture: [R, R, 3] uint8 RGB; changed.
            alpha: [R, R] uint8, the person's.
            mouth: [R, R] uint8, the region around mouth and chin.
        """
        weights = seen_within_reach(mouth, alpha)
        if (window := window_around(weights)) is not None:
            _add(picture[window], self._change(picture[window], alpha[window], weights[window]))

    def alone(self, person: np.ndarray, plate: np.ndarray, mouth: np.ndarray) -> None:
        """Mends a person with nothing behind, who over the plate then looks as `over_plate` makes it, but for rounding.

        Args:
            person: [R, R, 4] uint8: RGB multiplied by alpha, and alpha; the colours are changed.
            plate: [R, R, 3] uint8 RGB.
            mouth: [R, R] uint8, the region around mouth and chin.
        """
        weights = seen_within_reach(mouth, cv2.extractChannel(person, 3))
        window = window_around(weights)
        if window is None:
            return
        colors, alpha = np.split(person[window], [3], axis=2)
        change = self._change(over(person[window], plate[window]), alpha[..., 0], weights[window])
        np.minimum(cv2.add(np.ascontiguousarray(colors), change, dtype=cv2.CV_8U), alpha, out=colors)

    @torch.inference_mode()
    def _change(self, picture: np.ndarray, share: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """What to add to a window [h, w, 3] of a picture: int16 [h, w, 3]; share, weights: uint8 [h, w]."""
        residual = self._net(*network_inputs(picture, share, self._device))[0].permute(1, 2, 0)
        scaled = residual * torch.from_numpy(weights).to(self._device)[..., None]  # of 255, as levels are
        return scaled.round_().to(torch.int16).cpu().numpy()


def _add(picture: np.ndarray, change: np.ndarray) -> None:
    """Adds int16 levels to uint8 ones where they are, from black to white at most."""
    picture[:] = cv2.add(np.ascontiguousarray(picture), change, dtype=cv2.CV_8U)


def within_reach(mouth: np.ndarray) -> np.ndarray:
    """How far each pixel may be changed, uint8 [R, R], of the region around mouth and chin: as soft, REACH larger."""
    return cv2.dilate(mouth, np.ones((2 * REACH + 1, 2 * REACH + 1), np.uint8))


def seen_within_reach(mouth: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The same of a person with alpha [R, R] uint8: what is behind is not changed."""
    return cv2.multiply(within_reach(mouth), alpha, scale=1 / 255)


def window_around(weights: np.ndarray) -> Window | None:
    """What a network must see of a picture to change it with weights [R, R]; None when there are none.

    It begins with a whole cell, counted from the picture's corner: what is said of a pixel does not depend on what else
    is in the window. Sizes come in steps of SIZE_STEP: torch prepares its convolutions anew for each that it has not
    met, which takes as long as they do.
    """
    left, top, width, height = cv2.boundingRect(weights)
    if not width:
        return None
    rows, columns = (
        _stretch(first - CONTEXT, last + CONTEXT, side)
        for first, last, side in zip((top, left), (top + height, left + width), weights.shape, strict=True)
    )
    return rows, columns


def _stretch(first: int, last: int, side: int) -> slice:
    start = max(0, first) // FOLD * FOLD
    return slice(start, min(side, start - (start - last) // SIZE_STEP * SIZE_STEP))


def network_inputs(picture: np.ndarray, share: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
    """A picture [h, w, 3] and the render's share of it [h, w], uint8, as a Blend-Net takes them."""
    pictures = torch.from_numpy(picture).to(device).permute(2, 0, 1)[None].float().div(255)
    return pictures, torch.from_numpy(share).to(device)[None, None].float().div(255)
