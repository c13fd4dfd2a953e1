"""`talkinghead train-encoder` and `ablate-encoder`: every method writes weights that the rest of the program reads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from safetensors import safe_open
from tone_voices import CLEAN, tone_voice

import talkinghead.train_encoder
from encoders.contrastive.encoder_file import load_encoder
from encoders.contrastive.se4lip import EncoderConfig
from encoders.corpus.build import CorpusProgress
from encoders.corpus.recording import VoiceRecordings, save_recordings
from encoders.corpus.voices import VOICES
from encoders.errors import MissingEngineError
from encoders.experts.viseme_file import read_provenance
from encoders.lip_prior import load_lip_prior
from encoders.training.phone_training import PhoneTrainingConfig
from talkinghead.cli import main

DEMO_CLIP = ROOT / "talkinghead" / "assets" / "demo_clip.mp4"


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    shutil.copy(DEMO_CLIP, folder / "person.mp4")
    return folder


@pytest.fixture
def spoken(monkeypatch: pytest.MonkeyPatch) -> list[VoiceRecordings]:
    """A corpus of whistling voices in place of the synthesisers'."""
    voices = [tone_voice(), tone_voice("stranger", seed=2, held_out=True)]

    def build(folder: Path) -> Iterator[CorpusProgress]:
        folder.mkdir(parents=True, exist_ok=True)
        for done, voice in enumerate(voices, start=1):
            save_recordings(voice, folder / f"{voice.voice}.safetensors")
            yield CorpusProgress(VOICES[0], done, len(voices), voice.seconds, False)

    def training(**settings: int) -> PhoneTrainingConfig:
        return PhoneTrainingConfig(batch_size=2, averaging=0.5, augmentation=CLEAN, **settings)

    monkeypatch.setattr(talkinghead.train_encoder, "build_corpus", build)
    monkeypatch.setattr(talkinghead.train_encoder, "PhoneTrainingConfig", training)
    return voices


@pytest.mark.usefixtures("spoken")
def test_phones_are_learned_and_their_origin_written(tmp_path: Path) -> None:
    output = tmp_path / "phones.safetensors"
    assert main(["train-encoder", "-o", str(output), "--steps", "3"]) == 0
    with safe_open(output, framework="pt") as file:
        facts = file.metadata()
    assert json.loads(facts["voices"]) == ["tones whistler"]
    held_out = json.loads(facts["held_out"])
    assert [figures["voice"] for figures in held_out] == ["stranger", "mean"]
    assert 0.0 <= held_out[0]["phone_accuracy"] <= 1.0
    assert json.loads(facts["training"])["steps"] == 3


@pytest.mark.usefixtures("spoken")
def test_a_stopped_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "phones.safetensors"
    monkeypatch.setattr(talkinghead.train_encoder, "CHECKPOINT_S", 0.0)
    config = talkinghead.train_encoder.TrainEncoderConfig(steps=4)
    job = talkinghead.train_encoder.train_encoder(None, output, config)
    for event in job:
        if (event.stage, event.done) == ("training", 3):
            job.close()
    assert not output.exists()
    steps = [
        event.done
        for event in talkinghead.train_encoder.train_encoder(None, output, config)
        if event.stage == "training"
    ]
    assert steps == [3, 4]
    assert output.exists()


def test_a_missing_synthesiser_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def build(folder: Path) -> Iterator[CorpusProgress]:
        raise MissingEngineError("flite", ("flite",))
        yield

    monkeypatch.setattr(talkinghead.train_encoder, "build_corpus", build)
    assert main(["train-encoder", "-o", str(tmp_path / "x.safetensors")]) == 2
    assert "apt install flite" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("method", "config"),
    [
        ("se4lip", EncoderConfig("stft", "cnn")),
        ("pase", EncoderConfig("stft", "cnn")),
        ("talklip", EncoderConfig("local", "local")),
    ],
)
def test_lip_encoders_are_learned_from_videos(
    videos: Path, tmp_path: Path, method: str, config: EncoderConfig
) -> None:
    output = tmp_path / f"{method}.safetensors"
    options = ["--method", method, "--steps", "1", "--network", config.network, "--holdout", "0.2"]
    assert main(["train-encoder", str(videos), "-o", str(output), *options]) == 0
    encoder = load_encoder(output)
    assert (encoder.provenance.method, encoder.provenance.config) == (method, config)
    assert encoder.provenance.held_out is not None
    assert [clip.name for clip in encoder.provenance.clips] == ["person.mp4"]


@pytest.mark.parametrize("method", ["reader", "observer"])
def test_lip_readers_are_learned_from_videos(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    output = tmp_path / f"{method}.safetensors"
    options = ["--method", method, "--steps", "2", "--holdout", "0.4"]
    assert main(["train-encoder", str(videos), "-o", str(output), *options]) == 0
    facts = read_provenance(output)
    assert (facts.kind, [clip.name for clip in facts.clips], facts.training.steps) == (method, ["person.mp4"], 2)
    assert facts.held_out is not None
    said = capsys.readouterr().out
    assert f"{facts.held_out.accuracy:.1%} read right (guessing: {facts.held_out.guessing:.1%})" in said


def test_a_lip_prior_is_learned_from_videos(videos: Path, tmp_path: Path) -> None:
    output = tmp_path / "prior.safetensors"
    assert main(["train-encoder", str(videos), "-o", str(output), "--method", "lip-prior"]) == 0
    assert np.isfinite(load_lip_prior(output).weights).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "se4lip"], "needs a folder of videos"),
        (["--method", "talklip"], "--method talklip takes --network local or global"),
        (["nowhere", "--method", "se4lip"], "nowhere"),
        (["nowhere"], "leave the videos away"),
        (["--steps", "0"], "--steps takes 1 or more"),
        (["--holdout", "0.7"], "--holdout takes 0 to 0.5"),
    ],
)
def test_what_cannot_be_trained_is_told_in_a_line(
    tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train-encoder", "-o", str(tmp_path / "x.safetensors"), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.strip().count("\n") == 0
    assert not list(tmp_path.iterdir())


def test_the_grid_of_table_6_has_its_rows(
    videos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(talkinghead.train_encoder, "TABLE_6", (EncoderConfig("mel", "cnn"),))
    assert main(["ablate-encoder", str(videos), "--steps", "1", "--holdout", "0.2"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows[1:]] == ["Mel+CNN", "chance"]
