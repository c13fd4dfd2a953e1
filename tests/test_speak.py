"""Speaking: every length and format of audio, exact timing, and nothing left behind when it goes wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from media_samples import write_sound
from tiny_avatar import LOWER_CODES, SIDE, TinyClip, save_tiny_avatar

from talkinghead import renderer as renderer_module
from talkinghead import speak as speak_module
from talkinghead.acting import NO_BLINKS
from talkinghead.avatar import Avatar
from talkinghead.backgrounds import over
from talkinghead.compositing import BlendRegion
from talkinghead.config import SpeakConfig
from talkinghead.errors import BackgroundError, PoseFileError
from talkinghead.progress import Progress
from talkinghead.renderer import AvatarRenderer, DrivenFrame
from talkinghead.speak import speak
from talkinghead.timeline import PingPong
from tools.audio import probe_audio, read_audio
from tools.errors import AudioTooShortError, MissingFileError, OutputError
from tools.tracked_clip import CropBox, resampled
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


@pytest.mark.parametrize("background", ["source", "plate"])
def test_in_batches_it_is_the_same_video(
    background: str, avatar: Avatar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: 28 frames are no whole number of batches, and one of the source's has no face."""
    audio = write_sound(tmp_path / "audio.wav", babble(Fraction(28, 25), 16_000), 16_000)
    written: dict[int, list[np.ndarray]] = {1: [], 5: []}
    write = VideoWriter.write
    for size, pictures in written.items():

        def watched(self: VideoWriter, frame: np.ndarray, pictures: list[np.ndarray] = pictures) -> None:
            pictures.append(frame.copy())
            write(self, frame)

        monkeypatch.setattr(VideoWriter, "write", watched)
        monkeypatch.setattr(renderer_module, "batch_size_for", lambda device, side, size=size: size)
        events = list(speak(avatar, audio, tmp_path / f"{size}.mp4", SpeakConfig(background=background)))
        assert [event.done for event in events] == list(range(29))
    for one, batched in zip(written[1], written[5], strict=True):
        difference = np.abs(one.astype(int) - batched)
        assert difference.max() <= 1 and (difference > 0).mean() < 0.01


def test_held_out_frames_are_not_shown(avatar: Avatar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    in_place = AvatarRenderer.in_place

    def watched(self: AvatarRenderer, frames: Sequence[DrivenFrame]) -> list[np.ndarray]:
        drawn.extend(frame.number for frame in frames)
        return in_place(self, frames)

    monkeypatch.setattr(AvatarRenderer, "in_place", watched)
    fitted = replace(avatar, manifest=replace(avatar.manifest, fitted_frames=12))
    audio = write_sound(tmp_path / "audio.wav", babble(Fraction(2), 16_000), 16_000)
    speak_to_end(fitted, audio, tmp_path / "out.mp4")
    assert set(drawn) == set(range(12))


def test_silence_closes_the_mouth(avatar: Avatar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[np.ndarray] = []
    in_place = AvatarRenderer.in_place

    def watched(self: AvatarRenderer, frames: Sequence[DrivenFrame]) -> list[np.ndarray]:
        codes.extend(frame.lower for frame in frames)
        return in_place(self, frames)

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

    def flash(self: AvatarRenderer, frames: Sequence[DrivenFrame]) -> list[np.ndarray]:
        return [np.full_like(frame.picture, 200 if frame.lower[0] else 50) for frame in frames]

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
    def failing(self: AvatarRenderer, frames: Sequence[DrivenFrame]) -> list[np.ndarray]:
        if any(frame.number == 7 for frame in frames):
            raise MemoryError("no memory for frame 7")
        return [frame.picture for frame in frames]

    monkeypatch.setattr(AvatarRenderer, "in_place", failing)
    audio = write_sound(tmp_path / "audio.wav", babble(Fraction(1), 16_000), 16_000)
    output = tmp_path / "out.mp4"
    if existing:
        output.write_text("an earlier video")
    with pytest.raises(MemoryError, match="frame 7"):
        speak_to_end(avatar, audio, output)
    assert leftovers(tmp_path) == (["out.mp4"] if existing else [])
    assert not existing or output.read_text() == "an earlier video"


@pytest.mark.parametrize("batch", [1, 16])
def test_closing_early_leaves_nothing(
    batch: int, avatar: Avatar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renderer_module, "batch_size_for", lambda device, side: batch)
    audio = write_sound(tmp_path / "audio.wav", babble(Fraction(12), 16_000), 16_000)
    events = speak(avatar, audio, tmp_path / "out.mp4")
    while next(events).done < 200:  # far more than the pipe to ffmpeg holds
        pass
    assert leftovers(tmp_path) != [], "it should be writing by now"
    events.close()
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(("offset", "frames"), [(0.5, 60), (-0.5, 36), (0.1, 50)])
def test_an_offset_moves_sound_and_lips_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offset: float, frames: int
) -> None:
    """Of 2 s of sound at 24000/1001 frames/s the second is loud."""
    fps, rate, loud_s = Fraction(24_000, 1001), 44_100, 1 + offset
    avatar = replace(save_tiny_avatar(tmp_path, TinyClip(fps=fps)), lips=EnergyLips())
    opened: list[bool] = []

    def watched(self: AvatarRenderer, frames: Sequence[DrivenFrame]) -> list[np.ndarray]:
        opened.extend(bool(frame.lower[0]) for frame in frames)
        return [frame.picture for frame in frames]

    monkeypatch.setattr(AvatarRenderer, "in_place", watched)
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 2 * rate).astype(np.float32)
    samples[:rate] = 0
    audio, output = write_sound(tmp_path / "audio.wav", samples, rate), tmp_path / "out.mp4"
    list(speak(avatar, audio, output, SpeakConfig(audio_offset=offset)))
    assert len(opened) == probe(output).frame_count == frames == round((2 + Fraction(str(offset))) * fps)
    assert abs(opened.index(True) + 0.5 - loud_s * fps) <= 1.5 and all(opened[opened.index(True) + 2 :])
    heard = np.abs(read_audio(output).samples) > 0.1
    assert np.argmax(heard) / 16_000 == pytest.approx(loud_s, abs=0.002)


def test_audio_of_less_than_half_a_frame_is_refused(avatar: Avatar, tmp_path: Path) -> None:
    audio = write_sound(tmp_path / "audio.wav", np.zeros(300, np.float32), 16_000)
    with pytest.raises(AudioTooShortError, match=r"lasts 0\.019 s"):
        speak_to_end(avatar, audio, tmp_path / "out.mp4")
    with pytest.raises(AudioTooShortError, match=r"lasts 0\.019 s, of which --audio-offset leaves 0\.009 s"):
        list(speak(avatar, audio, tmp_path / "out.mp4", SpeakConfig(audio_offset=-0.01)))
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


# The whole person


def speak_freely(avatar: Avatar, folder: Path, name: str = "out.mp4", seconds: int = 1, **options: object) -> Path:
    audio = write_sound(folder / "audio.wav", babble(Fraction(seconds), 16_000), 16_000)
    list(speak(avatar, audio, folder / name, SpeakConfig(**options)))
    return folder / name


def test_over_a_colour_nothing_of_the_footage_is_left(
    avatar: Avatar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speak_module, "frames_in_order", None)
    info = probe(speak_freely(avatar, tmp_path, background="#00a0ff", crf=1, mouth_gain=0.0))
    assert (info.width, info.height, info.fps, info.frame_count, info.has_audio) == (80, 80, 25, 25, True)
    renderer = AvatarRenderer(avatar)
    color = np.full((80, 80, 3), (0, 160, 255), np.uint8)
    people = renderer.person([DrivenFrame(frame, avatar.lips.closed_code) for frame in range(12)])
    for person, picture in zip(people, read_frames(info, 0, 12), strict=True):
        assert np.abs(picture.astype(int) - over(resampled(person, 80), color)).mean() < 4


def test_over_the_plate_it_is_the_free_render(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    avatar = save_tiny_avatar(tmp_path)
    written: list[np.ndarray] = []
    monkeypatch.setattr(VideoWriter, "write", lambda self, frame: written.append(frame.copy()))
    with pytest.raises(OutputError, match="not one frame"):  # for none was written
        speak_freely(avatar, tmp_path, background="plate", mouth_gain=0.0)
    renderer = AvatarRenderer(avatar)
    for frame in (0, 7, 15):
        (free,) = renderer.free([DrivenFrame(frame, avatar.lips.closed_code)])
        assert np.abs(written[frame].astype(int) - free).max() <= 1


def test_no_mouth_gain_is_a_closed_mouth_and_more_is_in_proportion(
    avatar: Avatar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: dict[float, list[np.ndarray]] = {}
    person = AvatarRenderer.person
    for gain in (0.0, 0.5, 1.0, 2.0):
        codes = heard.setdefault(gain, [])

        def watched(
            self: AvatarRenderer, frames: Sequence[DrivenFrame], codes: list[np.ndarray] = codes
        ) -> list[np.ndarray]:
            codes.extend(frame.lower for frame in frames)
            return person(self, frames)

        monkeypatch.setattr(AvatarRenderer, "person", watched)
        speak_freely(avatar, tmp_path, background="plate", mouth_gain=gain)
    closed = avatar.lips.closed_code
    moved = {gain: np.sort(np.abs(np.array(codes) - closed).sum(axis=1)) for gain, codes in heard.items()}
    assert moved[0.0].max() == 0 and moved[1.0].max() > 0
    for gain in (0.5, 2.0):
        assert np.allclose(moved[gain], gain * moved[1.0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["out.mov", "out.webm", "frames/%06d.png"])
def test_transparency(avatar: Avatar, tmp_path: Path, name: str) -> None:
    path = speak_freely(avatar, tmp_path, name, background="alpha", pose="idle", blink="natural", seed=3)
    if name.endswith(".png"):
        files = sorted(path.parent.iterdir())
        assert [file.name for file in files] == [f"{index:06d}.png" for index in range(25)]
        picture = cv2.imread(str(files[0]), cv2.IMREAD_UNCHANGED)
        assert picture.shape == (80, 80, 4) and picture[..., 3].min() == 0 and picture[..., 3].max() == 255
        return
    info = probe(path)
    assert (info.width, info.height, info.frame_count, info.has_audio) == (80, 80, 25, True)


def test_a_crop_of_an_odd_side_gives_an_even_picture(tmp_path: Path) -> None:
    avatar = save_tiny_avatar(
        tmp_path, TinyClip(width=120, height=96, crop=CropBox(left=1, top=1, side=85, resolution=SIDE))
    )
    info = probe(speak_freely(avatar, tmp_path, background="white", pose="still"))
    assert (info.width, info.height) == (84, 84)


def test_closed_eyes_in_the_footage_are_covered(
    avatar: Avatar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    init = BlendRegion.__init__

    def watched(self: BlendRegion, avatar: Avatar, with_eyes: bool = False) -> None:
        asked.append(with_eyes)
        init(self, avatar, with_eyes)

    monkeypatch.setattr(BlendRegion, "__init__", watched)
    speak_freely(avatar, tmp_path)
    speak_freely(avatar, tmp_path, blink="off")
    assert asked == [False, True]


def test_notes_are_returned(avatar: Avatar, tmp_path: Path) -> None:
    audio = write_sound(tmp_path / "audio.wav", babble(Fraction(1), 16_000), 16_000)
    job = speak(avatar, audio, tmp_path / "out.mp4", SpeakConfig(blink="natural"))
    with pytest.raises(StopIteration) as finished:
        while True:
            next(job)
    assert finished.value.value == (NO_BLINKS,)


@pytest.mark.parametrize("options", [{"background": "purpel"}, {"background": "red", "pose": "none.csv"}])
def test_bad_choices_leave_nothing(avatar: Avatar, tmp_path: Path, options: dict[str, str]) -> None:
    with pytest.raises((BackgroundError, PoseFileError)):
        speak_freely(avatar, tmp_path, **options)
    assert leftovers(tmp_path) == []
