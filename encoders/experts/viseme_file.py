"""A trained lip reader, or an observer, and where it comes from, in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from encoders.bundle import write_weights
from encoders.contrastive.encoder_file import ClipRecord, check_shapes
from encoders.contrastive.lip_clips import LipClip
from encoders.errors import EncoderWeightsError
from encoders.experts.observer import ObserverNetwork, VisemeObserver
from encoders.experts.viseme_reader import VisemeReader
from encoders.experts.viseme_training import HeldOutReading, VisemeTraining

FORMAT = "talkinghead lip reader 1"
Kind = Literal["reader", "observer"]
_WRITER = "a file of talkinghead train-encoder"
_NETWORKS: dict[str, type[nn.Module]] = {"reader": VisemeReader, "observer": ObserverNetwork}


@dataclass(frozen=True)
class LipReaderProvenance:
    """What a lip reader is and what it was made from."""

    kind: Kind
    clips: tuple[ClipRecord, ...]
    training: VisemeTraining
    held_out: HeldOutReading | None  # on what was not trained on; None when nothing was held out

    @classmethod
    def of(
        cls, kind: Kind, clips: Sequence[LipClip], training: VisemeTraining, held_out: HeldOutReading | None
    ) -> LipReaderProvenance:
        """clips: what was trained on."""
        records = tuple(ClipRecord(clip.name, clip.sha256, clip.duration_s) for clip in clips)
        return cls(kind, records, training, held_out)


def save_lip_reader(network: VisemeReader | VisemeObserver, provenance: LipReaderProvenance, path: Path) -> None:
    """Writes a safetensors file, under a temporary name first; the provenance stands in its metadata as JSON."""
    state = network.state() if isinstance(network, VisemeObserver) else network.state_dict()
    write_weights(state, path, {"format": FORMAT, "provenance": json.dumps(asdict(provenance))})


def load_reader(path: Path) -> tuple[VisemeReader, LipReaderProvenance]:
    """A reader, frozen, on the CPU.

    Raises:
        EncoderWeightsError: the file is missing, damaged, or no reader.
    """
    network, provenance = _load(path, "reader")
    assert isinstance(network, VisemeReader)
    return network, provenance


def load_observer(path: Path) -> tuple[VisemeObserver, LipReaderProvenance]:
    """An observer.

    Raises:
        EncoderWeightsError: the file is missing, damaged, or no observer.
    """
    network, provenance = _load(path, "observer")
    assert isinstance(network, ObserverNetwork)
    return VisemeObserver(network), provenance


def read_provenance(path: Path) -> LipReaderProvenance:
    """Where a lip reader of either kind comes from.

    Raises:
        EncoderWeightsError: the file is missing, damaged, or no lip reader.
    """
    with _opened(path) as file:
        return _provenance(path, file)


def _load(path: Path, kind: Kind) -> tuple[nn.Module, LipReaderProvenance]:
    with _opened(path) as file:
        provenance = _provenance(path, file)
        if provenance.kind != kind:
            raise EncoderWeightsError(
                f"expected {_WRITER} --method {kind} at {path}, got one of --method {provenance.kind}"
            )
        with torch.device("meta"):
            network = _NETWORKS[kind]()
        check_shapes(path, file, network)
        network.load_state_dict({name: file.get_tensor(name) for name in file.keys()}, assign=True)  # noqa: SIM118
    return network.eval().requires_grad_(False), provenance


@contextmanager
def _opened(path: Path) -> Iterator[safe_open]:
    """The file, whatever is wrong with it or its content being one kind of error."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except FileNotFoundError as error:
        raise EncoderWeightsError(f"no lip reader at {path}: give {_WRITER}") from error
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise EncoderWeightsError(f"the lip reader {path} is damaged ({error}); train or copy it again") from error


def _provenance(path: Path, file: safe_open) -> LipReaderProvenance:
    metadata = file.metadata() or {}
    if metadata.get("format") != FORMAT:
        raise EncoderWeightsError(f"{path} holds no lip reader: give {_WRITER}")
    return _decoded(json.loads(metadata["provenance"]))


def _decoded(facts: dict[str, Any]) -> LipReaderProvenance:
    """
    Raises:
        KeyError, TypeError, ValueError, AttributeError: these are not the facts of a lip reader.
    """
    if facts["kind"] not in get_args(Kind):
        raise ValueError(f"unknown kind {facts['kind']!r}")
    held_out = facts["held_out"]
    return LipReaderProvenance(
        kind=facts["kind"],
        clips=tuple(ClipRecord(**record) for record in facts["clips"]),
        training=VisemeTraining(**facts["training"]),
        held_out=held_out and HeldOutReading(**held_out),
    )
