"""The pictures of a film in which something is spoken anew, with other mouths.

Lips ease in and out: first the render of the film's own expression fades in over the source, which it resembles, then
the lips leave the film's expression for that of the recording; and back in the opposite order. So no two different
mouths are ever seen through one another.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import groupby
from math import ceil, floor

import numpy as np

from talkinghead.avatar import Avatar
from talkinghead.config import Device
from talkinghead.dubbing.slots import Slot
from talkinghead.renderer import AvatarRenderer, DrivenFrame
from talkinghead.speak import AUDIO_BLOCK_S, lip_codes_of
from tools.film_pictures import FilmPicture
from tools.inserts import Insert, speech_blocks
from tools.shots import Shot
from tools.takes import Take
from tools.video import VideoInfo

EASE_S = Fraction(6, 25)
"""From the film's own picture to new speech; the first half fades, the second moves the lips."""


@dataclass(frozen=True)
class SpokenRange:
    """Where pictures follow recordings, slots and their easing: seconds on the film's time axis."""

    start: Fraction
    stop: Fraction

    def times(self, film_duration: Fraction) -> tuple[Fraction, Fraction]:
        """The part of it that the film has."""
        return max(self.start, Fraction(0)), min(self.stop, film_duration)

    def eased(self, time: Fraction) -> tuple[float, float]:
        """Opacity of the render, and the share of the recording's expression in it, 0 to 1 each."""
        inside = float(min(time - self.start, self.stop - time) / EASE_S)
        share = float(np.clip(2 * inside - 1, 0, 1))
        return float(np.clip(2 * inside, 0, 1)), share * share * (3 - 2 * share)


def spoken_ranges(slots: Sequence[Slot]) -> tuple[SpokenRange, ...]:
    """Slots with their easing; those whose easings would touch are one."""
    found: list[SpokenRange] = []
    for slot in slots:
        start, stop = slot.start - EASE_S, slot.end + EASE_S
        if found and start <= found[-1].stop:
            found[-1] = replace(found[-1], stop=max(found[-1].stop, stop))
        else:
            found.append(SpokenRange(start, stop))
    return tuple(found)


class Role:
    """A camera set-up, and the person as seen by it."""

    def __init__(self, take: Take, avatar: Avatar, device: Device) -> None:
        self.take, self.avatar = take, avatar
        self.renderer = AvatarRenderer(avatar, device)


@dataclass(frozen=True, eq=False)
class _Seen:
    """A picture to be redrawn, or without a role to be left as it is."""

    picture: np.ndarray
    role: Role | None
    frame: DrivenFrame | None


class Redrawing:
    """What `tools.film_writer.rewrite_film` asks for.

    Args:
        inserts: the recordings on the film's time axis.
        mouth_gain: as in `SpeakConfig`.
    """

    def __init__(
        self,
        video: VideoInfo,
        roles: Sequence[Role],
        ranges: Sequence[SpokenRange],
        inserts: Sequence[Insert],
        mouth_gain: float,
    ) -> None:
        self._video, self._ranges, self._inserts, self._mouth_gain = video, ranges, inserts, mouth_gain
        numbered = [(shot, role, first) for role in roles for shot, first in _places(role.take)]
        self._shots = sorted(numbered, key=lambda entry: entry[0])
        self._heard: tuple[SpokenRange, Role, np.ndarray] | None = None

    def __call__(self, pictures: Iterator[FilmPicture]) -> Iterator[np.ndarray]:
        """Redraws pictures that come in order."""
        for role, group in groupby(map(self._seen, pictures), key=lambda seen: seen.role):
            if role is None:
                yield from (seen.picture for seen in group)
            else:
                yield from role.renderer.stream(role.renderer.in_place, (seen.frame for seen in group))

    def unseen(self) -> list[tuple[Fraction, Fraction]]:
        """Where there is new speech in a shot with the face, which cannot be redrawn: seconds."""
        fps, found = self._video.fps, []
        for shot, role, first in self._shots:
            is_seen = role.avatar.tracks.found[first : first + len(shot)]
            for frame in np.flatnonzero(~is_seen) + shot.start:
                start, stop = Fraction(int(frame)) / fps, Fraction(int(frame) + 1) / fps
                if not any(one.start < stop and start < one.stop for one in self._ranges):
                    continue
                if found and found[-1][1] == start:
                    start = found.pop()[0]
                found.append((start, stop))
        return found

    def _seen(self, picture: FilmPicture) -> _Seen:
        frame = min(round(picture.time * self._video.fps), self._video.frame_count - 1)
        place = bisect_right(self._shots, frame, key=lambda entry: entry[0].start) - 1
        if place < 0 or frame >= self._shots[place][0].stop:
            return _Seen(picture.rgb, None, None)
        shot, role, first = self._shots[place]
        number = first + frame - shot.start
        spoken = self._ranges[bisect_right(self._ranges, picture.time, key=lambda one: one.start) - 1]
        opacity, share = spoken.eased(picture.time)
        filmed = role.avatar.tracks.lower[number]
        lower = filmed + share * (self._code(spoken, role, frame) - filmed)
        return _Seen(picture.rgb, role, DrivenFrame(number, lower, picture=picture.rgb, opacity=opacity))

    def _code(self, spoken: SpokenRange, role: Role, frame: int) -> np.ndarray:
        """What a role's lips do with the recording in a frame of the film."""
        fps = self._video.fps
        start, stop = floor(spoken.start * fps), ceil(spoken.stop * fps) + 1
        if self._heard is None or self._heard[:2] != (spoken, role):
            sound = speech_blocks(self._inserts, start / fps, stop / fps, AUDIO_BLOCK_S)
            samples = (block.samples for block in sound)
            codes = np.stack(list(lip_codes_of(role.avatar, samples, stop - start, self._mouth_gain)))
            self._heard = spoken, role, codes
        return self._heard[2][frame - start]


def _places(take: Take) -> Iterator[tuple[Shot, int]]:
    """Each shot, and the frame of the take in which it begins."""
    return zip(take.shots, (0, *take.joints), strict=True)
