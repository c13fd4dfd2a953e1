"""Pictures of an avatar where avatars are weakest: foreign expressions in place, and heads turned beyond the footage.

python -m talkinghead.gallery AVATAR... -o FOLDER: two sheets of each avatar, small enough to be kept beside its code.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy.spatial.transform import Rotation

from render.head_model import BonePose
from talkinghead.avatar import Avatar, load_avatar
from talkinghead.backgrounds import over
from talkinghead.blinks import eye_opening
from talkinghead.gaze import head_direction
from talkinghead.head_motion import BodyMotion, source_pose
from talkinghead.renderer import AvatarRenderer, DrivenFrame
from talkinghead.source_tracks import SourceTracks
from tools.errors import OutputError, UserError
from tools.face_topology import FaceTopology
from tools.tracked_clip import TOPOLOGIES, resampled
from tools.video import read_frames

TILE_PX = 200
ZOOM = 3
LARGEST_BYTES = 250_000
BEYOND_DEGREES = 15.0
HEAD_CENTRE = np.array([0.0, 0.0, 0.6])
"""What a head is turned about: between the ears, head units."""


@dataclass(frozen=True)
class Transfer:
    """An expression to show on another frame."""

    title: str
    pose: int  # frame that is changed
    expression: int  # frame that the code is taken from
    eyes: bool  # the upper face's code, else the lower's


def choose_transfers(avatar: Avatar) -> tuple[Transfer, ...]:
    """The footage's extremes, each put where it is least at home."""
    tracks, topology = avatar.tracks, TOPOLOGIES[avatar.manifest.topology]
    found = np.flatnonzero(tracks.found)
    # In head units: a turned head is as high as before, and the distance between its eyes is not.
    gap = tracks.landmarks[:, topology.upper_inner_lip] - tracks.landmarks[:, topology.lower_inner_lip]
    mouth = (np.linalg.norm(gap, axis=1) * tracks.head_translations[:, 2])[found]
    eyes = eye_opening(tracks.landmarks, topology)[found]
    closed, wide = int(mouth.argmin()), int(mouth.argmax())
    shut, awake = int(eyes.argmin()), int(eyes.argmax())
    chosen = [("mouth opened", closed, wide), ("mouth closed", wide, closed)]
    directions = head_direction(tracks.head_rotations[found])
    names = (("left", "right"), ("bowed", "raised"))
    for (low, high), angles in zip(names, directions.T, strict=True):
        for name, place in ((low, int(angles.argmin())), (high, int(angles.argmax()))):
            opens = mouth[place] < (mouth[closed] + mouth[wide]) / 2
            title = f"{name}, mouth {'opened' if opens else 'closed'}"
            chosen.append((title, place, wide if opens else closed))
    rows = [Transfer(title, int(found[pose]), int(found[other]), False) for title, pose, other in chosen]
    blinks = [("eyes shut", awake, shut), ("eyes opened", shut, awake)]
    return (*rows, *(Transfer(title, int(found[pose]), int(found[other]), True) for title, pose, other in blinks))


def expression_sheet(avatar: Avatar) -> np.ndarray:
    """A row per transfer: source frame, result in place and the frame that the expression is of; then mouth or eyes of
    the three, magnified. uint8 RGB."""
    topology = TOPOLOGIES[avatar.manifest.topology]
    renderers, tracks = {eyes: AvatarRenderer(avatar, with_eyes=eyes) for eyes in (False, True)}, avatar.tracks
    rows = []
    for transfer in choose_transfers(avatar):
        pose, expression = transfer.pose, transfer.expression
        source, origin = (_frame(avatar, number) for number in (pose, expression))
        lower, upper = (pose, expression) if transfer.eyes else (expression, pose)
        frame = DrivenFrame(pose, tracks.lower[lower], tracks.upper[upper], picture=source)
        (result,) = renderers[transfer.eyes].in_place([frame])
        crops = [avatar.manifest.crop.cut(picture) for picture in (source, result, origin)]
        middles = [_middle(tracks.landmarks[number], topology, transfer.eyes) for number in (pose, pose, expression)]
        details = [_magnified(crop, middle) for crop, middle in zip(crops, middles, strict=True)]
        first, *others = (resampled(picture, TILE_PX) for picture in (*crops, *details))
        rows.append(np.hstack([_labelled(first, transfer.title), *others]))
    return np.vstack(rows)


def turned_poses(tracks: SourceTracks, still: int) -> tuple[tuple[str, BonePose], ...]:
    """Titles and poses: the head turned to the footage's extremes of yaw, then pitch, and beyond; the torso as in the
    frame `still`.

    Five each: beyond the least, the least, as in that frame, the greatest, beyond the greatest.
    """
    rest = source_pose(tracks, still)
    directions = head_direction(tracks.head_rotations[tracks.found])
    at_rest = head_direction(rest.head_rotation.numpy())
    poses = []
    for place, (name, axis) in enumerate((("yaw", "y"), ("pitch", "x"))):
        least, most = directions[:, place].min(), directions[:, place].max()
        for angle in (least - BEYOND_DEGREES, least, at_rest[place], most, most + BEYOND_DEGREES):
            poses.append((f"{name} {round(angle):+d}", turned(rest, axis, float(angle - at_rest[place]))))
    return tuple(poses)


def turned(pose: BonePose, axis: str, degrees: float) -> BonePose:
    """A pose with the head turned about its own centre; the torso stays.

    Args:
        axis: "y" turns to the right of the picture, "x" upwards, as `talkinghead.gaze` counts.
    """
    # In OpenCV's axes both turn the other way round.
    turn = torch.from_numpy(Rotation.from_euler(axis, -degrees, degrees=True).as_matrix()).float()
    rotation = turn @ pose.head_rotation
    shift = (pose.head_rotation - rotation) @ torch.from_numpy(HEAD_CENTRE).float()
    return replace(pose, head_rotation=rotation, head_translation=pose.head_translation + shift)


def turns_sheet(avatar: Avatar) -> np.ndarray:
    """A row for yaw and one for pitch: see `turned_poses`. Nothing of the footage is pasted. uint8 RGB."""
    renderer, tracks = AvatarRenderer(avatar), avatar.tracks
    found = np.flatnonzero(tracks.found)
    still = BodyMotion(tracks, found, float(avatar.manifest.fps)).still_frame()
    titles, poses = zip(*turned_poses(tracks, still), strict=True)
    people = renderer.person([DrivenFrame(still, tracks.lower[still], pose=pose) for pose in poses])
    tiles = []
    for title, person in zip(titles, people, strict=True):
        picture = over(person, avatar.background)
        tiles.append(_labelled(resampled(picture, 3 * TILE_PX // 2), title))
    return np.vstack([np.hstack(tiles[:5]), np.hstack(tiles[5:])])


def write_gallery(avatar: Avatar, folder: Path) -> tuple[Path, Path]:
    """Writes both sheets of a saved avatar as NAME-expressions.jpg and NAME-turns.jpg, LARGEST_BYTES at most.

    Raises:
        OutputError: the folder does not take them.
        UserError: the footage cannot be read.
    """
    assert avatar.path is not None, "save the avatar first"
    written = []
    for name, sheet in (("expressions", expression_sheet(avatar)), ("turns", turns_sheet(avatar))):
        path = folder / f"{avatar.path.stem}-{name}.jpg"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(small_jpeg(sheet))
        except OSError as error:
            raise OutputError(f"cannot write {path} ({error.strerror}): choose another folder with -o") from error
        written.append(path)
    return written[0], written[1]


def small_jpeg(picture: np.ndarray) -> bytes:
    """The best JPEG of a uint8 RGB picture that has LARGEST_BYTES or less, or else the smallest."""
    for quality in range(92, 20, -6):
        _, encoded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        if len(encoded) <= LARGEST_BYTES:
            break
    return encoded.tobytes()


def _frame(avatar: Avatar, number: int) -> np.ndarray:
    return next(read_frames(avatar.source_video(), number, 1))


def _middle(landmarks: np.ndarray, topology: FaceTopology, eyes: bool) -> np.ndarray:
    """Middle [2] px of the lips or of both eyes."""
    return landmarks[list((*topology.left_eye, *topology.right_eye) if eyes else topology.lips)].mean(axis=0)


def _magnified(crop: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """The part of a crop that fills it at ZOOM times its size."""
    side = len(crop) // ZOOM
    left, top = np.clip(np.round(middle - side / 2), 0, len(crop) - side).astype(int)
    return crop[top : top + side, left : left + side]


def _labelled(tile: np.ndarray, text: str) -> np.ndarray:
    tile = tile.copy()
    for color, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(tile, text, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.42, color, thickness, cv2.LINE_AA)
    return tile


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the sheets of every avatar given."""
    parser = argparse.ArgumentParser(prog="python -m talkinghead.gallery", description=__doc__.partition("\n")[0])
    parser.add_argument("avatars", metavar="AVATAR", type=Path, nargs="+", help="folder that 'talkinghead fit' made")
    parser.add_argument("-o", metavar="FOLDER", dest="folder", type=Path, required=True, help="where the sheets go")
    options = parser.parse_args(arguments)
    try:
        for path in options.avatars:
            write_gallery(load_avatar(path), options.folder)
    except UserError as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()
