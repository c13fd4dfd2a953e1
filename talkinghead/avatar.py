"""The avatar folder: everything that `speak` needs of a person, in open formats and without pickle.

avatar.json                 facts, sizes and checksums
gaussians.ply               the Gaussians; any splat viewer opens it
motion.safetensors          motion fields, and the inside of the mouth if it is implicit
speech_encoder.safetensors  speech encoder ("encoder."), the lip-motion predictor fitted on it ("lips.") and what was
                            fitted of another speech feature ("embedding.")
trained_encoder.safetensors that feature, if it was given as a file
blend_net.safetensors       the network that mends what is rendered, if it was fitted with one
tracks.safetensors          pose, expression and landmarks of every source frame
background.png              the crop without the person
source.mp4                  the footage, stream-copied
report.html, training.json  for looking at: what `speak` does without
log.jsonl                   what the avatar spoke, see `talkinghead.avatar_log`
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from encoders.contrastive.encoder_file import save_encoder
from encoders.embedding import Embedding, embedding_size
from encoders.errors import EncoderWeightsError, LipMotionFitError
from encoders.lip_motion import LipMotionPredictor
from encoders.lip_prior import BLURS_S
from encoders.phones import ARTICULATORS, PHONES, VISEMES
from encoders.speech import SpeechEncoder
from render.blend_net import BlendNet
from render.head_model import PER_GAUSSIAN, HeadModel, Intrinsics, empty_head_model
from talkinghead.errors import DamagedAvatarError, NotAnAvatarError
from talkinghead.folder_swap import replaced_folder, restore_interrupted_swap
from talkinghead.gaussians_ply import read_gaussians, write_gaussians
from talkinghead.manifest import (
    FORMAT_VERSION,
    AvatarManifest,
    FileRecord,
    read_manifest,
    write_manifest,
)
from talkinghead.outputs import MANIFEST_NAME, check_new_avatar
from talkinghead.source_tracks import SourceTracks, read_tracks, write_tracks
from talkinghead.speech_choice import COPIED_SPEECH, embedding_tensors, restore_embedding, trained_encoder
from talkinghead.tensor_files import check_shapes, read_tensors, write_tensors
from tools.tracked_clip import TOPOLOGIES
from tools.video import VideoInfo, probe, stream_copy

__all__ = [
    "FORMAT_VERSION",
    "Avatar",
    "AvatarManifest",
    "SourceTracks",
    "check_folder",
    "load_avatar",
    "save_avatar",
    "speech_feature_of",
]

GAUSSIANS, MOTION, SPEECH = "gaussians.ply", "motion.safetensors", "speech_encoder.safetensors"
TRACKS, BACKGROUND, SOURCE = "tracks.safetensors", "background.png", "source.mp4"
TRAINED, BLEND_NET = "trained_encoder.safetensors", "blend_net.safetensors"
FILES = (GAUSSIANS, MOTION, SPEECH, TRACKS, BACKGROUND, SOURCE)


@dataclass(frozen=True, kw_only=True)
class Avatar:
    """A person, ready to speak."""

    manifest: AvatarManifest
    model: HeadModel
    lips: LipMotionPredictor
    encoder: SpeechEncoder
    embedding: Embedding = None  # None: the encoder's own
    tracks: SourceTracks
    background: np.ndarray  # [R, R, 3] uint8 RGB
    blend_net: BlendNet | None = None  # mends what is rendered; as the manifest says
    path: Path | None = None  # None until it is saved

    def source_video(self) -> VideoInfo:
        """The footage in the folder.

        Raises:
            DamagedAvatarError: it is not the video that was fitted.
            UserError: it cannot be read, see `tools.video.probe`.
        """
        assert self.path is not None, "save the avatar first"
        info, facts = probe(self.path / SOURCE), self.manifest
        found = (info.width, info.height, info.fps, info.frame_count)
        expected = (facts.width, facts.height, facts.fps, facts.frame_count)
        if found != expected:
            was, should = (f"{size[0]}x{size[1]} px, {size[3]} frames at {size[2]}/s" for size in (found, expected))
            raise DamagedAvatarError(info.path, f"has {was}, expected {should}")
        return info


def save_avatar(
    avatar: Avatar, source_video: Path, destination: Path, extras: Sequence[Path] = (), spent: Sequence[Path] = ()
) -> Avatar:
    """Writes the folder as a whole: an avatar that stood there stays until the new one is complete, see `folder_swap`.

    Args:
        source_video: the footage, copied without decoding.
        extras: more files to copy in, such as the report.
        spent: files that are removed when everything is written, see `replaced_folder`.

    Returns:
        The avatar with its path, in the format of this release.

    Raises:
        OutputError: see `talkinghead.outputs`; the disk is full; the footage cannot be copied.
    """
    check_new_avatar(destination, overwrite=True)
    manifest = replace(avatar.manifest, format_version=FORMAT_VERSION)  # it may have been read from an older one
    with replaced_folder(destination, spent) as folder:
        write_gaussians(avatar.model, folder / GAUSSIANS)
        write_tensors(folder / MOTION, _motion_state(avatar.model))
        speech = {f"lips.{name}": tensor for name, tensor in avatar.lips.to_tensors().items()}
        speech |= {f"encoder.{name}": tensor for name, tensor in avatar.encoder.state_dict().items()}
        speech |= {f"embedding.{name}": tensor for name, tensor in embedding_tensors(avatar.embedding).items()}
        write_tensors(folder / SPEECH, speech)
        if (trained := trained_encoder(avatar.embedding)) is not None:
            save_encoder(trained, folder / TRAINED)
        if avatar.blend_net is not None:
            write_tensors(folder / BLEND_NET, avatar.blend_net.state_dict())
        write_tracks(avatar.tracks, folder / TRACKS)
        _, png = cv2.imencode(".png", avatar.background[..., ::-1])
        (folder / BACKGROUND).write_bytes(png.tobytes())
        stream_copy(source_video, folder / SOURCE)
        for extra in extras:
            shutil.copyfile(extra, folder / extra.name)
        records = {name: FileRecord.of(folder / name) for name in _files_of(avatar.manifest)}
        write_manifest(manifest, records, folder)
    return replace(avatar, manifest=manifest, path=destination)


def load_avatar(path: Path | str) -> Avatar:
    """Reads an avatar folder. Nothing outside of the folder is opened, and sizes are checked before memory is taken.

    Raises:
        NotAnAvatarError: there is no avatar folder.
        NewerAvatarError, OlderAvatarError: its format is not that of this release.
        DamagedAvatarError: a file is missing, cut off or changed, or the files disagree.
        SpeechFeatureError: the speech feature that drives it cannot be computed here.
    """
    folder = Path(path)
    manifest = check_folder(folder)
    encoder, embedding = _read_speech(folder / SPEECH, manifest)
    lips = _read_lips(folder / SPEECH, manifest, embedding_size(encoder, embedding))
    landmarks, upper = TOPOLOGIES[manifest.topology].count, manifest.codes - lips.closed_code.size
    return Avatar(
        manifest=manifest,
        model=_read_model(folder, manifest),
        lips=lips,
        encoder=encoder,
        embedding=embedding,
        tracks=read_tracks(folder / TRACKS, manifest.frame_count, landmarks, lips.closed_code.size, upper),
        background=_read_background(folder / BACKGROUND, manifest.crop.resolution),
        blend_net=_read_blend_net(folder / BLEND_NET) if manifest.blend_net else None,
        path=folder,
    )


def speech_feature_of(folder: Path) -> str:
    """Name of the speech feature that drives an avatar, from its manifest alone. Raises as `check_folder`."""
    return _manifest_of(folder)[0].speech_feature


def check_folder(folder: Path) -> AvatarManifest:
    """The facts of an avatar whose files are all there and as they were written. Raises as `load_avatar`."""
    manifest, records = _manifest_of(folder)
    try:
        names = _files_of(manifest)
        if set(records) != set(names):
            raise DamagedAvatarError(folder / MANIFEST_NAME, f"does not list {', '.join(names)}")
        for name in names:
            _check_file(folder / name, records[name])
    except OSError as error:
        raise DamagedAvatarError(folder, f"cannot be read ({error.strerror})") from error
    return manifest


def _files_of(manifest: AvatarManifest) -> tuple[str, ...]:
    optional = {TRAINED: manifest.speech_feature in COPIED_SPEECH, BLEND_NET: manifest.blend_net}
    return (*FILES, *(name for name, is_there in optional.items() if is_there))


def _manifest_of(folder: Path) -> tuple[AvatarManifest, dict[str, FileRecord]]:
    restore_interrupted_swap(folder)
    if not folder.exists():
        raise NotAnAvatarError(f"{folder} does not exist: make an avatar with 'talkinghead fit VIDEO -o {folder}'")
    if not folder.is_dir():
        raise NotAnAvatarError(f"{folder} is a file, and an avatar is a folder: make one with 'talkinghead fit VIDEO'")
    if not (folder / MANIFEST_NAME).is_file():
        raise NotAnAvatarError(f"{folder} has no {MANIFEST_NAME}: give a folder that 'talkinghead fit' made")
    if (folder / MANIFEST_NAME).is_symlink():
        raise DamagedAvatarError(folder / MANIFEST_NAME, "is a link, and nothing outside of an avatar's folder is read")
    try:
        return read_manifest(folder / MANIFEST_NAME)
    except OSError as error:
        raise DamagedAvatarError(folder, f"cannot be read ({error.strerror})") from error


def _check_file(path: Path, record: FileRecord) -> None:
    if path.is_symlink():
        raise DamagedAvatarError(path, "is a link, and nothing outside of an avatar's folder is read")
    if not path.is_file():
        raise DamagedAvatarError(path, "is missing")
    size = path.stat().st_size
    if size != record.size:
        raise DamagedAvatarError(path, f"has {size} bytes instead of {record.size}")
    if FileRecord.of(path) != record:
        raise DamagedAvatarError(path, "has changed since it was written")


def _motion_state(model: HeadModel) -> dict[str, torch.Tensor]:
    """The model's state without what the PLY file holds."""
    return {name: tensor for name, tensor in model.state_dict().items() if name.rpartition(".")[2] not in PER_GAUSSIAN}


def _read_model(folder: Path, manifest: AvatarManifest) -> HeadModel:
    counts = (manifest.face, manifest.body, manifest.mouth)
    mouth = None if manifest.mouth_kind == "implicit" else manifest.mouth
    intrinsics = Intrinsics(manifest.focal_px, manifest.crop.resolution)
    with torch.device("meta"):  # shapes without memory
        model = empty_head_model(manifest.face, manifest.body, mouth, manifest.codes, intrinsics, manifest.field)
    state = read_tensors(folder / MOTION, _motion_state(model))
    gaussians = read_gaussians(folder / GAUSSIANS, counts)
    for branch in model.branches:
        state |= {f"{branch}.{name}": tensor for name, tensor in gaussians[branch].items()}
    model.load_state_dict(state, assign=True)
    return model.eval().requires_grad_(False)


def _read_speech(path: Path, manifest: AvatarManifest) -> tuple[SpeechEncoder, Embedding]:
    with torch.device("meta"):
        encoder = SpeechEncoder()
    encoder.load_state_dict(read_tensors(path, encoder.state_dict(), "encoder."), assign=True)
    tensors = read_tensors(path, None, "embedding.")
    try:
        embedding = restore_embedding(
            manifest.speech_feature, manifest.speech_weights_sha256, tensors, path.with_name(TRAINED)
        )
    except (KeyError, ValueError, EncoderWeightsError) as error:
        raise DamagedAvatarError(path, f"does not hold what was fitted of its speech feature ({error})") from error
    return encoder.eval().requires_grad_(False), embedding


def _read_lips(path: Path, manifest: AvatarManifest, embedding_size: int) -> LipMotionPredictor:
    tensors = read_tensors(path, None, "lips.")
    try:
        lips = LipMotionPredictor.from_tensors(tensors)
    except (LipMotionFitError, ValueError, TypeError, ArithmeticError, RuntimeError) as error:
        raise DamagedAvatarError(path, f"holds no lip-motion predictor ({error})") from error
    if lips.fps != manifest.fps:
        raise DamagedAvatarError(path, f"was fitted at {lips.fps} frames/s, and {SOURCE} has {manifest.fps}")
    _check_predictor(path, lips, embedding_size + len(ARTICULATORS))
    return lips


def _check_predictor(path: Path, lips: LipMotionPredictor, inputs: int) -> None:
    """Whether the predictor's arrays fit one another and the `inputs` columns that it is to read."""
    rows = lips.support.shape[0] if lips.support.ndim else 0
    codes = lips.closed_code.size
    expected = {
        "feature_mean": [inputs],
        "feature_scale": [inputs],
        "support": [rows, lips.window_frames * inputs],
        "weights": [rows, codes],
        "prior_map": [2, codes],
        "code_offset": [codes],
        "code_range": [2, codes],
        "closed_code": [codes],
    }
    check_shapes(path, {name: list(getattr(lips, name).shape) for name in expected}, expected)
    if lips.prior is not None:
        heard = len(PHONES) + len(VISEMES) + len(ARTICULATORS)
        expected = {"mean": [heard], "weights": [len(BLURS_S) * heard, 2]}
        check_shapes(path, {name: list(getattr(lips.prior, name).shape) for name in expected}, expected)


def _read_blend_net(path: Path) -> BlendNet:
    with torch.device("meta"):
        net = BlendNet()
    net.load_state_dict(read_tensors(path, net.state_dict()), assign=True)
    return net.to(memory_format=torch.channels_last).eval().requires_grad_(False)


def _read_background(path: Path, resolution: int) -> np.ndarray:
    """By Pillow: OpenCV takes as much memory as any part of the file says that it needs."""
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            if picture.size != (resolution, resolution):
                raise DamagedAvatarError(path, f"is no picture of {resolution}x{resolution} px")
            return np.array(picture.convert("RGB"))
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DamagedAvatarError(path, f"is no picture of {resolution}x{resolution} px") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise DamagedAvatarError(path, f"cannot be decoded ({error})") from error
