"""What of a video one avatar is made from: all of it, or its longest take."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from pathlib import Path

from talkinghead.progress import Progress
from tools.errors import UnusableClipError
from tools.landmarks import landmark_detector
from tools.shots import Shot, find_shots
from tools.take_clip import read_take_shots, write_take
from tools.takes import Take, group_takes, left_out
from tools.tracking import TrackingConfig
from tools.video import VideoInfo, probe

TAKE_NAME = "take.mp4"
NAMED_CUTS = 5


@dataclass(frozen=True)
class ChosenTake:
    """One continuous set-up."""

    info: VideoInfo
    """The video itself, or the clip of its take."""
    joints: tuple[int, ...]
    """Frames before which it was cut."""
    findings: tuple[str, ...]
    """What happened, in plain words."""


def choose_take(info: VideoInfo, config: TrackingConfig, folder: Path) -> Generator[Progress, None, ChosenTake]:
    """The part of a video that shows the face in one camera set-up for the longest time.

    A video without cuts, or in which all shots are of one set-up, is taken as it is; of any other, the take is written
    into `folder`. A clip that `tools.take_clip.write_take` wrote says itself where it is cut.

    Raises:
        UnusableClipError: no take is long enough.
        OutputError: the take cannot be written.
    """
    written = read_take_shots(info)
    if written is not None:
        return ChosenTake(info, tuple(accumulate(map(len, written[:-1]))), ())
    yield Progress("shots", 0, 1)
    shots = find_shots(info)
    if len(shots) == 1:
        return ChosenTake(info, (), ())
    with landmark_detector(config.landmarks, still=True) as detector:
        takes = group_takes(info, shots, detector, config.face)
    if takes and len(takes[0]) == info.frame_count:
        return ChosenTake(info, takes[0].joints, (_cuts_in_words(takes[0].joints, info.fps),))
    if not takes or not takes[0].is_usable(info.fps):
        reasons = "; ".join(left_out(takes, info.fps)[:1]) or "no shot shows the face"
        raise UnusableClipError(
            f"{info.path} is cut into {len(shots)} shots, and no camera shows the face for long enough ({reasons}): "
            "give a continuous take"
        )
    return (yield from _write(info, shots, takes[0], folder / TAKE_NAME))


def _write(
    info: VideoInfo, shots: Sequence[Shot], take: Take, path: Path
) -> Generator[Progress, None, ChosenTake]:
    if not _holds(path, take):
        for done in write_take(info, take, path):
            yield Progress("take", done, len(take))
    used, whole = float(len(take) / info.fps), float(info.frame_count / info.fps)
    finding = (
        f"the clip is cut into {len(shots)} shots of several cameras: the avatar is made from the {used:.1f} of "
        f"{whole:.1f} s in which one of them shows the face longest ({_times(take, info.fps)})"
    )
    return ChosenTake(probe(path), take.joints, (finding,))


def _holds(path: Path, take: Take) -> bool:
    """Whether an earlier run wrote the same take."""
    return path.exists() and read_take_shots(probe(path)) == take.shots


def _times(take: Take, fps: Fraction) -> str:
    return _listed([f"{float(shot.start / fps):.1f} to {float(shot.stop / fps):.1f} s" for shot in take.shots])


def _cuts_in_words(joints: Sequence[int], fps: Fraction) -> str:
    times = _listed([f"{float(joint / fps):.1f} s" for joint in joints])
    return f"{len(joints)} cut(s) within one camera set-up, at {times}: tracking starts anew at each"


def _listed(items: Sequence[str]) -> str:
    more = f" and {len(items) - NAMED_CUTS} more" if len(items) > NAMED_CUTS else ""
    return ", ".join(items[:NAMED_CUTS]) + more
