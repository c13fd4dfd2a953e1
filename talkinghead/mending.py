"""What an avatar's Blend-Net changes in its pictures: around mouth and chin, in place and free.

In place it is given the footage with the render in it, and how much of every pixel is the render's. Free, it is given
the person over the plate of the footage, whatever is shown behind in the end, and the person's alpha: what it changes
is weighted by that, and alpha stays, so that with nothing behind the person has mended colours and the same outline.
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


class Mender:
    """A Blend-Net at work; several threads may use one.

    Args:
        device: where it computes.
    """

    def __init__(self, net: BlendNet, device: torch.device) -> None:
        self._net = net.to(device)
        self._device = device

    def in_place(self, frame: np.ndarray, crop: CropBox, mask: np.ndarray, mouth: np.ndarray) -> np.ndarray:
        """A source frame with a render in it, mended.

        Args:
            frame: [H, W, 3] uint8, as `talkinghead.compositing.composite` made it; not changed.
            mask: [R, R] uint8, weight of the render in the crop.
            mouth: [R, R] uint8, the same around mouth and chin alone.

        Returns:
            [H, W, 3] uint8; farther than REACH from `mouth` it is the frame bit for bit.
        """
        change = self._change(crop.cut(frame), mask, within_reach(mouth))
        result = frame.copy()
        place = result[crop.top : crop.top + crop.side, crop.left : crop.left + crop.side]
        cv2.add(place, resampled(change, crop.side), dst=place, dtype=cv2.CV_8U)
        return result

    def free(self, person: np.ndarray, mouth: np.ndarray) -> np.ndarray:
        """A person over the plate, mended.

        Args:
            person: [R, R, 4] uint8: RGB over the plate, and the person's alpha.
            mouth: [R, R] uint8, the region around mouth and chin.

        Returns:
            [R, R, 3] uint8 RGB.
        """
        picture, alpha = np.ascontiguousarray(person[..., :3]), np.ascontiguousarray(person[..., 3])
        return cv2.add(picture, self._change(picture, alpha, seen_within_reach(mouth, alpha)), dtype=cv2.CV_8U)

    def person(self, person: np.ndarray, plate: np.ndarray, mouth: np.ndarray) -> np.ndarray:
        """A person with nothing behind, mended: over the plate as `free`, but for rounding.

        Args:
            person: [R, R, 4] uint8: RGB multiplied by alpha, and alpha.
            plate: [R, R, 3] uint8 RGB.
            mouth: [R, R] uint8, the region around mouth and chin.

        Returns:
            [R, R, 4] uint8, with the same alpha.
        """
        alpha = np.ascontiguousarray(person[..., 3])
        change = self._change(over(person, plate), alpha, seen_within_reach(mouth, alpha))
        colors = cv2.add(np.ascontiguousarray(person[..., :3]), change, dtype=cv2.CV_8U)
        return cv2.merge([*(cv2.min(color, alpha) for color in cv2.split(colors)), alpha])

    @torch.inference_mode()
    def _change(self, picture: np.ndarray, share: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """What to add to a picture [R, R, 3]: int16 [R, R, 3]; share, weights: uint8 [R, R]."""
        change = np.zeros(picture.shape, np.int16)
        window = window_around(weights)
        if window is not None:
            residual = self._net(*network_inputs(picture[window], share[window], self._device))
            scaled = residual[0].permute(1, 2, 0) * torch.from_numpy(weights[window]).to(self._device)[..., None]
            change[window] = scaled.round().to(torch.int16).cpu().numpy()  # weights are of 255, as levels are
        return change


def within_reach(mouth: np.ndarray) -> np.ndarray:
    """How far each pixel may be changed, uint8 [R, R], of the region around mouth and chin: as soft, REACH larger."""
    return cv2.dilate(mouth, np.ones((2 * REACH + 1, 2 * REACH + 1), np.uint8))


def seen_within_reach(mouth: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The same of a person with alpha [R, R] uint8: what is behind is not changed."""
    return cv2.multiply(within_reach(mouth), alpha, scale=1 / 255)


def window_around(weights: np.ndarray) -> Window | None:
    """What a network must see of a picture to change it with weights [R, R]; None when there are none.

    Whole cells, counted from the picture's corner: what is said of a pixel does not depend on what else is in the
    window.
    """
    left, top, width, height = cv2.boundingRect(weights)
    if not width:
        return None
    rows, columns = (
        slice(max(0, first - CONTEXT) // FOLD * FOLD, min(side, -(-(last + CONTEXT) // FOLD) * FOLD))
        for first, last, side in zip((top, left), (top + height, left + width), weights.shape, strict=True)
    )
    return rows, columns


def network_inputs(picture: np.ndarray, share: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
    """A picture [h, w, 3] and the render's share of it [h, w], uint8, as a Blend-Net takes them."""
    pictures = torch.from_numpy(picture).to(device).permute(2, 0, 1)[None].float().div(255)
    return pictures, torch.from_numpy(share).to(device)[None, None].float().div(255)
