"""`talkinghead evaluate` on the fitted demo clip: the JSON of the protocol, its controls and its refusals."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from demo_clip_track import demo_clip, finish, fitted_frames
from fitted_demo import FittedDemo
from tiny_avatar import face_points, save_tiny_avatar

import talkinghead.evaluate
import talkinghead.evaluation.available
import talkinghead.evaluation.faces
from talkinghead.avatar import Avatar, load_avatar
from talkinghead.config import EvaluateConfig, FitConfig
from talkinghead.errors import NothingHeldOutError
from talkinghead.evaluate import evaluate, held_out_frames
from talkinghead.evaluation.available import Available, available
from talkinghead.evaluation.drives import AUDIO, TRUTH, own_drives, shuffle_frames
from talkinghead.evaluation.faces import RowFaces
from talkinghead.evaluation.instruments import Drive, Measure, ObservedFrame
from talkinghead.evaluation.lips import LipInstrument
from talkinghead.evaluation.order import broken_orders
from talkinghead.evaluation.pictures import PictureInstrument
from talkinghead.evaluation.result import Evaluation
from talkinghead.evaluation.sync import SyncInstrument
from talkinghead.evaluation.visemes import VisemeInstrument
from talkinghead.lip_clips import lip_clip_of_track
from talkinghead.progress import Progress
from tools.audio import SAMPLE_RATE
from tools.face_topology import IBUG_68, MEDIAPIPE_478
from tools.tracked_clip import TOPOLOGIES
from tools.video import read_frames

ROWS = {"audio", "tracked", "shuffled", "silence", "retrieval", "ground_truth"}
MEASURES = {
    "composite_psnr", "composite_ssim", "composite_ms_ssim", "composite_cpbd", "whole_ms_ssim", "whole_cpbd",
    "mouth_psnr", "mouth_ssim", "mouth_cpbd", "hull_psnr", "face_psnr", "lmd_px", "lmd_centred_px", "mouth_opening_r",
    "lmd_px_free", "lmd_centred_px_free", "mouth_opening_r_free", "mouth_width_r", "landmark_aue_lower",
    "mouth_width_r_free", "landmark_aue_lower_free", "landmark_aue_upper_free", "whole_psnr", "whole_ssim", "hull_ssim",
    "mouth_sharpness", "mean_opening", "closure_recall", "closure_precision",
}  # fmt: skip
AUES = ("landmark_aue_lower", "landmark_aue_lower_free", "landmark_aue_upper_free")


@pytest.fixture(scope="module")
def measured(
    fitted_demo: FittedDemo, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Evaluation, list[Progress]]:
    avatar = tmp_path_factory.mktemp("measured") / "demo.avatar"
    shutil.copytree(fitted_demo.avatar, avatar)  # its report is written anew
    events, job = [], evaluate(avatar, EvaluateConfig())
    while True:
        try:
            events.append(next(job))
        except StopIteration as finished:
            return finished.value, events


@pytest.fixture(scope="module")
def rows(measured: tuple[Evaluation, list[Progress]]) -> dict[str, dict[str, float | None]]:
    return json.loads(measured[0].to_json())["rows"]


def test_the_json_has_the_agreed_form(measured: tuple[Evaluation, list[Progress]]) -> None:
    result = json.loads(measured[0].to_json())
    assert set(result) == {"protocol", "measures", "rows", "notes"} and set(result["rows"]) >= ROWS
    assert all(definition for definition in result["measures"].values())
    for name, row in result["rows"].items():
        assert list(row) == list(result["measures"]) and set(row) >= MEASURES, name
        assert all(value is None or isinstance(value, float | int) for value in row.values()), name


def test_the_protocol_tells_what_was_measured(measured: tuple[Evaluation, list[Progress]]) -> None:
    protocol, held_out = measured[0].protocol, demo_clip().frame_count - fitted_frames()
    assert (protocol["source"], protocol["preset"], protocol["seed"]) == ("demo_clip.mp4", "fast", 0)
    assert (protocol["held_out_frames"], protocol["first_held_out_frame"]) == (held_out, fitted_frames())
    assert [(event.done, event.total) for event in measured[1]] == [(k + 1, held_out) for k in range(held_out)]


def test_the_clip_itself_is_perfect(rows: dict[str, dict[str, float | None]]) -> None:
    truth = rows["ground_truth"]
    for name in ("composite_psnr", "hull_psnr", "face_psnr", "whole_psnr", "mouth_psnr"):
        assert truth[name] is None  # infinite
    for name in ("lmd_px", "lmd_centred_px", "lmd_px_free", "lmd_centred_px_free", "mouth_lag_frames", *AUES):
        assert truth[name] == 0, name
    for name in (
        "composite_ssim", "hull_ssim", "whole_ssim", "composite_ms_ssim", "whole_ms_ssim", "mouth_ssim",
        "mouth_sharpness", "mouth_opening_r", "mouth_opening_r_free", "mouth_width_r", "mouth_width_r_free",
        "mouth_amplitude", "closure_recall", "closure_precision", "head_jitter",
    ):  # fmt: skip
        assert truth[name] == pytest.approx(1), name
    assert 0 < truth["mean_opening"] < 1 <= truth["closures"]


def test_no_other_row_is(rows: dict[str, dict[str, float | None]]) -> None:
    for name in rows.keys() - {"ground_truth"}:
        row = rows[name]
        assert 20 < row["composite_psnr"] < 60 and 0.5 < row["composite_ssim"] < 1, name
        assert 15 < row["face_psnr"] < row["hull_psnr"] < 60, name
        assert 15 < row["whole_psnr"] < row["hull_psnr"] and 0 < row["whole_ssim"] < row["hull_ssim"] < 1, name
        assert 15 < row["mouth_psnr"] < row["composite_psnr"] and 0 < row["mouth_ssim"] < row["composite_ssim"], name
        assert 0 < row["whole_ms_ssim"] < row["composite_ms_ssim"] < 1, name
        assert 0 < row["whole_cpbd"] < rows["ground_truth"]["whole_cpbd"] < 1, name
        assert 0 < row["mouth_sharpness"] < 1, name  # sixty steps: softer than the source
        assert row["lmd_px"] > 0 and row["lmd_px_free"] > row["lmd_centred_px_free"] > 0, name
        assert all(row[measure] > 0 for measure in AUES), name


def test_the_tracked_mouth_is_nearer_to_the_real_one_than_the_controls(
    rows: dict[str, dict[str, float | None]],
) -> None:
    for measure in ("composite_psnr", "hull_psnr", "face_psnr"):
        assert rows["tracked"][measure] > max(rows[name][measure] for name in ("shuffled", "silence", "mean_face"))


def test_no_row_is_nearer_than_the_clip_itself_and_measures_that_mix_up_others_are_named(
    measured: tuple[Evaluation, list[Progress]],
) -> None:
    """After sixty steps the head's mouth hardly moves: whose lips they are cannot be told, and the table says so."""
    evaluation = measured[0]
    broken = broken_orders(evaluation.measures, evaluation.rows)
    assert not any("ground_truth" in why for why in broken.values())
    notes = [note for note in evaluation.notes if "rank rows the wrong way round" in note]
    assert len(notes) == bool(broken) and all(name in notes[0] for name in broken)


def test_rows_are_driven_by_what_they_are_named_after(fitted_demo: FittedDemo) -> None:
    avatar = load_avatar(fitted_demo.avatar)
    held_out = np.arange(fitted_frames(), demo_clip().frame_count)
    drives = {drive.name: drive.codes for drive in own_drives(avatar, held_out)}
    assert np.array_equal(drives["tracked"], avatar.tracks.lower[held_out])
    assert np.array_equal(drives["shuffled"][shuffle_frames(len(held_out))], drives["audio"][0])
    assert np.array_equal(np.sort(drives["shuffled"], axis=0), np.sort(drives["audio"], axis=0))
    assert np.ptp(drives["silence"][:, 0]) < 0.05 * np.ptp(drives["audio"][:, 0])
    assert not drives["mean_face"].any()


def test_every_row_is_heard_with_the_sound_of_the_held_out_part(fitted_demo: FittedDemo) -> None:
    held_out = np.arange(fitted_frames(), demo_clip().frame_count)
    for drive in own_drives(load_avatar(fitted_demo.avatar), held_out):
        assert len(drive.samples) / SAMPLE_RATE == pytest.approx(len(held_out) / demo_clip().fps, abs=0.1)


def test_lips_are_judged_by_the_detector_that_was_asked_for_and_the_measures_name_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (lips,) = lip_instruments(EvaluateConfig())
    assert lips.judge is MEDIAPIPE_478 and "68-point mark-up, mediapipe's" in lips.measures[0].definition
    asked: list[str] = []

    def shared(name: str, max_faces: int) -> Detector:
        asked.append(name)
        detector = Detector()
        detector.topology = IBUG_68
        return detector

    monkeypatch.setattr(talkinghead.evaluation.available, "landmark_detector", shared)
    (lips,) = lip_instruments(EvaluateConfig(lip_landmarks="face-alignment"))
    assert lips.judge is IBUG_68 and "face-alignment's" in lips.measures[0].definition
    assert asked == ["face-alignment"]


def test_without_face_alignment_lips_are_measured_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "face_alignment", None)
    looking = finish(available(EvaluateConfig(lip_landmarks="face-alignment"), demo_clip().fps))
    assert any(isinstance(one, LipInstrument) and one.judge is MEDIAPIPE_478 for one in looking.instruments)
    (note,) = (note for note in looking.notes if "face-alignment" in note)
    assert note.startswith("lips are measured on MediaPipe's landmarks") and "pip install" in note


def lip_instruments(config: EvaluateConfig) -> list[LipInstrument]:
    looking = finish(available(config, demo_clip().fps))
    return [instrument for instrument in looking.instruments if isinstance(instrument, LipInstrument)]


class Recorder:
    """Keeps what an observer is shown."""

    def __init__(self) -> None:
        self.rows: list[np.ndarray] = []

    def read(self, mouths: np.ndarray, seen: np.ndarray, fps: Fraction) -> np.ndarray:
        self.rows.append(mouths)
        return np.zeros(len(mouths), int)


def test_evaluate_cuts_mouths_as_those_that_observers_learn_from(fitted_demo: FittedDemo) -> None:
    avatar, recorder = load_avatar(fitted_demo.avatar), Recorder()
    instrument = VisemeInstrument(recorder, avatar.manifest.fps)
    evaluation = finish(talkinghead.evaluate.measure(avatar, Available((instrument,), ()), EvaluateConfig(), [AUDIO]))
    assert set(evaluation.rows) == {AUDIO, TRUTH}
    info, facts = avatar.source_video(), avatar.manifest
    crops = (facts.crop.cut(frame) for frame in read_frames(info))
    learned = lip_clip_of_track(info, crops, avatar.tracks.landmarks, TOPOLOGIES[facts.topology])
    held_out = held_out_frames(avatar)
    driven, real = recorder.rows
    np.testing.assert_array_equal(real[held_out - held_out[0]], learned.mouths[held_out])
    assert not np.array_equal(driven, real)


def test_an_avatar_fitted_to_its_whole_clip_is_refused(tmp_path: Path) -> None:
    save_tiny_avatar(tmp_path)
    with pytest.raises(NothingHeldOutError, match=r"keeps 0 frames .* --holdout 0\.2"):
        next(evaluate(tmp_path / "tiny.avatar", EvaluateConfig()))


def test_a_video_that_is_too_short_is_refused_before_it_is_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(talkinghead.evaluate, "fit", None)
    config = EvaluateConfig(replace(EvaluateConfig().fit, holdout=0.1))
    with pytest.raises(NothingHeldOutError, match=r"has 293 frames, of which --holdout 0\.1 keeps 29 .* longer video"):
        next(evaluate(demo_clip().path, config))


def test_a_video_is_fitted_with_a_held_out_part_first(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    def fit(video: Path, output: Path, config: FitConfig) -> Iterator[Progress]:
        assert video == demo_clip().path and config.holdout == 0.2
        made.append(output)
        save_tiny_avatar(output.parent)
        (output.parent / "tiny.avatar").rename(output)
        yield Progress("fitting", 1, 1)

    def measured(avatar: Avatar, config: EvaluateConfig) -> Generator[Progress, None, Evaluation]:
        assert avatar.path == made[0] and config.fit.device == "cpu"
        yield Progress("measuring", 1, 1)
        return Evaluation({}, (), {})

    monkeypatch.setattr(talkinghead.evaluate, "fit", fit)
    monkeypatch.setattr(talkinghead.evaluate, "_measured", measured)
    config = EvaluateConfig(replace(EvaluateConfig().fit, device="cpu"))
    stages = [event.stage for event in evaluate(demo_clip().path, config)]
    assert stages == ["fitting", "measuring"]
    assert not made[0].parent.exists()


def test_each_picture_is_looked_at_once_whoever_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Detector] = []

    def counted(name: str, max_faces: int) -> Detector:
        made.append(Detector())
        return made[-1]

    monkeypatch.setattr(talkinghead.evaluation.faces, "landmark_detector", counted)
    area = (np.ones((32, 32), bool), (slice(4, 20), slice(4, 20)))
    samples, in_place, free = np.zeros(SAMPLE_RATE, np.float32), checkered(), checkered() + np.uint8(20)
    with ExitStack() as stack:
        for row in (in_place, free), (in_place, in_place):
            faces, drive = RowFaces(stack), Drive("row", np.zeros((5, 3)), samples)
            observers = [one.observer(drive, stack) for one in (LipInstrument(), SyncInstrument(demo_clip().fps, None))]
            for number in range(5):
                frame = ObservedFrame(number, in_place, *row, *area, faces)
                for observer in observers:
                    observer.see(frame)
    assert [len(detector.seen) for detector in made] == [5, 5, 5]  # in place and free, and the clip itself once
    assert all(picture is in_place for picture in (*made[0].seen, *made[2].seen))
    assert all(picture is free for picture in made[1].seen)
    assert [detector.closed for detector in made] == [True] * 3


class Detector:
    """Finds the same face everywhere but in black pictures."""

    topology = MEDIAPIPE_478

    def __init__(self) -> None:
        self.random, self.seen, self.closed = np.random.default_rng(0), [], False

    def __enter__(self) -> Detector:
        return self

    def __exit__(self, *exception: object) -> None:
        self.closed = True

    def detect(self, picture: np.ndarray) -> list[np.ndarray]:
        self.seen.append(picture)
        return [face_points() * 20 + self.random.normal(size=(478, 3))] if picture.any() else []


def figures(
    pictures: list[np.ndarray],
    real: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    has_truth: bool = True,
) -> dict[str, float]:
    """Of a row that showed these pictures of a grey source, judged by a row that showed those."""
    monkeypatch.setattr(talkinghead.evaluation.faces, "landmark_detector", lambda *_, **__: Detector())
    values: dict[str, float] = {}
    area = (np.ones((32, 32), bool), (slice(4, 20), slice(4, 20)))
    with ExitStack() as stack:
        for instrument in (PictureInstrument(), LipInstrument()):
            seen, truth = (
                instrument.observer(Drive("row", np.zeros((40, 3)), np.zeros(1), has_truth), stack) for _ in range(2)
            )
            for observer, shown in ((seen, pictures), (truth, real)):
                faces = RowFaces(stack)
                for number, picture in enumerate(shown):
                    observer.see(ObservedFrame(number, checkered(), picture, picture, *area, faces))
            values |= seen.figures(truth)
            assert list(values)[-len(instrument.measures) :] == [measure.name for measure in instrument.measures]
    return values


def checkered() -> np.ndarray:
    return np.repeat(100 + 50 * (np.indices((32, 32)).sum(axis=0) % 2)[..., None], 3, axis=2).astype(np.uint8)


def test_a_row_without_a_face_has_no_lips_to_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    row = figures([np.zeros_like(checkered())] * 40, [checkered()] * 40, monkeypatch)
    undefined = {
        "lmd_px", "lmd_centred_px", "mouth_opening_r", "lmd_px_free", "lmd_centred_px_free", "mouth_opening_r_free",
        "mouth_width_r", "mouth_width_r_free", *AUES, "mouth_amplitude", "mouth_lag_frames",
        "mean_opening", "closure_recall", "closure_precision", "head_jitter",
    }  # fmt: skip
    too_small = {"composite_ms_ssim", "whole_ms_ssim"}  # for five scales
    assert {name for name, value in row.items() if math.isnan(value)} == undefined | too_small
    assert row["mouth_sharpness"] == row["closures"] == 0 and row["whole_psnr"] == pytest.approx(6.0, abs=0.3)
    evaluation = Evaluation({}, LipInstrument().measures, {"tracked": row})
    assert json.loads(evaluation.to_json())["rows"]["tracked"]["lmd_px"] is None
    assert ("lmd_px", "-") in evaluation.to_table()


def test_a_source_in_which_the_judge_sees_no_face_leaves_every_lip_measure_undefined(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    row = figures([checkered()] * 40, [np.zeros_like(checkered())] * 40, monkeypatch)
    assert math.isnan(row["lmd_px"]) and math.isnan(row["closure_recall"]) and math.isnan(row["mean_opening"])


def test_a_row_that_says_something_else_is_not_compared_with_the_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    row = figures([checkered()] * 40, [checkered()] * 40, monkeypatch, has_truth=False)
    described = {"mouth_sharpness", "composite_cpbd", "whole_cpbd", "mouth_cpbd"}
    described |= {"mean_opening", "closures", "head_jitter"}
    assert {name for name, value in row.items() if not math.isnan(value)} == described


def test_the_table_has_a_line_per_measure_and_a_column_per_row(measured: tuple[Evaluation, list[Progress]]) -> None:
    table = measured[0].to_table()
    assert table[0] == ("", "tracked", "audio", "shuffled", "silence", "mean_face", "retrieval", "ground_truth")
    assert [line[0] for line in table[1:]] == [measure.name for measure in measured[0].measures]
    assert dict((line[0], line[-1]) for line in table)["whole_psnr"] == "inf"


def test_values_that_json_cannot_hold_become_null() -> None:
    row = {"a": math.inf, "b": math.nan, "c": -math.inf, "d": 0.5}
    evaluation = Evaluation({"seed": 0}, tuple(Measure(name, name) for name in row), {"audio": row}, ("no weights",))
    result = json.loads(evaluation.to_json())
    assert result["rows"]["audio"] == {"a": None, "b": None, "c": None, "d": 0.5}
    assert result["notes"] == ["no weights"]
