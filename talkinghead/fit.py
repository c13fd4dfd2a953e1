"""`talkinghead fit`: a person's video -> an avatar.

    video -> TrackedClip -> TrainingFrames -> HeadModel -> refined TrackedClip
                                                        -> SpeechFeatureTrack -> LipMotionPredictor -> avatar folder

Beside the avatar a work folder keeps the track and, until the fit is done, its state: what a killed run goes on from.
"""

from __future__ import annotations

import copy
import json
import shutil
import time
from collections.abc import Generator, Iterator
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from encoders.bundle import DEFAULT_BUNDLE
from encoders.embedding import SpeechEmbedding
from render.fitting import HeadFitter
from render.head_model import HeadModel, Intrinsics
from render.seeding import FaceMesh, ReferenceView, paint, seed_head_model
from talkinghead import __version__
from talkinghead.avatar import FORMAT_VERSION, Avatar, AvatarManifest, SourceTracks, save_avatar
from talkinghead.blend_fit import fit_blend_net
from talkinghead.config import FitConfig
from talkinghead.devices import ready_device
from talkinghead.experts import chosen_reader, judged_lips
from talkinghead.file_record import FileRecord
from talkinghead.lip_fit import FittedLips, delay_findings, fit_lips
from talkinghead.outputs import work_folder
from talkinghead.presets import RECIPES, Recipe
from talkinghead.progress import Progress, relayed
from talkinghead.refinement import motion_targets, refine_track
from talkinghead.report.page import write_report
from talkinghead.speech_choice import fetch_weights, load_embedding, name_in_manifest, weights_sha256
from talkinghead.take_choice import TAKE_NAME, ChosenTake, choose_take
from talkinghead.training_frames import TrainingFrames, load_training_frames, mean_colors
from talkinghead.training_history import TRAINING_NAME, TrainingHistory
from tools.errors import OutputError
from tools.expression import ExpressionTrack
from tools.preflight import check_clip
from tools.tracked_clip import TorsoPoseTrack, TrackedClip, load_tracked_clip, save_tracked_clip
from tools.tracking import TrackingConfig, track_clip
from tools.video import VideoInfo, probe

TRACK_NAME = "track.safetensors"
CHECKPOINT_S = 20.0
MOST_HELD_OUT_S = 30.0


def fit(video: Path, output: Path, config: FitConfig) -> Iterator[Progress]:
    """Makes an avatar; the events tell how far it is.

    Raises:
        UserError: the video cannot become an avatar, the output cannot be written, or there is no such device.
        render.rasterize.BackendUnavailableError: the GPU's kernels cannot be compiled.
    """
    info = probe(video)
    check_clip(info)
    work = work_folder(output)
    if config.restart and work.exists():
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    try:
        yield from _fit(info, output, config, work)
    finally:
        if not any(work.iterdir()):
            work.rmdir()


def _fit(source: VideoInfo, output: Path, config: FitConfig, work: Path) -> Iterator[Progress]:
    yield from fetch_weights(config.speech)
    embedding = load_embedding(config.speech)  # what is missing or damaged is told before the work
    chosen_reader(config)
    device = yield from ready_device(config.device)
    source_sha256 = FileRecord.of(source.path).sha256
    take = yield from choose_take(source, _tracking(config), work)
    info = take.info
    clip = yield from _track(take, config, source_sha256, work)
    frames = yield from load_training_frames(info, clip, RECIPES[config.preset].frames, work)
    fitter = _start_fit(clip, frames, config, device)
    history = yield from _run_fit(fitter, work / "fit.safetensors", _fit_key(source_sha256, config))
    clip = yield from refine_track(info, clip, fitter, frames.indices, RECIPES[config.preset].refinement)
    lips = yield from _learn_lips(info, clip, fitter.model, embedding, config)
    fitter.model.cpu()
    avatar = Avatar(
        manifest=replace(
            _manifest(info, clip, config, fitter, source_sha256, lips.delay_frames), source_name=source.path.name
        ),
        model=fitter.model,
        lips=lips.predictor,
        encoder=lips.encoder,
        embedding=lips.embedding,
        tracks=_source_tracks(clip),
        background=clip.background,
    )
    avatar = yield from _mended(avatar, info, lips, config, work)
    yield Progress("saving", 0, 1)
    training = work / TRAINING_NAME
    training.write_text(history.to_json(), encoding="utf-8")
    report = write_report(avatar, info, work, device=config.device)
    spent = [path for path in work.iterdir() if path.is_file() and path.name != TRACK_NAME]  # also of killed runs
    save_avatar(avatar, info.path, output, extras=(report, training), spent=spent)
    yield Progress("saving", 1, 1)


def exchange_lips(
    avatar: Avatar, info: VideoInfo, config: FitConfig, output: Path
) -> Generator[Progress, None, Avatar]:
    """Saves an avatar with other lips: another speech feature drives them, or other experts judge them. They learn from
    what the fit's own learned from.

    Args:
        avatar: a saved one that `fit` made from the video `info` with this `config`, but for its speech and without
            experts; it stays as it is.

    Raises:
        UserError: see `fit`.
        encoders.errors.FeatureUnavailableError, EncoderWeightsError: what the feature needs is not here, or damaged.
        encoders.errors.LipClipError, LipMotionFitError: nothing can be learned from the clip.
    """
    assert avatar.path is not None, "save the avatar first"
    embedding = load_embedding(config.speech)
    work = work_folder(avatar.path)
    work.mkdir(exist_ok=True)
    take = yield from choose_take(info, _tracking(config), work)
    info = take.info
    tracked = yield from _track(take, config, avatar.manifest.source_sha256, work)
    model = copy.deepcopy(avatar.model)
    lips = yield from _learn_lips(info, _registered(tracked, avatar.tracks), model, embedding, config)
    manifest = replace(
        avatar.manifest,
        speech_feature=name_in_manifest(config.speech),
        speech_weights_sha256=weights_sha256(config.speech),
        sound_delay_frames=lips.delay_frames,
        experts=config.experts,
    )
    exchanged = replace(
        avatar,
        manifest=manifest,
        model=model,
        lips=lips.predictor,
        encoder=lips.encoder,
        embedding=lips.embedding,
        path=None,
    )
    exchanged = yield from _mended(exchanged, info, lips, config, work)
    saved = save_avatar(exchanged, info.path, output)
    (work / TAKE_NAME).unlink(missing_ok=True)
    return saved


def _learn_lips(
    info: VideoInfo, clip: TrackedClip, model: HeadModel, embedding: SpeechEmbedding | None, config: FitConfig
) -> Generator[Progress, None, FittedLips]:
    """What moves the lips to speech. Where experts judge them, the model's motion fields change."""
    lips = yield from fit_lips(info, clip, embedding, config)
    if not config.experts:
        return lips
    return (yield from judged_lips(info, clip, model, lips, RECIPES[config.preset].experts, config))


def _mended(
    avatar: Avatar, info: VideoInfo, lips: FittedLips, config: FitConfig, folder: Path
) -> Generator[Progress, None, Avatar]:
    """The avatar with a Blend-Net that is trained on what it shows, if one is asked for."""
    if not config.blend_net:
        return avatar
    heard = lips.predictor.predict(lips.speech)
    return (yield from fit_blend_net(avatar, info, heard, folder, config.device))


def fitted_frame_count(info: VideoInfo, holdout: float) -> int:
    """Frames that are fitted when a share at the end, at most MOST_HELD_OUT_S, is held out."""
    held_out = min(round(holdout * info.frame_count), round(MOST_HELD_OUT_S * float(info.fps)))
    return info.frame_count - held_out


def _tracking(config: FitConfig) -> TrackingConfig:
    return TrackingConfig(config.landmarks, config.face, config.resolution)


def _track(
    take: ChosenTake, config: FitConfig, source_sha256: str, work: Path
) -> Generator[Progress, None, TrackedClip]:
    tracking = _tracking(config)
    fitted = fitted_frame_count(take.info, config.holdout)
    key = f"{source_sha256}:{json.dumps(asdict(tracking))}:{fitted}:{take.joints}"
    path = work / TRACK_NAME
    clip = load_tracked_clip(path, key)
    if clip is None:
        job = track_clip(take.info, tracking, fitted, take.joints)
        clip = yield from relayed(job, lambda event: Progress(event.stage, event.done, event.total))
        save_tracked_clip(clip, path, key)
    return replace(clip, findings=(*take.findings, *clip.findings))


def _start_fit(clip: TrackedClip, frames: TrainingFrames, config: FitConfig, device: torch.device) -> HeadFitter:
    recipe: Recipe = RECIPES[config.preset]
    topology = clip.topology
    mesh = FaceMesh(
        vertices=clip.shape.points + clip.basis.mean,
        motion=clip.basis.motion,
        lower_codes=len(clip.basis.lower_components),
        lower_vertices=np.array(topology.lower_face),
        upper_vertices=np.array(topology.upper_face),
        inner_lips=np.array(topology.inner_lips),
        upper_inner_lip=topology.upper_inner_lip,
        lower_inner_lip=topology.lower_inner_lip,
    )
    reference = clip.reference_frame
    view = ReferenceView(
        clip.head.rotations[reference],
        clip.head.translations[reference],
        frames.mattes[int(np.argmin(np.abs(frames.indices - reference)))] / np.float32(255),
        float(clip.landmarks[reference, topology.chin, 1]),
    )
    intrinsics = Intrinsics(clip.head.focal_px, clip.crop.resolution)
    seeding = replace(recipe.seeding, implicit_mouth=config.mouth == "implicit")
    model = seed_head_model(mesh, view, intrinsics, seeding, recipe.motion, config.seed)
    starts = (branch.means.detach().numpy() for branch in (model.face, model.body, model.mouth))
    paint(model, *(mean_colors(frames, points) for points in starts))
    targets = motion_targets(clip, frames.indices)
    return HeadFitter(model, targets, frames, clip.background, recipe.fitting, config.seed, device=device)


def _fit_key(source_sha256: str, config: FitConfig) -> str:
    """What a state must share with a fit that goes on from it: not how that was started, nor what is merely noted."""
    shared = asdict(replace(config, restart=False, consent=""))
    return json.dumps([source_sha256, __version__, shared, asdict(RECIPES[config.preset])])


def _run_fit(fitter: HeadFitter, checkpoint: Path, key: str) -> Generator[Progress, None, TrainingHistory]:
    """Takes the steps, saving the state now and then; goes on from a state saved by the same fit."""
    history = _restore(fitter, checkpoint, key) if checkpoint.exists() else TrainingHistory()
    saved = time.monotonic()
    for event in fitter.run():
        history.add(event.step, event.loss, event.gaussians)
        yield Progress("fitting", event.step, event.steps, f"{event.gaussians} Gaussians, loss {event.loss:.4f}")
        if time.monotonic() - saved > CHECKPOINT_S:
            temporary = checkpoint.with_suffix(".part")
            try:
                save_file(fitter.to_tensors(), temporary, {"key": key, "history": history.to_json()})
                temporary.replace(checkpoint)
            except (SafetensorError, OSError) as error:
                temporary.unlink(missing_ok=True)
                raise OutputError(f"cannot keep the fit's state in {checkpoint}: {error}; make room there") from error
            saved = time.monotonic()
    return history


def _restore(fitter: HeadFitter, checkpoint: Path, key: str) -> TrainingHistory:
    """Puts the fitter where the same fit saved its state, if it did; returns what it had recorded until then."""
    try:
        with safe_open(checkpoint, framework="pt") as file:
            facts = file.metadata() or {}
        if facts.get("key") == key:
            fitter.restore(load_file(checkpoint))
            return TrainingHistory.from_json(facts["history"])
    except (SafetensorError, OSError):
        # Half a file, left by a crash of the machine: the fit begins anew.
        checkpoint.unlink(missing_ok=True)
    return TrainingHistory()


def _source_tracks(clip: TrackedClip) -> SourceTracks:
    head, torso, expression = clip.head, clip.torso, clip.expression
    return SourceTracks(
        head.rotations, head.translations, torso.rotations, torso.translations, expression.lower, expression.upper,
        np.ascontiguousarray(clip.landmarks[..., :2]), clip.found,
    )  # fmt: skip


def _registered(clip: TrackedClip, tracks: SourceTracks) -> TrackedClip:
    """A clip as it was tracked, with the poses and expression that the fitted head gave it."""
    return replace(
        clip,
        head=replace(clip.head, rotations=tracks.head_rotations, translations=tracks.head_translations),
        torso=TorsoPoseTrack(tracks.torso_rotations, tracks.torso_translations),
        expression=ExpressionTrack(tracks.lower, tracks.upper),
    )


def _manifest(
    info: VideoInfo,
    clip: TrackedClip,
    config: FitConfig,
    fitter: HeadFitter,
    source_sha256: str,
    delay_frames: float,
) -> AvatarManifest:
    model = fitter.model
    recipe = RECIPES[config.preset]
    return AvatarManifest(
        format_version=FORMAT_VERSION,
        talkinghead_version=__version__,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        source_name=info.path.name,
        source_sha256=source_sha256,
        fps=info.fps,
        width=info.width,
        height=info.height,
        frame_count=len(clip),
        fitted_frames=clip.fitted_frames,
        crop=clip.crop,
        focal_px=clip.head.focal_px,
        topology=clip.topology.name,
        speech_encoder=DEFAULT_BUNDLE.name,
        speech_feature=name_in_manifest(config.speech),
        speech_weights_sha256=weights_sha256(config.speech),
        preset=config.preset,
        seed=config.seed,
        face=len(model.face),
        body=len(model.body),
        mouth=len(model.branches.get("mouth", ())),
        codes=model.code_size,
        field=recipe.motion,
        findings=(*clip.findings, *delay_findings(delay_frames, info.fps)),
        sound_delay_frames=delay_frames,
        consent=config.consent,
        mouth_kind=config.mouth,
        experts=config.experts,
    )
