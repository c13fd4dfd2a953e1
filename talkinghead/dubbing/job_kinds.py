"""The kinds of jobs: what a row of a job list is follows from which of its columns are filled.

This is the one place that lists them. A kind is a subclass of `Job` with its `COLUMNS`, a field for each of them,
`problems` and `run`; everything else (reading, checks, ledger, workers, summary) treats all kinds alike.
"""

from __future__ import annotations

from talkinghead.dubbing.film_job import FilmJob
from talkinghead.dubbing.job import Job
from talkinghead.dubbing.speech_job import SpeechJob

KINDS: tuple[type[Job], ...] = (SpeechJob, FilmJob)
