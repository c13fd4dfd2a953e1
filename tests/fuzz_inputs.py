"""What strangers may send, changed at random: whatever it is, it is read or refused with a clear error.

    python tests/fuzz_inputs.py --minutes 10 --seed 0

Avatars get checksums that match, so that the changes come past them. A finding is any exception other than one that
tells a user what to do, more memory than any input is worth, or no end. Each can be had again by its number: --only 17.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from media_samples import write_sound
from tiny_avatar import save_speaking_avatar

from talkinghead.avatar import FILES, load_avatar
from talkinghead.certificates import CERTIFICATE_VARIABLE, KEY_VARIABLE, make_test_certificate
from talkinghead.complaints import complaint
from talkinghead.config import DubOptions, SpeakConfig
from talkinghead.dubbing.cell_values import OPTION_COLUMNS
from talkinghead.dubbing.job_checks import COLUMNS, JobFolder, check_jobs
from talkinghead.dubbing.ledger import Ledger
from talkinghead.dubbing.script import read_script
from talkinghead.dubbing.slots import slots
from talkinghead.errors import JobListError
from talkinghead.file_record import FileRecord
from talkinghead.info import describe
from talkinghead.pose_file import read_poses
from talkinghead.speak import speak
from talkinghead.training_history import read_history
from tools.audio import read_audio
from tools.film import probe_film
from tools.video import probe, read_frames

MOST_BYTES = 500_000_000
"""By which one input may raise the memory that the process has taken."""
LONGEST_S = 120
SHARE_SPOKEN = 0.2
"""Of the avatars that can be loaded, those that are also let speak."""
NUMBERS = (0, -1, 1, 2, 255, 65_535, 2**31, 2**63, 2**64, 10**30, 0.5, 1e308, -1e308, float("nan"), float("inf"))
TEXTS = (
    "",
    "0",
    "-1",
    "1/0",
    "25/1",
    "1e999999999",
    "nan",
    "\0",
    "\x1b[2J",
    "../../etc/passwd",
    "/dev/zero",
    "é" * 999,
)
WORDS = (
    *TEXTS,
    "source",
    "alpha",
    "still",
    "person.mov",
    "tiny.avatar",
    "speech.wav",
    "a.mp4",
    "b/c.mp4",
    "0.5",
    "off",
)
SRT = "1\n00:00:00,100 --> 00:00:00,400\nHello\n\n2\n00:00:00,500 --> 00:00:00,700\n<i>you</i>\n"
VTT = "WEBVTT\n\nintro\n00:00.100 --> 00:00.400\n<v Anna>Hello &amp; you\n\nNOTE\n\n00:00.5 --> 00:00.7\nyou\n"
POSES = "yaw,pitch,roll,x,y,z\n" + "0,1,2,0.1,0,0\n" * 5


class Samples:
    """A folder of inputs that are right, from which wrong ones are made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        save_speaking_avatar(folder)
        self.avatar = folder / "tiny.avatar"
        (self.avatar / "training.json").write_text('{"steps": [0, 1], "losses": [1.0, 0.5], "gaussians": [90, 90]}')
        self.sound = write_sound(folder / "speech.wav", np.sin(np.arange(8000) / 9).astype(np.float32), 16_000)
        self.video = folder / "marked.mp4"
        _finished(speak(load_avatar(self.avatar), self.sound, self.video, SpeakConfig()))
        (folder / "lines").mkdir()
        for number in (1, 2):
            shutil.copy(self.sound, folder / "lines" / f"{number}.wav")


def _finished(job: Generator[Any, None, Any]) -> Any:
    while True:
        try:
            next(job)
        except StopIteration as end:
            return end.value


# --- changes ---


def bytes_changed(content: bytes, chance: random.Random) -> bytes:
    """Bits flipped, pieces removed, repeated, overwritten or cut off."""
    changed = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 8])):
        place = chance.randrange(len(changed) + 1)
        length = chance.choice([1, 2, 4, 8, 100])
        kind = chance.randrange(5)
        if kind == 0 and place < len(changed):
            changed[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            del changed[place : place + length]
        elif kind == 2:
            changed[place:place] = changed[place : place + length]
        elif kind == 3:
            changed[place : place + length] = chance.choice([b"\xff", b"\0", b"\x7f", b"9"]) * length
        else:
            del changed[place:]
        if not changed:
            break
    return bytes(changed)


def value_changed(value: Any, chance: random.Random) -> Any:
    """Some part of a JSON value in another form."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        name = chance.choice(sorted(value))
        if chance.random() < 0.1:
            return {other: value[other] for other in value if other != name}
        return value | {name: value_changed(value[name], chance)}
    if isinstance(value, list) and value and chance.random() < 0.8:
        place = chance.randrange(len(value))
        return [*value[:place], value_changed(value[place], chance), *value[place + 1 :]]
    if isinstance(value, int | float) and chance.random() < 0.5:
        return value + chance.choice([-1, 1, 0.5, 1000])
    return chance.choice([*NUMBERS, *TEXTS, None, True, [], {}, [[]] * 50, _deep(chance), [value] * 3, {"a": value}])


def _deep(chance: random.Random) -> Any:
    value: Any = 0
    for _ in range(chance.choice([10, 500])):
        value = [value]
    return value


def tensors_changed(content: bytes, chance: random.Random) -> bytes:
    """A safetensors file with another header, or with numbers that are none."""
    size = struct.unpack("<Q", content[:8])[0]
    header, data = content[8 : 8 + size], bytearray(content[8 + size :])
    kind = chance.randrange(4)
    if kind == 0:
        place = chance.randrange(max(1, len(data) // 4)) * 4
        data[place : place + 4] = struct.pack("<f", chance.choice([np.nan, np.inf, -np.inf, 3e38, 1e-40]))
    elif kind == 1:
        header = json.dumps(value_changed(json.loads(header), chance)).encode()
    elif kind == 2:  # numbers of a small tensor, which are often sizes or settings
        small = [facts["data_offsets"] for facts in json.loads(header).values() if "data_offsets" in facts]
        begin, end = chance.choice([place for place in small if place[1] - place[0] <= 16] or small)
        filler = struct.pack("<d", float(chance.choice([0, -1, 1e12, np.nan, np.inf])))
        data[begin:end] = (filler * ((end - begin) // 8 + 1))[: end - begin]
    else:
        return struct.pack("<Q", chance.choice([0, 1, size - 1, size + 8, 2**40, 2**63])) + content[8:]
    return struct.pack("<Q", len(header)) + header + bytes(data)


def picture_changed(content: bytes, chance: random.Random) -> bytes:
    """A PNG with another header, whose own checksum matches."""
    header = bytearray(content[16:29])
    header[chance.randrange(len(header))] = chance.randrange(256)
    return content[:16] + bytes(header) + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + content[33:]


def ply_changed(content: bytes, chance: random.Random) -> bytes:
    """A PLY file whose header says something else."""
    new = chance.choice([b"vertex 99999999999", b"vertex -1", b"vertex 91", b"property list uint double q"])
    old = b"vertex 90" if new.startswith(b"vertex") else b"property uchar branch"
    return content.replace(old, new, 1)


def text_changed(text: str, chance: random.Random) -> bytes:
    """Words exchanged, lines repeated or shuffled, in another encoding, and then perhaps as bytes."""
    lines = text.split("\n")
    for _ in range(chance.choice([0, 1, 3])):
        place = chance.randrange(len(lines))
        kind = chance.randrange(4)
        if kind == 0:
            lines[place] = chance.choice(WORDS)
        elif kind == 1:
            lines[place:place] = [lines[place]] * chance.choice([1, 2, 200])
        elif kind == 2:
            chance.shuffle(lines)
        else:
            lines[place] = lines[place].replace(
                chance.choice("0123:,.->"), chance.choice(["", "9" * 30, "-", "\t", ":"])
            )
    content = "\n".join(lines).encode(chance.choice(["utf-8", "utf-8", "utf-16", "latin-1"]), "replace")
    return bytes_changed(content, chance) if chance.random() < 0.5 else content


# --- what is tried ---


def an_avatar(samples: Samples, folder: Path, chance: random.Random) -> None:
    avatar = folder / "a.avatar"
    shutil.copytree(samples.avatar, avatar)
    content = json.loads((avatar / "avatar.json").read_text())
    facts = content["avatar"]
    for name in chance.sample([*FILES, "avatar.json"], chance.choice([1, 1, 2])):
        if name == "avatar.json":
            facts = value_changed(facts, chance)
        else:
            _change_file(avatar / name, chance)
    files = {name: dataclasses.asdict(FileRecord.of(avatar / name)) for name in FILES if (avatar / name).is_file()}
    sealed = {"avatar": facts, "files": value_changed(files, chance) if chance.random() < 0.1 else files}
    digest = hashlib.sha256(json.dumps(sealed, sort_keys=True).encode()).hexdigest()
    text = json.dumps({"format_version": content["format_version"], "sha256": digest, **sealed})
    (avatar / "avatar.json").write_bytes(
        bytes_changed(text.encode(), chance) if chance.random() < 0.1 else text.encode()
    )
    describe(avatar)
    loaded = load_avatar(avatar)
    loaded.source_video()
    if chance.random() < SHARE_SPOKEN:
        background = chance.choice(["source", "plate"])
        _finished(speak(loaded, samples.sound, folder / "out.mp4", SpeakConfig(background=background, mark=False)))


def _change_file(path: Path, chance: random.Random) -> None:
    changes: dict[str, Callable[[bytes, random.Random], bytes]] = {
        ".safetensors": tensors_changed,
        ".png": picture_changed,
        ".ply": ply_changed,
    }
    change = changes.get(path.suffix, bytes_changed) if chance.random() < 0.7 else bytes_changed
    content = change(path.read_bytes(), chance)
    path.unlink()
    kind = chance.random()
    if kind < 0.02:
        path.symlink_to(chance.choice(["/dev/zero", "/etc/passwd", path.with_name("avatar.json"), path]))
    elif kind < 0.04:
        path.mkdir()
    else:
        path.write_bytes(content)


def a_manifest(samples: Samples, folder: Path, chance: random.Random) -> None:
    text = (samples.avatar / "avatar.json").read_text()
    folder.joinpath("avatar.json").write_bytes(
        chance.choice(
            [
                lambda: bytes_changed(text.encode(), chance),
                lambda: json.dumps(value_changed(json.loads(text), chance)).encode(),
                lambda: b"[" * chance.choice([10, 100_000]),
                lambda: b'{"format_version": ' + b"9" * chance.choice([10, 5000]) + b"}",
            ]
        )()
    )
    describe(folder)


def a_history(samples: Samples, folder: Path, chance: random.Random) -> None:
    content = (samples.avatar / "training.json").read_text()
    changed = json.dumps(value_changed(json.loads(content), chance)).encode()
    (folder / "training.json").write_bytes(changed if chance.random() < 0.5 else bytes_changed(changed, chance))
    read_history(folder)


def a_job_list(samples: Samples, folder: Path, chance: random.Random) -> None:
    columns = chance.sample(COLUMNS, chance.randrange(1, 8)) + chance.choice([[], ["audio"], ["video", "audio"]])
    rows = [[_cell(column, chance) for column in columns] for _ in range(chance.choice([1, 2, 5]))]
    kind = chance.choice([".csv", ".jsonl", ".yaml"])
    if kind == ".csv":
        text = "\n".join(
            ",".join(f'"{cell}"' if chance.random() < 0.3 else cell for cell in row) for row in [columns, *rows]
        )
    elif kind == ".jsonl":
        text = "\n".join(json.dumps(dict(zip(columns, row, strict=True))) for row in rows)
    else:
        marks = ["", "", "", "!!python/object/apply:os.system ", "&a ", "*a ", "| ", "{", "[["]
        text = "\n".join(
            "- "
            + "\n  ".join(f"{column}: {chance.choice(marks)}{cell}" for column, cell in zip(columns, row, strict=True))
            for row in rows
        )
    path = folder / f"jobs{kind}"
    path.write_bytes(text_changed(text, chance))
    for name in ("tiny.avatar", "speech.wav", "lines"):
        (folder / name).symlink_to(samples.folder / name)
    before = {item.name for item in folder.iterdir()}
    try:
        jobs = _finished(check_jobs(path, JobFolder(folder / "out", folder / "out" / "avatars", DubOptions(), False)))
        assert all(job.output.resolve().is_relative_to(folder / "out") for job in jobs)
    except JobListError as error:
        assert error.problems or str(error)
        assert all("\n" not in problem for problem in error.problems)
    assert {item.name for item in folder.iterdir()} == before, "something was written"


def _cell(column: str, chance: random.Random) -> str:
    likely = {"audio": "speech.wav", "video": "tiny.avatar", "avatar": "tiny.avatar", "audio_dir": "lines"}
    if column in likely and chance.random() < 0.7:
        return likely[column]
    number = str(chance.choice(NUMBERS))
    return chance.choice([number, *WORDS]) if column in OPTION_COLUMNS else chance.choice(WORDS)


def subtitles(samples: Samples, folder: Path, chance: random.Random) -> None:
    path = folder / "lines.srt"
    path.write_bytes(text_changed(chance.choice([SRT, VTT]), chance))
    slots(read_script(path, samples.folder / "lines"), Fraction(1))


def poses(samples: Samples, folder: Path, chance: random.Random) -> None:
    (folder / "poses.csv").write_bytes(text_changed(POSES, chance))
    read_poses(folder / "poses.csv")


def a_record(samples: Samples, folder: Path, chance: random.Random) -> None:
    output, ledger = folder / "a.mp4", Ledger(folder)
    output.write_bytes(b"video")
    record = {
        "key": "k",
        "output": "a.mp4",
        "file": dataclasses.asdict(FileRecord.of(output)),
        "seconds": 1.0,
        "result": {"frames": 5, "notes": ["a"], "avatar": "b"},
    }
    ledger.lock_path(output).parent.mkdir()
    changed = json.dumps(value_changed(record, chance)).encode()
    path = ledger.lock_path(output).with_suffix(".json")
    path.write_bytes(changed if chance.random() < 0.5 else bytes_changed(changed, chance))
    ledger.finished(output, "k")


def a_video(samples: Samples, folder: Path, chance: random.Random) -> None:
    path = folder / "a.mp4"
    path.write_bytes(bytes_changed(samples.video.read_bytes(), chance))
    describe(path)
    info = probe(path)
    for _ in read_frames(info):
        pass
    probe_film(path)


def a_recording(samples: Samples, folder: Path, chance: random.Random) -> None:
    path = folder / "a.wav"
    path.write_bytes(bytes_changed(samples.sound.read_bytes()[:4000], chance))
    read_audio(path)


TRIALS: Mapping[Callable[[Samples, Path, random.Random], None], int] = {
    an_avatar: 40,
    a_manifest: 10,
    a_history: 3,
    a_job_list: 25,
    subtitles: 10,
    poses: 4,
    a_record: 4,
    a_video: 12,
    a_recording: 6,
}
"""How often each is tried."""


class TooLongError(Exception):
    """An input that is not done with in time."""


class TooMuchMemoryError(Exception):
    """An input that takes more than it is worth."""


@contextmanager
def _limited() -> Iterator[None]:
    """
    Raises:
        TooLongError, TooMuchMemoryError: the block takes more than it may.
    """

    def ring(number: int, frame: object) -> None:
        raise TooLongError(f"not done after {LONGEST_S} s")

    signal.signal(signal.SIGALRM, ring)
    signal.alarm(LONGEST_S)
    before = _peak_bytes()
    try:
        yield
    finally:
        signal.alarm(0)
        if (taken := _peak_bytes() - before) > MOST_BYTES:
            raise TooMuchMemoryError(f"{taken / 1e6:.0f} MB")


def _peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def try_one(samples: Samples, number: int, seed: int) -> tuple[str, str]:
    """The name of a trial, and what came of it: "" if it was read, "refused", or a traceback."""
    chance = random.Random(f"{seed}:{number}")
    (trial,) = chance.choices(list(TRIALS), list(TRIALS.values()))
    with tempfile.TemporaryDirectory(dir=samples.folder) as folder:
        try:
            with _limited():
                trial(samples, Path(folder), chance)
        except Exception as error:
            said = complaint(error)
            return trial.__name__, "refused" if said and "\n" not in said else traceback.format_exc()
    return trial.__name__, ""


def fuzz(seconds: float, seed: int, only: int | None = None) -> list[str]:
    """Tries inputs for so long, or one; prints what it finds and returns it."""
    counts: Counter[tuple[str, str]] = Counter()
    findings: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        samples = Samples(Path(folder))
        began, number = time.monotonic(), -1 if only is None else only - 1
        while time.monotonic() - began < seconds:
            number += 1
            name, result = try_one(samples, number, seed)
            counts[name, result if result in ("", "refused") else "FOUND"] += 1
            if result not in ("", "refused"):
                findings.append(f"--seed {seed} --only {number}: {name}\n{result}")
                print(findings[-1], flush=True)
            if only is not None:
                break
    for trial in TRIALS:
        read, refused, found = (counts[trial.__name__, result] for result in ("", "refused", "FOUND"))
        print(f"{trial.__name__:12} {read:6} read {refused:6} refused {found:4} found")
    print(f"{counts.total()} inputs, {len(findings)} findings, at most {_peak_bytes() / 1e6:.0f} MB of memory")
    return findings


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="the number of one input")
    options = parser.parse_args()
    with tempfile.NamedTemporaryFile(suffix=".pem") as signer:
        signer.write(make_test_certificate())
        signer.flush()
        os.environ |= {CERTIFICATE_VARIABLE: signer.name, KEY_VARIABLE: signer.name}
        return 1 if fuzz(60 * options.minutes, options.seed, options.only) else 0


if __name__ == "__main__":
    sys.exit(main())
