"""A take as a video of its own, which says which frames of the film it holds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import ffmpeg

from tools.errors import OutputError
from tools.ffmpeg_process import FfmpegFailure, media_url, run
from tools.media import first_sound_track, open_media, sound_from_zero
from tools.shots import Shot
from tools.takes import Take
from tools.video import EncodeSettings, VideoInfo, VideoWriter, read_frames
from tools.video_writer import temporary_sibling

VISUALLY_LOSSLESS_CRF = 8
FRAMES_TAG = "comment"
FRAMES_NOTE = "frames of the film:"
_NUMBER = "[0-9]{1,12}"
_RANGE = f"{_NUMBER}-{_NUMBER}"


def write_take(info: VideoInfo, take: Take, output: Path) -> Iterator[int]:
    """Writes the pictures of a take's shots one after another as an MP4 file, with the sound of exactly these pictures.

    Pictures are encoded visually lossless, the sound as FLAC: samples are those of the film from
    `round(start / fps * rate)` to `round(stop / fps * rate)` of every shot, with silence where the film has none. The
    numbers of the frames go into the file's metadata (see `read_take_shots`). A file of that name is replaced when the
    new one is complete; nothing is left behind when the iterator is closed earlier.

    Yields:
        The pictures written so far.

    Raises:
        OutputError: it cannot be written.
        DamagedMediaError: the film cannot be decoded.
    """
    settings = EncodeSettings(crf=VISUALLY_LOSSLESS_CRF, color_matrix=info.output_matrix)
    sound = temporary_sibling(output, ".flac") if info.has_audio else None
    done = 0
    try:
        if sound is not None:
            _write_sound(info, take.shots, sound)
        with VideoWriter(
            output, info.width, info.height, info.fps, sound, settings, lambda path: _tag(path, take.shots)
        ) as writer:
            for shot in take.shots:
                for frame in read_frames(info, shot.start, len(shot)):
                    writer.write(frame)
                    yield (done := done + 1)
    finally:
        if sound is not None:
            sound.unlink(missing_ok=True)


def read_take_shots(info: VideoInfo) -> tuple[Shot, ...] | None:
    """The frames of the film, by shot, that a clip written by `write_take` holds; None for any other video."""
    with open_media(info.path) as container:
        text = container.metadata.get(FRAMES_TAG, "")
    if not re.fullmatch(rf"{FRAMES_NOTE}( {_RANGE})+", text):
        return None
    numbers = [int(number) for number in re.findall(_NUMBER, text)]
    shots = tuple(map(Shot, numbers[::2], numbers[1::2]))
    is_in_order = numbers == sorted(numbers) and all(shot.start < shot.stop for shot in shots)
    return shots if is_in_order and sum(map(len, shots)) == info.frame_count else None


def _write_sound(info: VideoInfo, shots: Sequence[Shot], path: Path) -> None:
    track = first_sound_track(info.path)
    whole = sound_from_zero(info.path, track, Fraction(0), track.sample_rate).filter("aformat", sample_fmts="s32")
    branches = whole.filter_multi_output("asplit", len(shots))
    parts = []
    for number, shot in enumerate(shots):
        start, stop = (round(place / info.fps * track.sample_rate) for place in (shot.start, shot.stop))
        cut = branches[number].filter("atrim", start_sample=start, end_sample=stop).filter("asetpts", "PTS-STARTPTS")
        parts.append(cut.filter("apad", whole_len=stop - start))
    output = ffmpeg.concat(*parts, v=0, a=1).output(media_url(path), acodec="flac", f="flac")
    try:
        run(output.global_args("-copyts").overwrite_output())
    except FfmpegFailure as failure:
        raise OutputError(f"cannot write the sound of a take beside {path.parent}: {failure}") from failure


def _tag(path: Path, shots: Sequence[Shot]) -> None:
    """Writes the numbers of the frames into an MP4 file."""
    text = " ".join([FRAMES_NOTE, *(f"{shot.start}-{shot.stop}" for shot in shots)])
    tagged = temporary_sibling(path, ".mp4")
    output = ffmpeg.input(media_url(path)).output(
        media_url(tagged), c="copy", f="mp4", strict=-2, movflags="+faststart", metadata=f"{FRAMES_TAG}={text}"
    )
    try:
        run(output.overwrite_output())
        tagged.replace(path)
    except FfmpegFailure as failure:
        raise OutputError(f"cannot write {path}: {failure}") from failure
    finally:
        tagged.unlink(missing_ok=True)
