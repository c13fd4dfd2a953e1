"""A film in which some lines are spoken anew: only their pictures change, and only around the mouth.

    subtitles, recordings -> slots -> new sound track ---------------------------\\
    film -> shots -> takes -> an avatar each -> pictures of the slots, redrawn -> film
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from encoders.errors import LipClipError, LipMotionFitError
from talkinghead.avatar import load_avatar
from talkinghead.config import DubOptions
from talkinghead.devices import ready_device
from talkinghead.dubbing.avatar_store import AvatarStore
from talkinghead.dubbing.redrawing import Redrawing, Role, SpokenRange, spoken_ranges
from talkinghead.dubbing.script import read_script
from talkinghead.dubbing.slots import slots
from talkinghead.errors import NoSpeakerError
from talkinghead.progress import Progress, relayed
from talkinghead.provenance import Finisher
from talkinghead.scratch_folder import scratch_folder
from tools.errors import OutputError, UnusableClipError
from tools.film import Film, probe_film
from tools.film_writer import RewriteSettings, rewrite_film
from tools.landmarks import landmark_detector
from tools.shots import find_shots
from tools.soundtrack import write_soundtrack
from tools.take_clip import write_take
from tools.takes import Take, group_takes, left_out

SOUND_NAME, TAKE_NAME = "sound.flac", "take.mp4"
SCRATCH_DIGITS = 12


@dataclass(frozen=True)
class DubbedFilm:
    """What became of a film."""

    frames: int
    redrawn: int
    """Pictures in which the mouth was exchanged."""
    notes: tuple[str, ...]


def dub_film(
    film: Path, subtitles: Path, audio_folder: Path, output: Path, avatars: AvatarStore, options: DubOptions
) -> Generator[Progress, None, DubbedFilm]:
    """Writes the film with the recordings of its lines in place of what was said there.

    From `EASE_S` before each slot to as long after it the mouth of the chosen face follows the recordings. Every camera
    set-up in which the face is seen then is learned as an avatar of its own, from all of its shots in the film. Where
    the face is not seen, or too short to be learned, pictures stay as they are. Everything else is passed through, see
    `tools.film_writer.rewrite_film`.

    Raises:
        ScriptError: see `talkinghead.dubbing.script.read_script`.
        NoSpeakerError: the face is nowhere seen long enough to be learned.
        UserError: other subclasses, about the film, the device and the output.
    """
    facts = probe_film(film)
    script = read_script(subtitles, audio_folder)
    duration_s = facts.video.frame_count / facts.video.fps
    spoken = slots(script, duration_s)
    notes = [*script.warnings, *(warning for slot in spoken for warning in slot.warnings)]
    yield from ready_device(options.device)
    ranges = spoken_ranges(spoken)
    with scratch_folder(_scratch_path(output)) as folder:
        roles = yield from _cast(facts, ranges, folder / TAKE_NAME, avatars, options, notes)
        finisher = Finisher(roles[0].avatar, [slot.audio for slot in spoken], output, options)
        sound = folder / SOUND_NAME
        yield Progress("sound", 0, 1)
        write_soundtrack(film, spoken, sound)
        yield Progress("sound", 1, 1)
        redrawing = Redrawing(facts.video, roles, ranges, spoken, options.mouth_gain)
        job = rewrite_film(
            facts,
            [spoken_range.times(duration_s) for spoken_range in ranges],
            redrawing,
            sound,
            folder / output.name,
            RewriteSettings(options.keep_original_sound, options.effort),
            finisher,
        )
        report = yield from relayed(job, lambda event: Progress("film", event.done, event.total))
        made = (folder / output.name).replace(folder.with_suffix(output.suffix))
    _rename(made, output)  # at the very end, so that where the film is, nothing else is left
    fps = facts.video.fps
    for role in roles:
        notes += (f"{role.take.where(fps)}: {finding}" for finding in role.avatar.manifest.findings)
    notes += (
        f"{float(start):.1f} to {float(stop):.1f} s: the face is not seen, or something is in front of the mouth: "
        "left as it was"
        for start, stop in redrawing.unseen()
    )
    notes += (*report.notes, *finisher.notes)
    return DubbedFilm(facts.video.frame_count, report.changed, tuple(notes))


def _scratch_path(output: Path) -> Path:
    """Where a film is made: on the disk of its output, under a name that is short enough whatever that one's is."""
    return output.with_name(f".dub-{hashlib.sha256(os.fsencode(output.name)).hexdigest()[:SCRATCH_DIGITS]}")


def _rename(made: Path, output: Path) -> None:
    try:
        made.replace(output)
    except OSError as error:
        made.unlink(missing_ok=True)
        raise OutputError(f"cannot write {output}: {error.strerror}") from error


def _cast(
    film: Film,
    ranges: Sequence[SpokenRange],
    clip: Path,
    avatars: AvatarStore,
    options: DubOptions,
    notes: list[str],
) -> Generator[Progress, None, list[Role]]:
    """An avatar for each set-up in which something is spoken anew, the one that is seen longest first; adds to `notes`
    what cannot be learned. clip: where the takes are put, one after another.

    Raises:
        NoSpeakerError: there is none.
    """
    info = film.video
    yield Progress("shots", 0, 1)
    shots = find_shots(info)
    with landmark_detector(options.landmarks, still=True) as detector:
        takes = [take for take in group_takes(info, shots, detector, options.face) if _is_spoken_in(film, take, ranges)]
    yield Progress("shots", 1, 1)
    notes += left_out(takes, info.fps)
    roles = []
    for number, take in enumerate([take for take in takes if take.is_usable(info.fps)], start=1):
        for done in write_take(info, take, clip):
            yield Progress(f"take {number}", done, len(take))
        try:
            job = avatars.avatar_for(clip, options.fit)
            folder = yield from relayed(job, lambda event, number=number: _named(event, f"take {number}"))
        except (UnusableClipError, LipClipError, LipMotionFitError) as error:
            notes.append(f"{take.where(info.fps)}: left as it was: {error}")
        else:
            roles.append(Role(take, load_avatar(folder), options.device))
    if not roles:
        raise NoSpeakerError(film.path, notes)
    return roles


def _is_spoken_in(film: Film, take: Take, ranges: Iterable[SpokenRange]) -> bool:
    fps = film.video.fps
    return any(
        shot.start / fps < spoken.stop and shot.stop / fps > spoken.start for shot in take.shots for spoken in ranges
    )


def _named(event: Progress, name: str) -> Progress:
    return Progress(f"{name}: {event.stage}", event.done, event.total, event.detail)
