"""Reading lips with an outside program: what it gets, what is made of its words, and all that it can do wrong."""

from __future__ import annotations

import math
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from demo_clip_track import finish
from tiny_avatar import tiny_avatar

import talkinghead.evaluate
from talkinghead.config import EvaluateConfig
from talkinghead.errors import LipReaderError
from talkinghead.evaluate import evaluate
from talkinghead.evaluation import reading
from talkinghead.evaluation.faces import RowFaces
from talkinghead.evaluation.instruments import Drive, ObservedFrame
from talkinghead.evaluation.pictures import PictureInstrument
from talkinghead.evaluation.reading import LipReader, LipReadingInstrument
from talkinghead.renderer import AvatarRenderer
from tools.errors import MissingFileError, UnreadableFileError, UserError
from tools.video import probe, read_frames

# Reads grey faces: the brightness of a video's first picture says which of the lines it prints.
GREY_READER = """
import sys
from pathlib import Path
import av
Path(sys.argv[0]).with_name("asked").open("a").write(sys.argv[1] + "\\n")
with av.open(sys.argv[1]) as video:
    grey = next(video.decode(video=0)).to_ndarray(format="rgb24").mean()
print("loading weights ...")
print({50: "A cat sat on the mat.", 100: "a dog sat on mat", 150: ""}[round(grey / 50) * 50])
"""
SHAPE = (48, 64, 3)
AREA = (np.ones(SHAPE[:2], bool), (slice(0, 9), slice(0, 9)), RowFaces(ExitStack()))


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], str]:
    """Makes a command of a Python program, in a folder whose name needs quotes."""
    folder = tmp_path / "a reader's folder"
    folder.mkdir()

    def command(source: str, argument: str = "{video}") -> str:
        (folder / "infer.py").write_text(source, encoding="utf-8")
        return shlex.join([sys.executable, str(folder / "infer.py"), argument])

    return command


def read(command: str, video: str = "face.mp4", limit_s: float = 60) -> str:
    return LipReader(LipReader.of(command).arguments, limit_s).read(Path(video))


def rows(
    command: str, transcript: str | None, greys: dict[str, int], says_something_else: str = ""
) -> dict[str, dict[str, float]]:
    """Figures of rows of grey pictures, judged by the last."""
    instrument = LipReadingInstrument(LipReader.of(command), transcript, Fraction(25))
    with ExitStack() as stack:
        observers = {}
        for name, grey in greys.items():
            drive = Drive(name, np.zeros((3, 2)), np.zeros(1), has_truth=name != says_something_else)
            observers[name] = instrument.observer(drive, stack)
            for number in range(3):
                picture = np.full(SHAPE, grey, np.uint8)
                observers[name].see(ObservedFrame(number, np.zeros_like(picture), picture, picture, *AREA))
        truth = list(observers.values())[-1]
        figures = {name: observer.figures(truth) for name, observer in observers.items()}
    assert all(list(row) == [measure.name for measure in instrument.measures] for row in figures.values())
    return figures


GREYS = {"audio": 100, "silence": 150, "ground_truth": 50}


def test_rows_are_read_against_a_transcript(program: Callable[[str], str]) -> None:
    figures = rows(program(GREY_READER), "the cat sat, on the mat", GREYS)
    assert figures == {
        "audio": {"lip_reading_wer": 3 / 6, "lip_reading_accuracy": 3 / 6},
        "silence": {"lip_reading_wer": 1, "lip_reading_accuracy": 0},
        "ground_truth": {"lip_reading_wer": 1 / 6, "lip_reading_accuracy": 5 / 6},
    }


def test_without_a_transcript_the_reading_of_the_clip_counts(program: Callable[[str], str]) -> None:
    figures = rows(program(GREY_READER), None, GREYS)
    assert figures["audio"] == {"lip_reading_wer": 2 / 6, "lip_reading_accuracy": 4 / 6}
    assert figures["silence"]["lip_reading_wer"] == 1
    assert figures["ground_truth"] == {"lip_reading_wer": 0, "lip_reading_accuracy": 1}


def test_each_video_is_read_once_and_not_left_behind(program: Callable[[str], str], tmp_path: Path) -> None:
    rows(program(GREY_READER), None, GREYS)
    asked = (tmp_path / "a reader's folder" / "asked").read_text().splitlines()
    assert len(asked) == len(set(asked)) == 3
    assert not any(Path(video).parent.exists() for video in asked)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[dict[str, dict[str, float]], list[str]]]:
    """`evaluate` of rows of grey pictures, the clip itself last."""

    def watched(
        greys: dict[str, int], *looking: LipReadingInstrument | PictureInstrument
    ) -> tuple[dict[str, dict[str, float]], list[str]]:
        def frames(*_: object) -> Iterator[list[ObservedFrame]]:
            for number in range(3):
                pictures = [np.full(SHAPE, grey, np.uint8) for grey in greys.values()]
                yield [ObservedFrame(number, picture, picture, picture, *AREA) for picture in pictures]

        monkeypatch.setattr(talkinghead.evaluate, "_frames", frames)
        avatar, held_out = tiny_avatar(), np.arange(3)
        drives = [Drive(name, avatar.tracks.lower[held_out], np.zeros(1)) for name in list(greys)[:-1]]
        return finish(talkinghead.evaluate._watch(avatar, held_out, drives, looking, AvatarRenderer(avatar)))

    return watched


def test_evaluate_asks_while_the_videos_are_there(program: Callable[[str], str], watch: Callable[..., Any]) -> None:
    instrument = LipReadingInstrument(LipReader.of(program(GREY_READER)), None, Fraction(25))
    rows, notes = watch({"audio": 100, "ground_truth": 50}, instrument)
    assert {name: row["lip_reading_wer"] for name, row in rows.items()} == {"audio": 2 / 6, "ground_truth": 0}
    assert notes == []


def test_a_reader_that_fails_is_a_note_and_the_rest_is_measured(
    program: Callable[[str], str], watch: Callable[..., Any], tmp_path: Path
) -> None:
    fails_on_bright = GREY_READER.replace('print("loading', "assert grey < 125, 'too bright'\nprint(\"loading")
    instrument = LipReadingInstrument(LipReader.of(program(fails_on_bright)), "a cat sat on the mat", Fraction(25))
    greys = {"tracked": 50, "audio": 150, "silence": 100, "ground_truth": 50}
    rows, notes = watch(greys, instrument, PictureInstrument())
    assert list(rows) == list(greys) and rows["tracked"]["lip_reading_wer"] == 0
    for name in ("audio", "silence", "ground_truth"):
        assert math.isnan(rows[name]["lip_reading_wer"]) and math.isnan(rows[name]["lip_reading_accuracy"])
        assert "composite_psnr" in rows[name]
    (note,) = notes
    assert note.startswith("lip_reading_wer, lip_reading_accuracy not measured: the lip reader ended with exit code 1")
    assert "too bright" in note and "by hand" in note
    asked = (tmp_path / "a reader's folder" / "asked").read_text().splitlines()
    assert len(asked) == 2, "it was asked again after it had failed"


def test_what_cannot_be_compared_is_undefined(program: Callable[[str], str], tmp_path: Path) -> None:
    for row in rows(program(GREY_READER), None, {"audio": 100, "ground_truth": 150}).values():  # the clip is dumb
        assert math.isnan(row["lip_reading_wer"]) and math.isnan(row["lip_reading_accuracy"])
    figures = rows(program(GREY_READER), None, GREYS, says_something_else="audio")
    assert math.isnan(figures["audio"]["lip_reading_wer"]) and figures["silence"]["lip_reading_wer"] == 1
    asked = (tmp_path / "a reader's folder" / "asked").read_text().splitlines()
    assert len(asked) == 1 + 2  # nobody waits for what would not be used


def test_the_video_shows_the_row_frame_by_frame(tmp_path: Path) -> None:
    copy = shlex.join([sys.executable, "-c", "import shutil, sys; shutil.copy(*sys.argv[1:]); print()", "{video}",
                       str(tmp_path / "copy.mp4")])  # fmt: skip
    instrument = LipReadingInstrument(LipReader.of(copy), "words", Fraction(30000, 1001))
    shades = [40, 90, 140, 190]
    with ExitStack() as stack:
        observer = instrument.observer(Drive("audio", np.zeros((4, 2)), np.zeros(1)), stack)
        for number, grey in enumerate(shades):
            picture = np.full(SHAPE, grey, np.uint8)
            observer.see(ObservedFrame(number, picture * 0, picture, picture * 0, *AREA))
        observer.figures(observer)
    info = probe(tmp_path / "copy.mp4")
    assert (info.height, info.width, info.fps, info.frame_count) == (*SHAPE[:2], Fraction(30000, 1001), 4)
    assert [frame.mean() for frame in read_frames(info)] == pytest.approx(shades, abs=3)


@pytest.mark.parametrize(
    ("printed", "words"),
    [
        ("'noise\\nwords read  '", "words read"),
        ("'words\\n'", ""),
        ("''", ""),
        ("'x' * 100_000 + '\\nend'", "end"),
    ],
)
def test_the_last_line_counts(program: Callable[[str], str], printed: str, words: str) -> None:
    assert read(program(f"print({printed})")) == words


def test_no_shell_sees_the_name(program: Callable[[str], str]) -> None:
    name = "$(touch x); a 'b' {video}.mp4"
    assert read(program("import sys; print(sys.argv[1:])"), name) == repr([name])
    assert read(program("import sys; print(sys.argv[1:])", "--file={video}"), "f.mp4") == "['--file=f.mp4']"


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("raise ValueError('no weights at large.pt')", r"exit code 1 \(ValueError: no weights at large.pt\).* by hand"),
        ("import sys; print('words'); sys.exit(3)", r"exit code 3 \(it said nothing\)"),
        ("", "printed nothing: expected the words as the last line"),
    ],
)
def test_a_reader_that_fails(program: Callable[[str], str], source: str, complaint: str) -> None:
    with pytest.raises(LipReaderError, match=complaint):
        read(program(source))


def test_a_reader_that_takes_too_long_is_ended_with_all_that_it_started(
    program: Callable[[str], str], tmp_path: Path
) -> None:
    child = f"import time; time.sleep(1.5); open({str(tmp_path / 'alive')!r}, 'w')"
    source = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with pytest.raises(LipReaderError, match=r"more than 0\.5 s for one video"):
        read(program(source), limit_s=0.5)
    time.sleep(2)
    assert not (tmp_path / "alive").exists()


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        ("python 'infer.py {video}", "is no command .*check its quotes"),
        ("", "does not say where the video goes: give it as 'python infer.py {video}'"),
        ("python infer.py video.mp4", "does not say where the video goes"),
        ("no-such-program {video}", "there is no program no-such-program"),
        ("{video}", "there is no program {video}"),
    ],
)
def test_a_command_that_is_none(command: str, complaint: str) -> None:
    with pytest.raises(LipReaderError, match=complaint):
        LipReader.of(command)


def test_a_program_that_the_system_refuses(tmp_path: Path) -> None:
    broken = tmp_path / "reader"
    broken.write_bytes(b"\x7fELF nothing")
    broken.chmod(0o755)
    with pytest.raises(LipReaderError, match="cannot be started"):
        read(f"{broken} {{video}}")


def test_transcripts_that_are_none(tmp_path: Path) -> None:
    transcript = tmp_path / "words.txt"

    def given() -> object:
        return reading.lip_reader(EvaluateConfig(lip_reader=f"{sys.executable} {{video}}", transcript=transcript))

    with pytest.raises(MissingFileError, match=r"words\.txt does not exist"):
        given()
    transcript.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UnreadableFileError, match=r"words\.txt cannot be read as text.* UTF-8"):
        given()
    transcript.write_text(" ... \n")
    with pytest.raises(LipReaderError, match=r"words\.txt holds no words"):
        given()
    transcript.write_text("\ufeffThe words\n", encoding="utf-8")
    assert given() == (LipReader.of(f"{sys.executable} {{video}}"), "The words\n")


def test_a_transcript_needs_a_reader() -> None:
    with pytest.raises(UserError, match="give a --lip-reader"):
        EvaluateConfig(transcript=Path("words.txt"))
    without = EvaluateConfig()
    assert reading.lip_reading(without, Fraction(25)) == [] and reading.lip_reading_protocol(without) == {}


def test_a_wrong_reader_is_found_before_anything_is_fitted(tmp_path: Path) -> None:
    with pytest.raises(LipReaderError):
        next(evaluate(tmp_path / "there is no such clip.mp4", EvaluateConfig(lip_reader="no-such-program {video}")))
