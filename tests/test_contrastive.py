"""SE4Lip and PASE: the papers' layers and loss, windows of sound and lips, training, files."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_contrastive import FPS, TINY, made_up_clip
from torch import Tensor, nn

from encoders.contrastive.encoder_file import (
    Provenance,
    TrainedEncoder,
    build_encoder,
    load_encoder,
    save_encoder,
)
from encoders.contrastive.lip_clips import LIP_FRAMES, LIP_HEIGHT, LIP_WIDTH, LipClip, picture_indices
from encoders.contrastive.lip_encoder import TABLE_2, LipEncoder, stacked_pictures
from encoders.contrastive.losses import MARGIN, contrastive_loss, cosines, pair_accuracy, pair_loss
from encoders.contrastive.pase import PASE
from encoders.contrastive.retrieval import (
    TABLE_6,
    GridRow,
    RetrievalScores,
    candidate_sets,
    retrieval_scores,
    split_clip,
    table_6_row,
)
from encoders.contrastive.se4lip import EncoderConfig, SE4Lip
from encoders.contrastive.speech_embedding import ContrastiveEmbedding
from encoders.contrastive.speech_inputs import (
    SPECTROGRAMS,
    RowTiming,
    spectrogram_rows,
    window_blocks,
    windows_at_frames,
)
from encoders.contrastive.speech_paths import CNNPath, GRUPath, speech_path
from encoders.contrastive.training import ContrastiveTraining, train
from encoders.contrastive.windows import ClipWindows, WindowBatch, augmented, draw_batch
from encoders.errors import EncoderWeightsError, LipClipError, SpeechInputError
from encoders.phones import PHONES

TIMING = SPECTROGRAMS["stft"].timing
PAPER_TABLE_2 = """
Conv2d 15 32 7x7 1 3
Conv2d 32 64 5x5 (1,2) 1
ResidualBlock 64 64 3x3 1 1
ResidualBlock 64 64 3x3 1 1
Conv2d 64 128 3x3 2 1
ResidualBlock 128 128 3x3 1 1
ResidualBlock 128 128 3x3 1 1
Conv2d 128 256 3x3 2 1
ResidualBlock 256 256 3x3 1 1
Conv2d 256 512 3x3 2 1
ResidualBlock 512 512 3x3 1 1
Conv2d 512 512 3x3 2 1
Conv2d 512 512 3x3 (4,1) 0
Conv2d 512 512 1x1 1 0
"""
"""Table 2 as it is printed: type, input and output channels, kernel, stride, padding."""

OUTPUT_SIZES = [
    (48, 96), (46, 47), (46, 47), (46, 47), (23, 24), (23, 24), (23, 24), (12, 12), (12, 12), (6, 6), (6, 6), (3, 3),
    (1, 1), (1, 1),
]  # fmt: skip
"""Height and width behind every row, by hand: (size + 2 padding - kernel) // stride + 1."""

RECEPTIVE_FIELDS = [
    (7, 7), (11, 11), (13, 15), (15, 19), (17, 23), (21, 31), (25, 39), (29, 47), (37, 63), (45, 79), (61, 111),
    (77, 143), (109, 207), (109, 207),
]  # fmt: skip
"""Height and width in px behind every row, by hand: field + (kernel - 1) * product of the strides before."""


@pytest.fixture(scope="module")
def clip() -> LipClip:
    return made_up_clip()


@pytest.fixture(scope="module")
def windows(clip: LipClip) -> ClipWindows:
    phones = np.arange(len(clip)) % len(PHONES)
    return ClipWindows.of_spectrogram(clip, "stft", phones)


def _printed_rows() -> list[tuple[str, int, int, tuple[int, int], tuple[int, int], int]]:
    rows = []
    for line in PAPER_TABLE_2.split("\n")[1:-1]:
        kind, inputs, outputs, kernel, stride, padding = line.split()
        size = int(kernel[0])
        both = tuple(map(int, stride.strip("()").split(","))) if "(" in stride else (int(stride),) * 2
        rows.append((kind, int(inputs), int(outputs), (size, size), (both[0], both[1]), int(padding)))
    return rows


def test_the_lip_encoder_has_the_layers_of_table_2() -> None:
    blocks = LipEncoder().layers
    rows = _printed_rows()
    assert len(blocks) == len(rows) == 14
    for block, (kind, inputs, outputs, kernel, stride, padding) in zip(blocks, rows, strict=True):
        assert block.convolution.weight.shape == (outputs, inputs, *kernel)
        assert block.convolution.bias.shape == (outputs,)
        assert block.convolution.stride == stride
        assert block.convolution.padding == (padding, padding)
        assert block.residual == (kind == "ResidualBlock")


def test_output_sizes_along_table_2() -> None:
    x = torch.rand(1, 15, LIP_HEIGHT, LIP_WIDTH)
    encoder = LipEncoder().eval()
    with torch.inference_mode():
        for block, size in zip(encoder.layers, OUTPUT_SIZES, strict=True):
            x = block(x)
            assert tuple(x.shape[2:]) == size
        assert encoder(torch.rand(3, 15, LIP_HEIGHT, LIP_WIDTH)).shape == (3, 512)


@pytest.mark.parametrize("row", range(1, 12))
def test_receptive_fields_along_table_2(row: int) -> None:
    """What a change in one pixel reaches: measured on layers that pass everything on, on a picture large enough."""
    layers = []
    for layer in TABLE_2[: row + 1]:
        convolution = nn.Conv2d(1, 1, layer.kernel, layer.stride, padding=0)
        nn.init.ones_(convolution.weight)
        layers.append(convolution)
    height, width = RECEPTIVE_FIELDS[row]
    picture = torch.zeros(1, 1, height + 2, width + 2, requires_grad=True)
    nn.Sequential(*layers)(picture)[0, 0, 0, 0].backward()
    reached = torch.nonzero(picture.grad[0, 0])
    assert reached.max(dim=0).values.tolist() == [height - 1, width - 1]


def test_the_last_field_covers_the_whole_lower_face() -> None:
    assert RECEPTIVE_FIELDS[-1][0] >= LIP_HEIGHT and RECEPTIVE_FIELDS[-1][1] >= LIP_WIDTH


def test_pictures_are_stacked_by_frame_then_colour() -> None:
    mouths = torch.zeros(1, LIP_FRAMES, LIP_HEIGHT, LIP_WIDTH, 3, dtype=torch.uint8)
    mouths[0, 3, :, :, 1] = 255
    stacked = stacked_pictures(mouths)
    assert stacked.shape == (1, 15, LIP_HEIGHT, LIP_WIDTH)
    assert stacked[0].amax(dim=(1, 2)).nonzero().flatten().tolist() == [3 * 3 + 1]
    with pytest.raises(ValueError, match="expected uint8 mouths"):
        stacked_pictures(mouths[:, :4])


def test_the_papers_speech_path() -> None:
    """Sec. 5.1: eight layers of GRU on 257 bins; Eq. 1-4 have three matrices on input and state each."""
    path = SE4Lip.build(EncoderConfig()).speech.path
    assert isinstance(path, GRUPath)
    shapes = {name: tuple(weights.shape) for name, weights in path.recurrent.named_parameters()}
    assert path.recurrent.num_layers == 8 and not path.recurrent.bidirectional
    assert shapes["weight_ih_l0"] == (3 * 512, 257)
    assert all(shapes[f"weight_ih_l{layer}"] == (3 * 512, 512) for layer in range(1, 8))
    assert all(shapes[f"weight_hh_l{layer}"] == (3 * 512, 512) for layer in range(8))
    assert TIMING.window == 25  # five frames of 40 ms, hop 128 at 16 kHz


def test_the_embedding_is_the_last_layers_last_output() -> None:
    encoder = SE4Lip.build(TINY)
    rows = torch.randn(2, TIMING.window, 257)
    _, last = encoder.speech.path.recurrent(rows)
    torch.testing.assert_close(encoder.embed_speech(rows), last[-1].relu())


@pytest.mark.parametrize("config", TABLE_6)
def test_table_6_variants_are_configurations_of_one_class(config: EncoderConfig) -> None:
    encoder = SE4Lip.build(replace(config, size=16, layers=2)).eval()
    bins = 257 if config.spectrogram == "stft" else 80
    assert isinstance(encoder.speech.path, GRUPath if config.network == "gru" else CNNPath)
    embedding = encoder.embed_speech(torch.randn(3, TIMING.window, bins))
    assert embedding.shape == (3, 16)
    assert (embedding >= 0).all()


def test_eight_layers_still_hear_their_input() -> None:
    """From PyTorch's own initial weights two sounds differ by less than 0.02 of the embedding's length."""
    torch.manual_seed(0)
    one, other = torch.randn(2, TIMING.window, 257)
    states = speech_path("gru", 257, 64, 8).states(torch.stack([one, other]))[:, -1]
    assert (states[0] - states[1]).norm() > 0.2 * states.norm(dim=1).mean()


@pytest.mark.parametrize("setting", [{"spectrogram": "cqt"}, {"network": "tcn"}, {"layers": 0}, {"size": 24}])
def test_configurations_that_cannot_be_built_are_refused(setting: dict[str, str | int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        EncoderConfig(**setting)


def test_equation_6_against_torch() -> None:
    cosine = torch.linspace(0.0, 1.0, 21, dtype=torch.float64)
    for match in (True, False):
        expected = nn.functional.binary_cross_entropy(
            MARGIN + (1 - 2 * MARGIN) * cosine, torch.full_like(cosine, float(match)), reduction="none"
        )
        torch.testing.assert_close(pair_loss(cosine, torch.full((21,), match)), expected)


def test_equation_5_against_torch() -> None:
    speech, lips = torch.rand(4, 9), torch.rand(6, 9)
    expected = nn.functional.cosine_similarity(speech[:, None], lips, dim=-1)
    torch.testing.assert_close(cosines(speech, lips), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("match", [True, False])
@pytest.mark.parametrize(
    ("speech", "lips"),
    [([1.0, 0.0], [0.0, 1.0]), ([1.0, 0.0], [1.0, 0.0]), ([0.0, 0.0], [1.0, 0.0]), ([0.0, 0.0], [0.0, 0.0])],
    ids=["cosine 0", "cosine 1", "a zero embedding", "two of them"],
)
def test_loss_and_gradients_are_finite_at_the_borders(match: bool, speech: list[float], lips: list[float]) -> None:
    a, v = torch.tensor([speech], requires_grad=True), torch.tensor([lips], requires_grad=True)
    loss = pair_loss(cosines(a, v), torch.tensor([[match]]))
    loss.sum().backward()
    for value in (loss, a.grad, v.grad):
        assert torch.isfinite(value).all()


def test_a_right_pair_with_nothing_in_common_is_pulled_together() -> None:
    """A clamp of the cosine would leave it alone."""
    a, v = torch.tensor([[1.0, 0.0]], requires_grad=True), torch.tensor([[0.0, 1.0]])
    pair_loss(cosines(a, v), torch.tensor([[True]])).sum().backward()
    assert a.grad[0, 1] < -100


def test_matching_and_other_pairs_weigh_the_same() -> None:
    cosine = torch.full((4, 4), 0.3)
    usable = torch.ones(4, 4, dtype=torch.bool)
    expected = 0.5 * (pair_loss(cosine[:1, :1], torch.tensor(True)) + pair_loss(cosine[:1, :1], torch.tensor(False)))
    assert contrastive_loss(cosine, usable) == pytest.approx(expected.item(), rel=1e-6)
    assert pair_accuracy(cosine, usable) == 0.5
    assert pair_accuracy(torch.eye(4), usable) == 1.0


def test_pairs_that_may_not_be_wrong_do_not_count() -> None:
    cosine = torch.rand(4, 4, requires_grad=True)
    usable = torch.ones(4, 4, dtype=torch.bool)
    usable[0, 1] = usable[2, 3] = False
    contrastive_loss(cosine, usable).backward()
    assert (cosine.grad == 0).nonzero().tolist() == [[0, 1], [2, 3]]


def _every_gradient(model: SE4Lip, batch: WindowBatch) -> dict[str, Tensor | None]:
    total = sum(model.step(batch, torch.Generator().manual_seed(seed)).loss for seed in range(2))
    total.backward()
    return {name: weights.grad for name, weights in model.named_parameters()}


@pytest.mark.parametrize("network", ["gru", "cnn"])
@pytest.mark.parametrize("method", ["se4lip", "pase"])
def test_gradients_reach_every_parameter(windows: ClipWindows, method: str, network: str) -> None:
    batch = draw_batch([windows], 16, np.random.default_rng(0))
    model = build_encoder(method, replace(TINY, network=network), seed=0)
    for name, gradient in _every_gradient(model, batch).items():
        assert gradient is not None and torch.isfinite(gradient).all(), name
        if not name.endswith("convolution.bias"):  # the mean that batch normalisation takes away
            assert gradient.abs().max() > 0, name


@pytest.mark.parametrize("spectrogram", ["stft", "mel"])
def test_spectrogram_rows_do_not_depend_on_the_cut_nor_on_the_level(spectrogram: str) -> None:
    samples = np.random.default_rng(0).standard_normal(16_000 * 3).astype(np.float32) * 0.1
    whole = np.concatenate(list(spectrogram_rows([samples], spectrogram)))
    pieces = np.concatenate(list(spectrogram_rows(np.split(samples, [100, 5000, 20_001]), spectrogram)))
    louder = np.concatenate(list(spectrogram_rows([4 * samples], spectrogram)))
    assert len(whole) == len(samples) // 128 + 1
    np.testing.assert_allclose(pieces, whole, atol=2e-4)
    np.testing.assert_allclose(louder, whole, atol=2e-4)
    assert whole.std() < 3


def test_silence_and_a_tone_after_it_stay_in_range() -> None:
    samples = np.zeros(32_000, np.float32)
    silent = np.concatenate(list(spectrogram_rows([samples], "stft")))
    samples[16_000:] = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)
    rows = np.concatenate(list(spectrogram_rows([samples], "stft")))
    assert np.ptp(silent) == 0
    assert np.abs(rows).max() < 5
    assert rows[200, 32] > rows[50, 32] + 2  # 1000 Hz is bin 32


def test_a_window_of_sound_is_centred_on_its_frame() -> None:
    """At 25 frames per second window t is the five frames' 3200 samples: rows 5 t - 10 to 5 t + 14."""
    frames = np.arange(3, 200)
    assert (TIMING.first_rows(frames, FPS) == 5 * frames - 10).all()
    for fps in (Fraction(30), Fraction(30000, 1001), Fraction(60), Fraction(12)):
        middle = (TIMING.first_rows(frames, fps) + 12) / 125
        assert np.abs(middle - (frames + 0.5) / float(fps)).max() <= 0.0041
    own_rate = RowTiming(rate=25.0, first_s=0.02, window=5)
    assert (own_rate.first_rows(frames, FPS) == frames - 2).all()


def test_pictures_of_a_window_are_40_ms_apart() -> None:
    frames = np.array([10, 100])
    assert picture_indices(frames, FPS).tolist() == [[8, 9, 10, 11, 12], [98, 99, 100, 101, 102]]
    assert picture_indices(frames, Fraction(50))[0].tolist() == [6, 8, 10, 12, 14]
    assert picture_indices(frames, Fraction(30))[0].tolist() == [8, 9, 10, 11, 12]  # 7.9 + 0.5, 9.1 + 0.5, ...


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001), Fraction(60)])
@pytest.mark.parametrize("block", [1, 7, 1000])
def test_streamed_windows_are_the_ones_trained_on(fps: Fraction, block: int) -> None:
    rows = np.random.default_rng(0).standard_normal((600, 3)).astype(np.float32)
    frames = int(600 / 125 * fps) + 20  # also some after the last row
    expected = windows_at_frames(rows, np.arange(frames), fps, TIMING)
    blocks = (rows[begin : begin + block] for begin in range(0, 600, block))
    np.testing.assert_array_equal(
        np.concatenate(list(window_blocks(blocks, TIMING, fps, frames))), expected
    )


def test_windows_avoid_frames_without_a_face_and_the_ends(clip: LipClip) -> None:
    seen = clip.seen.copy()
    seen[50] = False
    frames = ClipWindows.of_spectrogram(replace(clip, seen=seen), "stft").frames
    assert not set(range(48, 53)) & set(frames)
    assert {47, 53} <= set(frames)
    assert frames[0] == 2 and frames[-1] == len(clip) - 3


def test_a_batch_pairs_sound_and_lips_of_one_moment(windows: ClipWindows) -> None:
    batch = draw_batch([windows], 16, np.random.default_rng(3))
    assert batch.sounds.shape == (16, TIMING.window, 257)
    assert batch.lips.shape == (16, LIP_FRAMES, LIP_HEIGHT, LIP_WIDTH, 3)
    loudness = batch.sounds.mean(dim=(1, 2)).numpy()
    darkness = -batch.lips.float().mean(dim=(1, 2, 3, 4)).numpy()
    assert np.corrcoef(loudness, darkness)[0, 1] > 0.8
    first = batch.phones[:, 0]
    assert (batch.phones == (first[:, None] + torch.arange(5)) % len(PHONES)).all()


def test_near_windows_of_one_clip_are_not_wrong_pairs() -> None:
    short = made_up_clip(1.0)
    other = made_up_clip(1.0, seed=1)
    both = [ClipWindows.of_spectrogram(item, "mel") for item in (short, other)]
    batch = draw_batch(both, 16, np.random.default_rng(0))
    assert batch.shifted[:8, 8:].all() and batch.shifted[8:, :8].all()
    own = batch.shifted[:8, :8]
    assert not own.diagonal().any()
    distance = (batch.sounds[:8, None] - batch.sounds[None, :8]).abs().mean(dim=(2, 3))
    assert 0 < own.sum() < own.numel() - 8
    assert distance[own].mean() > distance[~own].mean()


def test_clips_without_windows_are_named() -> None:
    empty = ClipWindows.of_spectrogram(replace(made_up_clip(1.0), seen=np.zeros(25, bool)), "mel")
    with pytest.raises(LipClipError, match="give longer clips"):
        draw_batch([empty], 16, np.random.default_rng(0))
    with pytest.raises(LipClipError, match="expected mouths"):
        replace(made_up_clip(1.0), mouths=np.zeros((25, 96, 96, 3), np.uint8))


def test_augmented_pictures_change_alike_within_a_window(windows: ClipWindows) -> None:
    still = windows.lips(np.full(6, 40))
    still[:] = still[:, :1]
    changed = augmented(still, np.random.default_rng(0))
    assert (changed == changed[:, :1]).all()
    assert len({window.numpy().tobytes() for window in changed}) == 6


def test_a_part_of_a_clip_keeps_sound_and_pictures_together(clip: LipClip) -> None:
    fitted, rest = split_clip(clip, 0.25)
    assert len(fitted) == 150 and len(rest) == 50
    assert len(rest.samples) == len(rest) * 640
    np.testing.assert_array_equal(rest.samples, clip.samples[150 * 640 :])
    np.testing.assert_array_equal(rest.mouths, clip.mouths[150:])


QUICK = ContrastiveTraining(steps=6, batch=6, learning_rate=1e-3, augment=False, checkpoint_s=0.0)


def _trained(windows: ClipWindows, config: ContrastiveTraining, method: str = "se4lip", stop: int | None = None,
             checkpoint: Path | None = None) -> tuple[SE4Lip, list[float]]:  # fmt: skip
    model = build_encoder(method, TINY, seed=0)
    losses = []
    for progress in train(model, [windows], config, checkpoint):
        losses.append(progress.loss)
        if progress.step == stop:
            break
    return model, losses


@pytest.mark.parametrize("method", ["se4lip", "pase"])
def test_a_training_that_was_killed_ends_the_same(windows: ClipWindows, tmp_path: Path, method: str) -> None:
    config = replace(QUICK, augment=True)
    whole, losses = _trained(windows, config, method)
    checkpoint = tmp_path / "state.safetensors"
    _trained(windows, config, method, stop=4, checkpoint=checkpoint)  # the event of step 4 comes before its checkpoint
    resumed, rest = _trained(windows, config, method, checkpoint=checkpoint)
    assert rest == losses[3:]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_the_seed_decides(windows: ClipWindows) -> None:
    _, losses = _trained(windows, QUICK)
    assert _trained(windows, QUICK)[1] == losses
    assert _trained(windows, replace(QUICK, seed=1))[1] != losses


def test_a_foreign_or_damaged_checkpoint_is_named(windows: ClipWindows, tmp_path: Path) -> None:
    checkpoint = tmp_path / "state.safetensors"
    _trained(windows, QUICK, stop=4, checkpoint=checkpoint)
    with pytest.raises(EncoderWeightsError, match="other clips or settings"):
        _trained(windows, replace(QUICK, seed=1), checkpoint=checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
    with pytest.raises(EncoderWeightsError, match="cannot be read"):
        _trained(windows, QUICK, checkpoint=checkpoint)


def test_training_finds_what_goes_together() -> None:
    """Loud noise with an open mouth: on a part that was not trained on the right lips are among the first."""
    fitted, rest = (ClipWindows.of_spectrogram(part, "mel") for part in split_clip(made_up_clip(30.0), 0.2))
    model = build_encoder("se4lip", EncoderConfig("mel", layers=1, size=32), seed=0)
    before = retrieval_scores(model, [rest])
    losses = [event.loss for event in train(model, [fitted], replace(QUICK, steps=50, batch=16, learning_rate=5e-3))]
    after = retrieval_scores(model, [rest])
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 0.1
    assert before.mean_rank > 18
    assert after.mean_rank < 15 and after.top_5 > 2 * after.chance.top_5


class _Told(SE4Lip):
    """An encoder that gives the first pixel of a window and the first number of its sound, as unit vectors."""

    def embed_speech(self, sounds: Tensor) -> Tensor:
        return nn.functional.one_hot(sounds[:, 0, 0].long(), 256).float()

    def embed_lips(self, lips: Tensor) -> Tensor:
        return nn.functional.one_hot(lips[:, 0, 0, 0, 0].long(), 256).float()


def _numbered(frames: int, wrong: int) -> ClipWindows:
    """A clip whose sound and pictures carry the frame's number, but for the first `wrong` sounds."""
    clip = made_up_clip(frames / 25)
    clip.mouths[:] = np.arange(frames)[:, None, None, None]
    rows = np.arange(frames, dtype=np.float32)[:, None]
    rows[:wrong] = 255
    return ClipWindows(clip, rows, RowTiming(25.0, 0.02, 5))


def test_retrieval_counts_ranks() -> None:
    told = _Told(1, "gru", 1, 16)
    assert retrieval_scores(told, [_numbered(60, 0)]) == RetrievalScores(1.0, 1.0, 1.0, 50, 50)
    scores = retrieval_scores(told, [_numbered(54, 25)])  # 25 sounds have a cosine of 0 with all lips: the last rank
    assert scores.top_1 == scores.top_5 == 0.5
    assert scores.mean_rank == 0.5 * (1 + 50)
    assert scores.chance == RetrievalScores(0.02, 0.1, 25.5, 50, 50)
    with pytest.raises(LipClipError, match="the longest has 26"):
        retrieval_scores(told, [_numbered(30, 0)])


def test_candidates_are_spread_and_disjoint() -> None:
    sets = list(candidate_sets(np.arange(100, 229), 50))
    assert [len(frames) for frames in sets] == [50, 50]
    assert not set(sets[0]) & set(sets[1])
    assert all(np.ptp(frames) >= 125 for frames in sets)
    assert list(candidate_sets(np.arange(49), 50)) == []


def test_a_row_of_the_grid(clip: LipClip) -> None:
    config = EncoderConfig("mel", "cnn", size=16)
    *progress, row = table_6_row(config, [clip], replace(QUICK, steps=3), held_out=0.4)
    assert [event.step for event in progress] == [1, 2, 3]
    assert isinstance(row, GridRow) and row.config == config and row.scores.queries == 50
    with pytest.raises(LipClipError):  # before any training
        next(table_6_row(config, [clip], QUICK, held_out=0.1))


@pytest.fixture(params=["se4lip", "pase"])
def trained(request: pytest.FixtureRequest, clip: LipClip) -> TrainedEncoder:
    model = build_encoder(request.param, TINY, seed=0).eval()
    scores = RetrievalScores(0.1, 0.3, 12.5, 50, 100)
    return TrainedEncoder(model, Provenance.of(model, TINY, [clip], QUICK, scores))


def test_a_saved_encoder_says_where_it_comes_from(trained: TrainedEncoder, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_encoder(trained, path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.safetensors"]
    loaded = load_encoder(path)
    assert loaded.provenance == trained.provenance
    assert loaded.provenance.clips[0].name == "made up.mp4"
    assert loaded.provenance.hours == pytest.approx(8 / 3600)
    assert isinstance(loaded.model, PASE) == (trained.provenance.method == "pase")
    for name, tensor in trained.model.state_dict().items():
        assert torch.equal(tensor, loaded.model.state_dict()[name])


def test_damaged_and_foreign_encoders_are_named(trained: TrainedEncoder, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    with pytest.raises(EncoderWeightsError, match="no encoder at"):
        load_encoder(path)
    save_file({"x": torch.zeros(2)}, path)
    with pytest.raises(EncoderWeightsError, match="holds no encoder of"):
        load_encoder(path)
    save_encoder(trained, path)
    whole = path.read_bytes()
    damages = [
        whole[: len(whole) // 2],
        whole[:100],
        b"",
        whole.replace(b'\\"layers\\": 2', b'\\"layers\\": 3'),
        whole.replace(b'\\"size\\": 16', b'\\"size\\": 17'),
        whole.replace(b'\\"network\\": \\"gru', b'\\"network\\": \\"abc'),
        whole.replace(b'\\"seed\\"', b'\\"sied\\"'),
        whole.replace(b'{\\"method', b'[\\"method'),
    ]
    for damaged in damages:
        assert damaged != whole
        path.write_bytes(damaged)
        with pytest.raises(EncoderWeightsError, match=r"mine.safetensors"):
            load_encoder(path)


def test_a_trained_encoder_as_speech_features(trained: TrainedEncoder, windows: ClipWindows) -> None:
    """Streamed rows are the embeddings of the windows trained on, whatever the blocks."""
    embedding = ContrastiveEmbedding(trained)
    assert (embedding.name, embedding.size) == (trained.provenance.method, 16)
    samples = windows.clip.samples
    whole = np.concatenate(list(embedding.embedding_blocks([samples], FPS, 200)))
    assert whole.shape == (200, 16) and whole.dtype == np.float32
    pieces = np.concatenate(list(embedding.embedding_blocks(np.array_split(samples, 37), FPS, 200)))
    np.testing.assert_allclose(pieces, whole, atol=1e-4)
    with torch.inference_mode():
        expected = trained.model.embed_speech(windows.sounds(windows.frames)).numpy()
    np.testing.assert_allclose(whole[windows.frames], expected, atol=5e-3)  # trained on float16 rows
    with pytest.raises(SpeechInputError, match="fps > 0"):
        next(embedding.embedding_blocks([samples], Fraction(0), 5))
    assert not list(embedding.embedding_blocks([samples[:0]], FPS, 0))
    assert len(np.concatenate(list(embedding.embedding_blocks([samples[:10]], FPS, 30)))) == 30


@pytest.mark.cuda
def test_cuda_takes_the_same_steps(windows: ClipWindows) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    _, on_cpu = _trained(windows, QUICK)
    model, on_gpu = _trained(windows, replace(QUICK, device="cuda"))
    np.testing.assert_allclose(on_gpu, on_cpu, rtol=1e-2)
    assert next(model.parameters()).device.type == "cpu"
