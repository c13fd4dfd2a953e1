"""avatar.json: the facts of an avatar, with the size and SHA-256 of every other file, and of itself."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from render.motion import MotionFieldConfig
from talkinghead.config import LARGEST_RESOLUTION, LONGEST_CONSENT, Expert, MouthKind
from talkinghead.errors import DamagedAvatarError, NewerAvatarError, OlderAvatarError
from talkinghead.file_record import FileRecord
from talkinghead.outputs import MANIFEST_NAME
from tools.tracked_clip import TOPOLOGIES, CropBox

FORMAT_VERSION, OLDEST_FORMAT = 5, 3
"""Written, and the oldest that is read."""
READABLE = f"{OLDEST_FORMAT} to {FORMAT_VERSION}"
LATER_FACTS: dict[int, dict[str, Any]] = {
    4: {"consent": ""},
    5: {"mouth_kind": "gaussians", "blend_net": False, "experts": []},
}
"""What each format added, and what that is in avatars of the formats before."""
MOST_BYTES = 1_000_000
MOST_GAUSSIANS, MOST_CODES, LARGEST_SIDE, LARGEST_NETWORK = 10_000_000, 10_000, 16_384, 4_096
"""Far above anything useful: what is larger is no avatar, and must not be allocated."""
_FRACTION = re.compile(r"\d{1,9}(/\d{1,9})?", re.ASCII)
"""Not 1e999999999, which would take all memory."""


@dataclass(frozen=True)
class AvatarManifest:
    """The facts of an avatar.

    Raises:
        ValueError: numbers that no avatar can have, or that contradict one another.
    """

    format_version: int
    talkinghead_version: str
    created: str  # ISO 8601, UTC
    source_name: str
    source_sha256: str
    fps: Fraction
    width: int  # of source.mp4 as displayed, px
    height: int
    frame_count: int
    fitted_frames: int  # frames [0, fitted_frames) were fitted
    crop: CropBox
    focal_px: float  # in crop pixels
    topology: str
    speech_encoder: str
    preset: str
    seed: int
    face: int  # Gaussians of the branch
    body: int
    mouth: int
    codes: int  # length of the expression code
    field: MotionFieldConfig
    findings: tuple[str, ...]  # what the preflight found
    sound_delay_frames: float = 0.0  # by which the clip's own sound comes too early for its lips
    speech_feature: str = "default"  # whose embedding drives the lips; the default is that of speech_encoder
    speech_weights_sha256: str = ""  # of the weights that the feature reads from outside the avatar
    consent: str = ""  # who the person is and that they agreed; empty: nothing was stated
    mouth_kind: str = "gaussians"  # what the inside of the mouth is made of
    blend_net: bool = False  # whether a network mends what is rendered
    experts: tuple[str, ...] = ()  # who judged the mouth as speech drives it

    def __post_init__(self) -> None:
        largest_crop = min(self.width, self.height)
        limits = {
            "fps": (self.fps, Fraction(1, 1000), 10_000),
            "width": (self.width, 1, LARGEST_SIDE),
            "height": (self.height, 1, LARGEST_SIDE),
            "frame_count": (self.frame_count, 1, 1 << 31),
            "fitted_frames": (self.fitted_frames, 1, self.frame_count),
            "crop.side": (self.crop.side, 1, largest_crop),
            "crop.resolution": (self.crop.resolution, 1, LARGEST_RESOLUTION),
            "crop.left": (self.crop.left, 0, self.width - self.crop.side),
            "crop.top": (self.crop.top, 0, self.height - self.crop.side),
            "focal_px": (self.focal_px, 1e-3, 1e9),
            "face": (self.face, 1, MOST_GAUSSIANS),
            "body": (self.body, 0, MOST_GAUSSIANS),
            "mouth": (self.mouth, 0, MOST_GAUSSIANS),
            "codes": (self.codes, 1, MOST_CODES),
            "sound_delay_frames": (self.sound_delay_frames, -1e6, 1e6),
            **{f"field.{name}": (size, 1, LARGEST_NETWORK) for name, size in dataclasses.asdict(self.field).items()},
        }
        for name, (value, least, most) in limits.items():
            if not least <= value <= most:  # also refuses NaN
                raise ValueError(f"expected {name} from {least} to {most}, got {value}")
        if len(self.consent) > LONGEST_CONSENT or not self.consent.isprintable():
            raise ValueError(f"expected a statement of consent of one line, at most {LONGEST_CONSENT} characters")
        if self.topology not in TOPOLOGIES:
            raise ValueError(f"expected a topology of {', '.join(TOPOLOGIES)}, got {self.topology!r}")
        if self.mouth_kind not in get_args(MouthKind):
            raise ValueError(f"expected a mouth of {' or '.join(get_args(MouthKind))}, got {self.mouth_kind!r}")
        if not set(self.experts) <= set(get_args(Expert)):
            raise ValueError(f"expected experts of {', '.join(get_args(Expert))}, got {', '.join(self.experts)}")
        if self.mouth_kind == "implicit" and self.mouth:
            raise ValueError(f"expected no Gaussians of an implicit mouth, got {self.mouth}")


def write_manifest(manifest: AvatarManifest, files: Mapping[str, FileRecord], folder: Path) -> None:
    """Writes avatar.json. files: by their names in the folder."""
    facts = {"avatar": _encode(manifest), "files": {name: _encode(record) for name, record in files.items()}}
    text = json.dumps({"format_version": manifest.format_version, "sha256": _digest(facts), **facts}, indent=2)
    (folder / MANIFEST_NAME).write_text(text + "\n", encoding="utf-8")


def read_manifest(path: Path) -> tuple[AvatarManifest, dict[str, FileRecord]]:
    """The facts of an avatar, and the records of its files by name.

    Raises:
        NewerAvatarError, OlderAvatarError: written by another release in a format that this one does not read.
        DamagedAvatarError: not what `write_manifest` wrote.
        OSError: the file cannot be read.
    """
    try:
        content = json.loads(_text(path))
        version = content["format_version"]
        if type(version) is int and version > FORMAT_VERSION:
            raise NewerAvatarError(
                f"{path.parent} has avatar format {version}, and this talkinghead reads {READABLE}: "
                "update it (pip install --upgrade talkinghead)"
            )
        if type(version) is int and version < OLDEST_FORMAT:
            raise OlderAvatarError(
                f"{path.parent} has avatar format {version}, and this talkinghead reads {READABLE}: "
                f"fit it again from {path.parent / 'source.mp4'}"
            )
        facts = {"avatar": content["avatar"], "files": content["files"]}
        if type(version) is not int or content["sha256"] != _digest(facts):
            raise ValueError("its checksum does not match")
        later = [added for since, added in LATER_FACTS.items() if since > version]
        manifest = _decode(AvatarManifest, dict(ChainMap(facts["avatar"], *later)))
        if manifest.format_version != version:
            raise ValueError(f"expected format {version}, got {manifest.format_version}")
        return manifest, {name: _decode(FileRecord, record) for name, record in facts["files"].items()}
    except KeyError as error:
        raise DamagedAvatarError(path, f"lacks {error}") from error
    except (ValueError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise DamagedAvatarError(path, f"is damaged ({error})") from error


def _text(path: Path) -> bytes:
    """
    Raises:
        ValueError: it is longer than any.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        text = file.read(MOST_BYTES + 1)
    if len(text) > MOST_BYTES:
        raise ValueError(f"expected at most {MOST_BYTES:,} bytes")
    return text


def _digest(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _encode(value: Any) -> Any:
    """A dataclass as plain JSON values."""
    if dataclasses.is_dataclass(value):
        return {item.name: _encode(getattr(value, item.name)) for item in dataclasses.fields(value)}
    return str(value) if isinstance(value, Fraction) else value


def _decode(kind: Any, value: Any) -> Any:
    """The inverse of `_encode`; a value of another type raises ValueError or TypeError."""
    if dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        if set(value) != set(hints):
            raise ValueError(f"expected the fields {', '.join(hints)}")
        return kind(**{name: _decode(hint, value[name]) for name, hint in hints.items()})
    if get_origin(kind) is tuple:
        return tuple(_decode(get_args(kind)[0], item) for item in _decode(list, value))
    if kind is Fraction:
        if not _FRACTION.fullmatch(_decode(str, value)):
            raise ValueError(f"expected a fraction such as 30000/1001, got {value[:40]!r}")
        return Fraction(value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"expected {kind.__name__}, got {value!r}")
    return value
