"""Lines and their recordings: what subtitle programs write, what studios name their files, and what goes wrong."""

from __future__ import annotations

import wave
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from media_samples import write_sound

from talkinghead.dubbing import subtitles as subtitles_module
from talkinghead.dubbing.script import Script, read_script
from talkinghead.dubbing.subtitles import read_subtitles
from talkinghead.errors import ScriptError

SRT = """1
00:00:01,000 --> 00:00:02,500
Guten <i>Abend</i>.

2
00:00:03,250 --> 00:00:04,000 X1:10 X2:20
{\\an8}Wie geht es
Ihnen?

7
01:00:00,001 --> 01:00:01,001
"""
VTT = """WEBVTT - some film

STYLE
::cue { color: red }

NOTE nobody --
reads this

intro
00:01.000 --> 00:02.500 align:start position:10%
<v Anna>Guten <b>Abend</b> &amp; willkommen.

100:00:03.250 --> 100:00:04.000
- Wie geht es
- Ihnen?

not this
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "lines").mkdir()
    return tmp_path


def subtitles(folder: Path, text: str, name: str = "film.srt") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def record(folder: Path, *names: str) -> None:
    for name in names:
        write_sound(folder / "lines" / "sound.wav", np.zeros(800, np.float32), 16_000)
        (folder / "lines" / "sound.wav").rename(folder / "lines" / name)


def numbered(count: int) -> str:
    return "\n".join(f"{k}\n00:00:{k:02} --> 00:00:{k:02},500\nline {k}\n" for k in range(1, count + 1))


def recordings(script: Script) -> dict[int, str | None]:
    return {line.number: line.audio.name if line.audio else None for line in script.lines}


def problems_of(folder: Path, text: str) -> tuple[str, ...]:
    with pytest.raises(ScriptError) as caught:
        read_script(subtitles(folder, text), folder / "lines")
    assert "\n" not in str(caught.value) and all(problem in str(caught.value) for problem in caught.value.problems)
    return caught.value.problems


# --- subtitle files ---


def test_srt(tmp_path: Path) -> None:
    cues = read_subtitles(subtitles(tmp_path, SRT)).cues
    assert [(cue.identifier, cue.row) for cue in cues] == [("1", 2), ("2", 6), ("7", 11)]
    assert [(cue.start, cue.end) for cue in cues] == [
        (1, Fraction(5, 2)),
        (Fraction(13, 4), 4),
        (3600 + Fraction(1, 1000), 3601 + Fraction(1, 1000)),
    ]
    assert [cue.text for cue in cues] == ["Guten Abend.", "Wie geht es Ihnen?", ""]


def test_vtt(tmp_path: Path) -> None:
    read = read_subtitles(subtitles(tmp_path, VTT, "film.vtt"))
    assert [cue.identifier for cue in read.cues] == ["intro", ""]
    assert [(cue.start, cue.end) for cue in read.cues] == [
        (1, Fraction(5, 2)),
        (360_000 + Fraction(13, 4), 360_004),
    ]
    assert [cue.text for cue in read.cues] == ["Guten Abend & willkommen.", "- Wie geht es - Ihnen?"]
    assert read.problems == read.warnings == ()


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1"])
def test_encodings_and_line_ends(encoding: str, newline: str, tmp_path: Path) -> None:
    path = tmp_path / "film.srt"
    path.write_bytes(SRT.replace("Guten", "Schönen").replace("\n", newline).encode(encoding))
    read = read_subtitles(path)
    assert [cue.text for cue in read.cues] == ["Schönen Abend.", "Wie geht es Ihnen?", ""]
    assert [cue.row for cue in read.cues] == [2, 6, 11]
    assert bool(read.warnings) == (encoding == "latin-1")
    assert encoding != "latin-1" or "is read as Latin-1" in read.warnings[0]


def test_what_careless_programs_write(tmp_path: Path) -> None:
    """No numbers; no fractions; points for commas; no empty row before a number; an empty row within a text."""
    text = "0:1 --> 0:2.5\nOne\n\nstill one\n8\n00:00:03.5-->00:00:4,25\nTwo"
    cues = read_subtitles(subtitles(tmp_path, text)).cues
    assert [(cue.identifier, cue.start, cue.end, cue.text) for cue in cues] == [
        ("", 1, Fraction(5, 2), "One still one"),
        ("8", Fraction(7, 2), Fraction(17, 4), "Two"),
    ]


@given(text=st.text(alphabet="0123456789:,.->\n\r WEBVTT<{}\\x\ufeff\0é", max_size=200) | st.text(max_size=100))
def test_any_text_is_read_or_refused(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("any") / "film.srt"
    path.write_bytes(text.encode(errors="surrogatepass"))
    try:
        read = read_subtitles(path)
    except ScriptError:
        return
    assert len(read.cues) + len(read.problems) <= text.count("-->")


@given(content=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("any") / "film.vtt"
    path.write_bytes(b"WEBVTT\n" + content)
    try:
        read_subtitles(path)
    except ScriptError as error:
        assert "no text" in str(error)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subtitles_module, "MOST_BYTES", 1_000_000)
    path = subtitles(tmp_path, SRT)
    with path.open("r+b") as file:
        file.truncate(1_000_001)
    with pytest.raises(ScriptError, match="larger than 1 MB"):
        read_subtitles(path)


# --- which recording belongs to which line ---


@pytest.mark.parametrize("name", ["2.wav", "002.wav", "line_2.wav", "de-Zeile 0002 (Anna).WAV", "take2.Wave"])
def test_a_recording_is_found_by_the_number_of_its_line(name: str, folder: Path) -> None:
    record(folder, name)
    script = read_script(subtitles(folder, numbered(3)), folder / "lines")
    assert recordings(script) == {1: None, 2: name, 3: None}
    assert [line.audio_s for line in script.lines] == [0, Fraction(1, 20), 0]
    assert script.warnings == ("2 lines (1, 3) without a recording, which stay as they are",)


def test_the_number_is_the_files_own(folder: Path) -> None:
    record(folder, "7.wav", "1.wav")
    script = read_script(subtitles(folder, SRT), folder / "lines")
    assert recordings(script) == {1: "1.wav", 2: None, 7: "7.wav"}


def test_without_numbers_it_is_the_order(folder: Path) -> None:
    record(folder, "2.wav", "INTRO.wav")
    script = read_script(subtitles(folder, VTT), folder / "lines")
    assert recordings(script) == {1: "INTRO.wav", 2: "2.wav"}


def test_lines_come_in_order_of_time(folder: Path) -> None:
    record(folder, "1.wav")
    text = "1\n0:05 --> 0:06\nlater\n\n2\n0:01 --> 0:02\nearlier\n"
    script = read_script(subtitles(folder, text), folder / "lines")
    assert [(line.number, line.text) for line in script.lines] == [(2, "earlier"), (1, "later")]


def test_other_files_are_left_alone(folder: Path) -> None:
    record(folder, "1.wav", "2.wav", "._1.wav", "roomtone.wav", "99.wav")
    (folder / "lines" / "1.txt").write_text("notes")
    (folder / "lines" / "film2.mp4").touch()
    script = read_script(subtitles(folder, numbered(2)), folder / "lines")
    assert recordings(script) == {1: "1.wav", 2: "2.wav"}
    assert script.warnings == ("2 sound files (99.wav, roomtone.wav) for which there is no line",)


def test_everything_that_is_wrong_is_said_at_once(folder: Path) -> None:
    record(folder, "1.wav", "001.wav", "2_take3.wav")
    (folder / "lines" / "4.wav").write_bytes(b"no sound at all")
    with wave.open(str(folder / "lines" / "5.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
    text = numbered(5) + "5\n0:09 --> 0:08\n\n6\n0:0x --> 0:11\n\n"
    problems = problems_of(folder, text)
    expected = (
        "row 24 is no pair of times ('0:0x --> 0:11')",
        "2 lines have the number 5",
        "line 5 ends before it starts",
        "2_take3.wav has several numbers",
        "001.wav, 1.wav are all for line 1",
        "line 4: ",
        "line 5: ",
    )
    assert len(problems) == len(expected)
    assert all(problem.startswith(words) for problem, words in zip(problems, expected, strict=True))


def test_no_recording_at_all(folder: Path) -> None:
    assert problems_of(folder, numbered(3)) == (
        f"no file in {folder / 'lines'} is the recording of a line: name them by the lines' numbers, 7.wav",
    )


@pytest.mark.parametrize(
    ("text", "words"), [("", "holds no lines"), ("hello", "holds no lines"), ("1\n\0\0\0", "no text")]
)
def test_what_is_no_subtitle_file(text: str, words: str, folder: Path) -> None:
    assert words in problems_of(folder, text)[0]


def test_missing_files_and_folders(folder: Path) -> None:
    with pytest.raises(ScriptError, match="check the name"):
        read_script(folder / "none.srt", folder / "lines")
    with pytest.raises(ScriptError, match=r"folder of recordings .* cannot be read"):
        read_script(subtitles(folder, SRT), folder / "none")
