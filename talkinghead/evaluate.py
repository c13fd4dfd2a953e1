"""`talkinghead evaluate`: the papers' self-reconstruction protocol on the held-out part of a clip, with its controls.

The avatar is driven by the clip's own sound and pose; beside that row stand the clip itself, the avatar driven by its
tracked expression, by the sound of another moment, by silence and by no expression at all: a lip measure that does not
separate these says nothing. As in TalkingGaussian (arXiv 2404.15264, Sec. 4.1) the upper face follows the clip in all
rows.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from encoders.embedding import feature_track
from talkinghead.avatar import Avatar, load_avatar, speech_feature_of
from talkinghead.compositing import composite
from talkinghead.config import Device, EvaluateConfig
from talkinghead.devices import ready_device
from talkinghead.errors import NothingHeldOutError
from talkinghead.fit import fit
from talkinghead.lip_fit import clip_features
from talkinghead.progress import Progress
from talkinghead.renderer import AvatarRenderer, DrivenFrame
from talkinghead.speech_choice import fetch_weights
from tools import lip_closures, metrics
from tools.audio import SAMPLE_RATE
from tools.face_topology import MEDIAPIPE_478
from tools.landmarks import landmark_detector
from tools.tracked_clip import TOPOLOGIES, CropBox
from tools.video import VideoInfo, read_frames

SHUFFLE_FRAMES = 37
"""The shuffled row hears the sound of this many frames earlier (the held-out part is a ring)."""
LARGEST_LAG = 6
"""Frames by which the lips may be looked for early or late."""
JUDGE = MEDIAPIPE_478
"""The landmarks that every row is measured on, whatever the avatar was tracked with."""
AUDIO, TRACKED, SHUFFLED, SILENCE, MEAN_FACE, TRUTH = (
    "audio", "tracked", "shuffled", "silence", "mean_face", "ground_truth",
)  # fmt: skip


@dataclass(frozen=True)
class PictureMeasures:
    """Measures of one picture against the source, or their means over frames; definitions in `tools.metrics`."""

    composite_psnr: float  # dB, in place: the crop with the blended region replaced, as `speak` does it
    composite_ssim: float
    hull_psnr: float  # dB, the crop with the convex hull of the face landmarks replaced
    hull_ssim: float
    face_psnr: float  # dB, inside that hull only
    whole_psnr: float  # dB, the head render over the background plate, nothing pasted
    whole_ssim: float


@dataclass(frozen=True)
class EvaluationRow(PictureMeasures):
    """Measures of one way to drive the avatar; `_free` and `whole_` of the head render alone, the others in place.

    NaN is what a row without a face in it leaves undefined.
    """

    mouth_sharpness: float  # variance of the Laplacian around the lips, output / real
    lmd_px: float  # lip landmark distance, px of the crop
    lmd_centred_px: float
    mouth_opening_r: float  # Pearson's r of the inner-lip distance
    lmd_px_free: float
    lmd_centred_px_free: float
    mouth_opening_r_free: float
    mouth_amplitude: float  # spread of the opening, output / real
    mouth_lag_frames: float  # frames by which the output's opening is late
    mean_opening: float  # above the real closed lips, as a share of the real lips' range
    closures: int  # of the output's lips; the real ones are in the row of the truth
    closure_recall: float  # share of the real closures that the output closes on, within a frame
    closure_precision: float  # share of the output's closures that the real lips close on, within a frame
    head_jitter: float  # second difference of the stable landmarks, output / source


@dataclass(frozen=True)
class Evaluation:
    """All rows, and how they were measured."""

    protocol: dict[str, str | int | float]
    rows: dict[str, EvaluationRow]

    def to_json(self) -> str:
        """The result as JSON; infinite and undefined values become null."""
        rows = {name: {key: _finite(value) for key, value in asdict(row).items()} for name, row in self.rows.items()}
        return json.dumps({"protocol": self.protocol, "rows": rows}, indent=2, allow_nan=False)

    def to_table(self) -> list[tuple[str, ...]]:
        """A heading and a line per measure, for the terminal; an undefined value is a dash."""
        lines = [(name, *(_cell(getattr(row, name)) for row in self.rows.values())) for name in measure_names()]
        return [("", *self.rows), *lines]


def _cell(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4g}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


class _Observer:
    """Looks at the pictures of a row one after another, and follows the face in them as in any video: by a detector of
    its own."""

    def __init__(self, stack: ExitStack) -> None:
        self.measures: list[PictureMeasures] = []
        self.mouth_detail: list[float] = []
        self.in_place: list[np.ndarray] = []  # landmarks [K, 3]
        self.free: list[np.ndarray] = []
        self._detectors = [stack.enter_context(landmark_detector("mediapipe", max_faces=1)) for _ in range(2)]

    def see(self, source: np.ndarray, in_place: np.ndarray, free: np.ndarray, areas: _FaceAreas) -> None:
        """Takes in the pictures of one frame."""
        pasted = np.where(areas.hull[..., None], free, source)
        self.measures.append(
            PictureMeasures(
                composite_psnr=metrics.psnr(in_place, source),
                composite_ssim=metrics.ssim(in_place, source),
                hull_psnr=metrics.psnr(pasted, source),
                hull_ssim=metrics.ssim(pasted, source),
                face_psnr=metrics.psnr(free, source, areas.hull),
                whole_psnr=metrics.psnr(free, source),
                whole_ssim=metrics.ssim(free, source),
            )
        )
        self.mouth_detail.append(metrics.laplacian_variance(in_place[areas.mouth]))
        for detector, picture, track in zip(self._detectors, (in_place, free), (self.in_place, self.free), strict=True):
            faces = detector.detect(picture)
            track.append(faces[0] if faces else np.full((detector.topology.count, 3), np.nan, np.float32))


@dataclass(frozen=True)
class _FaceAreas:
    """Where in a frame the source's face is."""

    hull: np.ndarray  # [R, R] bool
    mouth: tuple[slice, slice]  # rows and columns around the lips


def evaluate(target: Path, config: EvaluateConfig) -> Generator[Progress, None, Evaluation]:
    """Measures an avatar fitted with a held-out part, or fits one from a video first.

    Raises:
        NothingHeldOutError: the avatar was fitted to the whole clip.
        UserError: see `fit` and `load_avatar`.
        render.rasterize.BackendUnavailableError: the GPU's kernels cannot be compiled.
    """
    yield from ready_device(config.fit.device)
    if target.is_dir():
        yield from fetch_weights(speech_feature_of(target))
        return (yield from _measure(load_avatar(target), config.fit.device))
    with tempfile.TemporaryDirectory(prefix="talkinghead-evaluate-") as folder:
        output = Path(folder) / "held-out.avatar"
        yield from fit(target, output, config.fit)
        return (yield from _measure(load_avatar(output), config.fit.device))


def _measure(avatar: Avatar, device: Device) -> Generator[Progress, None, Evaluation]:
    facts = avatar.manifest
    held_out = np.arange(facts.fitted_frames, facts.frame_count)
    held_out = held_out[avatar.tracks.found[held_out]]
    if len(held_out) < SHUFFLE_FRAMES:
        raise NothingHeldOutError(
            f"{avatar.path} keeps {len(held_out)} frames for measuring, expected {SHUFFLE_FRAMES} or more: "
            "fit it with --holdout 0.2, or give the video itself"
        )
    info = avatar.source_video()
    drives = _drives(avatar, info, held_out)
    renderer = AvatarRenderer(avatar, device)
    lips = TOPOLOGIES[facts.topology].lips
    whole = CropBox(0, 0, facts.crop.resolution, facts.crop.resolution)
    first, wanted = int(held_out[0]), {int(number): place for place, number in enumerate(held_out)}
    with ExitStack() as stack:
        watch = {name: _Observer(stack) for name in (*drives, TRUTH)}
        for number, frame in enumerate(read_frames(info, first), start=first):
            if number not in wanted:
                continue
            source, points = facts.crop.cut(frame), avatar.tracks.landmarks[number]
            areas = _FaceAreas(
                metrics.face_hull_mask(points, *source.shape[:2]),
                metrics.bounding_box(points[list(lips)], *source.shape[:2]),
            )
            mask = renderer.region.mask(number)
            drawn = renderer.free([DrivenFrame(number, codes[wanted[number]]) for codes in drives.values()])
            for name, free in zip(drives, drawn, strict=True):
                watch[name].see(source, composite(source, free, whole, mask), free, areas)
            watch[TRUTH].see(source, source, source, areas)
            yield Progress("measuring", wanted[number] + 1, len(held_out))
    return Evaluation(_protocol(avatar, held_out), {name: _row(seen, watch[TRUTH]) for name, seen in watch.items()})


def _drives(avatar: Avatar, info: VideoInfo, held_out: np.ndarray) -> dict[str, np.ndarray]:
    """Lower-face codes [T, Kl] of each row."""
    speech = clip_features(info, avatar.encoder, avatar.embedding, avatar.manifest.sound_delay_frames)
    spoken = avatar.lips.predict(speech)[held_out]
    tracked = avatar.tracks.lower[held_out]
    samples = np.zeros(round(len(held_out) / info.fps * SAMPLE_RATE), np.float32)
    silence = feature_track(samples, avatar.encoder, avatar.embedding, info.fps, len(held_out))
    return {
        AUDIO: spoken,
        TRACKED: tracked,
        SHUFFLED: np.roll(spoken, SHUFFLE_FRAMES, axis=0),
        SILENCE: avatar.lips.predict(silence),
        MEAN_FACE: np.zeros_like(tracked),
    }


def _row(seen: _Observer, truth: _Observer) -> EvaluationRow:
    in_place, free, source = np.stack(seen.in_place), np.stack(seen.free), np.stack(truth.in_place)
    faces = source[np.isfinite(source).all(axis=(1, 2))]
    shape = faces.mean(axis=0) if len(faces) else np.full_like(source[0], np.nan)
    real, opening = (metrics.mouth_opening(track, shape, JUDGE) for track in (source, in_place))
    closures = lip_closures.closure_scores(opening, real, lip_closures.closure_threshold(real))
    pictures = {
        item.name: float(np.mean([getattr(measures, item.name) for measures in seen.measures]))
        for item in fields(PictureMeasures)
    }
    return EvaluationRow(
        **pictures,
        mouth_sharpness=_ratio(float(np.mean(seen.mouth_detail)), float(np.mean(truth.mouth_detail))),
        lmd_px=metrics.landmark_distance(in_place, source, JUDGE.lips),
        lmd_centred_px=metrics.centred_landmark_distance(in_place, source, JUDGE.lips),
        mouth_opening_r=metrics.pearson(opening, real),
        lmd_px_free=metrics.landmark_distance(free, source, JUDGE.lips),
        lmd_centred_px_free=metrics.centred_landmark_distance(free, source, JUDGE.lips),
        mouth_opening_r_free=metrics.pearson(metrics.mouth_opening(free, shape, JUDGE), real),
        mouth_amplitude=metrics.amplitude_ratio(opening, real),
        mouth_lag_frames=metrics.best_lag(opening, real, LARGEST_LAG),
        mean_opening=lip_closures.mean_opening(opening, real),
        closures=closures.predicted,
        closure_recall=closures.recall,
        closure_precision=closures.precision,
        head_jitter=_ratio(*(metrics.head_jitter(track, JUDGE.stable) for track in (in_place, source))),
    )


def _ratio(output: float, real: float) -> float:
    return output / real if real else math.nan


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
        "landmarks": "MediaPipe face mesh following each row's output as a video, and the source alike",
        "lip_landmarks": len(JUDGE.lips),
        "poses": "tracked from landmarks with the head shape of the fitted part; pose and expression registered to "
        "the pictures by the fitted head, which stays as it is; upper face tracked in every row",
        "in_place": "blended region (under the eyes to below the chin) of the crop replaced, as speak does",
        "hull": "convex hull of the face landmarks, eroded by one pixel, replaced by the render",
        "whole": "the render over the background plate, the whole crop, nothing pasted",
        "silence": "digital silence of the same length",
        "mean_opening": "0: the real lips' 5th percentile, 1: their 95th",
        "closure": f"inner lips within {lip_closures.CLOSURE_GAP} inter-ocular distances of that 5th percentile",
        "shuffled": f"codes of the audio row, {SHUFFLE_FRAMES} frames earlier, in a ring",
    }


def measure_names() -> tuple[str, ...]:
    """The columns of the table."""
    return tuple(item.name for item in fields(EvaluationRow))
