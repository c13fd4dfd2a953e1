"""TalkLip's audio encoders: the paper's layers and sizes, its loss, streams, training, files."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_contrastive import FPS, made_up_clip
from torch import Tensor

from encoders.bundle import DEFAULT_BUNDLE
from encoders.contrastive.encoder_file import (
    Provenance,
    TrainedEncoder,
    build_encoder,
    load_encoder,
    save_encoder,
)
from encoders.contrastive.lip_clips import LipClip
from encoders.contrastive.losses import sound_contrast
from encoders.contrastive.recipe import train_contrastive_encoder
from encoders.contrastive.retrieval import retrieval_scores
from encoders.contrastive.se4lip import EncoderConfig, SE4Lip
from encoders.contrastive.speech_embedding import ContrastiveEmbedding
from encoders.contrastive.speech_inputs import SPECTROGRAMS, spectrogram_rows
from encoders.contrastive.talklip import OWN_CONFIGS, PAPER_CONFIGS, TalkLip
from encoders.contrastive.talklip_paths import GlobalPath, LocalPath, positions
from encoders.contrastive.training import ContrastiveTraining, train
from encoders.contrastive.windows import ClipWindows
from encoders.errors import EncoderWeightsError
from talkinghead.config import TALKLIP_SPEECH, FitConfig
from talkinghead.training_config import TrainEncoderConfig
from tools.errors import UserError

PAPER_TABLE_3 = """
3 32 1,1 1 1 32x80x16
3 32 1,1 1 2 32x80x16
3 64 3,1 1 1 64x27x16
3 64 1,1 1 2 64x27x16
3 128 3,3 1 1 128x9x6
3 128 1,1 1 2 128x9x6
3 256 3,2 1 1 256x3x3
3 256 1,1 1 1 256x3x3
3 512 1,1 0 1 512x1x1
1 512 1,1 0 1 512x1x1
"""
"""Table 3 as it is printed: kernel, output channels, stride, padding, repetitions, output size."""
NETWORKS = ("local", "global")
TINY = {"local": EncoderConfig("local", "local", size=16), "global": EncoderConfig("global", "global", 1, 48)}


def printed_rows() -> list[tuple[int, int, tuple[int, ...], int, tuple[int, ...]]]:
    """Repeated rows written out."""
    rows = []
    for line in PAPER_TABLE_3.split("\n")[1:-1]:
        kernel, outputs, stride, padding, repetitions, size = line.split()
        row = (int(kernel), int(outputs), tuple(map(int, stride.split(","))), int(padding))
        rows += [(*row, tuple(map(int, size.split("x"))))] * int(repetitions)
    return rows


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    """Loud and quiet by turns."""
    random = np.random.default_rng(seed)
    count = round(16_000 * seconds)
    return (0.2 * random.standard_normal(count) * (1 + np.sin(np.arange(count) / 900))).astype(np.float32)


def untrained(network: str) -> ContrastiveEmbedding:
    model = build_encoder("talklip", TINY[network], seed=0)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as they are before training nothing is left after five layers
            module.momentum = None
    model.train()
    with torch.no_grad():
        model.embed_speech(torch.randn(8, SPECTROGRAMS[network].timing.window, SPECTROGRAMS[network].size))
    model.eval().requires_grad_(False)
    facts = Provenance.of(model, TINY[network], (), ContrastiveTraining(), None)
    return ContrastiveEmbedding(TrainedEncoder(model, facts))


@pytest.fixture(scope="module")
def clip() -> LipClip:
    return made_up_clip(10.0)


# --- Table 3 and Sec. 6.2 ---


def test_the_local_encoder_has_the_layers_of_table_3() -> None:
    with torch.device("meta"):
        blocks = LocalPath().layers
    rows = printed_rows()
    assert len(blocks) == len(rows) == 13
    inputs = 1
    for block, (kernel, outputs, stride, padding, _) in zip(blocks, rows, strict=True):
        assert block.convolution.weight.shape == (outputs, inputs, kernel, kernel)
        assert (block.convolution.stride, block.convolution.padding) == (stride, (padding, padding))
        assert block.norm.num_features == outputs, "batch normalisation after each of the convolutions"
        assert block.residual == (inputs == outputs and kernel == 3 and padding == 1), "what can be summed is"
        inputs = outputs


@pytest.mark.parametrize(("size", "share"), [(512, 1), (16, 32)])
def test_output_sizes_along_table_3(size: int, share: int) -> None:
    kind = SPECTROGRAMS["local"]
    with torch.device("meta"):
        path = LocalPath(size).eval()
        rows = torch.rand(2, kind.timing.window, kind.size)
        x = rows.transpose(1, 2)[:, None]
        assert tuple(x.shape[1:]) == (1, 80, 16)
        for block, (*_, expected) in zip(path.layers, printed_rows(), strict=True):
            x = block(x)
            assert tuple(x.shape[1:]) == (expected[0] // share, *expected[1:])
        assert path.states(rows).shape == (2, 1, size)


def test_the_global_encoder_is_that_of_section_6_2() -> None:
    with torch.device("meta"):
        path = TalkLip.build(PAPER_CONFIGS["global"]).speech.path
        assert path.states(torch.rand(1, 4 * 57 + 3, 26)).shape == (1, 57, 768), "Z is T / 4 x 768"
    assert path.stacked.weight.shape == (768, 4 * 26)
    assert len(path.blocks.layers) == 12
    for block in path.blocks.layers:
        assert block.self_attn.num_heads == 12
        assert block.linear1.weight.shape == (3072, 768) and block.linear2.weight.shape == (768, 3072)


def test_what_the_encoders_hear() -> None:
    local, whole = SPECTROGRAMS["local"], SPECTROGRAMS["global"]
    assert (local.size, local.stft.hop / 16, local.stft.window / 16) == (80, 12.5, 50)
    assert local.timing.window / local.timing.rate == 0.2
    assert (whole.size, whole.timing.window % 8) == (26, 4), "an odd number of stacks of four"
    for name in NETWORKS:
        assert next(spectrogram_rows([noise(2.0)], name)).shape[1] == SPECTROGRAMS[name].size


@pytest.mark.parametrize("network", NETWORKS)
def test_rows_show_a_tone_where_and_when_it_is(network: str) -> None:
    times = np.arange(48_000) / 16_000
    samples = np.where(times > 2, np.sin(2 * np.pi * 1000 * times), 1e-3 * np.sin(2 * np.pi * 3000 * times))
    rows = np.concatenate(list(spectrogram_rows([samples.astype(np.float32)], network)))
    timing, kind = SPECTROGRAMS[network].timing, SPECTROGRAMS[network]
    loudest = np.diff(rows[:, int(kind.filters[round(1000 * kind.stft.size / 16_000)].argmax())]).argmax()
    assert abs((loudest + 0.5) / timing.rate - 2) < kind.stft.window / 16_000


def test_positions_are_told_apart_and_know_how_far_they_are() -> None:
    place = positions(101, 48, torch.device("cpu"))
    alike = place @ place.T / 24
    assert torch.allclose(alike.diagonal(), torch.ones(101), atol=1e-5)
    assert alike[0, 1] == pytest.approx(float(alike[60, 61]), abs=1e-4)
    assert (alike - torch.eye(101)).max() < 0.99


def test_the_global_encoder_hears_all_of_its_window() -> None:
    encoder = untrained("global").encoder.model
    windows = torch.randn(1, SPECTROGRAMS["global"].timing.window, 26).repeat(3, 1, 1)
    windows[1, :4] += 1
    windows[2, -4:] += 1
    one, begins, ends = encoder.embed_speech(windows)
    assert (one - begins).abs().max() > 1e-3 and (one - ends).abs().max() > 1e-3


# --- Eq. 5 and 6 ---


def by_the_letter(sounds: Tensor, lips: Tensor, tau: float) -> float:
    """Eq. 6 over two and more masked frames, in loops."""
    total = 0.0
    for i, (sound, picture) in enumerate(zip(sounds, lips, strict=True)):
        right = math.exp(float(sound @ picture) / tau)
        wrong = sum(math.exp(float(sound @ sounds[j]) / tau) for j in range(len(sounds)) if j != i)
        total -= math.log(right / (right + wrong))
    return total


def test_the_loss_is_equation_6() -> None:
    torch.manual_seed(1)
    sounds, lips = torch.nn.functional.normalize(torch.randn(2, 7, 5), dim=-1)
    usable = ~torch.eye(7, dtype=torch.bool)
    assert 7 * sound_contrast(sounds, lips, usable, 0.3).item() == pytest.approx(by_the_letter(sounds, lips, 0.3))
    usable[:, 6] = usable[6] = False  # a frame that is near all others is no negative, and has none
    rest = 6 / 7 * by_the_letter(sounds[:6], lips[:6], 0.3) / 6
    assert sound_contrast(sounds, lips, usable, 0.3).item() == pytest.approx(rest)


def test_embeddings_are_of_length_one_before_and_after_the_linear_layer() -> None:
    model = TalkLip.build(TINY["local"])
    speech, lips = torch.randn(4, 16), torch.randn(3, 16)
    torch.testing.assert_close(model.alike(5 * speech, lips), model.alike(speech, 0.1 * lips))
    torch.testing.assert_close(model.alike(speech, speech).diagonal(), torch.ones(4))


# --- training, streams, files ---


@pytest.mark.parametrize("network", NETWORKS)
def test_every_weight_is_learned(network: str, clip: LipClip) -> None:
    windows = ClipWindows.of_spectrogram(clip, TINY[network].spectrogram)
    assert len(windows.frames) == len(clip) - 4, "sound that is not there is no reason to leave lips out"
    model = build_encoder("talklip", TINY[network], seed=0)
    before = {name: weights.detach().clone() for name, weights in model.named_parameters()}
    list(train(model, [windows], ContrastiveTraining(steps=2, learning_rate=1e-2)))
    kept = [name for name, weights in model.named_parameters() if torch.equal(weights, before[name])]
    assert kept == []


def test_training_finds_lips_for_sounds(clip: LipClip) -> None:
    windows = ClipWindows.of_spectrogram(clip, "global")
    model = build_encoder("talklip", TINY["global"], seed=0)
    list(train(model, [windows], ContrastiveTraining(steps=60, learning_rate=3e-3)))
    scores = retrieval_scores(model, [windows], 40)
    assert scores.mean_rank < 0.85 * scores.chance.mean_rank


def test_the_seed_decides_dropout_too_and_the_rest_of_the_program_is_left_alone(clip: LipClip) -> None:
    def trained() -> TrainedEncoder:
        job = train_contrastive_encoder(
            [clip], "talklip", TINY["global"], ContrastiveTraining(steps=2), DEFAULT_BUNDLE.load(), held_out=0.0
        )
        while True:
            try:
                next(job)
                torch.rand(1)  # what else happens between two steps
            except StopIteration as finished:
                return finished.value

    torch.manual_seed(7)
    one, two = trained(), trained()
    for name, tensor in one.model.state_dict().items():
        assert torch.equal(tensor, two.model.state_dict()[name]), name


@pytest.mark.parametrize("network", NETWORKS)
def test_a_stream_is_what_the_whole_is_however_it_is_cut(network: str) -> None:
    embedding, samples = untrained(network), noise(24.0)
    whole = np.concatenate(list(embedding.embedding_blocks([samples], FPS, 600)))
    cut = np.split(samples, np.sort(np.random.default_rng(0).integers(0, len(samples), 30)))
    assert whole.shape == (600, embedding.size) and np.isfinite(whole).all()
    np.testing.assert_allclose(np.concatenate(list(embedding.embedding_blocks(cut, FPS, 600))), whole, atol=1e-5)
    assert whole.std(axis=0).max() > 0.01


@pytest.mark.parametrize("network", NETWORKS)
def test_an_encoder_comes_back_from_its_file(network: str, tmp_path: Path) -> None:
    embedding, samples = untrained(network), noise(3.0)
    save_encoder(embedding.encoder, tmp_path / "own.safetensors")
    loaded = ContrastiveEmbedding(load_encoder(tmp_path / "own.safetensors"))
    assert loaded.name == f"talklip-{network}" in TALKLIP_SPEECH
    expected = list(embedding.embedding_blocks([samples], FPS, 75))
    np.testing.assert_array_equal(list(loaded.embedding_blocks([samples], FPS, 75)), expected)


def test_a_file_of_a_method_and_another_methods_network_is_damaged(tmp_path: Path) -> None:
    encoder = untrained("local").encoder
    save_encoder(replace(encoder, provenance=replace(encoder.provenance, method="se4lip")), tmp_path / "a.safetensors")
    with pytest.raises(EncoderWeightsError, match="se4lip takes gru or cnn, not local"):
        load_encoder(tmp_path / "a.safetensors")


# --- what is refused ---


def test_configurations_that_do_not_fit_together() -> None:
    with pytest.raises(ValueError, match="does not take the spectrogram stft"):
        EncoderConfig("stft", "local")
    with pytest.raises(ValueError, match="does not take the spectrogram global"):
        EncoderConfig("global", "gru")
    with pytest.raises(ValueError, match="12 heads"):
        EncoderConfig("global", "global", 1, 64)
    with pytest.raises(ValueError, match="talklip takes local or global, not gru"):
        TalkLip.build(EncoderConfig())
    with pytest.raises(ValueError, match="se4lip takes gru or cnn"):
        SE4Lip.build(PAPER_CONFIGS["local"])


def test_the_commands_know_them() -> None:
    for network in NETWORKS:
        assert TrainEncoderConfig(method="talklip", network=network).network in OWN_CONFIGS
        assert FitConfig(speech=f"talklip-{network}").speech in TALKLIP_SPEECH
    with pytest.raises(UserError, match="--network local or global"):
        TrainEncoderConfig(method="talklip")
    with pytest.raises(UserError, match="no other method"):
        TrainEncoderConfig(method="se4lip", network="global")


def test_the_transformer_ignores_rows_that_do_not_make_a_stack() -> None:
    path = GlobalPath(26, 48, 1).eval()
    rows = torch.randn(1, 19, 26)
    torch.testing.assert_close(path.states(rows), path.states(rows[:, :16]))
