"""From an avatar and driving audio to a video: sound -> speech features -> lip codes -> rendered faces -> video.

The person is shown in place, in the footage, or free, over any background (see `SpeakConfig`). Every stage is a stream,
so memory does not grow with the length of the audio, and the stages overlap.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from encoders.embedding import feature_blocks
from render.pipelining import prefetched
from talkinghead.acting import Actor, Performance
from talkinghead.avatar import Avatar
from talkinghead.backgrounds import background_picture, over, straight_alpha
from talkinghead.config import ALPHA, SpeakConfig
from talkinghead.devices import ready_device
from talkinghead.outputs import check_video_name
from talkinghead.progress import Progress
from talkinghead.provenance import Finisher
from talkinghead.renderer import AvatarRenderer, DrivenFrame
from talkinghead.timeline import PingPong, frames_in_order
from tools.audio import frame_count, probe_audio, read_audio_blocks
from tools.errors import AudioTooShortError
from tools.png_sequence import PNG_SUFFIX, PngSequenceWriter
from tools.tracked_clip import resampled
from tools.video import EncodeSettings, VideoInfo, VideoWriter
from tools.video_writer import Finish

AUDIO_BLOCK_S = 10.0
WAITING_FRAMES = 32
"""Decoded frames that may wait: as many as are read at once backwards, so that reading and rendering overlap."""
WAITING_CODE_BLOCKS = 1


def speak(
    avatar: Avatar, audio: Path, output: Path, config: SpeakConfig | None = None
) -> Generator[Progress, None, tuple[str, ...]]:
    """Writes a video in which the person says `audio`; a file of that name is replaced when the new one is complete.

    The video has round((duration + offset) * fps) frames at the source's rate (offset: see `SpeakConfig.audio_offset`);
    frame t is driven by what is heard at (t + 0.5) / fps.
    The audio itself is muxed in as it is (see `tools.video.VideoWriter`; PNG files have none). In place it has the
    source's size, poses come from the fitted frames, to and fro, and a source frame without a face is shown as it is.
    In free mode it is the square that was learned, at its size in the source but with an even side. It is marked as
    made by AI, see `talkinghead.provenance`. When the iterator is closed before its end, or anything is raised, nothing
    is left behind.

    Yields:
        The frames written so far.

    Returns:
        Notes for the user, such as that the footage lacks something that was asked for.

    Raises:
        AudioTooShortError: the audio, or what the offset leaves of it, lasts less than half a frame.
        UserError: other subclasses, about the audio, the avatar's footage, the background, the poses, the device,
            the output and its mark (see `tools.errors` and `talkinghead.errors`).
        render.rasterize.BackendUnavailableError: the GPU's kernels cannot be compiled.
    """
    config = config or SpeakConfig()
    check_video_name(output, config.background == ALPHA)
    fps = avatar.manifest.fps
    offset = config.exact_audio_offset
    frames = _frame_count(audio, offset, fps)
    finisher = Finisher(avatar, [audio], output, config)
    yield from ready_device(config.device)
    source = avatar.source_video()
    output_file = _writer(avatar, source, audio, output, config, finisher)
    actor = Actor(avatar, config, frames)
    show = _in_place if config.is_in_place else _free
    pictures = footage(avatar, source, frames) if config.is_in_place else itertools.repeat(None, frames)
    lowers = lip_codes(avatar, audio, frames, config.mouth_gain, offset)
    driven = itertools.starmap(_driven_frame, zip(actor.performances(), lowers, pictures, strict=True))
    shown = show(avatar, driven, config)
    with output_file as writer:
        yield Progress("speak", 0, frames)
        for done, picture in enumerate(shown, 1):
            writer.write(picture)
            yield Progress("speak", done, frames)
    return (*actor.notes, *finisher.notes)


def _frame_count(audio: Path, offset: Fraction, fps: Fraction) -> int:
    """
    Raises:
        AudioTooShortError: there is not half a frame to show.
    """
    sound_s = probe_audio(audio).duration_s
    duration_s = max(sound_s + offset, Fraction(0))
    frames = frame_count(duration_s, fps)
    if not frames:
        left = f", of which --audio-offset leaves {float(duration_s):.3f} s" if offset else ""
        raise AudioTooShortError(
            f"{audio} lasts {float(sound_s):.3f} s{left}, less than half a frame: give longer speech"
        )
    return frames


def _writer(
    avatar: Avatar, source: VideoInfo, audio: Path, output: Path, config: SpeakConfig, finish: Finish
) -> VideoWriter | PngSequenceWriter:
    if output.suffix.lower() == PNG_SUFFIX:
        return PngSequenceWriter(output, finish)
    side = free_side(avatar)
    width, height = (source.width, source.height) if config.is_in_place else (side, side)
    matrix, offset = source.output_matrix, config.exact_audio_offset
    settings = EncodeSettings(config.codec, config.crf, config.effort, matrix, offset)
    return VideoWriter(output, width, height, avatar.manifest.fps, audio, settings, finish)


def free_side(avatar: Avatar) -> int:
    """Side of the picture in free mode, px."""
    return max(2, avatar.manifest.crop.side // 2 * 2)


def _driven_frame(done: Performance, lower: np.ndarray, picture: np.ndarray | None) -> DrivenFrame:
    return DrivenFrame(done.source_frame, lower, done.upper, done.pose, picture)


def _in_place(avatar: Avatar, frames: Iterator[DrivenFrame], config: SpeakConfig) -> Iterator[np.ndarray]:
    """The pictures, uint8 [H, W, 3], in the footage."""
    renderer = AvatarRenderer(avatar, config.device, with_eyes=config.changes_upper_face)
    return renderer.stream(renderer.in_place, frames)


def _free(avatar: Avatar, frames: Iterator[DrivenFrame], config: SpeakConfig) -> Iterator[np.ndarray]:
    """The pictures over a background, uint8 [S, S, 3], or with straight alpha, [S, S, 4]."""
    side = free_side(avatar)
    background = background_picture(config.background, avatar.background, side)
    renderer = AvatarRenderer(avatar, config.device)

    def draw(batch: Sequence[DrivenFrame]) -> list[np.ndarray]:
        people = (resampled(person, side) for person in renderer.person(batch))
        return [straight_alpha(person) if background is None else over(person, background) for person in people]

    return renderer.stream(draw, frames)


def footage(avatar: Avatar, source: VideoInfo, frames: int) -> Iterator[np.ndarray]:
    """The source frames, uint8 [H, W, 3], to and fro."""
    timeline = PingPong(avatar.manifest.fitted_frames, avatar.manifest.fps)
    return prefetched(frames_in_order(source, map(timeline.__getitem__, range(frames))), WAITING_FRAMES)


def lip_codes(
    avatar: Avatar, audio: Path, frames: int, gain: float = 1.0, offset: Fraction = Fraction(0)
) -> Iterator[np.ndarray]:
    """The lower face's code [Kl] of every frame: what is heard, its distance from the closed mouth times `gain`.

    offset: seconds by which the audio is heard later, see `SpeakConfig.audio_offset`.
    """
    samples = (block.samples for block in read_audio_blocks(audio, AUDIO_BLOCK_S, offset))
    return lip_codes_of(avatar, samples, frames, gain)


def lip_codes_of(avatar: Avatar, samples: Iterator[np.ndarray], frames: int, gain: float = 1.0) -> Iterator[np.ndarray]:
    """`lip_codes` of mono sound at `tools.audio.SAMPLE_RATE`, which comes in blocks [N] of any length."""
    fps = avatar.manifest.fps
    blocks = avatar.lips.predict_blocks(feature_blocks(samples, avatar.encoder, avatar.embedding, fps, frames))
    for block in prefetched(blocks, WAITING_CODE_BLOCKS):
        yield from block if gain == 1 else avatar.lips.closed_code + gain * (block - avatar.lips.closed_code)
