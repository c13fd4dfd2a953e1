"""kill -9 at random moments of `fit` and `dub`: does every restart end with the right result, and leave nothing behind?

    python tests/kill_restarts.py --times 50 --seed 0 --folder /tmp/kills

Each time one of the commands runs in a folder of its own and is killed: after a random time, or when it is about to
change the file system for the n-th time, n at random; the main process, a worker, or the whole process group. The same
command is started again, at once or a moment later, and compared with a run that nobody killed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from talkinghead.avatar import check_folder
from talkinghead.certificates import CERTIFICATE_VARIABLE, KEY_VARIABLE, make_test_certificate
from tools.ffmpeg_process import ffmpeg_executable

CHANGES_VARIABLE, DEATH_VARIABLE = "TALKINGHEAD_CHANGES", "TALKINGHEAD_DEATH"
"""What `quick_talkinghead` is told."""
ROOT = Path(__file__).resolve().parent.parent
ASSETS = ROOT / "talkinghead" / "assets"
OPTIONS = ("--preset", "fast", "--device", "cpu")
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "fit": ("fit", "clip.mp4", "-o", "person.avatar", *OPTIONS),
    "fit anew": ("fit", "clip.mp4", "-o", "person.avatar", "--overwrite", *OPTIONS),
    "dub jobs": ("dub", "jobs.csv", "--out", "dubbed", *OPTIONS),
    "dub two at a time": ("dub", "jobs.csv", "--out", "dubbed", "--workers", "2", *OPTIONS),
    "dub film": ("dub", "film.mp4", "--srt", "lines.srt", "--audio-dir", "lines", "-o", "out.mp4", *OPTIONS),
}
JOBS = "video,audio,output,subtitles,audio_dir\n" + "".join(
    f"{row}\n" for row in ("clip.mp4,1.wav,one.mp4,,", "clip.mp4,2.wav,two.mp4,,", "film.mp4,,film.mp4,lines.srt,lines")
)
SUBTITLES = "1\n00:00:00,500 --> 00:00:01,300\nHello\n"
NOTE = "a user's own file in an avatar that is fitted anew"
LEARNED = ("gaussians.ply", "motion.safetensors", "speech_encoder.safetensors", "tracks.safetensors", "background.png")
"""Files of an avatar that are alike to the last byte; source.mp4 is alike when it is decoded."""
PATIENCE_S, ORPHANS_S = 1200.0, 60.0
SHARE_FITTED = 0.5
"""Of the runs of `dub`, those that find the avatars fitted."""
MOST_KILLS = 3
"""Of one command, one restart after the other."""
BY_CHANGE, LATEST = 0.6, 0.9
"""Share of the kills that come with a change to the file system; latest moment of the others, of the time it takes."""
WITH_WORKERS = ("dub jobs", "dub two at a time")


@dataclass(frozen=True)
class Wanted:
    """What a run that nobody killed takes and leaves."""

    seconds: float
    changes: Mapping[str, int]
    """To the file system, by the role of the process that made them."""
    paths: frozenset[str]
    contents: Mapping[str, str]


@dataclass
class Attempt:
    """A command that was killed, once or more, and what came of it."""

    command: str
    how: list[str] = field(default_factory=list)
    kills: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


def make_inputs(folder: Path) -> None:
    """A clip of 3.5 s, a film, two recordings and a job list."""
    small = ("-vf", "scale=160:160", "-r", "10", "-c:v", "libx264", "-crf", "12", "-g", "10", "-c:a", "aac")
    _ffmpeg("-i", ASSETS / "demo_clip.mp4", "-t", "3.5", *small, folder / "clip.mp4")
    _ffmpeg("-ss", "4", "-i", ASSETS / "demo_clip.mp4", "-t", "3.5", *small, folder / "film.mp4")
    (folder / "lines").mkdir()
    for name, start in (("1.wav", "0.3"), ("2.wav", "1.2"), ("lines/1.wav", "0.8")):
        _ffmpeg("-ss", start, "-i", ASSETS / "demo_speech.wav", "-t", "0.8", folder / name)
    (folder / "jobs.csv").write_text(JOBS)
    (folder / "lines.srt").write_text(SUBTITLES)
    (folder / "signer.pem").write_bytes(make_test_certificate())


def fresh(command: str, inputs: Path, folder: Path, fitted: Path | None = None) -> Path:
    """A folder in which a command can run: the inputs and, `fitted` by an earlier command, avatars."""
    shutil.copytree(inputs, folder)
    (folder / "tmp").mkdir()
    for name in ("person.avatar", "dubbed/avatars", "out.avatars"):
        if fitted is not None and (fitted / name).exists():
            shutil.copytree(fitted / name, folder / name)
    if command == "fit anew":
        (folder / "person.avatar" / "note.txt").write_text(NOTE)
    return folder


def start(command: str, folder: Path, death: str = "nobody self 0") -> subprocess.Popen[bytes]:
    """Begins a command in a process group of its own."""
    paths = [str(ROOT), str(ROOT / "tests")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "TMPDIR": str(folder / "tmp"),
        CERTIFICATE_VARIABLE: str(folder / "signer.pem"),
        KEY_VARIABLE: str(folder / "signer.pem"),
        CHANGES_VARIABLE: str(folder.with_name(f"{folder.name}.changes")),
        DEATH_VARIABLE: death,
    }
    program = [sys.executable, str(ROOT / "tests" / "quick_talkinghead.py"), *COMMANDS[command]]
    with folder.with_name(f"{folder.name}.log").open("ab") as log:
        return subprocess.Popen(
            program,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def observe(command: str, folder: Path) -> Wanted:
    """Runs a command to its end."""
    began = time.monotonic()
    code = start(command, folder).wait(PATIENCE_S)
    if code != 0:
        raise RuntimeError(f"{command} ended with exit code {code} though nobody killed it: see {folder}.log")
    seconds = time.monotonic() - began
    changes = {role: _size(folder.with_name(f"{folder.name}.changes.{role}")) for role in ("main", "worker")}
    return Wanted(seconds, changes, listing(folder), contents(folder))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def listing(folder: Path) -> frozenset[str]:
    """Every path under a folder, but what torch keeps for itself among the temporary files."""
    return frozenset(str(path.relative_to(folder)) for path in folder.rglob("*") if "torchinductor" not in str(path))


def contents(folder: Path) -> dict[str, str]:
    """What results hold, without what differs from run to run: times, identifiers and signatures."""
    found = {}
    for avatar in folder.rglob("*.avatar"):
        check_folder(avatar)
        for name in LEARNED:
            found[str((avatar / name).relative_to(folder))] = _sha256((avatar / name).read_bytes())
    for path in folder.rglob("*.mp4"):
        found[str(path.relative_to(folder))] = _decoded(path)
    for path in folder.rglob("note.txt"):
        found[str(path.relative_to(folder))] = path.read_text()
    for path in folder.rglob("report.jsonl"):
        for line in map(json.loads, path.read_text().splitlines()):
            found[f"job {line['output']}".replace(str(folder), "")] = f"{line['frames']} frames, error {line['error']}"
    return found


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _decoded(path: Path) -> str:
    """Hashes of all pictures and sound."""
    return _sha256(_ffmpeg("-i", path, "-map", "0:v", "-map", "0:a", "-f", "framemd5", "-"))


def _ffmpeg(*arguments: str | Path) -> bytes:
    command = [ffmpeg_executable(), "-v", "error", "-nostdin", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True).stdout


def kill_and_restart(command: str, folder: Path, wanted: Wanted, chance: random.Random, most: int) -> Attempt:
    """Runs a command in a fresh folder, kills it and its restarts up to `most` times, lets one end, and compares."""
    attempt = Attempt(command)
    began = time.monotonic()
    done: dict[str, int] = {}
    for _ in range(chance.randint(1, most)):
        killed, code = _kill(command, folder, wanted, chance, attempt.how)
        attempt.kills += killed
        done |= finished_outputs(folder)
        if code not in (0, -signal.SIGKILL) and not _is_there_already(command, code, done):
            attempt.problems.append(f"exit code {code} on the way")
        if code == 0:  # the command came to its end
            break
        time.sleep(chance.choice([0.0, 0.0, 0.5]))
    code = start(command, folder).wait(PATIENCE_S)
    attempt.seconds = time.monotonic() - began
    if code != 0 and not _is_there_already(command, code, done):
        attempt.problems.append(f"exit code {code}")
    attempt.problems += compare(folder, wanted) + twice(folder, done, command)
    attempt.problems += [f"still running: {name}" for name in orphans(folder)]
    return attempt


def _kill(command: str, folder: Path, wanted: Wanted, chance: random.Random, told: list[str]) -> tuple[bool, int]:
    """Whether anything was killed, and the exit code; appends how to `told`."""
    role = chance.choice(["main", "worker"]) if command in WITH_WORKERS else "main"
    extent = chance.choice(["group", "self"])
    marker = folder.with_name(f"{folder.name}.changes.dead")
    marker.unlink(missing_ok=True)
    if chance.random() < BY_CHANGE:
        number = chance.randint(1, wanted.changes[role] // (JOBS.count("mp4,") if role == "worker" else 1))
        told.append(f"{role} {extent} at change {number}")
        code = start(command, folder, f"{role} {extent} {number}").wait(PATIENCE_S)
        return marker.exists(), code
    moment = wanted.seconds * chance.uniform(0.02, LATEST)
    told.append(f"{extent} after {moment:.1f} s")
    process = start(command, folder)
    try:
        return False, process.wait(moment)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL) if extent == "group" else process.kill()
        return True, process.wait()


def _is_there_already(command: str, code: int, done: Mapping[str, int]) -> bool:
    """Whether a command was refused because its result is there: it was killed when it had nothing left to do."""
    return code == 2 and {"fit": "person.avatar", "dub film": "out.mp4"}.get(command) in done


def compare(folder: Path, wanted: Wanted) -> list[str]:
    """What is not as a run that nobody killed leaves it."""
    found = listing(folder)
    problems = [f"left over: {path}" for path in sorted(found - wanted.paths)]
    problems += [f"missing: {path}" for path in sorted(wanted.paths - found)]
    try:
        held = contents(folder)
    except Exception as error:
        return [*problems, f"{type(error).__name__}: {error}"]
    return problems + [
        f"differs: {name}" for name in sorted({*held, *wanted.contents}) if held.get(name) != wanted.contents.get(name)
    ]


def finished_outputs(folder: Path) -> dict[str, int]:
    """When results that are complete were written, ns: videos that the ledger knows, and avatars."""
    found = {}
    for record in (folder / "dubbed" / ".dub").glob("*.json"):
        path = folder / "dubbed" / json.loads(record.read_text())["output"]
        if path.exists():
            found[str(path.relative_to(folder))] = path.stat().st_mtime_ns
    if (film := folder / "out.mp4").exists():
        found["out.mp4"] = film.stat().st_mtime_ns
    for manifest in folder.rglob("*.avatar/avatar.json"):
        found[str(manifest.parent.relative_to(folder))] = manifest.stat().st_mtime_ns
    return found


def twice(folder: Path, done: Mapping[str, int], command: str) -> list[str]:
    """Which of the results that were there have been made again."""
    if command == "fit anew":
        return []
    now = finished_outputs(folder)
    return [f"done twice: {name}" for name, time_ns in done.items() if now.get(name) != time_ns]


def orphans(folder: Path) -> list[str]:
    """Processes of the folder's commands that do not end."""
    began = time.monotonic()
    while (found := _processes(folder)) and time.monotonic() - began < ORPHANS_S:
        time.sleep(0.2)
    return found


def _processes(folder: Path) -> list[str]:
    mark = f"{CHANGES_VARIABLE}={folder.with_name(f'{folder.name}.changes')}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found


def run(times: int, seed: int, folder: Path, commands: Sequence[str]) -> list[Attempt]:
    """Kills so many times, the commands in turn; prints a line for each."""
    inputs = folder / "inputs"
    inputs.mkdir(parents=True)
    make_inputs(inputs)
    wanted, unharmed = {}, {}
    for name in commands:
        fitted = unharmed.get("fit") if name == "fit anew" else None
        unharmed[name] = fresh(name, inputs, folder / "unharmed" / name.replace(" ", "-"), fitted)
        wanted[name] = observe(name, unharmed[name])
        print(f"unharmed: {name}, {wanted[name].seconds:.0f} s, changes {dict(wanted[name].changes)}", flush=True)
    attempts: list[Attempt] = []
    chance = random.Random(seed)
    while (left := times - sum(attempt.kills for attempt in attempts)) > 0:
        number = len(attempts) + 1
        command = commands[number % len(commands)]
        is_fitted = command == "fit anew" or (command.startswith("dub") and chance.random() < SHARE_FITTED)
        place = fresh(command, inputs, folder / f"{number:03}", unharmed[command] if is_fitted else None)
        attempt = kill_and_restart(command, place, wanted[command], chance, min(MOST_KILLS, left))
        attempts.append(attempt)
        how, outcome = ", ".join(attempt.how), "; ".join(attempt.problems) or "right"
        print(f"{number:3} | {command:17} | {attempt.kills} | {attempt.seconds:4.0f} s | {how} | {outcome}", flush=True)
        if not attempt.problems:
            for path in folder.glob(f"{number:03}*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    return attempts


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=50, help="kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="a new folder; what goes wrong stays in it")
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="kill-restarts-"))
    attempts = run(options.times, options.seed, folder, options.commands)
    kills = sum(attempt.kills for attempt in attempts)
    right = sum(attempt.kills for attempt in attempts if not attempt.problems)
    print(f"{right} of {kills} right; {folder}")
    return 0 if all(not attempt.problems for attempt in attempts) else 1


if __name__ == "__main__":
    sys.exit(main())
