"""Commands about speech encoders: their features for other programs, their training, their comparison."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from talkinghead.arguments import Audio, JsonFile, OptionalVideos, Output, Videos, check_sound
from talkinghead.config import FeaturesConfig
from talkinghead.terminal import print_table, printable, show, write_text
from talkinghead.training_config import AblationConfig, TrainEncoderConfig
from tools.errors import UserError

if TYPE_CHECKING:
    from encoders.contrastive.retrieval import GridRow
    from encoders.experts.viseme_training import HeldOutReading


@dataclass(frozen=True)
class Features:
    """Write speech features for the renderers of other papers: TalkingGaussian, ER-NeRF, SyncTalk."""

    audio: Audio
    """Speech in any format and of any length; of a video, its sound."""
    output: Output
    """NumPy file to write."""
    overwrite: bool = False
    """Replace a file that is there already."""
    features: FeaturesConfig = field(default_factory=FeaturesConfig)

    def run(self) -> None:
        from talkinghead.outputs import ARRAY_SUFFIX, check_new_file

        check_new_file(self.output, self.overwrite, [self.audio], ARRAY_SUFFIX)
        check_sound(self.audio)
        from talkinghead.export_features import export_features

        exported = show(export_features(self.audio, self.output, self.features))
        print(f"{self.output}: {'x'.join(map(str, exported.shape))}; {exported.instructions}")


@dataclass(frozen=True)
class TrainEncoder:
    """Train a speech encoder: the embedded one from nothing but speech synthesisers, or others on videos of people."""

    output: Output
    """Weights to write (.safetensors). A folder beside it keeps what a stopped training goes on from."""
    videos: OptionalVideos = None
    """Folder with videos of people talking, for every method but phones."""
    overwrite: bool = False
    """Replace a file that is there already."""
    train: TrainEncoderConfig = field(default_factory=TrainEncoderConfig)

    def run(self) -> None:
        from talkinghead.outputs import WEIGHTS_SUFFIX, check_new_file

        if self.train.method == "phones" and self.videos is not None:
            raise UserError("the method phones learns from synthesisers: leave the videos away, or choose a --method")
        if self.train.method != "phones" and self.videos is None:
            raise UserError(f"--method {self.train.method} needs a folder of videos: give one")
        check_new_file(self.output, self.overwrite, suffix=WEIGHTS_SUFFIX)
        from talkinghead.train_encoder import LIP_READERS, train_encoder

        refused = show(train_encoder(self.videos, self.output, self.train))
        print(self.output)
        _print_refused(refused)
        if self.train.method in LIP_READERS:
            from encoders.experts.viseme_file import read_provenance

            print(_unseen(read_provenance(self.output).held_out))


def _print_refused(refused: Sequence[str]) -> None:
    for reason in refused:
        print(printable(f"left out: {reason}"))


def _unseen(held_out: HeldOutReading | None) -> str:
    if held_out is None:
        return "nothing that is said was held out: how well it reads is not known"
    return (
        f"of {held_out.frames} frames with speech that it has not seen, mean over visemes: "
        f"{held_out.accuracy:.1%} read right (guessing: {held_out.guessing:.1%}); "
        f"all frames: {held_out.frames_right:.1%} (the commonest viseme: {held_out.commonest:.1%})"
    )


@dataclass(frozen=True)
class AblateEncoder:
    """Train the four variants of SE4Lip's Table 6 alike, and see which finds the right lips best.

    The right lips are looked for among 50 windows of the same clip that were not trained on.
    """

    videos: Videos
    """Folder with videos of people talking."""
    json: JsonFile = None
    """Also write the figures to this file."""
    overwrite: bool = False
    """Replace a JSON file that is there already."""
    ablate: AblationConfig = field(default_factory=AblationConfig)

    def run(self) -> None:
        from talkinghead.outputs import check_new_file

        if self.json is not None:
            check_new_file(self.json, self.overwrite)
        from talkinghead.train_encoder import table_6

        table = show(table_6(self.videos, self.ablate))
        print_table(_grid(table.rows))
        _print_refused(table.refused)
        if self.json is not None:
            write_text(self.json, json.dumps({"rows": [asdict(row) for row in table.rows]}, indent=2))


def _grid(rows: Sequence[GridRow]) -> list[tuple[str, ...]]:
    names = {"stft": "STFT", "mel": "Mel", "gru": "GRU", "cnn": "CNN"}
    scores = [(f"{names[row.config.spectrogram]}+{names[row.config.network]}", row.scores) for row in rows]
    scores.append(("chance", rows[0].scores.chance))
    lines = [(name, f"{one.top_1:.1%}", f"{one.top_5:.1%}", f"{one.mean_rank:.1f}") for name, one in scores]
    return [("", "first", "among 5", "mean rank"), *lines]
