"""The `talkinghead` command: the only module that prints.

Results go to standard output; progress bars, notes and errors to standard error. Exit codes: 0 done, 2 something that
the user can mend (one line says what), 130 stopped with Ctrl-C. What loads slowly is imported by the command that needs
it.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, TypeVar

import tyro

from talkinghead import __version__
from talkinghead.config import Backend, EvaluateConfig, FeaturesConfig, FitConfig, SpeakConfig
from talkinghead.progress import Progress
from tools.errors import UserError

EXIT_USER, EXIT_INTERRUPTED = 2, 130
ASSETS = Path(__file__).parent / "assets"
DESCRIPTION = """From a person's video to a lip-synced video of that person. --version prints the version."""
LIBRARY_LOG_LEVELS = {"GLOG_minloglevel": "3", "TF_CPP_MIN_LOG_LEVEL": "3", "ABSL_MIN_LOG_LEVEL": "3"}

Result = TypeVar("Result")
Output = Annotated[Path, tyro.conf.arg(aliases=("-o",), metavar="PATH")]
OptionalOutput = Annotated[Path | None, tyro.conf.arg(aliases=("-o",), metavar="PATH")]
JsonFile = Annotated[Path | None, tyro.conf.arg(metavar="FILE")]
Video = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="VIDEO")]
AvatarFolder = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="AVATAR")]
Audio = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="AUDIO")]
VideoOrAvatar = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="VIDEO_OR_AVATAR")]


@dataclass(frozen=True)
class Fit:
    """Learn a person from a video: writes an avatar folder. A fit that was stopped goes on where it was."""

    video: Video
    """One person talking to the camera, 10 to 60 s, with sound."""
    output: OptionalOutput = None
    """Avatar folder to write; by default the video's name with the ending .avatar, in the current folder."""
    overwrite: bool = False
    """Replace an avatar that is there already."""
    fit: FitConfig = field(default_factory=FitConfig)

    def run(self) -> None:
        output = self.output or Path(f"{self.video.stem}.avatar")
        _fit(self.video, output, self.fit, self.overwrite)
        print(f"{output}: ready for 'talkinghead speak'")


@dataclass(frozen=True)
class Speak:
    """Make the person of an avatar say what a recording says: writes an MP4 video with that sound."""

    avatar: AvatarFolder
    """Folder that `talkinghead fit` made."""
    audio: Audio
    """Speech in any format and of any length; of a video, its sound."""
    output: Output
    """MP4 file to write."""
    overwrite: bool = False
    """Replace a file that is there already."""
    speak: SpeakConfig = field(default_factory=SpeakConfig)

    def run(self) -> None:
        _speak(self.avatar, self.audio, self.output, self.speak, self.overwrite)
        print(self.output)


@dataclass(frozen=True)
class Evaluate:
    """Measure how good the lips and the picture are on footage that was not learned from."""

    target: VideoOrAvatar
    """A video, which is fitted without its last part first, or an avatar fitted with --holdout."""
    json: JsonFile = None
    """Also write the figures to this file."""
    overwrite: bool = False
    """Replace a JSON file that is there already."""
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)

    def run(self) -> None:
        from talkinghead.outputs import check_new_file

        if self.json is not None:
            check_new_file(self.json, self.overwrite, [self.target])
        # A backend also renders an avatar; everything else is about fitting.
        if self.target.is_dir() and replace(self.evaluate.fit, backend="auto") != EvaluateConfig().fit:
            raise UserError(f"{self.target} is an avatar, so nothing is fitted: leave the options of the fit away")
        from talkinghead.evaluate import evaluate, measure_names

        evaluation = _show(evaluate(self.target, self.evaluate))
        lines = [[f"{getattr(row, name):.4g}" for row in evaluation.rows.values()] for name in measure_names()]
        _print_table(
            [("", *evaluation.rows), *((name, *line) for name, line in zip(measure_names(), lines, strict=True))]
        )
        if self.json is not None:
            _write_text(self.json, evaluation.to_json())


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
        from talkinghead.outputs import check_new_array

        check_new_array(self.output, self.overwrite, [self.audio])
        _check_sound(self.audio)
        from talkinghead.export_features import export_features

        exported = _show(export_features(self.audio, self.output, self.features))
        print(f"{self.output}: {'x'.join(map(str, exported.shape))}; {exported.instructions}")


@dataclass(frozen=True)
class Demo:
    """Fit the sample clip that comes with the package, and let it speak: shows that everything works."""

    output: Output = Path("talkinghead-demo")
    """Folder for the avatar and the video; those of an earlier demo are replaced."""

    def run(self) -> None:
        from talkinghead.outputs import check_writable

        avatar, video = self.output / "demo.avatar", self.output / "demo.mp4"
        check_writable(self.output)
        if self.output.exists() and not self.output.is_dir():
            raise UserError(f"cannot write into {self.output}: it is a file; give a folder with -o")
        self.output.mkdir(exist_ok=True)
        _fit(ASSETS / "demo_clip.mp4", avatar, FitConfig(preset="fast"), overwrite=True)
        _speak(avatar, ASSETS / "demo_speech.wav", video, SpeakConfig(), overwrite=True)
        print(video)


@dataclass(frozen=True)
class Info:
    """What an avatar or a video holds; an avatar's files are checked."""

    path: VideoOrAvatar
    """Avatar folder or video."""

    def run(self) -> None:
        from talkinghead.info import describe

        _print_table([(fact.name, fact.value) for fact in describe(self.path)])


@dataclass(frozen=True)
class Doctor:
    """What this machine has for the job, and what to do about what it lacks."""

    def run(self) -> None:
        from talkinghead.doctor import diagnose

        findings = diagnose()
        marks = {(True, True): "ok", (True, False): "ok", (False, True): "-", (False, False): "MISSING"}
        rows = [(marks[finding.ok, finding.optional], finding.name, finding.detail) for finding in findings]
        remedies = [("", "", f"-> {finding.remedy}" if finding.remedy else "") for finding in findings]
        _print_table([row for pair in zip(rows, remedies, strict=True) for row in pair if any(row)])
        missing = [finding.name for finding in findings if not finding.ok and not finding.optional]
        if missing:
            raise UserError(f"this machine cannot do the job yet: see {', '.join(missing)} above")


@dataclass(frozen=True)
class Bench:
    """Measure the rasterizer on this machine against its torch reference."""

    backend: Backend = "auto"
    """Rasterizer to measure."""
    json: JsonFile = None
    """Also write the figures to this file."""
    overwrite: bool = False
    """Replace a JSON file that is there already."""

    def run(self) -> None:
        from talkinghead.outputs import check_new_file

        if self.json is not None:
            check_new_file(self.json, self.overwrite)
        from render.benchmark import BenchmarkConfig, run_benchmark

        config = BenchmarkConfig(backend=self.backend)
        total = len(config.gaussians) * len(config.sizes) * len(config.threads)
        rows = [asdict(row) for row in _show(_collected(run_benchmark(config), total))]
        _print_table([tuple(rows[0]), *(tuple(f"{value:g}" for value in row.values()) for row in rows)])
        if self.json is not None:
            _write_text(self.json, json.dumps({"rows": rows}, indent=2))


Command = (
    Annotated[Fit, tyro.conf.subcommand("fit")]
    | Annotated[Speak, tyro.conf.subcommand("speak")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Features, tyro.conf.subcommand("features")]
    | Annotated[Demo, tyro.conf.subcommand("demo")]
    | Annotated[Info, tyro.conf.subcommand("info")]
    | Annotated[Doctor, tyro.conf.subcommand("doctor")]
    | Annotated[Bench, tyro.conf.subcommand("bench")]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line (that of the process by default) and returns the exit code.

    Raises:
        SystemExit: after --help (0) and for options that do not exist (2).
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if list(arguments) == ["--version"]:
        print(f"talkinghead {__version__}")
        return 0
    flags = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff)
    _quieten_libraries()
    try:
        tyro.cli(Command, prog="talkinghead", description=DESCRIPTION, args=arguments, config=flags).run()
    except KeyboardInterrupt:
        _complain("stopped; nothing half-written is left, and a fit that is started again goes on")
        return EXIT_INTERRUPTED
    except UserError as error:
        _complain(str(error))
        return EXIT_USER
    except Exception as error:
        if not isinstance(error, _mendable_library_errors()):
            raise
        _complain(str(error))
        return EXIT_USER
    return 0


def _mendable_library_errors() -> tuple[type[Exception], ...]:
    """Errors of the packages that know nothing of `UserError`, and that a user can do something about."""
    from encoders.errors import EncoderWeightsError, FeatureUnavailableError, LipMotionFitError, SpeechInputError
    from render.rasterize import BackendUnavailableError

    encoders = (EncoderWeightsError, FeatureUnavailableError, LipMotionFitError, SpeechInputError)
    return *encoders, BackendUnavailableError


def _quieten_libraries() -> None:
    """Keeps what other packages have to say about themselves off the user's terminal; set levels win."""
    for name, level in LIBRARY_LOG_LEVELS.items():
        os.environ.setdefault(name, level)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def _fit(video: Path, output: Path, config: FitConfig, overwrite: bool) -> None:
    from talkinghead.outputs import check_new_avatar

    check_new_avatar(output, overwrite)
    from tools.media import open_media

    with open_media(video):  # says what is wrong with the path before anything slow is loaded
        pass
    from talkinghead.avatar import check_folder
    from talkinghead.fit import fit

    _show(fit(video, output, config))
    for finding in check_folder(output).findings:
        print(f"note: {finding}", file=sys.stderr)


def _speak(avatar: Path, audio: Path, output: Path, config: SpeakConfig, overwrite: bool) -> None:
    from talkinghead.outputs import check_new_video

    check_new_video(output, overwrite, [avatar, audio])
    _check_sound(audio)
    from talkinghead.avatar import load_avatar, speech_feature_of
    from talkinghead.speak import speak
    from talkinghead.speech_choice import fetch_weights

    def job() -> Generator[Progress, None, None]:
        yield from fetch_weights(speech_feature_of(avatar))
        yield from speak(load_avatar(avatar), audio, output, config)

    _show(job())


def _check_sound(audio: Path) -> None:
    """Says what is wrong with it before anything slow is loaded."""
    from tools.media import first_sound_track

    first_sound_track(audio)


def _collected(results: Iterator[Result], total: int) -> Generator[Progress, None, list[Result]]:
    """A stream of results as a job whose value is all of them."""
    collected: list[Result] = []
    yield Progress("measuring", 0, total)
    for result in results:
        collected.append(result)
        yield Progress("measuring", len(collected), total)
    return collected


def _show(job: Generator[Progress, None, Result]) -> Result:
    """Runs a job to its end behind a bar per stage, and returns its value; stops it in order when interrupted."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, TextColumn("{task.fields[detail]}"), console=Console(stderr=True)) as bars:
        bar: TaskID | None = None
        stage = ""
        try:
            while True:
                event = next(job)
                if bar is None or event.stage != stage:
                    if bar is not None:  # a stage that is left is done, however coarsely it counted
                        bars.update(bar, completed=bars.tasks[bar].total)
                    stage = event.stage
                    bar = bars.add_task(stage, total=event.total, completed=event.done, detail=event.detail)
                bars.update(bar, total=event.total, completed=event.done, detail=event.detail)
        except StopIteration as finished:
            return finished.value
        finally:
            job.close()


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their longest entry, but the last."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(entry.ljust(width) for entry, width in zip(row, widths, strict=True)).rstrip())


def _write_text(path: Path, text: str) -> None:
    """Under a temporary name first, so that a file that was there stays whole."""
    temporary = path.with_name(f".{path.name}.unfinished")
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(path)


def _complain(message: str) -> None:
    print(f"talkinghead: {' '.join(message.split())}", file=sys.stderr)
