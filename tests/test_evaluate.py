"""`talkinghead evaluate` on the fitted demo clip: the JSON of the protocol, its controls and its refusals."""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from demo_clip_track import demo_clip, fitted_frames
from fitted_demo import FittedDemo
from tiny_avatar import face_points, save_tiny_avatar

import talkinghead.evaluate
from talkinghead.avatar import Avatar, load_avatar
from talkinghead.config import EvaluateConfig, FitConfig
from talkinghead.errors import NothingHeldOutError
from talkinghead.evaluate import SHUFFLE_FRAMES, Evaluation, EvaluationRow, evaluate, measure_names
from talkinghead.progress import Progress
from tools.face_topology import IBUG_68, MEDIAPIPE_478

ROWS = {"audio", "tracked", "shuffled", "silence", "ground_truth"}
MEASURES = {
    "composite_psnr", "composite_ssim", "hull_psnr", "face_psnr", "lmd_px", "lmd_centred_px", "mouth_opening_r",
    "lmd_px_free", "lmd_centred_px_free", "mouth_opening_r_free",
    "whole_psnr", "whole_ssim", "hull_ssim", "mouth_sharpness", "mean_opening", "closure_recall", "closure_precision",
}  # fmt: skip


@pytest.fixture(scope="module")
def measured(fitted_demo: FittedDemo) -> tuple[Evaluation, list[Progress]]:
    events, job = [], evaluate(fitted_demo.avatar, EvaluateConfig())
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
    assert set(result) == {"protocol", "rows"} and set(result["rows"]) >= ROWS
    for name, row in result["rows"].items():
        assert set(row) == set(measure_names()) >= MEASURES, name
        assert all(value is None or isinstance(value, float | int) for value in row.values()), name


def test_the_protocol_tells_what_was_measured(measured: tuple[Evaluation, list[Progress]]) -> None:
    protocol, held_out = measured[0].protocol, demo_clip().frame_count - fitted_frames()
    assert (protocol["source"], protocol["preset"], protocol["seed"]) == ("demo_clip.mp4", "fast", 0)
    assert (protocol["held_out_frames"], protocol["first_held_out_frame"]) == (held_out, fitted_frames())
    assert protocol["lip_landmarks"] == 40
    assert [(event.done, event.total) for event in measured[1]] == [(k + 1, held_out) for k in range(held_out)]


def test_the_clip_itself_is_perfect(rows: dict[str, dict[str, float | None]]) -> None:
    truth = rows["ground_truth"]
    for name in ("composite_psnr", "hull_psnr", "face_psnr", "whole_psnr"):
        assert truth[name] is None  # infinite
    for name in ("lmd_px", "lmd_centred_px", "lmd_px_free", "lmd_centred_px_free", "mouth_lag_frames"):
        assert truth[name] == 0, name
    for name in (
        "composite_ssim", "hull_ssim", "whole_ssim", "mouth_sharpness", "mouth_opening_r", "mouth_opening_r_free",
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
        assert 0 < row["mouth_sharpness"] < 1, name  # sixty steps: softer than the source
        assert row["lmd_px"] > 0 and row["lmd_px_free"] > row["lmd_centred_px_free"] > 0, name


def test_the_tracked_mouth_is_nearer_to_the_real_one_than_the_controls(
    rows: dict[str, dict[str, float | None]],
) -> None:
    for measure in ("composite_psnr", "hull_psnr", "face_psnr"):
        assert rows["tracked"][measure] > max(rows[name][measure] for name in ("shuffled", "silence", "mean_face"))


def test_rows_are_driven_by_what_they_are_named_after(fitted_demo: FittedDemo) -> None:
    avatar = load_avatar(fitted_demo.avatar)
    held_out = np.arange(fitted_frames(), demo_clip().frame_count)
    drives = talkinghead.evaluate._drives(avatar, avatar.source_video(), held_out)
    assert np.array_equal(drives["tracked"], avatar.tracks.lower[held_out])
    assert np.array_equal(drives["shuffled"][SHUFFLE_FRAMES], drives["audio"][0])
    assert np.array_equal(np.sort(drives["shuffled"], axis=0), np.sort(drives["audio"], axis=0))
    assert np.ptp(drives["silence"][:, 0]) < 0.05 * np.ptp(drives["audio"][:, 0])
    assert not drives["mean_face"].any()


def test_lips_are_judged_by_one_detector_whatever_the_avatar_was_tracked_with(fitted_demo: FittedDemo) -> None:
    avatar = load_avatar(fitted_demo.avatar)
    other = replace(avatar, manifest=replace(avatar.manifest, topology=IBUG_68.name))
    held_out = np.arange(fitted_frames(), demo_clip().frame_count)
    assert talkinghead.evaluate._protocol(other, held_out)["lip_landmarks"] == 40


def test_an_avatar_fitted_to_its_whole_clip_is_refused(tmp_path: Path) -> None:
    save_tiny_avatar(tmp_path)
    with pytest.raises(NothingHeldOutError, match=r"keeps 0 frames .* --holdout 0\.2"):
        next(evaluate(tmp_path / "tiny.avatar", EvaluateConfig()))


def test_a_video_is_fitted_with_a_held_out_part_first(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    def fit(video: Path, output: Path, config: FitConfig) -> Iterator[Progress]:
        assert video == demo_clip().path and config.holdout == 0.2
        made.append(output)
        save_tiny_avatar(output.parent)
        (output.parent / "tiny.avatar").rename(output)
        yield Progress("fitting", 1, 1)

    def measure(avatar: Avatar, device: str) -> Generator[Progress, None, Evaluation]:
        assert avatar.path == made[0] and device == "cpu"
        yield Progress("measuring", 1, 1)
        return Evaluation({}, {})

    monkeypatch.setattr(talkinghead.evaluate, "fit", fit)
    monkeypatch.setattr(talkinghead.evaluate, "_measure", measure)
    config = EvaluateConfig(replace(EvaluateConfig().fit, device="cpu"))
    stages = [event.stage for event in evaluate(demo_clip().path, config)]
    assert stages == ["fitting", "measuring"]
    assert not made[0].parent.exists()


class Detector:
    """Finds the same face everywhere but in black pictures."""

    topology = MEDIAPIPE_478

    def __init__(self) -> None:
        self.random = np.random.default_rng(0)

    def __enter__(self) -> Detector:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def detect(self, picture: np.ndarray) -> list[np.ndarray]:
        return [face_points() * 20 + self.random.normal(size=(478, 3))] if picture.any() else []


def observed(pictures: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> talkinghead.evaluate._Observer:
    """A row that showed these pictures of a grey source."""
    monkeypatch.setattr(talkinghead.evaluate, "landmark_detector", lambda *_, **__: Detector())
    with ExitStack() as stack:
        observer = talkinghead.evaluate._Observer(stack)
        areas = talkinghead.evaluate._FaceAreas(np.ones((32, 32), bool), (slice(4, 20), slice(4, 20)))
        for picture in pictures:
            observer.see(checkered(), picture, picture, areas)
    return observer


def checkered() -> np.ndarray:
    return np.repeat(100 + 50 * (np.indices((32, 32)).sum(axis=0) % 2)[..., None], 3, axis=2).astype(np.uint8)


def test_a_row_without_a_face_has_no_lips_to_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = observed([checkered()] * 40, monkeypatch)
    black = observed([np.zeros_like(checkered())] * 40, monkeypatch)
    row = talkinghead.evaluate._row(black, truth)
    undefined = {
        "lmd_px", "lmd_centred_px", "mouth_opening_r", "lmd_px_free", "lmd_centred_px_free", "mouth_opening_r_free",
        "mouth_amplitude", "mouth_lag_frames", "mean_opening", "closure_recall", "closure_precision", "head_jitter",
    }  # fmt: skip
    assert {name for name, value in asdict(row).items() if math.isnan(value)} == undefined
    assert row.mouth_sharpness == row.closures == 0 and row.whole_psnr == pytest.approx(6.0, abs=0.3)
    evaluation = Evaluation({}, {"tracked": row})
    assert json.loads(evaluation.to_json())["rows"]["tracked"]["lmd_px"] is None
    assert ("lmd_px", "-") in evaluation.to_table()


def test_a_source_in_which_the_judge_sees_no_face_leaves_every_lip_measure_undefined(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    black, seen = (observed([picture] * 40, monkeypatch) for picture in (np.zeros_like(checkered()), checkered()))
    row = talkinghead.evaluate._row(seen, black)
    assert math.isnan(row.lmd_px) and math.isnan(row.closure_recall) and math.isnan(row.mean_opening)


def test_the_table_has_a_line_per_measure_and_a_column_per_row(measured: tuple[Evaluation, list[Progress]]) -> None:
    table = measured[0].to_table()
    assert table[0] == ("", "audio", "tracked", "shuffled", "silence", "mean_face", "ground_truth")
    assert [line[0] for line in table[1:]] == list(measure_names())
    assert dict((line[0], line[-1]) for line in table)["whole_psnr"] == "inf"


def test_values_that_json_cannot_hold_become_null() -> None:
    row = EvaluationRow(*([math.inf, math.nan, -math.inf] + [0.5] * (len(measure_names()) - 3)))
    result = json.loads(Evaluation({"seed": 0}, {"audio": row}).to_json())
    values = list(result["rows"]["audio"].values())
    assert values[:3] == [None] * 3 and set(values[3:]) == {0.5}
    assert list(asdict(row)) == list(measure_names())
