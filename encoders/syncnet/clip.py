"""A video with its sound, as SyncNet scores it: pictures come one by one, their embeddings are all that is kept."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import torch

from encoders.syncnet.network import FRAMES, SyncNet
from encoders.syncnet.pictures import SHORTEST, FaceBox, FaceStream, face_box, shown_before
from encoders.syncnet.scores import UNKNOWN, SyncScores, sync_scores
from encoders.syncnet.sound import sound_windows, window_count

_BATCH = 8  # windows


class SyncNetClip:
    """One face in one video."""

    def __init__(self, network: SyncNet, fps: Fraction) -> None:
        """Begins a clip.

        Args:
            network: from `load_syncnet`; clips may share it.
            fps: frames per second of the video, any.
        """
        self._network, self._fps = network, fps
        self._faces = FaceStream()
        self._last: tuple[np.ndarray, FaceBox] | None = None
        self._shown = 0  # pictures at 25 per second
        self._waiting: list[np.ndarray] = []  # faces that are not in as many windows yet as they will be
        self._embeddings: list[np.ndarray] = []

    def see(self, index: int, picture: np.ndarray, landmarks: np.ndarray | None) -> None:
        """Takes the next frame in.

        Where no face is found the last box stays, and where frames are missing the last frame; what comes before the
        first face is taken to look like it.

        Args:
            index: of the frame in the video, rising; 0 is shown when the sound begins.
            picture: RGB uint8 [H, W, 3].
            landmarks: [K, 2 or more] of the whole face, px; None where there is none.
        """
        if landmarks is not None:
            box = face_box(landmarks)
        elif self._last is not None:
            box = self._last[1]
        else:
            return
        self._show(self._last or (picture, box), until=shown_before(index, self._fps))
        self._last = picture, box
        self._show(self._last, until=shown_before(index + 1, self._fps))

    def scores(self, samples: np.ndarray) -> SyncScores:
        """The scores of what was seen, which ends with this, with the sound [N] in [-1, 1] at 16 kHz.

        `UNKNOWN` where less than SHORTEST pictures show a face, or the sound is as short.
        """
        count = window_count(self._shown, len(samples))
        if self._shown < SHORTEST or not count:
            return UNKNOWN
        for face in self._faces.finish():
            self._add(face)
        self._embed()
        with torch.inference_mode():
            sounds = [self._network.embed_sound(torch.from_numpy(part)) for part in sound_windows(samples, count)]
        return sync_scores(np.concatenate(self._embeddings)[:count], torch.cat(sounds).numpy())

    def _show(self, shown: tuple[np.ndarray, FaceBox], until: int) -> None:
        while self._shown < until:
            self._shown += 1
            for face in self._faces.see(*shown):
                self._add(face)

    def _add(self, face: np.ndarray) -> None:
        self._waiting.append(face)
        if len(self._waiting) == _BATCH + FRAMES - 1:
            self._embed()

    @torch.inference_mode()
    def _embed(self) -> None:
        if len(self._waiting) < FRAMES:
            return
        faces = np.stack(self._waiting).astype(np.float32)  # [n, H, W, 3]
        windows = np.lib.stride_tricks.sliding_window_view(faces, FRAMES, axis=0).transpose(0, 3, 4, 1, 2)
        embeddings = self._network.embed_pictures(torch.from_numpy(np.ascontiguousarray(windows)))
        self._embeddings.append(embeddings.numpy())
        self._waiting = self._waiting[1 - FRAMES :]
