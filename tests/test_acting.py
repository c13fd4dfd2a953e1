"""What head and upper face do: every option does what it says, and only that."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from acting_person import ActingPerson, acting_person

from talkinghead.acting import NO_BLINKS, Actor, Performance
from talkinghead.blinks import MEAN_INTERVAL_S
from talkinghead.config import SpeakConfig
from talkinghead.errors import GazeError, PoseFileError
from talkinghead.timeline import PingPong
from tools.errors import UserError
from tools.face_topology import IBUG_68


@pytest.fixture(scope="module")
def person() -> ActingPerson:
    return acting_person()


def acted(person: ActingPerson, frames: int = 500, **options: object) -> list[Performance]:
    config = SpeakConfig(background="plate", **options)
    return list(Actor(person.avatar, config, frames).performances())


def uppers(performances: list[Performance]) -> np.ndarray:
    return np.stack([done.upper for done in performances])


def head_places(performances: list[Performance]) -> np.ndarray:
    return np.stack([done.pose.head_translation.numpy() for done in performances])


def test_by_default_everything_is_as_in_the_footage(person: ActingPerson) -> None:
    tracks, timeline = person.avatar.tracks, PingPong(500, person.avatar.manifest.fps)
    for frame, done in enumerate(acted(person, 1200)):
        source = timeline[frame]
        assert done.source_frame == source
        assert np.array_equal(done.upper, tracks.upper[source])
        assert np.array_equal(done.pose.head_rotation.numpy(), tracks.head_rotations[source])
        assert np.array_equal(done.pose.torso_translation.numpy(), tracks.torso_translations[source])


def test_blinks_of_the_source_are_kept_when_something_else_changes(person: ActingPerson) -> None:
    closed = person.hidden(uppers(acted(person, 480, expression="still")))[:, 0]
    assert np.abs(closed - (1 - person.lids[:480])).max() < 0.2


def test_without_blinks(person: ActingPerson) -> None:
    assert person.hidden(uppers(acted(person, blink="off")))[:, 0].max() < 0.15


def test_natural_blinks(person: ActingPerson) -> None:
    frames = 25 * 300
    closed = person.hidden(uppers(acted(person, frames, blink="natural")))[:, 0] > 0.5
    blinks = np.count_nonzero(closed[1:] & ~closed[:-1])
    assert blinks == pytest.approx(300 / MEAN_INTERVAL_S, rel=0.2)
    again, other = (person.hidden(uppers(acted(person, 2000, blink="natural", seed=s)))[:, 0] > 0.5 for s in (0, 1))
    assert np.array_equal(again, closed[:2000]) and not np.array_equal(other, again)


def test_a_clip_without_blinks_is_noted_and_keeps_the_eyes_open() -> None:
    staring = acting_person(starts=())
    actor = Actor(staring.avatar, SpeakConfig(blink="natural"), 500)
    assert actor.notes == (NO_BLINKS,)
    assert staring.hidden(uppers(list(actor.performances())))[:, 0].max() < 0.15
    assert Actor(staring.avatar, SpeakConfig(blink="off"), 500).notes == ()
    assert Actor(acting_person().avatar, SpeakConfig(blink="natural"), 500).notes == ()


def test_a_gaze_that_is_held(person: ActingPerson) -> None:
    free, held = (person.hidden(uppers(acted(person, blink="off", pose="still", gaze=g))) for g in ("source", "camera"))
    assert free[:, 1].std() > 3 and held[:, 1].std() < 0.5
    assert np.abs(held[:, 3] - free[:, 3]).max() < 0.5, "the brow goes on as filmed"
    right = person.hidden(uppers(acted(person, 1, blink="off", pose="still", gaze="2,-1")))
    assert np.allclose((right - held[:1])[0, 1:3], (2, -1), atol=0.3)


def test_blinks_remain_while_the_gaze_is_held(person: ActingPerson) -> None:
    closed = person.hidden(uppers(acted(person, 480, gaze="camera")))[:, 0]
    assert np.abs(closed - (1 - person.lids[:480])).max() < 0.3


def test_a_still_expression_rests(person: ActingPerson) -> None:
    rest = person.hidden(uppers(acted(person, expression="still", blink="off")))
    assert np.ptp(rest, axis=0).max() == 0
    assert abs(rest[0, 0]) < 0.25, "with open eyes"


def test_a_still_pose_is_one_of_the_clip(person: ActingPerson) -> None:
    places = head_places(acted(person, 100, pose="still"))
    assert np.ptp(places, axis=0).max() == 0
    assert (np.abs(person.avatar.tracks.head_translations - places[0]).max(axis=1) == 0).any()


def test_an_idle_pose_stays_where_the_person_was(person: ActingPerson) -> None:
    places, filmed = head_places(acted(person, 1500, pose="idle")), person.avatar.tracks.head_translations
    assert (places >= filmed.min(axis=0) - 1e-5).all() and (places <= filmed.max(axis=0) + 1e-5).all()
    assert (np.ptp(places, axis=0) > 0.5 * np.ptp(filmed, axis=0)).all()
    assert np.abs(np.diff(places, axis=0)).max() < 2 * np.abs(np.diff(filmed, axis=0)).max()
    assert np.array_equal(places[:50], head_places(acted(person, 50, pose="idle")))
    assert not np.allclose(places[:50], head_places(acted(person, 50, pose="idle", seed=1)))


def test_poses_from_a_file(person: ActingPerson, tmp_path: Path) -> None:
    rows = [f"0,0,0,{0.001 * row},0,0" for row in range(100)]
    (tmp_path / "poses.csv").write_text("yaw,pitch,roll,x,y,z\n" + "\n".join(rows))
    places = head_places(acted(person, 100, pose=str(tmp_path / "poses.csv")))
    assert np.allclose(np.diff(places[:, 0]), 0.001, atol=1e-5) and np.ptp(places[:, 1:]) > 1, "x alone; z is far"
    with pytest.raises(PoseFileError, match="idel"):
        acted(person, pose="idel")


def test_only_fitted_frames_are_learned_from_and_shown(person: ActingPerson) -> None:
    fitted = replace(person.avatar, manifest=replace(person.avatar.manifest, fitted_frames=50))
    actor = Actor(fitted, SpeakConfig(background="plate", blink="natural", pose="still"), 300)
    assert actor.notes == (NO_BLINKS,), "all blinks are later"
    performances = list(actor.performances())
    assert max(done.source_frame for done in performances) == 49
    places = person.avatar.tracks.head_translations[:50]
    assert (np.abs(places - head_places(performances)[0]).max(axis=1) == 0).any()


def test_frames_without_a_face_are_not_learned_from(person: ActingPerson) -> None:
    tracks = person.avatar.tracks
    found, landmarks, places = tracks.found.copy(), tracks.landmarks.copy(), tracks.head_translations.copy()
    found[200:230], landmarks[200:230], places[200:230] = False, np.nan, 100.0
    broken = replace(person.avatar, tracks=replace(tracks, found=found, landmarks=landmarks, head_translations=places))
    config = SpeakConfig(background="plate", pose="idle", blink="natural", gaze="camera")
    performances = list(Actor(broken, config, 500).performances())
    assert head_places(performances).max() < 10
    assert np.isfinite(uppers(performances)).all()


def test_no_performance_is_kept(person: ActingPerson) -> None:
    """Endless audio: an hour's performances are made one by one."""
    config = SpeakConfig(background="plate", pose="idle", blink="natural")
    performances = Actor(person.avatar, config, 10**12).performances()
    assert len(list(itertools.islice(performances, 200))) == 200


def test_landmarks_without_irises(person: ActingPerson) -> None:
    avatar = replace(person.avatar, manifest=replace(person.avatar.manifest, topology=IBUG_68.name))
    with pytest.raises(GazeError, match="face-alignment landmarks do not have"):
        Actor(avatar, SpeakConfig(gaze="camera"), 10)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pose": "idle"}, "--pose idle needs another background"),
        ({"gaze": "left"}, "takes source, camera or YAW,PITCH"),
        ({"gaze": "1,2,3"}, "takes source, camera or YAW,PITCH"),
        ({"gaze": "nan,0"}, "takes source, camera or YAW,PITCH"),
        ({"mouth_gain": 2.5}, "--mouth-gain takes 0 to 2"),
        ({"mouth_gain": -1.0}, "--mouth-gain takes 0 to 2"),
        ({"seed": -1}, "--seed takes 0 or more"),
    ],
)
def test_options_that_cannot_be(options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        SpeakConfig(**options)
