"""The command that does many jobs, or one film with new lines."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from talkinghead.config import DubConfig, DubOptions
from talkinghead.terminal import JobBars, complain, print_table, show
from tools.errors import UserError

if TYPE_CHECKING:
    from talkinghead.dubbing.scheduling import Workers
    from talkinghead.dubbing.task import Outcome, Task

EXIT_FAILED = 1
AVATARS, AVATARS_SUFFIX = "avatars", ".avatars"
"""Where avatars are kept: in the folder of the videos, or beside a film."""


@dataclass(frozen=True)
class Dub:
    """Make many videos: each row of a job list names a video or an avatar, and what the person shall say. Or, with
    --srt and --audio-dir, let some lines of a film be spoken anew and pass everything else through.

    Everything that is wrong with any row is said before the work. Run it again after it was stopped, or with more rows:
    what is finished is not done again. The options below hold for rows that say nothing else.
    """

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="JOB_LIST_OR_FILM")]
    """CSV, JSON Lines or YAML file with the columns video or avatar, audio (of a film: subtitles and audio_dir), output
    and any of the options below."""
    output: Annotated[Path, tyro.conf.arg(name="out", aliases=("-o",), metavar="PATH")]
    """Folder for the videos and report.jsonl; of a film, the file to write."""
    srt: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """SRT or WebVTT file that says when a film's lines are spoken."""
    audio_dir: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder with a recording for each line that shall be spoken anew, named by the line's number: 7.wav."""
    overwrite: bool = False
    """Replace videos in the folder that were not made by jobs, or the film's file."""
    dub: DubConfig = field(default_factory=DubConfig)
    options: DubOptions = field(default_factory=DubOptions)

    def run(self) -> int:
        """Returns the exit code: whether a job failed."""
        if self.srt is not None or self.audio_dir is not None:
            return self._dub_film()
        from talkinghead.dubbing.job_list import is_job_list

        if not is_job_list(self.source):
            raise UserError(
                f"{self.source} is no job list: give a file that ends in .csv, .jsonl or .yaml, or a film with "
                "--srt and --audio-dir"
            )
        return self._do_jobs()

    def _dub_film(self) -> int:
        if self.srt is None or self.audio_dir is None:
            raise UserError("a film needs both --srt, the times of its lines, and --audio-dir, their recordings")
        if self.dub.workers is not None or self.dub.ray is not None:
            raise UserError("--workers and --ray are for job lists: leave them away, or name the film in one")
        from talkinghead.dubbing.avatar_store import AvatarStore
        from talkinghead.dubbing.cell_values import with_absolute_files
        from talkinghead.dubbing.film_job import FilmJob
        from talkinghead.outputs import check_new_file

        options = with_absolute_files(self.options, Path())
        job = FilmJob(
            row=1,
            video=self.source.absolute(),
            output=self.output.absolute(),
            options=options,
            subtitles=self.srt.absolute(),
            audio_dir=self.audio_dir.absolute(),
        )
        job.check_name(job.output, options)
        check_new_file(job.output, self.overwrite, job.inputs)
        problems = tuple(job.problems())
        if problems:
            raise UserError("; ".join(problems))
        avatars = AvatarStore((self.dub.avatars or self.output.with_suffix(AVATARS_SUFFIX)).absolute())
        result = show(job.run(job.output, avatars))
        for note in result.notes:
            print(f"note: {note}", file=sys.stderr)
        print(self.output)
        return 0

    def _do_jobs(self) -> int:
        from talkinghead.dubbing.cell_values import with_absolute_files
        from talkinghead.dubbing.job_checks import JobFolder, check_jobs
        from talkinghead.dubbing.ledger import Ledger
        from talkinghead.dubbing.run import open_tasks
        from talkinghead.dubbing.summary import summary_table, total, write_report
        from talkinghead.errors import JobListError

        if self.options.mark:
            from talkinghead.certificates import credentials

            credentials(self.options.certificate, self.options.key)
        path = self.output.absolute()
        avatars = (self.dub.avatars or path / AVATARS).absolute()
        folder = JobFolder(path, avatars, with_absolute_files(self.options, Path()), self.overwrite)
        workers = self._workers()
        try:
            jobs = show(check_jobs(self.source, folder))
        except JobListError as error:
            for problem in error.problems:
                complain(problem)
            raise
        path.mkdir(exist_ok=True)
        tasks, outcomes = show(open_tasks(jobs, folder))
        try:
            _follow(tasks, workers, outcomes, len(jobs))
            print_table(summary_table(path, jobs, outcomes))
        finally:
            Ledger(path).sweep()
            report = write_report(path, jobs, outcomes)
        print(f"{total(jobs, outcomes)}; see {report}")
        return EXIT_FAILED if any(outcome.status == "failed" for outcome in outcomes.values()) else 0

    def _workers(self) -> Workers:
        """
        Raises:
            UserError: what does the jobs cannot be had.
        """
        if self.dub.ray is not None:
            from talkinghead.dubbing.ray_workers import RayWorkers

            return RayWorkers(self.dub.ray, self.dub.workers)
        from talkinghead.devices import device_for
        from talkinghead.dubbing.workers import ProcessWorkers

        device_for(self.options.device)
        return ProcessWorkers(self.dub.workers or 1)


def _follow(tasks: list[Task], workers: Workers, outcomes: dict[int, Outcome], jobs: int) -> None:
    """Does the tasks behind a bar for each that runs, and adds their outcomes."""
    from talkinghead.dubbing.scheduling import Step, run_tasks

    events = run_tasks(tasks, workers)
    with closing(events), JobBars(jobs, len(outcomes)) as bars:
        for event in events:
            row, name = event.task.job.row, event.task.job.output.name
            if isinstance(event, Step):
                bars.show(row, f"row {row} {name}", event.progress)
                continue
            outcomes[row] = outcome = event.outcome
            told = f"{outcome.seconds:.0f} s" if outcome.result else outcome.error
            bars.end(row, f"row {row}: {name} {outcome.status}: {told}")
            if outcome.traceback:
                print(outcome.traceback, file=sys.stderr)
