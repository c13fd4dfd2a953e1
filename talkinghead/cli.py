"""The `talkinghead` command. Only the commands, here and in the modules `..._command` and `..._commands`, print.

Results go to standard output; progress bars, notes and errors to standard error. Exit codes: 0 done, 1 a job of `dub`
failed, 2 something that the user can mend (one line says what), 130 stopped with Ctrl-C. What loads slowly is imported
by the command that needs it.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro

from talkinghead import __version__
from talkinghead.arguments import (
    Audio,
    AvatarFolder,
    JsonFile,
    OptionalOutput,
    Output,
    Video,
    VideoOrAvatar,
    check_sound,
)
from talkinghead.bench_command import Bench
from talkinghead.compare_command import Compare
from talkinghead.config import ALPHA, Device, EvaluateConfig, FitConfig, SpeakConfig
from talkinghead.dub_command import Dub
from talkinghead.encoder_commands import AblateEncoder, Features, TrainEncoder
from talkinghead.progress import Progress
from talkinghead.start_up import start_up
from talkinghead.study_command import Study
from talkinghead.terminal import ask, exit_code, print_table, show, write_text
from tools.errors import UserError

ASSETS = Path(__file__).parent / "assets"
CONSENT_QUESTION = "Who is this, and did they agree? (one line, Enter to leave empty)"
NO_CONSENT_NOTE = "the avatar holds no statement that the person agreed; --consent records one"
DEMO_CONSENT = "A public domain portrait of Grace Hopper (United States Navy) and synthetic speech, as an example"
DESCRIPTION = """From a person's video to a lip-synced video of that person. --version prints the version."""


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
    """Make the person of an avatar say what a recording says: writes a video with that sound."""

    avatar: AvatarFolder
    """Folder that `talkinghead fit` made."""
    audio: Audio
    """Speech in any format and of any length; of a video, its sound."""
    output: Output
    """MP4 file to write; with --background alpha a .mov, a .webm or frames/%06d.png (without sound)."""
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
        # A device also renders an avatar; everything else is about fitting.
        if self.target.is_dir() and replace(self.evaluate.fit, device="auto") != EvaluateConfig().fit:
            raise UserError(f"{self.target} is an avatar, so nothing is fitted: leave the options of the fit away")
        for sound in self.evaluate.cross:
            check_sound(sound)
        from talkinghead.evaluate import evaluate

        evaluation = show(evaluate(self.target, self.evaluate))
        print_table(evaluation.to_table())
        for note in evaluation.notes:
            print(f"note: {note}", file=sys.stderr)
        if self.json is not None:
            write_text(self.json, evaluation.to_json())


@dataclass(frozen=True)
class Demo:
    """Fit the sample clip that comes with the package, and let it speak: shows that everything works."""

    output: Output = Path("talkinghead-demo")
    """Folder for the avatar and the video; those of an earlier demo are replaced."""
    device: Device = "auto"
    """Where the work is done: auto takes the GPU if there is one that can do it (see `talkinghead doctor`), else the
    processor; cuda, only the GPU; cpu, only the processor."""

    def run(self) -> None:
        from talkinghead.devices import device_for
        from talkinghead.outputs import check_writable

        avatar, video = self.output / "demo.avatar", self.output / "demo.mp4"
        check_writable(self.output)
        if self.output.exists() and not self.output.is_dir():
            raise UserError(f"cannot write into {self.output}: it is a file; give a folder with -o")
        device_for(self.device)  # complains before there is a folder
        self.output.mkdir(exist_ok=True)
        config = FitConfig(preset="fast", device=self.device, consent=DEMO_CONSENT)
        _fit(ASSETS / "demo_clip.mp4", avatar, config, overwrite=True)
        _speak(avatar, ASSETS / "demo_speech.wav", video, SpeakConfig(device=self.device), overwrite=True)
        print(video)


@dataclass(frozen=True)
class Info:
    """What an avatar or a video holds; an avatar's files are checked."""

    path: VideoOrAvatar
    """Avatar folder or video."""

    def run(self) -> None:
        from talkinghead.info import describe

        print_table([(fact.name, fact.value) for fact in describe(self.path)])


@dataclass(frozen=True)
class Doctor:
    """What this machine has for the job, and what to do about what it lacks."""

    def run(self) -> None:
        from talkinghead.doctor import diagnose

        findings = diagnose()
        marks = {(True, True): "ok", (True, False): "ok", (False, True): "-", (False, False): "MISSING"}
        rows = [(marks[finding.ok, finding.optional], finding.name, finding.detail) for finding in findings]
        remedies = [("", "", f"-> {finding.remedy}" if finding.remedy else "") for finding in findings]
        print_table([row for pair in zip(rows, remedies, strict=True) for row in pair if any(row)])
        missing = [finding.name for finding in findings if not finding.ok and not finding.optional]
        if missing:
            raise UserError(f"this machine cannot do the job yet: see {', '.join(missing)} above")


Command = (
    Annotated[Fit, tyro.conf.subcommand("fit")]
    | Annotated[Speak, tyro.conf.subcommand("speak")]
    | Annotated[Dub, tyro.conf.subcommand("dub")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[Features, tyro.conf.subcommand("features")]
    | Annotated[TrainEncoder, tyro.conf.subcommand("train-encoder")]
    | Annotated[AblateEncoder, tyro.conf.subcommand("ablate-encoder")]
    | Annotated[Study, tyro.conf.subcommand("study")]
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
    start_up()
    return exit_code(
        lambda: tyro.cli(Command, prog="talkinghead", description=DESCRIPTION, args=arguments, config=flags).run()
    )


def _fit(video: Path, output: Path, config: FitConfig, overwrite: bool) -> None:
    from talkinghead.outputs import check_new_avatar

    check_new_avatar(output, overwrite)
    from tools.media import open_media

    with open_media(video):  # says what is wrong with the path before anything slow is loaded
        pass
    if not config.consent:
        config = replace(config, consent=ask(CONSENT_QUESTION) or "")
    from talkinghead.avatar import check_folder
    from talkinghead.fit import fit

    show(fit(video, output, config))
    unstated = () if config.consent else (NO_CONSENT_NOTE,)
    for note in (*check_folder(output).findings, *unstated):
        print(f"note: {note}", file=sys.stderr)


def _speak(avatar: Path, audio: Path, output: Path, config: SpeakConfig, overwrite: bool) -> None:
    from talkinghead.outputs import check_new_video

    check_new_video(output, overwrite, [avatar, audio, *config.files], has_alpha=config.background == ALPHA)
    check_sound(audio)
    if config.mark:
        from talkinghead.certificates import credentials

        credentials(config.certificate, config.key)  # complains before anything slow is loaded
    from talkinghead.avatar import load_avatar, speech_feature_of
    from talkinghead.speak import speak
    from talkinghead.speech_choice import fetch_weights

    def job() -> Generator[Progress, None, tuple[str, ...]]:
        yield from fetch_weights(speech_feature_of(avatar))
        return (yield from speak(load_avatar(avatar), audio, output, config))

    for note in show(job()):
        print(f"note: {note}", file=sys.stderr)
