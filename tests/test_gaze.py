"""Gaze: read from irises, set in codes, and nothing else of the face moved."""

from __future__ import annotations

import numpy as np
import pytest
from acting_person import TOPOLOGY, ActingPerson, acting_person
from tiny_avatar import FOCAL_PX, SIDE, turned

from talkinghead.errors import GazeError
from talkinghead.gaze import GazeControl, eye_turns, fit_gaze, head_direction
from tools.face_topology import IBUG_68


@pytest.fixture(scope="module")
def person() -> ActingPerson:
    return acting_person(starts=())


@pytest.fixture(scope="module")
def control(person: ActingPerson) -> GazeControl:
    tracks = person.avatar.tracks
    return fit_gaze(tracks, tracks.upper, np.arange(len(tracks)), TOPOLOGY, FOCAL_PX, SIDE)


def test_turns_of_the_eyes_are_measured_in_degrees_whatever_the_head_does(person: ActingPerson) -> None:
    tracks = person.avatar.tracks
    turns = eye_turns(tracks, np.arange(len(tracks)), TOPOLOGY, FOCAL_PX, SIDE)
    error = (turns - turns.mean(axis=0)) - (person.gaze - person.gaze.mean(axis=0))
    assert np.abs(error).mean() < 1.2, "a hundredth of a pixel of the tiny iris is a degree"
    for axis in range(2):
        assert np.corrcoef(turns[:, axis], person.gaze[:, axis])[0, 1] > 0.9


def test_codes_turn_the_eyes_and_nothing_else(person: ActingPerson, control: GazeControl) -> None:
    code = person.avatar.tracks.upper[100]
    before, ahead = person.hidden(code), np.eye(3)
    for wanted in ((0.0, 0.0), (3.0, 0.0), (-3.0, 2.0), (0.0, -2.0)):
        after = person.hidden(control.held(code, np.array(wanted), ahead))
        reached = after[1:3] - person.gaze.mean(axis=0) - (control.camera + wanted - control.turn_mean)
        assert np.abs(reached).max() < 0.8
        assert np.abs(after[[0, 3]] - before[[0, 3]]).max() < 0.2, "lids and brow stay"
        assert np.allclose(control.turn(control.held(code, np.array(wanted), ahead)), control.camera + wanted)


def test_no_further_than_the_clip_shows(person: ActingPerson, control: GazeControl) -> None:
    code = person.avatar.tracks.upper[0]
    least, most = control.turn_range
    for far, limit in (((90.0, 90.0), most), ((-90.0, -90.0), least)):
        assert np.allclose(control.turn(control.held(code, np.array(far), np.eye(3))), limit)
    decoded = control.turn(person.avatar.tracks.upper)
    assert (decoded.min(axis=0) <= least).all() and (most <= decoded.max(axis=0)).all()


def test_eyes_on_the_camera_turn_back_when_the_head_turns(person: ActingPerson, control: GazeControl) -> None:
    code = person.avatar.tracks.upper[0]
    ahead, aside = (control.turn(control.held(code, np.zeros(2), turned(degrees))) for degrees in (0.0, -2.0))
    assert np.allclose(aside - ahead, (-2.0, 0.0)), "the head turns to the right of the picture, the eyes to the left"


def test_directions_of_the_head() -> None:
    assert np.allclose(head_direction(np.eye(3)), (0, 0))
    assert np.allclose(head_direction(turned(-10.0)), (10, 0)), "to the right of the picture"
    cosine, sine = np.cos(0.2), np.sin(0.2)
    up = np.array([[1, 0, 0], [0, cosine, sine], [0, -sine, cosine]])
    assert (up @ (0, 0, -1))[1] < 0, "the face is turned to where y is negative"
    assert np.allclose(head_direction(up), (0, np.degrees(0.2)))


def test_landmarks_without_irises(person: ActingPerson) -> None:
    with pytest.raises(GazeError, match="--landmarks mediapipe"):
        eye_turns(person.avatar.tracks, np.arange(10), IBUG_68, FOCAL_PX, SIDE)
