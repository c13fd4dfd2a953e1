"""How well lips follow from sound, on clips of people: prior without the person, personal fit, closures, offsets.

    python -m talkinghead.lip_benchmark CLIP... --tracks FOLDER [--encoder WEIGHTS]

Every clip is predicted with a prior that was learned on the others. The first clip also gives the figures that need
twenty seconds: blocked cross-validation, and a fit on its first four seconds. Tracks are kept in the folder, so that a
second run with other encoder weights takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tyro

from encoders.av_offset import LIP_LEAD_S, AudioVideoOffset, estimate_offset
from encoders.bundle import DEFAULT_BUNDLE
from encoders.features import SpeechFeatureTrack
from encoders.lip_figures import (
    Agreement,
    ClosureCoincidence,
    PersonalFigures,
    agreement,
    blocked_predictions,
    closure_coincidence,
    personal_figures,
)
from encoders.lip_motion import LipMotionPredictor, LipMotionSettings
from encoders.lip_prior import LipPrior, fit_lip_prior
from encoders.measured_lips import MeasuredLips
from encoders.speech import SpeechEncoder
from encoders.target_calibration import blended_targets, calibrated_targets
from talkinghead.file_record import FileRecord
from talkinghead.fit import fitted_frame_count
from talkinghead.lip_fit import clip_features
from talkinghead.lip_measurement import in_step
from tools.expression import head_displacements
from tools.head_pose import project_points
from tools.metrics import landmark_distance, mouth_opening
from tools.tracked_clip import TrackedClip, load_tracked_clip, save_tracked_clip
from tools.tracking import TrackingConfig, track_clip
from tools.video import VideoInfo, probe

HELD_OUT = 0.2
"""Share of every clip, at its end, that no prior is learned on."""
SHIFTS_MS = tuple(range(-200, 201, 40))
SHORT_S = 4.0
LANDMARK_SIZE = 512
"""Landmark distances are given in px of a crop of this side."""


@dataclass(frozen=True)
class BenchmarkClip:
    """A clip, its track, and the features of its sound as it is."""

    info: VideoInfo
    track: TrackedClip
    speech: SpeechFeatureTrack

    @property
    def lips(self) -> MeasuredLips:
        """The whole clip; opening and width with the head's pose removed."""
        track = self.track
        points = track.shape.points + head_displacements(track.landmarks, track.shape, track.head)
        ring = track.topology.inner_lips
        width = np.linalg.norm(points[:, ring[0]] - points[:, ring[len(ring) // 2]], axis=1)
        return MeasuredLips(self.speech, mouth_opening(track.landmarks, track.shape.points, track.topology), width)

    @property
    def fitted_lips(self) -> MeasuredLips:
        """The part that others' priors may see."""
        whole, part = self.lips, slice(0, self.track.fitted_frames)
        speech = SpeechFeatureTrack(self.speech.features[part], self.speech.fps)
        return MeasuredLips(speech, whole.opening[part], whole.width[part])


@dataclass(frozen=True)
class ClipFigures:
    """What is measured on every clip."""

    name: str
    offset: AudioVideoOffset
    targets: Agreement  # the articulatory head alone
    table: Agreement  # phone probabilities with a table of targets that was recalibrated on the other clips
    prior: Agreement  # the prior learned on the other clips
    closures: ClosureCoincidence  # once the offset is taken out to a fraction of a frame
    shift_errors: np.ndarray  # frames, estimated minus true, one per shift of SHIFTS_MS
    unreliable_shifts: int


@dataclass(frozen=True)
class FitFigures:
    """What is measured on a clip of twenty seconds."""

    folds: PersonalFigures  # opening and width fitted as they are, five blocks
    folds_without_posture: Agreement
    regression: PersonalFigures  # the same without raising the opening
    short: PersonalFigures  # fitted on the first seconds, on the rest
    landmark_distance_px: float  # of lip landmarks, codes fitted on four blocks, on the fifth
    regression_landmark_distance_px: float


def open_clip(path: Path, encoder: SpeechEncoder, tracks: Path) -> BenchmarkClip:
    """Tracks a clip, or reads its track from the folder."""
    info = probe(path)
    fitted = fitted_frame_count(info, HELD_OUT)
    key = f"{FileRecord.of(path).sha256}:{fitted}"
    cached = tracks / f"{path.stem}.safetensors"
    track = load_tracked_clip(cached, key)
    if track is None:
        job = track_clip(info, TrackingConfig(), fitted)
        while track is None:
            try:
                next(job)
            except StopIteration as finished:
                track = finished.value
        tracks.mkdir(parents=True, exist_ok=True)
        save_tracked_clip(track, cached, key)
    return BenchmarkClip(info, track, clip_features(info, encoder, None, 0.0))


def clip_figures(clip: BenchmarkClip, encoder: SpeechEncoder, others: Sequence[MeasuredLips]) -> ClipFigures:
    """Figures that need no personal fit. others: what prior and table are learned on."""
    prior, table = fit_lip_prior(others), calibrated_targets(others)
    lips, fps = clip.lips, float(clip.info.fps)
    offset = estimate_offset(lips.speech, lips.opening, lips.width, prior)
    errors, unreliable = [], 0
    for shift in SHIFTS_MS:
        delayed = clip_features(clip.info, encoder, None, shift * fps / 1000)
        found = estimate_offset(delayed, lips.opening, lips.width, prior)
        errors.append(found.frames - (offset.frames - shift * fps / 1000))
        unreliable += not found.is_reliable
    return ClipFigures(
        clip.info.path.stem,
        offset,
        agreement(lips.speech.articulation[:, :2], lips),
        agreement(blended_targets(lips.speech, table), lips),
        agreement(prior.predict(lips.speech), lips),
        closure_coincidence(*_aligned(lips, offset)),
        np.array(errors),
        unreliable,
    )


def fit_figures(
    clip: BenchmarkClip, encoder: SpeechEncoder, prior: LipPrior, settings: LipMotionSettings | None = None
) -> FitFigures:
    """Figures of the personal fit. prior: learned without this clip."""
    settings = settings or LipMotionSettings()
    lips, codes = clip.lips, clip.track.expression.lower
    offset = estimate_offset(lips.speech, lips.opening, lips.width, prior)
    speech = _corrected(clip, encoder, offset)
    both = np.stack([lips.opening, lips.width], axis=1)

    def fitted(with_settings: LipMotionSettings) -> Callable[[np.ndarray], np.ndarray]:
        return lambda targets: LipMotionPredictor.fit(
            speech, targets, np.where(np.isnan(targets[:, 0]), np.nan, lips.opening), with_settings, prior
        ).predict(speech)

    plain = replace(settings, amplitude=0.0)
    folds, regression = (blocked_predictions(both, lips.fps, fitted(chosen)) for chosen in (settings, plain))
    count = round(SHORT_S * lips.fps)
    first = np.where(np.arange(len(both))[:, None] < count, both, np.nan)
    distances = [
        _landmark_distance(clip.track, blocked_predictions(codes, lips.fps, fitted(chosen)))
        for chosen in (settings, plain)
    ]
    return FitFigures(
        personal_figures(folds, lips.opening, lips.width),
        agreement(folds, lips, 0),
        personal_figures(regression, lips.opening, lips.width),
        personal_figures(fitted(settings)(first)[count:], lips.opening[count:], lips.width[count:]),
        *distances,
    )


def _aligned(lips: MeasuredLips, offset: AudioVideoOffset) -> tuple[SpeechFeatureTrack, np.ndarray]:
    """Features and opening of the frames in which both are there once their offset is taken out."""
    moved = lips.in_step(offset.frames - LIP_LEAD_S * lips.fps)
    return SpeechFeatureTrack(lips.speech.features[moved.seen], lips.speech.fps), moved.opening[moved.seen]


def _corrected(clip: BenchmarkClip, encoder: SpeechEncoder, offset: AudioVideoOffset) -> SpeechFeatureTrack:
    """Features of the sound, delayed to match the picture as `fit` does."""
    if not offset.correction:
        return clip.speech
    return clip_features(clip.info, encoder, None, offset.correction)


def _landmark_distance(track: TrackedClip, codes: np.ndarray) -> float:
    """Of the lips that lower-face codes [T, K] give, in the tracked pose, from the tracked ones."""
    lips = np.array(track.topology.lips)
    points = (track.shape.points + track.basis.mean)[lips]
    motion = np.concatenate([codes, track.expression.upper], axis=1)
    projected = project_points(points + np.einsum("fk,kld->fld", motion, track.basis.motion[:, lips]), track.head)
    distance = landmark_distance(projected, track.landmarks[:, lips, :2], range(len(lips)))
    return distance * LANDMARK_SIZE / track.crop.resolution


def report(people: Sequence[ClipFigures], first: FitFigures) -> str:
    """The table."""
    rows = ["opening width of: head, table, prior; closures (chance); shifts right".rjust(100)]
    for p in people:
        agreements = "  ".join(f"{a.opening:5.2f} {a.width:5.2f}" for a in (p.targets, p.table, p.prior))
        reliable = " " if p.offset.is_reliable else "?"
        rows.append(
            f"{p.name:32s} {p.offset.frames:+6.2f} {reliable} frames  {agreements}  "
            f"{p.closures.coinciding:3d}/{p.closures.predicted:<3d} ({p.closures.chance:.2f})  "
            f"{(np.abs(p.shift_errors) <= 1).sum():3d}/{len(p.shift_errors)}"
        )
    means = {
        name: np.mean([[getattr(p, name).opening, getattr(p, name).width] for p in people], axis=0)
        for name in ("targets", "table", "prior")
    }
    coinciding, predicted = (sum(counts) for counts in zip(*_closure_counts(people), strict=True))
    right = np.concatenate([np.abs(p.shift_errors) <= 1 for p in people])
    rows += [
        "mean r of opening / width: "
        + ", ".join(f"{name} {opening:.3f} / {width:.3f}" for name, (opening, width) in means.items()),
        f"closures that coincide: {coinciding} of {predicted} ({coinciding / max(1, predicted):.0%})",
        f"shifts right to a frame: {right.mean():.1%} of {len(right)}, "
        f"flagged unreliable {sum(p.unreliable_shifts for p in people)}",
        f"5-fold, first clip: {first.folds}",
        f"  without posture: {first.folds_without_posture}",
        f"  amplitude not raised: {first.regression}",
        f"first {SHORT_S:g} s, on the rest: {first.short}",
        f"lip landmark distance: {first.landmark_distance_px:.3f} px, "
        f"amplitude not raised {first.regression_landmark_distance_px:.3f} px",
    ]
    return "\n".join(rows)


def _closure_counts(people: Sequence[ClipFigures]) -> list[tuple[int, int]]:
    return [(p.closures.coinciding, p.closures.predicted) for p in people]


def run(clips: tyro.conf.Positional[tuple[Path, ...]], tracks: Path, encoder: Path = DEFAULT_BUNDLE.weights) -> str:
    """Measure how well lips follow from sound.

    Args:
        clips: two or more videos of different people talking; the first should last twenty seconds.
        tracks: folder in which tracks are kept.
        encoder: weights of the speech encoder.
    """
    network = replace(DEFAULT_BUNDLE, weights=encoder).load()
    opened = [open_clip(path, network, tracks) for path in clips]
    learned = in_step(clip.fitted_lips for clip in opened)
    people = [
        clip_figures(clip, network, [*learned[:index], *learned[index + 1 :]]) for index, clip in enumerate(opened)
    ]
    return report(people, fit_figures(opened[0], network, fit_lip_prior(learned[1:])))


if __name__ == "__main__":
    print(tyro.cli(run))
