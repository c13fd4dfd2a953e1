"""A trained contrastive encoder and where it comes from, in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from encoders.bundle import write_weights
from encoders.contrastive.lip_clips import LipClip
from encoders.contrastive.pase import PASE
from encoders.contrastive.retrieval import RetrievalScores
from encoders.contrastive.se4lip import EncoderConfig, Method, SE4Lip
from encoders.contrastive.talklip import TalkLip
from encoders.contrastive.training import ContrastiveTraining
from encoders.errors import EncoderWeightsError

FORMAT = "talkinghead contrastive speech encoder 1"


@dataclass(frozen=True)
class ClipRecord:
    """A video that was trained on."""

    name: str
    sha256: str
    duration_s: float


@dataclass(frozen=True)
class Provenance:
    """What an encoder is and what it was made from."""

    method: Method
    config: EncoderConfig
    clips: tuple[ClipRecord, ...]
    steps: int
    batch: int
    learning_rate: float
    seed: int
    held_out: RetrievalScores | None  # retrieval on what was not trained on; None when nothing was held out

    @classmethod
    def of(
        cls,
        model: SE4Lip,
        config: EncoderConfig,
        clips: Sequence[LipClip],
        training: ContrastiveTraining,
        held_out: RetrievalScores | None,
    ) -> Provenance:
        """clips: what was trained on."""
        records = tuple(ClipRecord(clip.name, clip.sha256, clip.duration_s) for clip in clips)
        return cls(
            method=model.method,
            config=config,
            clips=records,
            steps=training.steps,
            batch=training.batch,
            learning_rate=training.learning_rate,
            seed=training.seed,
            held_out=held_out,
        )

    @property
    def hours(self) -> float:
        """Length of what was trained on."""
        return sum(clip.duration_s for clip in self.clips) / 3600


@dataclass(frozen=True)
class TrainedEncoder:
    """An encoder in evaluation mode with its provenance."""

    model: SE4Lip
    provenance: Provenance


def build_encoder(method: Method, config: EncoderConfig, seed: int) -> SE4Lip:
    """An untrained encoder on spectrograms; the seed decides its weights."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        return encoder_class(method).build(config)


def encoder_class(method: Method) -> type[SE4Lip]:
    """The class of that method."""
    return {"se4lip": SE4Lip, "pase": PASE, "talklip": TalkLip}[method]


def save_encoder(encoder: TrainedEncoder, path: Path) -> None:
    """Writes a safetensors file, under a temporary name first; the provenance stands in its metadata as JSON."""
    facts = asdict(encoder.provenance) | {"hours": round(encoder.provenance.hours, 4)}
    write_weights(encoder.model.state_dict(), path, {"format": FORMAT, "provenance": json.dumps(facts)})


def load_encoder(path: Path) -> TrainedEncoder:
    """The encoder in such a file, on the CPU, in evaluation mode.

    Raises:
        EncoderWeightsError: the file is missing, damaged, or no such encoder.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise EncoderWeightsError(
                    f"{path} holds no encoder of train-encoder --method se4lip, pase or talklip: give a file of it"
                )
            provenance = _decoded(json.loads(metadata["provenance"]))
            model = _empty_model(provenance)
            check_shapes(path, file, model)
            model.load_state_dict({name: file.get_tensor(name) for name in file.keys()}, assign=True)  # noqa: SIM118
    except FileNotFoundError as error:
        raise EncoderWeightsError(f"no encoder at {path}; train one, or give the right path") from error
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise EncoderWeightsError(f"the encoder {path} is damaged ({error}); train or copy it again") from error
    return TrainedEncoder(model.eval().requires_grad_(False), provenance)


def _empty_model(provenance: Provenance) -> SE4Lip:
    """The encoder without memory for its weights."""
    with torch.device("meta"):
        return encoder_class(provenance.method).build(provenance.config)


def check_shapes(path: Path, file: safe_open, model: nn.Module) -> None:
    """
    Raises:
        EncoderWeightsError: the file does not hold the tensors of the model.
    """
    expected = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - not a dict
    for name in sorted({*expected, *found}):
        if expected.get(name) != found.get(name):
            was, should = (shapes.get(name, "nothing") for shapes in (found, expected))
            raise EncoderWeightsError(
                f"the encoder {path} holds {was} under {name}, expected {should}; train or copy it again"
            )


def _decoded(facts: dict[str, Any]) -> Provenance:
    """
    Raises:
        KeyError, TypeError, ValueError: these are not the facts of an encoder.
    """
    if facts["method"] not in get_args(Method):
        raise ValueError(f"unknown method {facts['method']!r}")
    del facts["hours"]  # follows from the clips
    held_out = facts["held_out"]
    return Provenance(
        **{
            **facts,
            "config": EncoderConfig(**facts["config"]),
            "clips": tuple(ClipRecord(**record) for record in facts["clips"]),
            "held_out": held_out and RetrievalScores(**held_out),
        }
    )
