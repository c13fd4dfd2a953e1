"""From an avatar and driving audio to a video: sound -> speech features -> lip codes -> rendered faces -> mp4.

Every stage is a stream, so memory does not grow with the length of the audio, and the stages overlap.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from encoders.embedding import feature_blocks
from talkinghead.avatar import Avatar
from talkinghead.config import SpeakConfig
from talkinghead.pipelining import mapped, prefetched
from talkinghead.progress import Progress
from talkinghead.renderer import AvatarRenderer
from talkinghead.timeline import PingPong, frames_in_order
from tools.audio import frame_count, probe_audio, read_audio_blocks
from tools.errors import AudioTooShortError
from tools.video import EncodeSettings, VideoInfo, VideoWriter

AUDIO_BLOCK_S = 10.0
WAITING_FRAMES = 32
"""Decoded frames that may wait: as many as are read at once backwards, so that reading and rendering overlap."""
WAITING_CODE_BLOCKS = 1


@dataclass(frozen=True)
class _DrivenFrame:
    """What one frame of the output is made of."""

    index: int  # of the source frame
    source: np.ndarray  # [H, W, 3] uint8
    lower: np.ndarray  # [Kl] expression code of the lower face


def speak(avatar: Avatar, audio: Path, output: Path, config: SpeakConfig | None = None) -> Iterator[Progress]:
    """Writes a video in which the person says `audio`; a file of that name is replaced when the new one is complete.

    The video has round(duration * fps) frames of the source's size and rate; frame t is driven by the sound at
    (t + 0.5) / fps. The audio itself is muxed in as it is (see `tools.video.VideoWriter`). Poses come from the fitted
    frames, to and fro. A source frame without a face is shown as it is. When the iterator is closed before its end, or
    anything is raised, nothing is left behind.

    Yields:
        The frames written so far.

    Raises:
        AudioTooShortError: the audio lasts less than half a frame.
        UserError: other subclasses, about the audio, the avatar's footage and the output (see `tools.errors`).
        render.rasterize.BackendUnavailableError: the rasterizer asked for cannot run here.
    """
    config = config or SpeakConfig()
    fps = avatar.manifest.fps
    sound = probe_audio(audio)
    frames = frame_count(sound.duration_s, fps)
    if not frames:
        raise AudioTooShortError(
            f"{audio} lasts {float(sound.duration_s):.3f} s, less than half a frame: give longer speech"
        )
    source = avatar.source_video()
    with VideoWriter(output, source.width, source.height, fps, audio, _encode_settings(config, source)) as writer:
        yield Progress("speak", 0, frames)
        for done, picture in enumerate(_pictures(avatar, source, audio, frames, config), 1):
            writer.write(picture)
            yield Progress("speak", done, frames)


def _encode_settings(config: SpeakConfig, source: VideoInfo) -> EncodeSettings:
    return EncodeSettings(config.codec, config.crf, config.effort, source.output_matrix)


def _pictures(
    avatar: Avatar, source: VideoInfo, audio: Path, frames: int, config: SpeakConfig
) -> Iterator[np.ndarray]:
    """The frames of the output, uint8 [H, W, 3]."""
    renderer = AvatarRenderer(avatar, config.backend)
    driven = _driven_frames(avatar, source, audio, frames)
    return mapped(partial(_picture, renderer), driven, workers=os.cpu_count() or 1)


def _picture(renderer: AvatarRenderer, driven: _DrivenFrame) -> np.ndarray:
    return renderer.in_place(driven.index, driven.source, driven.lower)


def _driven_frames(avatar: Avatar, source: VideoInfo, audio: Path, frames: int) -> Iterator[_DrivenFrame]:
    timeline = PingPong(avatar.manifest.fitted_frames, avatar.manifest.fps)
    sources = prefetched(frames_in_order(source, map(timeline.__getitem__, range(frames))), WAITING_FRAMES)
    codes = prefetched(_lip_codes(avatar, audio, frames), WAITING_CODE_BLOCKS)
    lowers = (code for block in codes for code in block)
    for frame, picture, lower in zip(range(frames), sources, lowers, strict=True):
        yield _DrivenFrame(timeline[frame], picture, lower)


def _lip_codes(avatar: Avatar, audio: Path, frames: int) -> Iterator[np.ndarray]:
    """Blocks [n, Kl], `frames` rows in all."""
    samples = (block.samples for block in read_audio_blocks(audio, AUDIO_BLOCK_S))
    fps = avatar.manifest.fps
    return avatar.lips.predict_blocks(feature_blocks(samples, avatar.encoder, avatar.embedding, fps, frames))
