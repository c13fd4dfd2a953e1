"""SyncNet as it is published: its layers, what it hears and sees, and LSE-C and LSE-D of what it says."""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.signal import medfilt
from torch import nn

from encoders.acoustic.weights import WeightsFile, weights_folder
from encoders.errors import EncoderWeightsError
from encoders.syncnet.clip import SyncNetClip
from encoders.syncnet.network import COEFFICIENTS, FRAMES, PICTURE_SIZE, STEPS, SYNCNET, SyncNet, load_syncnet
from encoders.syncnet.pictures import GREY, FaceStream, cut_face, face_box, shown_before
from encoders.syncnet.scores import UNKNOWN, sync_scores
from encoders.syncnet.sound import sound_windows, window_count

PUBLISHED_BYTES = 54_573_114
"""Size of syncnet_v2.model."""
RATE = 16_000


@pytest.fixture(scope="module")
def network() -> SyncNet:
    torch.manual_seed(0)
    return SyncNet().eval().requires_grad_(False)


def shapes_along(layers: nn.Sequential, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Of what comes out of every block (a convolution up to the next), for one input."""
    shapes, value = [], torch.zeros(1, *shape)
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.Conv3d):
            shapes.append(tuple(value.shape[1:]))
        value = layer(value)
    return [*shapes[1:], tuple(value.shape[1:])]


def test_the_layers_are_the_published_ones(network: SyncNet) -> None:
    assert shapes_along(network.sound_convolutions, (1, 13, 20)) == [
        (64, 13, 20), (192, 11, 9), (384, 11, 9), (256, 11, 9), (256, 5, 4), (512, 1, 1),
    ]  # fmt: skip
    assert shapes_along(network.picture_convolutions, (3, 5, 224, 224)) == [
        (96, 1, 54, 54), (256, 1, 13, 13), (256, 1, 13, 13), (256, 1, 13, 13), (256, 1, 6, 6), (512, 1, 1, 1),
    ]  # fmt: skip
    kernels = [layer.kernel_size for layer in network.picture_convolutions if isinstance(layer, nn.Conv3d)]
    assert kernels == [(5, 7, 7), (1, 5, 5), (1, 3, 3), (1, 3, 3), (1, 3, 3), (1, 6, 6)]


def test_the_published_file_has_room_for_these_numbers_and_their_names_only(network: SyncNet) -> None:
    """It was saved before batch normalisation counted its batches: 32-bit numbers, and about 120 bytes a tensor."""
    tensors = [value for name, value in network.state_dict().items() if "num_batches" not in name]
    spare = PUBLISHED_BYTES - sum(4 * tensor.numel() for tensor in tensors)
    assert 100 < spare / len(tensors) < 160


def test_both_branches_end_in_the_same_space_window_by_window(network: SyncNet) -> None:
    sounds = torch.randn(3, COEFFICIENTS, STEPS)
    pictures = 255 * torch.rand(2, 3, FRAMES, PICTURE_SIZE, PICTURE_SIZE)
    heard, seen = network.embed_sound(sounds), network.embed_pictures(pictures)
    assert heard.shape == (3, 1024) and seen.shape == (2, 1024)
    torch.testing.assert_close(network.embed_sound(sounds[1:2]), heard[1:2], rtol=1e-4, atol=1e-5)


def published_names(network: SyncNet) -> OrderedDict[str, torch.Tensor]:
    """The state as its file has it."""
    names = {
        "sound_convolutions": "netcnnaud", "sound_head": "netfcaud",
        "picture_convolutions": "netcnnlip", "picture_head": "netfclip",
    }  # fmt: skip
    parts = ((name.split(".", 1), tensor) for name, tensor in network.state_dict().items())
    return OrderedDict((f"{names[part]}.{rest}", value) for (part, rest), value in parts if "num_batches" not in rest)


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WeightsFile:
    """Where the weights belong, in an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    weights_folder().mkdir(parents=True)
    return SYNCNET


def saved(state: object, file: WeightsFile) -> WeightsFile:
    """A file in the old format that the published one has, with the hash that it is."""
    torch.save(state, file.path, _use_new_zipfile_serialization=False)
    return replace(file, sha256=hashlib.sha256(file.path.read_bytes()).hexdigest())


def test_weights_by_their_published_names_are_loaded(network: SyncNet, cached: WeightsFile) -> None:
    file = saved(published_names(network), cached)
    assert abs(cached.path.stat().st_size - PUBLISHED_BYTES) < 2000
    loaded = load_syncnet(file)
    sounds = torch.randn(2, COEFFICIENTS, STEPS)
    assert torch.equal(loaded.embed_sound(sounds), network.embed_sound(sounds)) and not loaded.training


def test_anything_but_the_published_weights_is_refused(network: SyncNet, cached: WeightsFile) -> None:
    with pytest.raises(EncoderWeightsError, match="download http"):
        load_syncnet()  # missing
    cached.path.write_bytes(b"half a file")
    with pytest.raises(EncoderWeightsError, match=r"has SHA-256 .* its publisher states 961e8696"):
        load_syncnet()
    state = published_names(network)
    state["netfcaud.3.weight"] = torch.zeros(256, 512)  # the paper's 256 outputs
    with pytest.raises(EncoderWeightsError, match="does not hold the weights of SyncNet"):
        load_syncnet(saved(state, cached))


def test_code_in_a_file_is_not_run_even_if_its_hash_is_right(cached: WeightsFile, tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return eval, (f"open({str(tmp_path / 'run')!r}, 'w')",)

    with pytest.raises(EncoderWeightsError, match="is no PyTorch checkpoint"):
        load_syncnet(saved({"netcnnaud.0.weight": Attack()}, cached))
    assert not (tmp_path / "run").exists()


def chirp(seconds: float) -> np.ndarray:
    t = np.arange(round(seconds * RATE)) / RATE
    return (0.25 * np.sin(2 * np.pi * (200 + 300 * t) * t)).astype(np.float32)


@pytest.mark.parametrize(
    ("window", "first", "last_step", "mean"),
    [
        (0, [17.7370, 23.2141, 14.9872, 10.0859, 5.0482], [18.5086, 34.0220, 19.9649], -4.875613),
        (63, [21.7748, -18.5, -49.1717, -12.6373, 24.8888], [21.8950, -7.2063, -37.0092], -0.198064),
        (64, [21.8037, -11.2743, -40.2569, -3.0289, 32.6063], [21.9224, -5.8035, -36.0162], 0.251064),
        (149, [23.2003, -17.2763, -11.3508, 28.1225, -39.7362], [23.2482, -35.4179, -0.2509], -1.369013),
    ],
)
def test_sound_windows_agree_with_python_speech_features(
    window: int, first: list[float], last_step: list[float], mean: float
) -> None:
    """Values of python_speech_features 0.6, mfcc(integers, 16000), on a chirp; windows of three chunks."""
    samples = chirp(6.2)
    windows = np.concatenate(list(sound_windows(samples, window_count(10_000, len(samples)))))
    assert windows.shape == (150, COEFFICIENTS, STEPS)
    assert windows[window, :5, 0] == pytest.approx(first, abs=1e-4)
    assert windows[window, :3, 19] == pytest.approx(last_step, abs=1e-4)
    assert windows[window].mean() == pytest.approx(mean, abs=1e-4)


def test_the_last_window_is_left_out_as_published() -> None:
    assert window_count(pictures=100, samples=100 * 640) == 95  # frames 0..94 begin windows; 95 would too
    assert window_count(100, 50 * 640 + 639) == 45 and window_count(4, 10**6) == 0


def test_the_square_around_a_face_is_the_published_one() -> None:
    rows, columns = np.indices((400, 300)).astype(np.uint8)  # wraps at 256: used below that
    picture = np.stack([rows, columns, np.full_like(rows, 7)], axis=2)
    face = cut_face(picture, (150.0, 120.0, 40.0))  # 80 to 192 from the top, 94 to 206 from the left: enlarged twice
    assert face.shape == (224, 224, 3) and (face[..., 0] == 7).all()  # blue first
    assert (face[0, 0, 2], face[-1, -1, 2]) == (80, 191) and (face[0, 0, 1], face[-1, -1, 1]) == (94, 205)


def test_beyond_the_picture_it_is_grey() -> None:
    face = cut_face(np.zeros((100, 100, 3), np.uint8), (50.0, 50.0, 50.0))  # 140 px: 20 more on each side, 40 below
    assert (face[:, :30] == GREY).all() and (face[170:] == GREY).all() and not face[:150, 40:180].any()


def test_the_box_holds_all_landmarks() -> None:
    assert face_box(np.array([[10.0, 20, 5], [40, 30, 5], [20, 60, 5]])) == (25.0, 40.0, 20.0)


def test_boxes_are_smoothed_as_by_scipys_median_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("encoders.syncnet.pictures.cut_face", lambda picture, box: np.array([picture[0], *box]))
    boxes = np.random.default_rng(0).uniform(20, 80, (31, 3))
    stream, out = FaceStream(), []
    for number, box in enumerate(boxes):
        out += stream.see(np.array([float(number)]), tuple(box))
    out += stream.finish()
    expected = np.column_stack([np.arange(31.0), *(medfilt(series, 13) for series in boxes.T)])
    assert np.array_equal(np.array(out), expected)


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001), Fraction(50), Fraction(12)])
def test_a_video_of_any_rate_is_seen_at_25_frames_a_second(fps: Fraction) -> None:
    counts = [shown_before(index, fps) for index in range(200)]
    assert counts[0] == 0
    for index in range(199):
        for shown in range(counts[index], counts[index + 1]):
            assert abs(index / fps - Fraction(shown, 25)) <= 1 / fps / 2  # the nearest
    if fps == 25:
        assert counts == list(range(200))


def by_hand(pictures: np.ndarray, sounds: np.ndarray) -> list[float]:
    """Mean distances for sounds 15 frames before to 15 after, by torch's own distance."""
    silent, means = np.zeros_like(sounds[0]), []
    for shift in range(-15, 16):
        others = [sounds[t + shift] if 0 <= t + shift < len(sounds) else silent for t in range(len(pictures))]
        distance = nn.functional.pairwise_distance(torch.from_numpy(pictures), torch.from_numpy(np.stack(others)))
        means.append(float(distance.mean()))
    return means


def test_lse_is_the_lowest_mean_distance_and_how_far_it_lies_below_the_median() -> None:
    random = np.random.default_rng(1)
    sounds = random.normal(size=(60, 1024)).astype(np.float32)
    pictures = (np.roll(sounds, 4, axis=0) + 0.3 * random.normal(size=(60, 1024))).astype(np.float32)  # 4 frames late
    scores, means = sync_scores(pictures, sounds), by_hand(pictures, sounds)
    assert scores.offset == 4 and int(np.argmin(means)) == 11
    assert scores.distance == pytest.approx(min(means), rel=1e-5)
    assert scores.confidence == pytest.approx(float(np.median(means)) - min(means), rel=1e-5)
    with pytest.raises(ValueError, match="as many"):
        sync_scores(pictures, sounds[1:])


class Brightness(SyncNet):
    """Embeds a window's pictures as the brightness in their middle, a sound as its energy: what it sees can be told."""

    def __init__(self) -> None:
        nn.Module.__init__(self)

    def embed_pictures(self, windows: torch.Tensor) -> torch.Tensor:
        assert windows.shape[1:] == (3, FRAMES, PICTURE_SIZE, PICTURE_SIZE)
        return windows[:, 0, :, PICTURE_SIZE // 3, PICTURE_SIZE // 2]

    def embed_sound(self, windows: torch.Tensor) -> torch.Tensor:
        return windows[:, 0, ::4]


def blinking(fps: Fraction, seconds: int) -> tuple[SyncNetClip, np.ndarray, np.ndarray]:
    """A clip whose face is as bright as its sound is loud, at random from frame to frame; and samples, loudness."""
    random = np.random.default_rng(2)
    loudness = random.uniform(4, 18, 25 * seconds)  # as c0 of its frames, about
    noise = random.normal(size=16_000 * seconds)
    samples = noise * np.repeat(np.exp(loudness / 2), 640)
    samples = (samples / 32768 / 100).astype(np.float32)
    clip = SyncNetClip(Brightness(), fps)
    face = np.array([[20.0, 20], [80, 90]])
    for index in range(int(seconds * fps)):
        level = loudness[min(int(index * 25 / fps), 25 * seconds - 1)]
        clip.see(index, np.full((100, 100, 3), round(10 * level), np.uint8), face)
    return clip, samples, loudness


def test_pictures_and_sound_of_a_clip_meet_at_the_same_time() -> None:
    clip, samples, loudness = blinking(Fraction(25), 4)
    scores = clip.scores(samples)
    assert scores.offset == 0 and scores.confidence > 1
    seen = np.concatenate(clip._embeddings)
    assert len(seen) == 96 and np.abs(seen[:, 0] - np.round(10 * loudness[:96])).max() <= 1  # a window at each frame


def test_missing_frames_and_faces_do_not_shift_the_rest() -> None:
    clip = SyncNetClip(Brightness(), Fraction(25))
    face = np.array([[20.0, 20], [80, 90]])
    for index in range(3, 40):
        if index in (10, 11):
            continue
        clip.see(index, np.full((100, 100, 3), index, np.uint8), None if index in (3, 20) else face)
    clip.scores(chirp(2))
    assert np.concatenate(clip._embeddings)[:, 0].tolist() == [4.0] * 5 + [*range(5, 10), 9, 9, *range(12, 36)]


def test_what_is_too_short_or_shows_no_face_has_no_scores(network: SyncNet) -> None:
    clip = SyncNetClip(network, Fraction(25))
    assert clip.scores(chirp(1)) is UNKNOWN
    for index in range(6):
        clip.see(index, np.zeros((50, 50, 3), np.uint8), np.array([[20.0, 20], [40, 40]]))
    assert clip.scores(chirp(1)) is UNKNOWN and math.isnan(UNKNOWN.distance)
