"""The command that lets people judge."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from talkinghead.arguments import Output, StudyVideos
from talkinghead.terminal import print_table, show
from tools.errors import UserError


@dataclass(frozen=True)
class Study:
    """Let people rate videos without knowing what made them: makes a page for them, and then reads their answers.

    Give participants the folder `participants` (page and videos; it needs no network) and keep `key.json`. With
    --answers and --key it prints mean opinion scores with 95 % confidence intervals instead.
    """

    videos: StudyVideos = ()
    """Methods: folders with videos of the same sentences, or videos; NAME=PATH gives a method a name."""
    output: Output = Path("study")
    """Folder to write."""
    overwrite: bool = False
    """Replace a study that is there already: answers to it can then no longer be read."""
    answers: tuple[Path, ...] = ()
    """Files that participants sent back, or folders with them."""
    key: Path | None = None
    """The key.json of the study that was answered."""

    def run(self) -> None:
        if bool(self.videos) == bool(self.answers):
            raise UserError("give videos to make a study of, or --answers and --key to read one")
        if bool(self.answers) != (self.key is not None):
            raise UserError("--answers and --key go together: give the answers and the key.json of their study")
        if self.answers:
            self._evaluate()
        else:
            self._make()

    def _make(self) -> None:
        from talkinghead.study import KEY_NAME, PAGE_FOLDER, check_new_study, collect_methods, write_study

        methods = collect_methods(self.videos)
        check_new_study(self.output, self.overwrite)
        show(write_study(methods, self.output))
        print(f"{self.output / PAGE_FOLDER}: for participants; {self.output / KEY_NAME}: keep it to yourself")

    def _evaluate(self) -> None:
        from talkinghead.opinion_scores import opinion_scores, read_answers
        from talkinghead.study import QUESTIONS, load_key

        key = load_key(self.key)
        answers = read_answers(self.answers, key)
        scores = opinion_scores(answers, key)
        head = ("", *(question.title for question in QUESTIONS))
        print_table([head, *((method, *map(str, row)) for method, row in scores.items())])
        print(
            f"note: {len(answers)} participants, {len(key.clips)} videos; mean opinion score, 1 to 5, and its 95 % "
            "confidence interval over participants",
            file=sys.stderr,
        )
