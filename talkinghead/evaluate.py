"""`talkinghead evaluate`: the papers' self-reconstruction protocol on the held-out part of a clip, with its controls.

The avatar is driven by the clip's own sound and pose; beside that row stand the clip itself and the avatar driven by
other things (see `talkinghead.evaluation.drives`). As in TalkingGaussian (arXiv 2404.15264, Sec. 4.1) the upper face
follows the clip in all rows.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Collection, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from talkinghead.avatar import Avatar, load_avatar, speech_feature_of
from talkinghead.config import EvaluateConfig
from talkinghead.devices import ready_device
from talkinghead.errors import DamagedAvatarError, NothingHeldOutError
from talkinghead.evaluation.available import Available, available
from talkinghead.evaluation.drives import RETRIEVAL_REACH, TRUTH, cross_drives, own_drives, shuffle_frames
from talkinghead.evaluation.faces import RowFaces
from talkinghead.evaluation.instruments import Drive, Instrument, ObservedFrame, Observer
from talkinghead.evaluation.order import order_notes
from talkinghead.evaluation.reading import lip_reader, lip_reading_protocol
from talkinghead.evaluation.result import Evaluation, Figures
from talkinghead.evaluation.visemes import given_observer, viseme_protocol
from talkinghead.fit import fit, fitted_frame_count
from talkinghead.lip_clips import landmark_transforms
from talkinghead.progress import Progress
from talkinghead.renderer import AvatarRenderer, DrivenFrame
from talkinghead.report.page import REPORT_NAME, write_report
from talkinghead.speech_choice import fetch_weights
from tools import lip_closures, metrics
from tools.errors import OutputError, UserError
from tools.preflight import check_clip
from tools.tracked_clip import TOPOLOGIES
from tools.video import VideoInfo, probe, read_frames

LEAST_FRAMES = 37
"""Fewer say too little, and leave no room to shuffle."""


def evaluate(target: Path, config: EvaluateConfig) -> Generator[Progress, None, Evaluation]:
    """Measures an avatar fitted with a held-out part, whose report then shows the table, or fits one from a video
    first.

    A report that cannot be written is a note of the evaluation.

    Raises:
        NothingHeldOutError: the avatar was fitted to the whole clip, or the clip is too short.
        UserError: see `fit` and `load_avatar`.
        EncoderWeightsError: the observer's file is missing, damaged or no observer.
        render.rasterize.BackendUnavailableError: the GPU's kernels cannot be compiled.
    """
    lip_reader(config)  # complains before anything is fitted
    given_observer(config)
    yield from ready_device(config.fit.device)
    if target.is_dir():
        yield from fetch_weights(speech_feature_of(target))
        avatar = load_avatar(target)
        evaluation = yield from _measured(avatar, config)
        return _reported(avatar, evaluation, config)
    check_length(probe(target), config.fit.holdout)
    with tempfile.TemporaryDirectory(prefix="talkinghead-evaluate-") as folder:
        output = Path(folder) / "held-out.avatar"
        yield from fit(target, output, config.fit)
        return (yield from _measured(load_avatar(output), config))


def _measured(avatar: Avatar, config: EvaluateConfig) -> Generator[Progress, None, Evaluation]:
    held_out_frames(avatar)  # complains before anything is fetched
    looking = yield from available(config, avatar.manifest.fps)
    return (yield from measure(avatar, looking, config))


def check_length(info: VideoInfo, holdout: float) -> None:
    """Says before a fit that a video is too short to keep so large a share of it out.

    Raises:
        NothingHeldOutError: it is.
        UserError: it cannot be fitted at all, see `tools.preflight.check_clip`.
    """
    check_clip(info)
    kept = info.frame_count - fitted_frame_count(info, holdout)
    if kept < LEAST_FRAMES:
        raise NothingHeldOutError(
            f"{info.path} has {info.frame_count} frames, of which --holdout {holdout} keeps {kept} for measuring, "
            f"expected {LEAST_FRAMES} or more: give a longer video, or to `evaluate` a larger --holdout"
        )


def _reported(avatar: Avatar, evaluation: Evaluation, config: EvaluateConfig) -> Evaluation:
    """Writes the avatar's report anew, with the table; the evaluation, with a note if that cannot be done."""
    assert avatar.path is not None
    try:
        write_report(avatar, avatar.source_video(), avatar.path, evaluation, config.fit.device)
    except (OutputError, DamagedAvatarError) as error:
        return replace(evaluation, notes=(*evaluation.notes, f"{REPORT_NAME} lacks the table: {error}"))
    return evaluation


def measure(
    avatar: Avatar, looking: Available, config: EvaluateConfig, rows: Collection[str] | None = None
) -> Generator[Progress, None, Evaluation]:
    """Measures an avatar.

    Args:
        looking: the instruments.
        rows: names of the rows beside the clip itself; all when None.

    Raises:
        NothingHeldOutError: it was fitted to the whole clip.
    """
    held_out = held_out_frames(avatar)
    drives = [drive for drive in own_drives(avatar, held_out) if rows is None or drive.name in rows]
    drives += cross_drives(avatar, held_out, config.cross)
    renderer = AvatarRenderer(avatar, config.fit.device)
    shown, failures = yield from _watch(avatar, held_out, drives, looking.instruments, renderer)
    protocol = _protocol(avatar, held_out) | lip_reading_protocol(config) | viseme_protocol(config)
    notes = (*looking.notes, *failures, *order_notes(looking.measures, shown))
    return Evaluation(protocol, looking.measures, shown, notes)


def held_out_frames(avatar: Avatar) -> np.ndarray:
    """[T] numbers of the frames that were kept out of the fit and show a face.

    Raises:
        NothingHeldOutError: there are too few.
    """
    facts = avatar.manifest
    held_out = np.arange(facts.fitted_frames, facts.frame_count)
    held_out = held_out[avatar.tracks.found[held_out]]
    if len(held_out) < LEAST_FRAMES:
        raise NothingHeldOutError(
            f"{avatar.path} keeps {len(held_out)} frames for measuring, expected {LEAST_FRAMES} or more: "
            "fit it with --holdout 0.2, or give the video itself"
        )
    return held_out


def _watch(
    avatar: Avatar,
    held_out: np.ndarray,
    drives: Sequence[Drive],
    looking: Sequence[Instrument],
    renderer: AvatarRenderer,
) -> Generator[Progress, None, tuple[dict[str, Figures], list[str]]]:
    """Shows every row to all instruments, a frame at a time; the rows of a frame side by side on two threads.

    Returns:
        The figures of every row, and a sentence for each instrument that failed.
    """
    delay = avatar.manifest.sound_delay_frames
    truth = Drive(TRUTH, avatar.tracks.lower[held_out], drives[0].samples, delay_frames=delay)
    shown = (*drives, truth)
    with ExitStack() as stack, ThreadPoolExecutor(2) as pool:  # the threads end before what they use is closed
        watch = [[instrument.observer(drive, stack) for instrument in looking] for drive in shown]
        faces = [RowFaces(stack) for _ in shown]
        for place, frames in enumerate(_frames(avatar, held_out, drives, faces, renderer)):
            list(pool.map(_see, watch, frames))
            yield Progress("measuring", place + 1, len(held_out))
        rows: dict[str, Figures] = {drive.name: {} for drive in shown}
        failures = []
        for instrument, *observers in zip(looking, *watch, strict=True):
            figures, failure = _figures(instrument, observers)
            failures += failure
            for row, values in zip(rows.values(), figures, strict=True):
                row.update(values)
        return rows, failures


def _figures(instrument: Instrument, observers: Sequence[Observer]) -> tuple[list[Figures], list[str]]:
    """What an instrument measured of each row, the truth last, and the sentence that says why it failed, if it did.

    Once it has failed it is not asked for the other rows, whose figures are undefined: it may take long to fail.
    """
    figures: list[Figures] = []
    names = [measure.name for measure in instrument.measures]
    try:
        for observer in observers:
            figures.append(observer.figures(observers[-1]))
    except UserError as error:
        undefined = dict.fromkeys(names, math.nan)
        figures += [undefined] * (len(observers) - len(figures))
        return figures, [f"{', '.join(names)} not measured: {error}"]
    return figures, []


def _see(observers: Sequence[Observer], frame: ObservedFrame) -> None:
    for observer in observers:
        observer.see(frame)


def _frames(
    avatar: Avatar, held_out: np.ndarray, drives: Sequence[Drive], faces: Sequence[RowFaces], renderer: AvatarRenderer
) -> Generator[list[ObservedFrame], None, None]:
    """For every measured frame what each row shows, and the clip itself at the end."""
    facts = avatar.manifest
    topology = TOPOLOGIES[facts.topology]
    lower_faces = landmark_transforms(avatar.tracks.landmarks, topology, avatar.source_video())
    first, wanted = int(held_out[0]), {int(number): place for place, number in enumerate(held_out)}
    for number, frame in enumerate(read_frames(avatar.source_video(), first), start=first):
        if number not in wanted:
            continue
        source, points = facts.crop.cut(frame), avatar.tracks.landmarks[number]
        hull = metrics.face_hull_mask(points, *source.shape[:2])
        mouth = metrics.bounding_box(points[list(topology.lips)], *source.shape[:2])
        codes = [drive.codes[wanted[number]] for drive in drives]
        pictures = renderer.in_crop_and_free([DrivenFrame(number, code, picture=source) for code in codes])
        pictures.append((source, source))
        yield [
            ObservedFrame(number, source, *pair, hull, mouth, looking, lower_faces[number])
            for pair, looking in zip(pictures, faces, strict=True)
        ]


def _protocol(avatar: Avatar, held_out: np.ndarray) -> dict[str, str | int | float]:
    facts = avatar.manifest
    return {
        "source": facts.source_name,
        "held_out_frames": len(held_out),
        "first_held_out_frame": facts.fitted_frames,
        "frames_per_second": str(facts.fps),
        "crop_resolution_px": facts.crop.resolution,
        "speech": facts.speech_feature,
        "preset": facts.preset,
        "seed": facts.seed,
        "poses": "tracked from landmarks with the head shape of the fitted part; pose and expression registered to "
        "the pictures by the fitted head, which stays as it is; upper face tracked in every row",
        "in_place": "blended region (under the eyes to below the chin) of the crop replaced, as speak does",
        "hull": "convex hull of the face landmarks, eroded by one pixel, replaced by the render",
        "whole": "the render over the background plate, the whole crop, nothing pasted",
        "silence": "digital silence of the same length",
        "mean_opening": "0: the real lips' 5th percentile, 1: their 95th",
        "closure": f"inner lips within {lip_closures.CLOSURE_GAP} inter-ocular distances of that 5th percentile",
        "shuffled": f"codes of the audio row, {shuffle_frames(len(held_out))} frames earlier, in a ring",
        "retrieval": "tracked codes of the fitted frame whose speech features are nearest, "
        f"{RETRIEVAL_REACH} frames to either side compared",
        "cross": "rows of other recordings, from their start: no truth to compare them with",
    }
