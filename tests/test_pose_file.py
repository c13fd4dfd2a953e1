"""Poses from a table: what its numbers mean, how it is repeated, and which line is wrong."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from talkinghead.errors import PoseFileError
from talkinghead.pose_file import FileMotion, read_poses

HEADING = "yaw,pitch,roll,x,y,z\n"
FORWARD, TOP = np.array([0.0, 0.0, -1.0]), np.array([0.0, -1.0, 0.0])
"""Of a head in the camera's axes: right, down, away."""
FPS = Fraction(25)


def poses(tmp_path: Path, text: str, encoding: str = "utf-8") -> np.ndarray:
    path = tmp_path / "poses.csv"
    path.write_text(text, encoding=encoding)
    return read_poses(path)


def turn(motion: np.ndarray) -> Rotation:
    return Rotation.from_rotvec(motion[:3])


def test_what_the_numbers_mean(tmp_path: Path) -> None:
    yaw, pitch, roll, place = poses(tmp_path, HEADING + "30,0,0,0,0,0\n0,20,0,0,0,0\n0,0,10,0,0,0\n0,0,0,0.1,0.2,0.3\n")
    assert np.allclose(turn(yaw).apply(FORWARD), (0.5, 0, -np.sqrt(0.75))), "to the right of the picture"
    assert turn(pitch).apply(FORWARD)[1] == pytest.approx(-np.sin(np.radians(20))), "up"
    assert turn(roll).apply(TOP)[0] == pytest.approx(np.sin(np.radians(10))), "leans to the right"
    assert np.allclose(place, (0, 0, 0, 0.1, -0.2, -0.3)), "right, up, towards the camera"


def test_roll_comes_first_and_yaw_last(tmp_path: Path) -> None:
    (all_three,) = poses(tmp_path, HEADING + "30,20,10,0,0,0\n")
    yaw, pitch, roll = poses(tmp_path, HEADING + "30,0,0,0,0,0\n0,20,0,0,0,0\n0,0,10,0,0,0\n")
    assert (turn(all_three) * (turn(yaw) * turn(pitch) * turn(roll)).inv()).magnitude() < 1e-9


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_as_spreadsheets_write_it(tmp_path: Path, encoding: str, ending: str) -> None:
    text = ending.join(["yaw, pitch, roll, x, y, z", "1,2,3,0,0,0", "", '"4", 5,6,0,0,0', ""])
    assert len(poses(tmp_path, text, encoding)) == 2


FAULTS = {
    "": "line 1: expected the heading yaw,pitch,roll,x,y,z, got ''",
    "1,2,3,4,5,6\n": "line 1: expected the heading",
    HEADING: "holds no poses: write one row",
    HEADING + "1,2,3,0,0,0\n1,2,3\n": "line 3: expected 6 numbers, got 3",
    HEADING + "\n\n1,2,three,0,0,0\n": "line 4: roll takes -60 to 60 degrees, got 'three'",
    HEADING + "1,2,nan,0,0,0\n": "line 2: roll takes -60 to 60 degrees, got 'nan'",
    HEADING + "1,2,3,0,inf,0\n": "line 2: y takes -2 to 2 head units, got 'inf'",
    HEADING + "1,75,3,0,0,0\n": "line 2: pitch takes -60 to 60 degrees, got '75'",
    HEADING + '1,"2,3,0,0,0\n': "no CSV file",
}


@pytest.mark.parametrize("text", FAULTS)
def test_faults_are_named_with_their_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(PoseFileError, match="poses") as caught:
        poses(tmp_path, text)
    assert FAULTS[text] in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(PoseFileError, match="takes source, still, idle or a CSV file"):
        read_poses(tmp_path / "idel")
    with pytest.raises(PoseFileError, match="cannot read"):
        read_poses(tmp_path)
    (tmp_path / "picture.csv").write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe")
    with pytest.raises(PoseFileError, match="comma-separated text in UTF-8"):
        read_poses(tmp_path / "picture.csv")


def ramp(rows: int) -> np.ndarray:
    return np.arange(rows)[:, None] * np.ones(6)


@pytest.mark.parametrize("rows", [100, 150])
def test_a_table_that_is_long_enough_is_played_once(rows: int) -> None:
    motion = FileMotion(ramp(rows), 100, FPS)
    assert np.array_equal(motion(np.arange(100)), ramp(rows)[:100])
    assert np.array_equal(motion(np.array([-5, 100, 104])), ramp(rows)[[0, 99, 99]]), "it rests before and after"


def test_a_shorter_table_is_played_to_and_fro_without_a_jerk() -> None:
    shown = FileMotion(ramp(60), 1000, FPS)(np.arange(1000))[:, 0]
    assert shown.min() == 0 and shown.max() == 59
    assert np.abs(np.diff(shown)).max() <= 1 + 1e-9
    assert np.abs(np.diff(shown, 2)).max() < 0.4, "four frames of a turn's twelve take its speed"


def test_a_table_of_one_row() -> None:
    assert np.array_equal(FileMotion(np.ones((1, 6)), 50, FPS)(np.arange(50)), np.ones((50, 6)))
