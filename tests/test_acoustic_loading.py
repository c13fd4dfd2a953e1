"""From files of weights to networks: HuBERT's class, Whisper and DeepSpeech, with stand-ins for their packages."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from test_acoustic import speech, tiny_wav2vec2
from torch import nn

from encoders.acoustic.deepspeech import LETTERS, load_deepspeech
from encoders.acoustic.wav2vec2 import load_wav2vec2
from encoders.acoustic.weights import WeightsFile
from encoders.acoustic.whisper_encoder import load_whisper
from encoders.errors import EncoderWeightsError


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WeightsFile:
    """Weights of the user's; nothing is there yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    weights = WeightsFile("network", "https://example.org/network", "MIT", 1)
    weights.path.parent.mkdir(parents=True)
    return weights


# --- HuBERT and wav2vec 2.0 ---


def test_hubert_is_loaded_without_its_recognition_head(file: WeightsFile) -> None:
    model = tiny_wav2vec2()
    head = {"aux.weight": torch.zeros(32, 48), "aux.bias": torch.zeros(32)}
    torch.save(model.state_dict() | head, file.path)
    embedding = load_wav2vec2("hubert", file, lambda: tiny_wav2vec2("group_norm"), 48)
    assert not embedding.model.training and not any(p.requires_grad for p in embedding.model.parameters())
    samples = torch.from_numpy(speech(1.0))[None]
    with torch.inference_mode():
        assert torch.equal(embedding.model(samples)[0], model(samples)[0])


def test_weights_of_another_network_are_refused(file: WeightsFile) -> None:
    torch.save(tiny_wav2vec2("layer_norm").state_dict(), file.path)
    with pytest.raises(EncoderWeightsError, match="does not hold the weights of Wav2Vec2Model"):
        load_wav2vec2("hubert", file, tiny_wav2vec2, 48)


# --- Whisper ---

SIZES = {"n_mels": 2, "n_audio_ctx": 1500, "n_audio_state": 6, "n_audio_head": 1, "n_audio_layer": 1, "n_vocab": 9}


class AudioEncoder(nn.Module):
    """Takes what Whisper's class of that name takes."""

    def __init__(self, n_mels: int, n_ctx: int, n_state: int, n_head: int, n_layer: int) -> None:
        super().__init__()
        self.context = n_ctx
        self.conv = nn.Conv1d(n_mels, n_state, 3, stride=2, padding=1)

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        rows = self.conv(mel).transpose(1, 2)
        assert rows.shape[1] == self.context
        return rows


@pytest.fixture
def whisper_package(monkeypatch: pytest.MonkeyPatch) -> None:
    audio, model = ModuleType("whisper.audio"), ModuleType("whisper.model")
    audio.log_mel_spectrogram = lambda samples: samples.reshape(-1, 160)[:, :2].T
    model.AudioEncoder = AudioEncoder
    for module in (ModuleType("whisper"), audio, model):
        monkeypatch.setitem(sys.modules, module.__name__, module)


def test_whispers_audio_encoder_is_taken_from_its_checkpoint(file: WeightsFile, whisper_package: None) -> None:
    encoder = AudioEncoder(2, 1500, 6, 1, 1).half()
    state = {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    state["decoder.token_embedding.weight"] = torch.ones(9)
    torch.save({"dims": SIZES, "model_state_dict": state}, file.path)
    embedding = load_whisper(file)
    assert embedding.size == 6
    assert torch.equal(embedding.encoder.conv.weight, encoder.conv.weight.float())
    rows = np.concatenate(list(embedding.embedding_blocks([speech(3.0)], 25, 75)))
    assert rows.shape == (75, 6) and rows.dtype == np.float32


@pytest.mark.parametrize("content", [{}, {"dims": {}, "model_state_dict": {}}, {"dims": SIZES, "model_state_dict": {}}])
def test_what_is_no_whisper_checkpoint(file: WeightsFile, whisper_package: None, content: dict[str, object]) -> None:
    torch.save(content, file.path)
    with pytest.raises(EncoderWeightsError, match=r"is no Whisper checkpoint|does not hold the weights of Audio"):
        load_whisper(file)


# --- DeepSpeech ---


class Graph:
    """Of TensorFlow: the nodes of the definition that was imported last, by name."""

    def __init__(self) -> None:
        self.nodes: Sequence[str] = ()

    def as_default(self) -> Graph:
        return self

    def __enter__(self) -> None:
        Graph.current = self

    def __exit__(self, *exception: object) -> None:
        del Graph.current

    def get_tensor_by_name(self, name: str) -> str:
        if name.removesuffix(":0") not in self.nodes:
            raise KeyError(f"The name {name!r} refers to a Tensor which does not exist.")
        return name


class GraphDef:
    def ParseFromString(self, content: bytes) -> None:
        self.nodes = content.decode().split()


class Session:
    """Runs a graph whose logits are the first 29 inputs."""

    def __init__(self, graph: Graph) -> None:
        assert graph.nodes

    def run(self, fetched: str, fed: dict[str, object]) -> np.ndarray:
        assert fetched == "logits:0"
        inputs, lengths = fed["input_node:0"], fed["input_lengths:0"]
        assert inputs.shape == (1, lengths[0], 494)
        return inputs[:, :, :LETTERS].transpose(1, 0, 2)  # time comes first


@pytest.fixture
def tensorflow_package(monkeypatch: pytest.MonkeyPatch) -> None:
    package = ModuleType("tensorflow")
    package.Graph = Graph
    package.compat = SimpleNamespace(v1=SimpleNamespace(GraphDef=GraphDef, Session=Session))
    package.import_graph_def = lambda definition, name: setattr(Graph.current, "nodes", definition.nodes)
    monkeypatch.setitem(sys.modules, "tensorflow", package)


def test_deepspeechs_graph_is_run_on_its_inputs(file: WeightsFile, tensorflow_package: None) -> None:
    file.path.write_text("input_node input_lengths logits")
    rows = np.concatenate(list(load_deepspeech(file).embedding_blocks([speech(3.0)], 25, 75)))
    assert rows.shape == (75, LETTERS) and rows.std() > 0


def test_another_graph_is_refused(file: WeightsFile, tensorflow_package: None) -> None:
    file.path.write_text("input_node input_lengths acoustic_model")
    with pytest.raises(EncoderWeightsError, match=r"not the graph of DeepSpeech 0\.1\.0 .*logits"):
        load_deepspeech(file)
