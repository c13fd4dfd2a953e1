"""`talkinghead evaluate` on the fitted demo clip: the JSON of the protocol, its controls and its refusals."""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from demo_clip_track import demo_clip, fitted_frames
from fitted_demo import FittedDemo
from tiny_avatar import save_tiny_avatar

import talkinghead.evaluate
from talkinghead.avatar import Avatar, load_avatar
from talkinghead.config import EvaluateConfig, FitConfig
from talkinghead.errors import NothingHeldOutError
from talkinghead.evaluate import SHUFFLE_FRAMES, Evaluation, EvaluationRow, evaluate, measure_names
from talkinghead.progress import Progress
from tools.face_topology import IBUG_68

ROWS = {"audio", "tracked", "shuffled", "silence", "ground_truth"}
MEASURES = {
    "composite_psnr", "composite_ssim", "hull_psnr", "face_psnr", "lmd_px", "lmd_centred_px", "mouth_opening_r",
    "lmd_px_free", "lmd_centred_px_free", "mouth_opening_r_free",
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
    for name in ("composite_psnr", "hull_psnr", "face_psnr"):
        assert truth[name] is None  # infinite
    for name in ("lmd_px", "lmd_centred_px", "lmd_px_free", "lmd_centred_px_free", "mouth_lag_frames"):
        assert truth[name] == 0, name
    for name in ("composite_ssim", "mouth_opening_r", "mouth_opening_r_free", "mouth_amplitude", "head_jitter"):
        assert truth[name] == pytest.approx(1), name


def test_no_other_row_is(rows: dict[str, dict[str, float | None]]) -> None:
    for name in rows.keys() - {"ground_truth"}:
        row = rows[name]
        assert 20 < row["composite_psnr"] < 60 and 0.5 < row["composite_ssim"] < 1, name
        assert 15 < row["face_psnr"] < row["hull_psnr"] < 60, name
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

    def measure(avatar: Avatar, backend: str) -> Generator[Progress, None, Evaluation]:
        assert avatar.path == made[0] and backend == "torch"
        yield Progress("measuring", 1, 1)
        return Evaluation({}, {})

    monkeypatch.setattr(talkinghead.evaluate, "fit", fit)
    monkeypatch.setattr(talkinghead.evaluate, "_measure", measure)
    config = EvaluateConfig(replace(EvaluateConfig().fit, backend="torch"))
    stages = [event.stage for event in evaluate(demo_clip().path, config)]
    assert stages == ["fitting", "measuring"]
    assert not made[0].parent.exists()


def test_values_that_json_cannot_hold_become_null() -> None:
    row = EvaluationRow(*([math.inf, math.nan, -math.inf] + [0.5] * (len(measure_names()) - 3)))
    result = json.loads(Evaluation({"seed": 0}, {"audio": row}).to_json())
    values = list(result["rows"]["audio"].values())
    assert values[:3] == [None] * 3 and set(values[3:]) == {0.5}
    assert list(asdict(row)) == list(measure_names())
