"""Auto-AVSR behind the reading expert: names and shapes as published, layers against others' and plain formulas."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import pytest
import torch
import torchvision
from finite_differences import driven_scene, slope_errors
from safetensors.torch import save_file
from tiny_reading import judged_run, legible_clip
from torch import Tensor, nn
from torch.nn import functional

from encoders.contrastive.lip_clips import LIP_HEIGHT, LIP_WIDTH
from encoders.errors import EncoderWeightsError, FeatureUnavailableError
from encoders.experts.auto_avsr import AutoAvsr, AutoAvsrSizes, relative_positions
from encoders.experts.auto_avsr_reader import (
    AUTO_AVSR,
    MEAN,
    SPREAD,
    AutoAvsrReader,
    grey_mouths,
    load_auto_avsr,
    without_repetitions,
)
from encoders.experts.judged import JudgedMouths
from encoders.experts.reading import ReadingConfig, ReadingExpert
from talkinghead import experts
from talkinghead.config import FitConfig
from talkinghead.doctor import diagnose

TINY = AutoAvsrSizes(channels=4, size=16, heads=2, hidden=24, blocks=2, kernel=5, vocabulary=11)
PUBLISHED = {
    "frontend.frontend3D.0.weight": (64, 1, 5, 7, 7),
    "frontend.frontend3D.1.running_var": (64,),
    "frontend.trunk.layer1.0.conv1.weight": (64, 64, 3, 3),
    "frontend.trunk.layer2.0.downsample.0.weight": (128, 64, 1, 1),
    "frontend.trunk.layer4.1.bn2.bias": (512,),
    "proj_encoder.weight": (768, 512),
    "encoder.encoders.0.self_attn.pos_bias_u": (12, 64),
    "encoder.encoders.0.self_attn.linear_pos.weight": (768, 768),
    "encoder.encoders.11.self_attn.linear_out.bias": (768,),
    "encoder.encoders.11.feed_forward.w_1.weight": (3072, 768),
    "encoder.encoders.11.feed_forward_macaron.w_2.weight": (768, 3072),
    "encoder.encoders.11.conv_module.pointwise_cov1.weight": (1536, 768, 1),
    "encoder.encoders.11.conv_module.depthwise_conv.weight": (768, 1, 31),
    "encoder.encoders.11.conv_module.norm.running_mean": (768,),
    "encoder.encoders.11.norm_final.weight": (768,),
    "encoder.after_norm.weight": (768,),
    "ctc.ctc_lo.weight": (5049, 768),
}
"""Names and shapes of the published checkpoints: some of every kind."""


def seed() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def network() -> AutoAvsr:
    """Random weights and statistics that leave nothing as it is; what it reads changes with the lips."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        network = AutoAvsr(TINY)
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point() and tensor.dim() == 1:
                tensor += 0.3 * torch.rand(tensor.shape)
            elif "pos_bias" in name:
                tensor += torch.randn(tensor.shape)
    network.eval()
    clip, _ = legible_clip(seconds=3.0)
    head, pictures = network.ctc["ctc_lo"], torch.from_numpy(clip.mouths).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        context, _ = network(grey_mouths(pictures))
        head.weight *= 2 / (context @ head.weight.T).std(dim=0)[:, None]
        head.bias.copy_(-head.weight @ context.mean(dim=0))
    return network


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    AUTO_AVSR.path.parent.mkdir(parents=True)
    return AUTO_AVSR.path


def test_names_and_shapes_are_the_published_ones() -> None:
    with torch.device("meta"):
        state = AutoAvsr().state_dict()
    assert {name: tuple(state[name].shape) for name in PUBLISHED} == PUBLISHED
    kinds = {name.split(".")[0] for name in state}
    assert kinds == {"frontend", "proj_encoder", "encoder", "ctc"}
    decoder = 6 * (8 * (768 * 768 + 768) + 2 * 768 * 3072 + 3072 + 768 + 6 * 768) + 2 * 5049 * 768
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in AutoAvsr().parameters())
    assert (parameters + decoder) / 1e6 == pytest.approx(250, abs=2), "250 M are stated with the decoder"


def test_a_file_tells_its_sizes(network: AutoAvsr) -> None:
    assert AutoAvsrSizes.of({name: list(tensor.shape) for name, tensor in network.state_dict().items()}) == TINY


def test_the_trunk_is_a_resnet_18(network: AutoAvsr) -> None:
    reference = torchvision.models.resnet18()
    wide = AutoAvsr(AutoAvsrSizes(size=16, heads=2, hidden=8, blocks=1, kernel=3, vocabulary=3)).eval()
    reference.load_state_dict(wide.frontend.trunk.state_dict(), strict=False)
    for block in reference.modules():
        if isinstance(block, torchvision.models.resnet.BasicBlock):
            block.relu = nn.SiLU()
    reference.eval()
    x = torch.randn(2, 64, 22, 22, generator=seed())
    expected, found = x, x
    for name in ("layer1", "layer2", "layer3", "layer4"):
        expected, found = getattr(reference, name)(expected), getattr(wide.frontend.trunk, name)(found)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_attention_is_that_of_its_formula(network: AutoAvsr) -> None:
    attention = network.encoder.encoders[0].self_attn
    x = torch.randn(7, 16, generator=seed())
    positions = relative_positions(7, 16).float()
    query, key, value = (
        layer(x).view(7, 2, 8) for layer in (attention.linear_q, attention.linear_k, attention.linear_v)
    )
    expected = torch.zeros(7, 2, 8)
    for i in range(7):
        for head in range(2):
            scores = []
            for j in range(7):
                angles = [(i - j) / 10_000 ** (2 * k / 16) for k in range(8)]
                place = torch.tensor([part for angle in angles for part in (math.sin(angle), math.cos(angle))])
                distance = attention.linear_pos(place).view(2, 8)[head]
                by_content = (query[i, head] + attention.pos_bias_u[head]) @ key[j, head]
                by_distance = (query[i, head] + attention.pos_bias_v[head]) @ distance
                scores.append((by_content + by_distance) / math.sqrt(8))
            expected[i, head] = torch.stack(scores).softmax(dim=0) @ value[:, head]
    torch.testing.assert_close(attention(x, positions), attention.linear_out(expected.flatten(1)), atol=1e-5, rtol=1e-4)


def test_mouths_are_cut_grey_and_normalised() -> None:
    mouths = torch.zeros(2, 3, LIP_HEIGHT, LIP_WIDTH)
    mouths[:, 0] = 1.0  # red
    seen = grey_mouths(mouths)
    assert seen.shape == (2, 88, 88)
    torch.testing.assert_close(seen, torch.full((2, 88, 88), (0.299 - MEAN) / SPREAD))
    mouths[:] = 0
    mouths[:, :, 18:22, 47:51] = 1.0  # where lips are
    bright = (grey_mouths(mouths)[0] > 0).nonzero().float()
    assert torch.allclose(bright.mean(dim=0), torch.tensor([43.5, 43.5]), atol=1.0)
    down, across = (bright.amax(dim=0) - bright.amin(dim=0) + 1).tolist()
    assert down == pytest.approx(4 * 88 / 51, abs=2) and across == pytest.approx(4 * 88 / 66, abs=2)


def test_reading_without_repetitions_and_blanks() -> None:
    assert without_repetitions(torch.tensor([0, 3, 3, 0, 3, 5, 5, 0, 0])).tolist() == [3, 3, 5]
    assert not len(without_repetitions(torch.zeros(4, dtype=torch.long)))


def test_what_is_read_in_the_real_pictures_is_what_should_be_read(network: AutoAvsr) -> None:
    clip, _ = legible_clip(seconds=3.0)
    reader, judged = AutoAvsrReader(network), judged_run(clip, 10, slice(4, 20))
    context, logits = network(grey_mouths(judged.real))
    said = without_repetitions(logits.argmax(dim=1))
    assert len(said) > 3, "random weights read something"
    reading = reader.read(judged)
    expected = functional.ctc_loss(
        logits.log_softmax(dim=1)[:, None], said[None], torch.tensor([24]), torch.tensor([len(said)])
    )
    torch.testing.assert_close(reading.error, expected)
    torch.testing.assert_close(reading.context, context)
    reading.error.backward()
    assert judged.mouths.grad[judged.rendered].abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in network.parameters())
    other = JudgedMouths(judged.mouths.roll(9, 0), judged.real, judged.rendered, judged.frames, judged.heard)
    assert reader.read(other).error != reading.error


def test_where_nothing_can_be_read_there_is_no_error(network: AutoAvsr) -> None:
    clip, _ = legible_clip(seconds=3.0)
    network.ctc["ctc_lo"].bias.data[0] += 1000.0  # all is blank
    assert AutoAvsrReader(network).read(judged_run(clip, 10, slice(4, 20))).error == 0


@pytest.mark.parametrize("config", [ReadingConfig(contrast=0.0), ReadingConfig(reading=0.0, contrast=1.0)])
def test_gradients_reach_the_motion_fields_as_finite_differences_say(network: AutoAvsr, config: ReadingConfig) -> None:
    scene = driven_scene(frames=6)
    clip, _ = legible_clip(seconds=3.0)
    judging = ReadingExpert(AutoAvsrReader(network), Fraction(25), 6, config).double()
    judged = judged_run(clip, 30, slice(1, 6), count=6)
    real, heard = judged.real.double(), judged.heard.detach().double()

    def loss(mouths: Tensor) -> Tensor:
        mixed = torch.where(judged.rendered[:, None, None, None], mouths, real)
        return judging.loss(JudgedMouths(mixed, real, judged.rendered, judged.frames, heard), seed())

    assert slope_errors(scene, loss) < 1e-3  # above 1e-4 on some processors


def test_weights_come_back_from_a_file_that_also_holds_a_decoder(network: AutoAvsr, cache: Path) -> None:
    extra = {"decoder.output_layer.weight": torch.zeros(11, 16)}
    save_file(network.state_dict() | extra, cache)
    clip, _ = legible_clip(seconds=3.0)
    judged = judged_run(clip, 10, slice(4, 20))
    expected = AutoAvsrReader(network).read(judged)
    found = load_auto_avsr().read(judged)
    torch.testing.assert_close((found.error, found.context), (expected.error, expected.context))


def test_missing_weights(cache: Path) -> None:
    with pytest.raises(FeatureUnavailableError) as error:
        load_auto_avsr()
    message = str(error.value)
    assert "\n" not in message and "vsr_trlrs2lrs3vox2avsp_base.pth" in message
    assert str(cache) in message and "save_file" in message
    (finding,) = (one for one in diagnose() if one.name == "reader auto-avsr")
    assert not finding.ok and finding.optional and finding.remedy in message


def test_weights_that_are_no_such_weights(network: AutoAvsr, cache: Path) -> None:
    state = network.state_dict()
    for content, complaint in (
        (
            state | {"encoder.after_norm.weight": torch.zeros(9)},
            r"holds \[9\] under encoder.after_norm.weight, expected",
        ),
        ({name: state[name] for name in state if name != "proj_encoder.bias"}, "holds nothing under proj_encoder.bias"),
        ({"weight": torch.zeros(3)}, "does not hold the weights of Auto-AVSR"),
    ):
        save_file(content, cache)
        cache.with_name(f"{cache.name}.sha256").unlink(missing_ok=True)
        with pytest.raises(EncoderWeightsError, match=complaint) as error:
            load_auto_avsr()
        assert "\n" not in str(error.value)
    cache.write_bytes(cache.read_bytes()[:20])
    cache.with_name(f"{cache.name}.sha256").unlink()
    with pytest.raises(EncoderWeightsError, match="does not hold the weights of Auto-AVSR"):
        load_auto_avsr()


def test_weights_that_change_later_are_refused(network: AutoAvsr, cache: Path) -> None:
    save_file(network.state_dict(), cache)
    load_auto_avsr()
    save_file({name: tensor + 1 for name, tensor in network.state_dict().items()}, cache)
    with pytest.raises(EncoderWeightsError, match="has SHA-256"):
        load_auto_avsr()


def test_fit_asks_for_it_only_where_it_reads(network: AutoAvsr, cache: Path) -> None:
    assert experts.chosen_reader(FitConfig(reader="auto-avsr")) is None
    assert experts.chosen_reader(FitConfig(experts=("reading",))) is None
    asked = FitConfig(experts=("reading",), reader="auto-avsr")
    with pytest.raises(FeatureUnavailableError):
        experts.chosen_reader(asked)
    save_file(network.state_dict(), cache)
    assert isinstance(experts.chosen_reader(asked), AutoAvsrReader)
    with pytest.raises(EncoderWeightsError, match="no lip reader at"):
        experts.chosen_reader(FitConfig(experts=("reading",), reader=str(cache.with_name("mine.safetensors"))))
