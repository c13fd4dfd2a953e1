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
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np

from encoders.features import SpeechFeatureTrack
from talkinghead.avatar import Avatar, load_avatar, speech_feature_of
from talkinghead.compositing import composite
from talkinghead.config import Backend, EvaluateConfig
from talkinghead.errors import NothingHeldOutError
from talkinghead.fit import fit
from talkinghead.lip_fit import clip_features
from talkinghead.progress import Progress
from talkinghead.renderer import AvatarRenderer
from talkinghead.speech_choice import fetch_weights
from tools import metrics
from tools.face_topology import MEDIAPIPE_478
from tools.landmarks import landmark_detector
from tools.tracked_clip import CropBox
from tools.video import VideoInfo, read_frames

SHUFFLE_FRAMES = 37
"""The shuffled row hears the sound of this many frames earlier (the held-out part is a ring)."""
JUDGE = MEDIAPIPE_478
"""The landmarks that every row is measured on, whatever the avatar was tracked with."""
AUDIO, TRACKED, SHUFFLED, SILENCE, MEAN_FACE, TRUTH = (
    "audio", "tracked", "shuffled", "silence", "mean_face", "ground_truth",
)  # fmt: skip


@dataclass(frozen=True)
class EvaluationRow:
    """Measures of one way to drive the avatar; `_free` of the head render alone, the others in place."""

    composite_psnr: float  # dB, the crop with the blended region replaced, as `speak` does it
    composite_ssim: float
    hull_psnr: float  # dB, the crop with the convex hull of the face landmarks replaced
    face_psnr: float  # dB, inside that hull only
    lmd_px: float  # lip landmark distance, px of the crop
    lmd_centred_px: float
    mouth_opening_r: float  # Pearson's r of the inner-lip distance
    lmd_px_free: float
    lmd_centred_px_free: float
    mouth_opening_r_free: float
    mouth_amplitude: float  # spread of the opening, output / real, in place
    mouth_lag_frames: int  # frames by which the output's opening is late, in place
    head_jitter: float  # second difference of the stable landmarks, output / source, in place


@dataclass(frozen=True)
class Evaluation:
    """All rows, and how they were measured."""

    protocol: dict[str, str | int | float]
    rows: dict[str, EvaluationRow]

    def to_json(self) -> str:
        """The result as JSON; infinite and undefined values become null."""
        rows = {name: {key: _finite(value) for key, value in asdict(row).items()} for name, row in self.rows.items()}
        return json.dumps({"protocol": self.protocol, "rows": rows}, indent=2, allow_nan=False)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


@dataclass
class _Tally:
    """What is gathered of one row while the frames pass by."""

    composite_psnr: list[float] = field(default_factory=list)
    composite_ssim: list[float] = field(default_factory=list)
    hull_psnr: list[float] = field(default_factory=list)
    face_psnr: list[float] = field(default_factory=list)


class _Observer:
    """Follows the face in a row's output as in any video: by a detector of its own, frame after frame."""

    def __init__(self, stack: ExitStack) -> None:
        self.in_place: list[np.ndarray] = []  # landmarks [K, 3]
        self.free: list[np.ndarray] = []
        self._detectors = [stack.enter_context(landmark_detector("mediapipe", max_faces=1)) for _ in range(2)]

    def see(self, in_place: np.ndarray, free: np.ndarray) -> None:
        """Takes in the pictures of one frame."""
        for detector, picture, track in zip(self._detectors, (in_place, free), (self.in_place, self.free), strict=True):
            faces = detector.detect(picture)
            track.append(faces[0] if faces else np.full((detector.topology.count, 3), np.nan, np.float32))


def evaluate(target: Path, config: EvaluateConfig) -> Generator[Progress, None, Evaluation]:
    """Measures an avatar fitted with a held-out part, or fits one from a video first.

    Raises:
        NothingHeldOutError: the avatar was fitted to the whole clip.
        UserError: see `fit` and `load_avatar`.
    """
    if target.is_dir():
        yield from fetch_weights(speech_feature_of(target))
        return (yield from _measure(load_avatar(target), config.fit.backend))
    with tempfile.TemporaryDirectory(prefix="talkinghead-evaluate-") as folder:
        output = Path(folder) / "held-out.avatar"
        yield from fit(target, output, config.fit)
        return (yield from _measure(load_avatar(output), config.fit.backend))


def _measure(avatar: Avatar, backend: Backend) -> Generator[Progress, None, Evaluation]:
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
    tallies = {name: _Tally() for name in (*drives, TRUTH)}
    renderer = AvatarRenderer(avatar, backend)
    whole = CropBox(0, 0, facts.crop.resolution, facts.crop.resolution)
    first, wanted = int(held_out[0]), {int(number): place for place, number in enumerate(held_out)}
    with ExitStack() as stack:
        watch = {name: _Observer(stack) for name in tallies}
        for number, frame in enumerate(read_frames(info, first), start=first):
            if number not in wanted:
                continue
            source = facts.crop.cut(frame)
            mask = renderer.region.mask(number)
            hull = metrics.face_hull_mask(avatar.tracks.landmarks[number], *source.shape[:2])
            for name, codes in drives.items():
                free = renderer.free(number, codes[wanted[number]])
                in_place = composite(source, free, whole, mask)
                _tally_pictures(tallies[name], source, free, in_place, hull)
                watch[name].see(in_place, free)
            _tally_pictures(tallies[TRUTH], source, source, source, hull)
            watch[TRUTH].see(source, source)
            yield Progress("measuring", wanted[number] + 1, len(held_out))
    truth = np.stack(watch[TRUTH].in_place)
    rows = {name: _row(tally, watch[name], truth) for name, tally in tallies.items()}
    return Evaluation(_protocol(avatar, held_out), rows)


def _drives(avatar: Avatar, info: VideoInfo, held_out: np.ndarray) -> dict[str, np.ndarray]:
    """Lower-face codes [T, Kl] of each row."""
    speech = clip_features(info, avatar.encoder, avatar.embedding, avatar.manifest.sound_delay_frames)
    spoken = avatar.lips.predict(speech)[held_out]
    tracked = avatar.tracks.lower[held_out]
    silent = SpeechFeatureTrack(np.zeros_like(speech.features), info.fps)
    return {
        AUDIO: spoken,
        TRACKED: tracked,
        SHUFFLED: np.roll(spoken, SHUFFLE_FRAMES, axis=0),
        SILENCE: avatar.lips.predict(silent)[held_out],
        MEAN_FACE: np.zeros_like(tracked),
    }


def _tally_pictures(
    tally: _Tally, source: np.ndarray, free: np.ndarray, in_place: np.ndarray, hull: np.ndarray
) -> None:
    tally.composite_psnr.append(metrics.psnr(in_place, source))
    tally.composite_ssim.append(metrics.ssim(in_place, source))
    tally.hull_psnr.append(metrics.psnr(np.where(hull[..., None], free, source), source))
    tally.face_psnr.append(metrics.psnr(free, source, hull))


def _row(tally: _Tally, seen: _Observer, truth: np.ndarray) -> EvaluationRow:
    in_place, free = np.stack(seen.in_place), np.stack(seen.free)
    shape = np.nanmean(truth, axis=0)
    real = metrics.mouth_opening(truth, shape, JUDGE)
    opening = metrics.mouth_opening(in_place, shape, JUDGE)
    return EvaluationRow(
        composite_psnr=float(np.mean(tally.composite_psnr)),
        composite_ssim=float(np.mean(tally.composite_ssim)),
        hull_psnr=float(np.mean(tally.hull_psnr)),
        face_psnr=float(np.mean(tally.face_psnr)),
        lmd_px=metrics.landmark_distance(in_place, truth, JUDGE.lips),
        lmd_centred_px=metrics.centred_landmark_distance(in_place, truth, JUDGE.lips),
        mouth_opening_r=metrics.pearson(opening, real),
        lmd_px_free=metrics.landmark_distance(free, truth, JUDGE.lips),
        lmd_centred_px_free=metrics.centred_landmark_distance(free, truth, JUDGE.lips),
        mouth_opening_r_free=metrics.pearson(metrics.mouth_opening(free, shape, JUDGE), real),
        mouth_amplitude=metrics.amplitude_ratio(opening, real),
        mouth_lag_frames=metrics.best_lag(opening, real, 6),
        head_jitter=metrics.head_jitter(in_place, JUDGE.stable) / metrics.head_jitter(truth, JUDGE.stable),
    )


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
        "poses": "tracked from landmarks with the head shape of the fitted part; upper face tracked in every row",
        "in_place": "blended region (under the eyes to below the chin) of the crop replaced, as speak does",
        "hull": "convex hull of the face landmarks, eroded by one pixel, replaced by the render",
        "shuffled": f"codes of the audio row, {SHUFFLE_FRAMES} frames earlier, in a ring",
    }


def measure_names() -> tuple[str, ...]:
    """The columns of the table."""
    return tuple(item.name for item in fields(EvaluationRow))
