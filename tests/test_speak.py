"""Speaking: every length and format of audio, exact timing, and nothing left behind when it goes wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from media_samples import write_sound
from tiny_avatar import LOWER_CODES, SIDE, TinyClip, save_tiny_avatar

from talkinghead import speak as speak_module
from talkinghead.avatar import Avatar
from talkinghead.compositing import BlendRegion
from talkinghead.config import SpeakConfig
from talkinghead.progress import Progress
from talkinghead.renderer import AvatarRenderer
from talkinghead.speak import speak
from talkinghead.timeline import PingPong
from tools.audio import probe_audio, read_audio
from tools.errors import AudioTooShortError, MissingFileError, OutputError
from tools.tracked_clip import CropBox
from tools.video import VideoInfo, VideoWriter, probe, read_frames

LOUD_ENERGY = -5.0  # natural logarithm of power relative to the recording's own level


@pytest.fixture(scope="module")
def avatar(tmp_path_factory: pytest.TempPathFactory) -> Avatar:
    clip = TinyClip(width=120, height=96, crop=CropBox(left=20, top=10, side=80, resolution=SIDE), missing=(4,))
    return save_tiny_avatar(tmp_path_factory.mktemp("avatar"), clip)


def babble(duration: Fraction, rate: int, channels: int = 1) -> np.ndarray:
    """Noise that swells and fades four times a second, float32 [n, channels]."""
    count = round(duration * rate)
    noise = np.random.default_rng(0).normal(scale=0.1, size=(count, channels))
    return (noise * np.sin(4 * np.pi * np.arange(count) / rate)[:, None] ** 2).astype(np.float32)


def speak_to_end(avatar: Avatar, audio: Path, output: Path) -> list[Progress]:
    return list(speak(avatar, audio, output, SpeakConfig()))


@pytest.mark.parametrize(
    ("duration", "rate", "channels", "suffix"),
    [
        (Fraction(31, 100), 16_000, 1, ".wav"),  # shorter than the clip; 7.75 frames
        (Fraction(2), 44_100, 2, ".wav"),  # longer than the clip
        (Fraction(150, 100), 48_000, 2, ".flac"),  # exactly between two counts of frames
    ],
)
def test_every_length_and_format(
    avatar: Avatar, tmp_path: Path, duration: Fraction, rate: int, channels: int, suffix: str
) -> None:
    audio = tmp_path / f"audio{suffix}"
    layout, codec = ("mono", "stereo")[channels - 1], {".wav": "pcm_s16le", ".flac": "flac"}[suffix]
    write_sound(audio, babble(duration, rate, channels), rate, codec, layout)
    events = speak_to_end(avatar, audio, tmp_path / "out.mp4")
    frames = round(duration * 25)
    assert [event.done for event in events] == list(range(frames + 1))
    assert {event.total for event in events} == {frames}
    info, sound = probe(tmp_path / "out.mp4"), probe_audio(tmp_path / "out.mp4")
    assert (info.width, info.height, info.fps, info.frame_count) == (120, 96, 25, frames)
    assert (sound.sample_rate, sound.channels) == (rate, channels)
    assert abs(sound.duration_s - duration) < Fraction(1, 40), "AAC rounds up to frames of 1024 samples"


def test_outside_the_region_frames_are_the_source_bit_for_bit(
    avatar: Avatar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[np.ndarray] = []
    write = VideoWriter.write

    def watched(self: VideoWriter, frame: np.ndarray) -> None:
        written.append(frame.copy())
        write(self, frame)

    monkeypatch.setattr(VideoWriter, "write", watched)
    audio = write_sound(tmp_path / "audio.wav", babble(Fraction(2), 16_000), 16_000)
    speak_to_end(avatar, audio, tmp_path / "out.mp4")
    source, region = list(read_frames(avatar.source_video())), BlendRegion(avatar)
    timeline, crop = PingPong(20, Fraction(25)), avatar.manifest.crop
    assert len(written) == 50
    for frame, picture in enumerate(written):
        index = timeline[frame]
        outside = np.ones((96, 120), bool)
        rows, columns = np.nonzero(region.mask(index))
        scale = crop.side / crop.resolution
        top, bottom = crop.top + scale * (rows.min() - 2), crop.top + scale * (rows.max() + 3)
        left, right = crop.left + scale * (columns.min() - 2), crop.left + scale * (columns.max() + 3)
        outside[int(top) : int(bottom) + 1, int(left) : int(right) + 1] = False
        assert outside.mean() > 0.7
        assert np.array_equal(picture[outside], source[index][outside])
        assert np.array_equal(picture, source[index]) == (index == 4), "only a frame without a face is shown as it is"


def test_held_out_frames_are_not_shown(avatar: Avatar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    in_place = AvatarRenderer.in_place

    def watched(
        self: AvatarRenderer, frame: int, source: np.ndarray, lower: np.ndarray, upper: np.ndarray
    ) -> np.ndarray:
        drawn.append(frame)
        return in_place(self, frame, source, lower, upper)

    monkeypatch.setattr(AvatarRenderer, "in_place", watched)
    fitted = replace(avatar, manifest=replace(avatar.manifest, fitted_frames=12))
    audio = write_sound(tmp_path / "audio.wav", babble(Fraction(2), 16_000), 16_000)
    speak_to_end(fitted, audio, tmp_path / "out.mp4")
    assert set(drawn) == set(range(12))


def test_silence_closes_the_mouth(avatar: Avatar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[np.ndarray] = []
    in_place = AvatarRenderer.in_place

    def watched(
        self: AvatarRenderer, frame: int, source: np.ndarray, lower: np.ndarray, upper: np.ndarray
    ) -> np.ndarray:
        codes.append(lower)
        return in_place(self, frame, source, lower, upper)

    monkeypatch.setattr(AvatarRenderer, "in_place", watched)
    audio = write_sound(tmp_path / "audio.wav", np.zeros(16_000, np.float32), 16_000)
    speak_to_end(avatar, audio, tmp_path / "out.mp4")
    assert probe(tmp_path / "out.mp4").frame_count == 25
    assert np.abs(np.array(codes) - avatar.lips.closed_code).max() < 0.05 * np.ptp(avatar.lips.code_range)


class EnergyLips:
    """Stands in for a lip-motion predictor: the mouth is open where the sound is loud."""

    def predict_blocks(self, features: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for block in features:
            yield np.repeat(block[:, -2:-1] > LOUD_ENERGY, LOWER_CODES, axis=1).astype(np.float32)


def test_ten_minutes_stay_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bursts of noise at the beginning, in the middle and at the end; the picture brightens in the frame they begin in.
    A rate that is no whole number: rounding it would add up to 14 frames."""
    fps, rate = Fraction(24_000, 1001), 16_000
    avatar = replace(save_tiny_avatar(tmp_path, TinyClip(fps=fps)), lips=EnergyLips())

    def flash(self: AvatarRenderer, frame: int, source: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
        return np.full_like(source, 200 if lower[0] else 50)

    def blank(info: VideoInfo, order: Iterable[int]) -> Iterator[np.ndarray]:
        """Saves the time of reading footage that is not looked at."""
        return (np.zeros((info.height, info.width, 3), np.uint8) for _ in order)

    monkeypatch.setattr(AvatarRenderer, "in_place", flash)
    monkeypatch.setattr(speak_module, "frames_in_order", blank)
    onsets = [48, 7_000, 14_350]  # frames
    samples = np.zeros(600 * rate, np.float32)
    for onset in onsets:
        start = round(onset / fps * rate)
        samples[start : start + rate] = np.random.default_rng(onset).uniform(-0.5, 0.5, rate)
    audio, output = write_sound(tmp_path / "audio.wav", samples, rate), tmp_path / "out.mp4"
    speak_to_end(avatar, audio, output)

    bright = np.array([picture.mean() > 125 for picture in read_frames(probe(output))])
    heard = np.abs(read_audio(output).samples) > 0.1
    assert len(bright) == round(600 * fps) == 14_386
    first_bright = np.flatnonzero(bright[1:] & ~bright[:-1]) + 1
    assert len(first_bright) == len(onsets)
    for onset, frame in zip(onsets, first_bright, strict=True):
        window = slice(max(0, round((onset - 24) / fps * rate)), None)
        sound_s = (window.start + int(np.argmax(heard[window]))) / rate
        assert abs(sound_s - frame / fps) < 1 / fps / 2


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "audio.wav")


@pytest.mark.parametrize("existing", [False, True])
def test_what_goes_wrong_is_raised_and_leaves_nothing(
    avatar: Avatar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existing: bool
) -> None:
    def failing(
        self: AvatarRenderer, frame: int, source: np.ndarray, lower: np.ndarray, upper: np.ndarray
    ) -> np.ndarray:
        if frame == 7:
            raise MemoryError("no memory for frame 7")
        return source

    monkeypatch.setattr(AvatarRenderer, "in_place", failing)
    audio = write_sound(tmp_path / "audio.wav", babble(Fraction(1), 16_000), 16_000)
    output = tmp_path / "out.mp4"
    if existing:
        output.write_text("an earlier video")
    with pytest.raises(MemoryError, match="frame 7"):
        speak_to_end(avatar, audio, output)
    assert leftovers(tmp_path) == (["out.mp4"] if existing else [])
    assert not existing or output.read_text() == "an earlier video"


def test_closing_early_leaves_nothing(avatar: Avatar, tmp_path: Path) -> None:
    audio = write_sound(tmp_path / "audio.wav", babble(Fraction(12), 16_000), 16_000)
    events = speak(avatar, audio, tmp_path / "out.mp4")
    while next(events).done < 200:  # far more than the pipe to ffmpeg holds
        pass
    assert leftovers(tmp_path) != [], "it should be writing by now"
    events.close()
    assert leftovers(tmp_path) == []


def test_audio_of_less_than_half_a_frame_is_refused(avatar: Avatar, tmp_path: Path) -> None:
    audio = write_sound(tmp_path / "audio.wav", np.zeros(300, np.float32), 16_000)
    with pytest.raises(AudioTooShortError, match=r"lasts 0\.019 s"):
        speak_to_end(avatar, audio, tmp_path / "out.mp4")
    assert leftovers(tmp_path) == []


def test_a_missing_folder_or_file_is_found_before_any_work(
    avatar: Avatar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speak_module, "AvatarRenderer", None)
    audio = write_sound(tmp_path / "audio.wav", babble(Fraction(1), 16_000), 16_000)
    with pytest.raises(OutputError, match="create it first"):
        speak_to_end(avatar, audio, tmp_path / "nowhere" / "out.mp4")
    with pytest.raises(MissingFileError):
        speak_to_end(avatar, tmp_path / "nothing.wav", tmp_path / "out.mp4")
    assert leftovers(tmp_path) == []
