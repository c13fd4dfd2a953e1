"""What moves the lips in each row: the clip's sound and its tracked expression, and the controls beside them.

A measure of lips that does not separate the sound from silence, or from the sound of another moment, says nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from encoders.embedding import feature_track
from encoders.features import SpeechFeatureTrack
from talkinghead.avatar import Avatar
from talkinghead.evaluation.instruments import Drive
from talkinghead.lip_fit import clip_features
from talkinghead.speak import lip_codes
from tools.audio import SAMPLE_RATE, read_audio, read_audio_blocks

SHUFFLE_FRAMES = 37
"""The shuffled row hears the sound of this many frames earlier, or of half a shorter held-out part (it is a ring)."""
RETRIEVAL_REACH = 5
"""Frames before and after one whose sound is compared with that of fitted frames, to retrieve the nearest."""
TRUTH, TRACKED, AUDIO, SHUFFLED, SILENCE, MEAN_FACE, RETRIEVAL = (
    "ground_truth", "tracked", "audio", "shuffled", "silence", "mean_face", "retrieval",
)  # fmt: skip
OWN_ROWS = (TRUTH, TRACKED, AUDIO, SHUFFLED, SILENCE, MEAN_FACE, RETRIEVAL)


def own_drives(avatar: Avatar, held_out: np.ndarray) -> list[Drive]:
    """The rows that say what the clip says, and those that do not although they are judged by it.

    Args:
        held_out: [T] numbers of the measured frames.
    """
    info = avatar.source_video()
    speech = clip_features(info, avatar.encoder, avatar.embedding, avatar.manifest.sound_delay_frames)
    spoken = avatar.lips.predict(speech)[held_out]
    tracked = avatar.tracks.lower[held_out]
    samples = read_audio(info.path).samples[round(held_out[0] / info.fps * SAMPLE_RATE) :]
    nothing = np.zeros(round(len(held_out) / info.fps * SAMPLE_RATE), np.float32)
    silence = feature_track(nothing, avatar.encoder, avatar.embedding, info.fps, len(held_out))
    fitted = np.flatnonzero(avatar.tracks.found[: avatar.manifest.fitted_frames])
    codes = {
        TRACKED: tracked,
        AUDIO: spoken,
        SHUFFLED: np.roll(spoken, shuffle_frames(len(held_out)), axis=0),
        SILENCE: avatar.lips.predict(silence),
        MEAN_FACE: np.zeros_like(tracked),
        RETRIEVAL: avatar.tracks.lower[fitted[nearest_sounding(speech, held_out, fitted)]],
    }
    delay = avatar.manifest.sound_delay_frames
    return [Drive(name, lower, samples, delay_frames=delay) for name, lower in codes.items()]


def shuffle_frames(count: int) -> int:
    """Frames by which the sound of a ring of `count` frames is shifted: no frame may be near its own sound again."""
    return min(SHUFFLE_FRAMES, count // 2)


def nearest_sounding(speech: SpeechFeatureTrack, wanted: np.ndarray, among: np.ndarray) -> np.ndarray:
    """For each frame the one that sounds most like it: the control that shows lips of this person which no map from
    sound to lips was needed for.

    Sounds are the embedding's columns, each divided by its standard deviation over `among`, over the
    `RETRIEVAL_REACH` frames to either side (the first and last frame of the clip stand for those beyond it); the
    nearest is that of least Euclidean distance.

    Args:
        wanted: [T] numbers of frames.
        among: [N] numbers of the frames to choose from.

    Returns:
        [T] places in `among`.
    """
    spread = speech.embedding[among].std(axis=0)
    columns = speech.embedding / np.where(spread > 0, spread, 1)
    reach = np.arange(-RETRIEVAL_REACH, RETRIEVAL_REACH + 1)

    def windows(frames: np.ndarray) -> np.ndarray:
        around = np.clip(frames[:, None] + reach, 0, len(columns) - 1)
        return columns[around].reshape(len(frames), -1)

    choice = windows(among)
    lengths = np.square(choice).sum(axis=1)
    return np.array([np.argmin(lengths - 2 * choice @ window) for window in windows(wanted)], int)


def cross_drives(avatar: Avatar, held_out: np.ndarray, sounds: Sequence[Path]) -> list[Drive]:
    """A row for each recording of something else, as in Speech2Lip's Testset III (arXiv 2309.04814, Sec. 5.2: another
    speaker and language) and SE4Lip's Table 4 (arXiv 2504.05803).

    As many frames as are held out, driven by the recording from its start; silence where it is shorter. A row is named
    after its file.

    Raises:
        UserError: a file cannot be read.
    """
    info = avatar.source_video()
    places = held_out - held_out[0]
    frames = int(places[-1]) + 1
    names, drives = list(OWN_ROWS), []
    for sound in sounds:
        names.append(_unused_name(sound.stem, names))
        codes = np.stack(list(lip_codes(avatar, sound, frames)))[places]
        samples = _beginning(sound, round(frames / info.fps * SAMPLE_RATE))
        drives.append(Drive(names[-1], codes, samples, has_truth=False))
    return drives


def _unused_name(name: str, taken: Sequence[str]) -> str:
    numbered = (f"{name}_{number}" for number in itertools.count(2))
    return next(new for new in itertools.chain([name], numbered) if new not in taken)


def _beginning(sound: Path, length: int) -> np.ndarray:
    """So many samples, no more are read; silence behind a shorter recording."""
    samples = next(read_audio_blocks(sound, length / SAMPLE_RATE)).samples
    return np.pad(samples, (0, length - len(samples)))
