"""What a user may choose. A field's docstring is its --help text; nothing heavy is imported, so --help is quick."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal

from tools.errors import UserError

Preset = Literal["fast", "standard", "best"]
Device = Literal["auto", "cuda", "cpu"]
Backend = Literal["auto", "torch", "numba", "gsplat"]
LandmarkBackend = Literal["mediapipe", "face-alignment"]
FeatureLayout = Literal["talkinggaussian", "er-nerf", "synctalk"]
MouthKind = Literal["gaussians", "implicit"]
Expert = Literal["picture", "sync", "reading", "discriminator"]
DEFAULT_SPEECH = "default"
ACOUSTIC_SPEECH = ("logmel", "mfcc", "hubert", "hubert-large", "wav2vec2", "whisper", "deepspeech")
ADAPTER_SPEECH = ("se4lip", "pase")
TALKLIP_SPEECH = ("talklip-local", "talklip-global")
TRAINED_SPEECH_SUFFIX = ".safetensors"
VISEME_READER, OUTSIDE_READER = "visemes", "auto-avsr"
EVALUATION_HOLDOUT = 0.2
LARGEST_HOLDOUT = 0.5
SOURCE, PLATE, ALPHA, CAMERA = "source", "plate", "alpha", "camera"
"""Words for backgrounds, poses, blinks, gazes and expressions."""
MOST_MOUTH_GAIN = 2.0
LARGEST_GAZE = 90.0
LARGEST_OFFSET_S = 86_400
SMALLEST_RESOLUTION, LARGEST_RESOLUTION = 64, 2048
LONGEST_CONSENT = 500
FIT_OPTIONS = ("preset", "resolution", "face", "landmarks", "speech", "consent")
"""Of `DubOptions`: what an avatar follows from."""
MOST_WORKERS = 1000


@dataclass(frozen=True)
class FitConfig:
    """How an avatar is learned."""

    preset: Preset = "standard"
    """Time or quality: how long the head is fitted (see the README for the figures)."""
    seed: int = 0
    """Everything random follows from it: on a CPU the same seed gives the same avatar."""
    holdout: float = 0.0
    """Share of the clip, at its end and 30 s at most, that is kept out of the fit for `evaluate`: 0 to 0.5."""
    resolution: int = 512
    """Side of the square around the face that is learned, px; a smaller face is not enlarged."""
    face: int = 1
    """Which face, when several are seen: 1 is the largest."""
    landmarks: LandmarkBackend = "mediapipe"
    """What finds the face: MediaPipe comes with the package, face-alignment fetches weights on first use."""
    speech: str = DEFAULT_SPEECH
    """What the lips are driven by. default comes with the package; se4lip and pase adapt it to this person's lips;
    talklip-local and talklip-global are learned from this person's lips alone (TalkLip).
    logmel, mfcc, hubert, hubert-large, wav2vec2, whisper and deepspeech are for comparison (`talkinghead doctor` says
    what they need), and so is a FILE.safetensors of `talkinghead train-encoder`."""
    mouth: MouthKind = "gaussians"
    """What the inside of the mouth is made of: gaussians, or implicit, a network from place, speech and time to colour
    (Speech2Lip)."""
    experts: tuple[Expert, ...] = ()
    """Who judges the mouth while it learns to be driven by speech: sync, whether lips and sound belong together
    (Speech2Lip); reading, what can be read from the lips (TalkLip); discriminator, whether the mouth looks real
    (TalkLip); picture, nobody but the real frames, which are part of all of these."""
    reader: str = VISEME_READER
    """What the reading expert is: visemes, a small one trained on this person; auto-avsr, whose weights you download
    (`talkinghead doctor` says how); or a FILE.safetensors of `talkinghead train-encoder --method reader`."""
    blend_net: bool = False
    """Let a small network mend the border and the picture of what is rendered into the footage (Speech2Lip)."""
    device: Device = "auto"
    """Where the work is done: auto takes the GPU if there is one that can do it (see `talkinghead doctor`), else the
    processor; cuda, only the GPU; cpu, only the processor."""
    restart: bool = False
    """Begin anew: use neither the tracking nor the unfinished fit that an earlier run left beside the avatar."""
    consent: str = ""
    """Who the person is and that they agreed, in a line: kept in the avatar, and carried into every video that it
    speaks. Asked for at a terminal."""

    def __post_init__(self) -> None:
        require("--holdout", self.holdout, 0, LARGEST_HOLDOUT)
        require("--resolution", self.resolution, SMALLEST_RESOLUTION, LARGEST_RESOLUTION)
        require("--face", self.face, 1, None)
        require("--seed", self.seed, 0, None)
        _require_speech(self.speech)
        if self.reader not in (VISEME_READER, OUTSIDE_READER) and not self.reader.endswith(TRAINED_SPEECH_SUFFIX):
            raise UserError(
                f"--reader takes {VISEME_READER}, {OUTSIDE_READER} or a {TRAINED_SPEECH_SUFFIX} file, "
                f"got {self.reader!r}"
            )
        if len(self.consent) > LONGEST_CONSENT or not self.consent.isprintable():
            raise UserError(f"--consent takes one line of at most {LONGEST_CONSENT} characters")


@dataclass(frozen=True)
class SpeakConfig:
    """How the video is made, and what the person does besides speaking."""

    background: str = SOURCE
    """source keeps the footage and renders the mouth into it. With anything else the whole person is rendered, in a
    square as large as what was learned, over: plate, the scene of the footage; #rrggbb or a colour's name; the name of
    a picture file; alpha, which is nothing, in a .mov (ProRes 4444), .webm (VP9) or frames/%06d.png."""
    pose: str = SOURCE
    """How the head moves, if not in place: source, as in the footage; still; idle, small motion as this person's; or
    the name of a CSV file with the heading yaw,pitch,roll,x,y,z and a row for each frame: degrees and head units from
    rest, to the right of the picture, up and towards the camera (roll: leaning to the right)."""
    blink: Literal["source", "natural", "off"] = "source"
    """source, as in the footage; natural, this person's blinks about 20 times a minute; off."""
    gaze: str = SOURCE
    """source, as in the footage; camera, held on the camera; or --gaze=YAW,PITCH, degrees to the right of the picture
    and up from there, as far as the footage shows the eyes turn."""
    expression: Literal["source", "still"] = "source"
    """Brows and lids: source, replayed from the footage; or still, at rest. Blinks and gaze are apart from it."""
    mouth_gain: float = 1.0
    """How wide the mouth moves: 0 (it stays closed) to 2."""
    audio_offset: float = 0.0
    """Seconds by which the sound comes later than the picture's start, with silence and closed lips before it; or
    --audio-offset=-1.5, which leaves out its first seconds."""
    seed: int = 0
    """Natural blinks and idle motion follow from it: the same seed moves alike."""
    device: Device = "auto"
    """Where the work is done: auto takes the GPU if there is one that can do it (see `talkinghead doctor`), else the
    processor; cuda, only the GPU; cpu, only the processor."""
    codec: Literal["libx264", "libx265"] = "libx264"
    """Video encoder of MP4: H.264 plays everywhere, H.265 is smaller."""
    crf: int = 16
    """Constant rate factor: 0 is lossless, 16 looks like the original, 23 is visibly compressed; 51 is the most. Not
    for ProRes and PNG, which hardly lose anything."""
    effort: Literal["ultrafast", "veryfast", "fast", "medium", "slow"] = "veryfast"
    """Encoding effort of MP4 and WebM: slower makes smaller files of the same quality."""
    certificate: Path | None = None
    """PEM file with the certificate that signs the video's mark of being made by AI, followed by its issuers'. By
    default $TALKINGHEAD_CERTIFICATE, else a test certificate of this machine, whose signer others do not know."""
    key: Path | None = None
    """PEM file with the certificate's private key; by default $TALKINGHEAD_KEY."""
    mark: bool = True
    """Leave out the mark of being made by AI, which the video bears otherwise, signed and in its metadata. That it was
    left out is written into the avatar's log."""

    def __post_init__(self) -> None:
        require("--crf", self.crf, 0, 51)
        require("--mouth-gain", self.mouth_gain, 0, MOST_MOUTH_GAIN)
        require("--audio-offset", self.audio_offset, -LARGEST_OFFSET_S, LARGEST_OFFSET_S)
        require("--seed", self.seed, 0, None)
        if self.is_in_place and self.pose != SOURCE:
            raise UserError(
                f"--pose {self.pose} needs another background than the footage, in which the head is where it was "
                "filmed: add e.g. --background plate"
            )
        if self.gaze not in (SOURCE, CAMERA):
            _ = self.gaze_degrees

    @property
    def is_in_place(self) -> bool:
        """Whether the footage is shown around what is rendered."""
        return self.background == SOURCE

    @property
    def changes_upper_face(self) -> bool:
        """Whether eyes and brows are not as in the footage."""
        return (self.blink, self.gaze, self.expression) != (SOURCE, SOURCE, SOURCE)

    @property
    def exact_audio_offset(self) -> Fraction:
        """The offset as it was typed, seconds: 0.1 is a tenth."""
        return Fraction(str(self.audio_offset))

    @property
    def files(self) -> tuple[Path, ...]:
        """What is read besides avatar and audio."""
        signing = filter(None, (self.certificate, self.key))
        return tuple(path for path in (Path(self.background), Path(self.pose), *signing) if path.is_file())

    @property
    def gaze_degrees(self) -> tuple[float, float]:
        """Yaw and pitch of a gaze that is given as numbers.

        Raises:
            UserError: it is not.
        """
        try:
            yaw, pitch = map(float, self.gaze.split(","))
        except ValueError:
            yaw = pitch = math.nan
        if not (abs(yaw) <= LARGEST_GAZE and abs(pitch) <= LARGEST_GAZE):
            raise UserError(f"--gaze takes source, camera or YAW,PITCH in degrees (--gaze=5,-2), not {self.gaze!r}")
        return yaw, pitch


@dataclass(frozen=True)
class DubOptions(SpeakConfig):
    """How a job is done. A job list may have a column for each of these but the device and what is about the mark."""

    preset: Preset = "standard"
    """How long a person is learned from a video. An avatar stays as it is: this and the next five are not for it."""
    resolution: int = 512
    """Side of the square around the face that is learned, px; a smaller face is not enlarged."""
    face: int = 1
    """Which face of a video speaks, when several are seen: 1 is the largest."""
    landmarks: LandmarkBackend = "mediapipe"
    """What finds the face: MediaPipe comes with the package, face-alignment fetches weights on first use."""
    speech: str = DEFAULT_SPEECH
    """What the lips are driven by, as `talkinghead fit` takes it."""
    consent: str = ""
    """Who the person is and that they agreed, in a line: kept in the avatar, and carried into the video."""
    keep_original_sound: bool = False
    """Films only: the sound track as it was stays in the film, as the second one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.fit

    @property
    def fit(self) -> FitConfig:
        """How a person is learned. The seed is always the same, so that all jobs of a person share the avatar.

        Raises:
            UserError: see `FitConfig`.
        """
        return FitConfig(**{name: getattr(self, name) for name in FIT_OPTIONS}, device=self.device)

    @property
    def files(self) -> tuple[Path, ...]:
        """What is read besides video and audio."""
        trained = (Path(self.speech),) if self.speech.endswith(TRAINED_SPEECH_SUFFIX) else ()
        return (*super().files, *trained)


@dataclass(frozen=True)
class DubConfig:
    """Where jobs are done."""

    workers: int | None = None
    """Jobs that are done at a time: by default one on this machine, or one on each node of a Ray cluster."""
    ray: str | None = None
    """Do them on a Ray cluster: its address, or auto on one of its nodes (pip install 'talkinghead[ray]'). All nodes
    must see the same folders under the same names."""
    avatars: Path | None = None
    """Folder of the avatars that are fitted to videos, once each, and found again: by default `avatars` in --out."""

    def __post_init__(self) -> None:
        if self.workers is not None:
            require("--workers", self.workers, 1, MOST_WORKERS)


@dataclass(frozen=True)
class FeaturesConfig:
    """Which speech features are written, and for whom."""

    speech: str = DEFAULT_SPEECH
    """default, logmel, mfcc, hubert, hubert-large, wav2vec2, whisper, deepspeech, or a FILE.safetensors of `talkinghead
    train-encoder`; se4lip, pase, talklip-local and talklip-global are such files, looked for in the cache folder."""
    layout: FeatureLayout = "talkinggaussian"
    """Project that reads the file."""

    def __post_init__(self) -> None:
        _require_speech(self.speech)


@dataclass(frozen=True)
class EvaluateConfig:
    """How an avatar is measured."""

    fit: FitConfig = field(default_factory=lambda: FitConfig(holdout=EVALUATION_HOLDOUT))
    """How a video is fitted first; an avatar is measured as it is."""
    lip_reader: str | None = None
    """A lip-reading program of yours, to say how many words can be read from each row's lips: a command in quotes, with
    {video} where the video's name goes, that prints the words as its last line."""
    transcript: Path | None = None
    """Text file of what is said in the part that is measured, in English, for --lip-reader; without it the words count
    that the lip reader reads in the clip itself."""
    observer: Path | None = None
    """Weights of `talkinghead train-encoder --method observer`, to say how many visemes can be read from each row's
    lips. Train it on the fitted part of the clip, or on other clips."""
    cross: tuple[Path, ...] = ()
    """Recordings of other speakers or languages: a row for each shows the person saying that, in as many frames."""
    lip_landmarks: LandmarkBackend = "mediapipe"
    """Which landmarks lips are measured on: mediapipe, or those of face-alignment, the library of most papers' LMD,
    where it and its weights can be had (about a second a picture on a processor)."""

    def __post_init__(self) -> None:
        if self.transcript is not None and self.lip_reader is None:
            raise UserError("--transcript says what a lip reader should read: give a --lip-reader, or leave it away")


@dataclass(frozen=True)
class CompareConfig:
    """What is compared, and how the head that all share is learned."""

    speech: tuple[str, ...] = (DEFAULT_SPEECH, *ADAPTER_SPEECH, "logmel")
    """What the lips are driven by, as `talkinghead fit --speech` takes it: names and files, with spaces or commas
    between them."""
    preset: Preset = "standard"
    """Time or quality: how long the head is fitted."""
    seed: int = 0
    """Everything random follows from it, for all features alike."""
    device: Device = "auto"
    """Where the work is done: auto takes the GPU if there is one that can do it (see `talkinghead doctor`), else the
    processor; cuda, only the GPU; cpu, only the processor."""

    def __post_init__(self) -> None:
        require("--seed", self.seed, 0, None)
        for name in self.features:
            _require_speech(name)
        labels = [speech_label(name) for name in self.features]
        if not labels or len(set(labels)) < len(labels):
            raise UserError(f"--speech takes one or more features of different names, got {' '.join(labels) or 'none'}")

    @property
    def features(self) -> tuple[str, ...]:
        """Each feature, as `FitConfig.speech`."""
        return tuple(name for entry in self.speech for name in entry.split(",") if name)

    def fit(self, speech: str = DEFAULT_SPEECH) -> FitConfig:
        """How a feature's avatar is learned."""
        return FitConfig(self.preset, self.seed, EVALUATION_HOLDOUT, speech=speech, device=self.device)


@dataclass(frozen=True)
class BenchConfig:
    """What is measured."""

    seconds: float = 20.0
    """Length of the speech that the avatar is measured with: its own sound, over and over."""
    device: Device = "auto"
    """Where the work is done: auto takes the GPU if there is one that can do it (see `talkinghead doctor`), else the
    processor; cuda, only the GPU; cpu, only the processor."""
    backend: Backend = "auto"
    """Rasterizer to measure: auto takes the fastest on the device."""
    skip_rasterizer: bool = False
    """Measure the avatar alone; the rasterizer takes one to two minutes, nearly all of them its reference."""

    def __post_init__(self) -> None:
        require("--seconds", self.seconds, 1, 3600)


def speech_label(speech: str) -> str:
    """What a speech feature is called in tables and file names: of a file, its name without its folder."""
    return Path(speech).name


def _require_speech(speech: str) -> None:
    """
    Raises:
        UserError: there is no such speech feature.
    """
    names = (DEFAULT_SPEECH, *ACOUSTIC_SPEECH, *ADAPTER_SPEECH, *TALKLIP_SPEECH)
    if speech not in names and not speech.endswith(TRAINED_SPEECH_SUFFIX):
        raise UserError(f"--speech takes {', '.join(names)} or a {TRAINED_SPEECH_SUFFIX} file, got {speech!r}")


def require(option: str, value: float, least: float, most: float | None) -> None:
    """
    Raises:
        UserError: the value is out of its range, or no number.
    """
    if not value >= least or (most is not None and value > most):
        expected = f"{least} or more" if most is None else f"{least} to {most}"
        raise UserError(f"{option} takes {expected}, got {value}")
