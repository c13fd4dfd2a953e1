"""`talkinghead study`: pages that do not say what made a video, in an order that follows from the participant."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from browser import open_page
from media_samples import numbered_picture, write_clip, write_sound

from talkinghead.cli import main
from talkinghead.errors import OutputExistsError, StudyError
from talkinghead.opinion_scores import read_answers
from talkinghead.study import QUESTIONS, StudyKey, check_new_study, collect_methods, load_key, write_study
from tools.errors import MissingFileError, OutputError
from tools.video import probe
from tools.video_writer import VideoWriter

METHODS = ("our-secret-method", "another's method")
SENTENCES = ("first", "second", "third")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of videos for each method; all show and say the same."""
    folder = tmp_path_factory.mktemp("clips")
    sound = write_sound(folder / "sound.wav", np.sin(np.arange(16_000) / 9).astype(np.float32) / 9, 16_000)
    for method in METHODS:
        (folder / method).mkdir()
        for sentence in SENTENCES:
            with VideoWriter(folder / method / f"{sentence}.mp4", 64, 48, Fraction(25), sound) as writer:
                for number in range(25):
                    writer.write(numbered_picture(number))
    return folder


@pytest.fixture(scope="module")
def study(clips: Path) -> Path:
    """The folder of a study."""
    output = clips.parent / "a study #1"
    list(write_study(collect_methods([str(clips / method) for method in METHODS]), output))
    return output


def page(study: Path) -> str:
    return (study / "participants" / "index.html").read_text(encoding="utf-8")


# Blindness


def test_nothing_that_participants_get_tells_the_method(study: Path) -> None:
    files = sorted((study / "participants").iterdir())
    videos = [file for file in files if file.suffix == ".mp4"]
    assert len(files) == 7 and len(videos) == 6
    assert all(re.fullmatch(r"[0-9a-f]{12}\.mp4", video.name) for video in videos)
    for file in files:
        content = file.read_bytes().lower()
        assert not any(word.encode() in content for word in (*METHODS, *SENTENCES, "secret", "key.json")), file
    told = json.loads(re.search(r"const STUDY = (.*);", page(study))[1])
    assert set(told) == {"id", "clips", "questions"} and told["clips"] == [video.name for video in videos]


def test_names_and_order_are_drawn_anew_for_every_study(clips: Path, tmp_path: Path) -> None:
    keys = []
    for number in range(2):
        list(write_study(collect_methods([str(clips / METHODS[0])]), tmp_path / str(number)))
        keys.append(load_key(tmp_path / str(number) / "key.json"))
    assert keys[0].study != keys[1].study
    assert not {clip.name for clip in keys[0].clips} & {clip.name for clip in keys[1].clips}


def test_the_key_knows_every_video(study: Path, clips: Path) -> None:
    key = load_key(study / "key.json")
    assert key.methods == METHODS
    assert {(clip.method, clip.video) for clip in key.clips} == {(m, f"{s}.mp4") for m in METHODS for s in SENTENCES}
    for clip in key.clips:
        info = probe(study / "participants" / clip.name)
        assert (info.width, info.height, info.frame_count, info.has_audio) == (64, 48, 25, True)


def test_titles_in_a_video_are_left_out(clips: Path, tmp_path: Path) -> None:
    import av

    titled = tmp_path / "titled.mp4"
    with av.open(str(clips / METHODS[0] / "first.mp4")) as source, av.open(str(titled), "w") as copy:
        copy.metadata["title"] = "made by our-secret-method"
        streams = {stream.index: copy.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                copy.mux(packet)
    assert b"our-secret-method" in titled.read_bytes()
    list(write_study({"a": [titled]}, tmp_path / "study"))
    (video,) = (tmp_path / "study" / "participants").glob("*.mp4")
    assert b"our-secret-method" not in video.read_bytes()


# The page


def test_the_page_needs_nothing_from_outside(study: Path) -> None:
    assert not re.search(r"""(src|href)\s*=\s*["']|https?:|@import|url\(|import\(|fetch|XMLHttpRequest""", page(study))
    assert all(question.text in page(study) for question in QUESTIONS)


def order_for(key: StudyKey, participant: str) -> list[str]:
    """What the page's script does, written anew: FNV-1a, mulberry32, Fisher and Yates."""
    seed = 0x811C9DC5
    for byte in f"{key.study}:{participant}".encode():
        seed = (seed ^ byte) * 0x01000193 % 2**32
    order = sorted(clip.name for clip in key.clips)
    for last in range(len(order) - 1, 0, -1):
        seed = (seed + 0x6D2B79F5) % 2**32
        mixed = (seed ^ seed >> 15) * (seed | 1) % 2**32
        mixed ^= (mixed + (mixed ^ mixed >> 7) * (mixed | 61)) % 2**32
        other = int((mixed ^ mixed >> 14) / 2**32 * (last + 1))
        order[last], order[other] = order[other], order[last]
    return order


TAKE_PART = """
const pause = ms => new Promise(done => setTimeout(done, ms));
const orders = Object.fromEntries(["Ann", "Bob", "Ann", "Zo\\u00eb"].map(name => [name, orderFor(name)]));
at("begin").requestSubmit();
const refused = at("trial").hidden;
at("participant").value = ' Zo\\u00eb "Z", Q';
at("begin").requestSubmit();
const shown = [], places = [], lengths = [];
while (at("end").hidden && shown.length < 99) {
  const video = document.querySelector("video");
  for (let turn = 0; turn < 200 && !(video.readyState > 1); turn++) await pause(20);
  shown.push(video.getAttribute("src")); places.push(at("place").textContent); lengths.push(video.duration);
  at("ratings").requestSubmit();  // not before all is rated
  if (document.querySelector("video") !== video) return "went on without marks";
  STUDY.questions.forEach(({key}, number) =>
    document.querySelector(`[name=${key}][value="${1 + (shown.length + number) % 5}"]`).click());
  at("ratings").requestSubmit();
}
const link = at("answers"), saved = await (await fetch(link.href)).text();
return {orders, refused, shown, places, lengths, saved, name: link.download, trouble: at("trouble").textContent};
"""


def test_a_participant_rates_every_video_in_an_order_of_their_own(study: Path, tmp_path: Path) -> None:
    here = tmp_path / "page.html"  # the browser sees a copy; videos stay where they are
    base = f'<meta charset="utf-8"><base href="{(study / "participants").as_uri()}/">'
    here.write_text(page(study).replace('<meta charset="utf-8">', base), encoding="utf-8")
    opened = open_page(here, TAKE_PART)
    seen, key, name = opened.value, load_key(study / "key.json"), 'Zoë "Z", Q'
    assert not opened.problems and not opened.loaded and seen["refused"] and not seen["trouble"]
    assert seen["orders"] == {name: order_for(key, name) for name in ("Ann", "Bob", "Zoë")}
    assert len({tuple(order) for order in seen["orders"].values()}) == 3
    assert seen["shown"] == order_for(key, name) and seen["places"] == list("123456")
    assert seen["lengths"] == pytest.approx([1] * 6, abs=0.1)
    assert seen["name"] == "answers-Zoë-Z-Q.csv"
    (tmp_path / "answers.csv").write_text(seen["saved"], encoding="utf-8", newline="")
    (answers,) = read_answers([tmp_path], key)
    assert answers.participant == name
    assert list(answers.marks) == seen["shown"]
    for place, marks in enumerate(answers.marks.values(), 1):
        assert marks == tuple(1 + (place + number) % 5 for number in range(3))


# What is given


def test_methods_are_folders_videos_or_names(clips: Path) -> None:
    ours, theirs = (clips / method for method in METHODS)
    videos = [ours / f"{sentence}.mp4" for sentence in SENTENCES]
    assert collect_methods([str(ours), f"them={theirs}"])["them"] == [theirs / video.name for video in videos]
    assert collect_methods([str(videos[0]), str(videos[1])]) == {"first": [videos[0]], "second": [videos[1]]}
    named = collect_methods([f"a={videos[0]}", f"b={videos[1]}", f"a={videos[2]}", f"b={videos[0]}"])
    assert named == {"a": [videos[0], videos[2]], "b": [videos[1], videos[0]]}


def test_a_path_with_an_equals_sign_is_a_path(tmp_path: Path) -> None:
    (tmp_path / "x=1.mp4").touch()
    assert collect_methods([str(tmp_path / "x=1.mp4")]) == {"x=1": [tmp_path / "x=1.mp4"]}


@pytest.mark.parametrize(
    ("entries", "complaint"),
    [
        (["a/x.mp4", "b/x.mp4"], "two methods are called x: tell them apart as NAME=b/x.mp4"),
        (["a/x.mp4", "x=b/y.mp4"], "two methods are called x: give x=b/y.mp4 another name"),
        (["a=1.mp4", "a=2.mp4", "b=3.mp4"], "as many videos each, of the same sentences: a has 2, b has 1"),
    ],
)
def test_methods_that_cannot_be_compared(entries: list[str], complaint: str) -> None:
    with pytest.raises(StudyError, match=complaint):
        collect_methods(entries)


def test_videos_that_cannot_be_rated(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="holds no video"):
        collect_methods([str(tmp_path)])
    with pytest.raises(MissingFileError):
        list(write_study({"a": [tmp_path / "none.mp4"]}, tmp_path / "study"))
    silent = write_clip(tmp_path / "silent.mov", [Fraction(k, 25) for k in range(5)])
    with pytest.raises(StudyError, match=r"silent\.mov has no sound"):
        list(write_study({"a": [silent]}, tmp_path / "study"))
    professional = tmp_path / "professional.mov"
    with VideoWriter(professional, 64, 48, Fraction(25), clips / "sound.wav") as writer:
        writer.write(np.full((48, 64, 4), 99, np.uint8))
    with pytest.raises(StudyError, match="is in prores, which browsers do not play: convert it to one of h264"):
        list(write_study({"a": [professional]}, tmp_path / "study"))
    assert not (tmp_path / "study").exists()


# Where it goes


def test_a_study_is_not_replaced_unasked_and_answers_stay(clips: Path, tmp_path: Path) -> None:
    output, methods = tmp_path / "study", {"a": [clips / METHODS[0] / "first.mp4"]}
    check_new_study(output, overwrite=False)
    list(write_study(methods, output))
    with pytest.raises(OutputExistsError, match="with its key only"):
        check_new_study(output, overwrite=False)
    check_new_study(output, overwrite=True)
    (output / "answers").mkdir()
    (output / "answers" / "ann.csv").touch()
    list(write_study(methods, output))
    assert (output / "answers" / "ann.csv").exists() and len(list((output / "participants").iterdir())) == 2


def test_other_folders_and_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="it is a file"):
        check_new_study(tmp_path / "file", overwrite=True)
    with pytest.raises(OutputError, match="holds other files"):
        check_new_study(tmp_path, overwrite=True)
    (tmp_path / "empty").mkdir()
    check_new_study(tmp_path / "empty", overwrite=False)


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"study": "a", "methods": [], "clips": [{"name": "b"}]}'])
def test_keys_that_are_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "key.json").write_text(content)
    with pytest.raises(StudyError, match=r"key\.json is not the key of a study .* give the key\.json"):
        load_key(tmp_path / "key.json")


# The command


def test_the_command_makes_a_study(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "study"
    assert main(["study", *(str(clips / method) for method in METHODS), "-o", str(output)]) == 0
    assert f"{output / 'participants'}: for participants" in capsys.readouterr().out
    assert load_key(output / "key.json").methods == METHODS


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("study", "give videos to make a study of, or --answers and --key"),
        ("study a.mp4 --answers b.csv --key key.json", "give videos to make a study of, or --answers"),
        ("study --answers b.csv", "--answers and --key go together"),
        ("study a.mp4 --key key.json", "--answers and --key go together"),
        ("study --answers b.csv --key none.json", "none.json is not the key"),
        ("study none.mp4 -o {}/study", "none.mp4 does not exist"),
        ("study none.mp4 -o {}/none/study", "create it first"),
    ],
)
def test_the_command_says_what_is_wrong(
    arguments: str, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments.replace("{}", str(tmp_path)).split()) == 2
    assert complaint in capsys.readouterr().err and not any(tmp_path.iterdir())
