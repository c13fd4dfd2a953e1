"""What an avatar folder or a video holds, one fact per line."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from talkinghead.avatar import check_folder
from talkinghead.manifest import AvatarManifest
from talkinghead.read_provenance import NO_CONSENT, provenance_facts
from tools.video import VideoInfo, probe


@dataclass(frozen=True)
class Fact:
    """A line of the report."""

    name: str
    value: str


def describe(path: Path) -> tuple[Fact, ...]:
    """Facts of an avatar folder, all of whose files are checked, or of a video.

    Raises:
        UserError: it is neither, or damaged.
    """
    if path.is_dir():
        return _avatar_facts(path, check_folder(path))
    return (*_video_facts(probe(path)), *(Fact(*fact) for fact in provenance_facts(path)))


def _avatar_facts(folder: Path, manifest: AvatarManifest) -> tuple[Fact, ...]:
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    crop, held_out = manifest.crop, manifest.frame_count - manifest.fitted_frames
    counts = (manifest.face, manifest.body, manifest.mouth)
    return (
        Fact("avatar", f"{folder}, {size / 2**20:.1f} MiB, format {manifest.format_version}"),
        Fact("made", f"{manifest.created} by talkinghead {manifest.talkinghead_version}"),
        Fact("source", f"{manifest.source_name} (SHA-256 {manifest.source_sha256[:12]})"),
        Fact("consent", manifest.consent or NO_CONSENT),
        Fact("picture", _picture(manifest.width, manifest.height, manifest.fps)),
        Fact("length", _length(manifest.frame_count, manifest.fps)),
        Fact("held out", f"the last {held_out} frames" if held_out else "nothing"),
        Fact("crop", f"{crop.side} px square at ({crop.left}, {crop.top}), learned at {crop.resolution} px"),
        Fact("Gaussians", "{:,} face, {:,} body, {:,} inside the mouth".format(*counts)),
        *([Fact("inside the mouth", "implicit")] if manifest.mouth_kind == "implicit" else []),
        Fact("expression", f"{manifest.codes} codes from {manifest.topology} landmarks"),
        Fact("speech encoder", manifest.speech_encoder),
        Fact("lips driven by", _speech(manifest)),
        *([Fact("mouth judged by", ", ".join(manifest.experts))] if manifest.experts else []),
        *([Fact("mended by", "a Blend-Net")] if manifest.blend_net else []),
        Fact("fit", f"preset {manifest.preset}, seed {manifest.seed}"),
        *(Fact("note", finding) for finding in manifest.findings),
    )


def _speech(manifest: AvatarManifest) -> str:
    if not manifest.speech_weights_sha256:
        return manifest.speech_feature
    return f"{manifest.speech_feature} (weights with SHA-256 {manifest.speech_weights_sha256[:12]}, not in the avatar)"


def _video_facts(info: VideoInfo) -> tuple[Fact, ...]:
    turned = f", turned by {info.rotation_degrees} degrees" if info.rotation_degrees else ""
    pace = ", varying in the file" if info.is_variable_rate else ""
    dynamic_range = ", HDR (shown tone-mapped)" if info.is_hdr else ""
    return (
        Fact("video", str(info.path)),
        Fact("picture", _picture(info.width, info.height, info.fps) + pace + turned),
        Fact("length", _length(info.frame_count, info.fps)),
        Fact("codec", f"{info.codec}, {info.pixel_format}{dynamic_range}"),
        Fact("sound", "yes" if info.has_audio else "none: 'fit' needs the person's speech"),
    )


def _picture(width: int, height: int, fps: Fraction) -> str:
    return f"{width}x{height} px, {float(fps):.6g} frames/s"


def _length(frames: int, fps: Fraction) -> str:
    return f"{float(frames / fps):.2f} s, {frames} frames"
