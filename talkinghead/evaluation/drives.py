"""What moves the lips in each row: the clip's sound and its tracked expression, and the controls beside them.

A measure of lips that does not separate the sound from silence, or from the sound of another moment, says nothing.
"""

from __future__ import annotations

import numpy as np

from encoders.embedding import feature_track
from talkinghead.avatar import Avatar
from talkinghead.evaluation.instruments import Drive
from talkinghead.lip_fit import clip_features
from tools.audio import SAMPLE_RATE, read_audio

SHUFFLE_FRAMES = 37
"""The shuffled row hears the sound of this many frames earlier (the held-out part is a ring)."""
TRUTH, TRACKED, AUDIO, SHUFFLED, SILENCE, MEAN_FACE = (
    "ground_truth", "tracked", "audio", "shuffled", "silence", "mean_face",
)  # fmt: skip


def own_drives(avatar: Avatar, held_out: np.ndarray) -> list[Drive]:
    """The rows that say what the clip says, and those that do not although they are judged by it.

    Args:
        held_out: [T] numbers of the measured frames.
    """
    info = avatar.source_video()
    spoken = avatar.lips.predict(
        clip_features(info, avatar.encoder, avatar.embedding, avatar.manifest.sound_delay_frames)
    )[held_out]
    tracked = avatar.tracks.lower[held_out]
    samples = read_audio(info.path).samples[round(held_out[0] / info.fps * SAMPLE_RATE) :]
    nothing = np.zeros(round(len(held_out) / info.fps * SAMPLE_RATE), np.float32)
    silence = feature_track(nothing, avatar.encoder, avatar.embedding, info.fps, len(held_out))
    codes = {
        TRACKED: tracked,
        AUDIO: spoken,
        SHUFFLED: np.roll(spoken, SHUFFLE_FRAMES, axis=0),
        SILENCE: avatar.lips.predict(silence),
        MEAN_FACE: np.zeros_like(tracked),
    }
    return [Drive(name, lower, samples) for name, lower in codes.items()]
