"""What this machine has for fitting and speaking, with the reason and the remedy for everything that is missing."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

import torch
from llvmlite import binding as llvm
from safetensors import SafetensorError

from encoders.acoustic.catalogue import ACOUSTIC_FEATURES
from encoders.bundle import DEFAULT_BUNDLE
from encoders.experts.auto_avsr_reader import AUTO_AVSR
from render.rasterize import available_backends
from talkinghead.certificates import (
    CERTIFICATE_VARIABLE,
    KEY_VARIABLE,
    OWN_CERTIFICATE,
    credentials,
    local_certificate_path,
)
from talkinghead.devices import device_for
from talkinghead.errors import CertificateError, DeviceUnavailableError
from talkinghead.machine import memory_gib, usable_cores
from tools.errors import FfmpegMissingError
from tools.ffmpeg_process import ffmpeg_executable

OLDEST_PYTHON, NEWEST_PYTHON = (3, 10), (3, 12)
PINNED_RELEASES = {"torch": "2.11.0", "torchaudio": "2.11.0", "torchvision": "0.26.0", "mediapipe": "0.10.21"}
ENOUGH_MEMORY_GIB = 4.0
"""What fitting a clip takes at most."""
SIMD_FEATURES = ("avx512f", "avx2", "avx", "neon", "sse4.2")
"""LLVM's names, the widest registers first."""
VIDEO_ENCODER = "libx264"
MEDIAPIPE_MODELS = (
    "face_detection/face_detection_full_range_sparse.tflite",
    "face_detection/face_detection_short_range.tflite",
    "face_landmark/face_landmark_with_attention.tflite",
    "selfie_segmentation/selfie_segmentation.tflite",
)
FACE_ALIGNMENT_WEIGHTS = ("s3fd-619a316812.pth", "3DFAN4-7835d9f11d.pth.tar", "depth-2a464da4ea.pth.tar")
"""Files that face-alignment 1.5.0 keeps in torch's cache: face finder, landmarks, their depth."""


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    name: str
    ok: bool
    detail: str
    """What was found, or why it cannot be used."""
    remedy: str = ""
    """What to do; empty when `ok`."""
    optional: bool = False
    """Whether the main job works without it."""


def diagnose() -> tuple[Finding, ...]:
    """Look at this machine: software, processor, GPU, rasterizers, ffmpeg, models. Changes and fetches nothing."""
    return (
        _python(),
        *_releases(),
        _processor(),
        _memory(),
        _cuda_device(),
        *_rasterizers(),
        _gpu_work(),
        _kernel_compiler(),
        _opencv(),
        _ffmpeg(),
        _mediapipe_models(),
        _speech_encoder(),
        *_speech_features(),
        _outside_reader(),
        _face_alignment_weights(),
        _signing(),
    )


def _python() -> Finding:
    supported = OLDEST_PYTHON <= sys.version_info[:2] <= NEWEST_PYTHON
    oldest, newest = (".".join(map(str, version)) for version in (OLDEST_PYTHON, NEWEST_PYTHON))
    remedy = "" if supported else f"use a Python from {oldest} to {newest}"
    return Finding("Python", supported, f"{platform.python_version()} on {platform.platform()}", remedy)


def _releases() -> Iterator[Finding]:
    for package, expected in PINNED_RELEASES.items():
        try:
            found = metadata.version(package)
        except metadata.PackageNotFoundError:
            found = "not installed"
        fits = found.split("+")[0] == expected
        remedy = "" if fits else f"pip install {package}=={expected}"
        yield Finding(package, fits, found if fits else f"{found}, but {expected} is needed", remedy)


def _processor() -> Finding:
    features = llvm.get_host_cpu_features()
    simd = next((name for name in SIMD_FEATURES if features.get(name)), "none that is known")
    found = f"{llvm.get_host_cpu_name()}, {usable_cores()} cores for this process, SIMD: {simd}"
    return Finding("processor", True, found)


def _memory() -> Finding:
    gib = memory_gib()
    if gib is None:
        return Finding("memory", True, "this system does not say how much it has")
    enough = gib >= ENOUGH_MEMORY_GIB
    return Finding("memory", enough, f"{gib:.1f} GiB", "" if enough else f"{ENOUGH_MEMORY_GIB:.0f} GiB are needed")


def _cuda_device() -> Finding:
    if torch.cuda.is_available():
        device = torch.cuda.get_device_properties(0)
        found = f"{device.name}, {device.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
        return Finding("CUDA device", True, found, optional=True)
    if torch.version.cuda is None:
        reason = "this build of torch has no CUDA"
        remedy = f"for a GPU, install the CUDA build of torch {PINNED_RELEASES['torch']}"
    else:
        reason = f"torch is built for CUDA {torch.version.cuda} but sees no device"
        remedy = "for a GPU, install an NVIDIA driver for this CUDA version and check it with nvidia-smi"
    return Finding("CUDA device", False, f"{reason}; the processor does the work", remedy, optional=True)


def _rasterizers() -> Iterator[Finding]:
    for backend in available_backends():
        remedy = "" if backend.usable else "follow the reason; another rasterizer is used meanwhile"
        yield Finding(f"rasterizer {backend.name}", backend.usable, backend.reason, remedy, optional=True)


def _gpu_work() -> Finding:
    """Whether `--device cuda` would be taken."""
    try:
        device_for("cuda")
    except DeviceUnavailableError as error:
        return Finding("--device cuda", False, str(error), "--device auto works on the processor", optional=True)
    detail = "fit, speak and evaluate work on the GPU; the first of them compiles its kernels, for about eight minutes"
    return Finding("--device cuda", True, detail, optional=True)


def _kernel_compiler() -> Finding:
    name = "compiler for CUDA kernels"
    missing = [tool for tool in ("nvcc", "ninja") if shutil.which(tool) is None]
    if not missing:
        return Finding(name, True, "nvcc and ninja", optional=True)
    remedy = "for gsplat on a GPU, install the CUDA toolkit (nvcc) and 'pip install ninja' in an active environment"
    return Finding(name, False, f"{' and '.join(missing)} not on the PATH", remedy, optional=True)


def _opencv() -> Finding:
    try:
        found = importlib.import_module("cv2").__version__
    except ImportError as error:
        return Finding("OpenCV", False, str(error), "install its system libraries: apt install libgl1 libglib2.0-0")
    return Finding("OpenCV", True, found)


def _ffmpeg() -> Finding:
    try:
        program = ffmpeg_executable()
    except FfmpegMissingError as error:
        return Finding("ffmpeg", False, str(error), "pip install imageio-ffmpeg")
    listing = subprocess.run(
        [program, "-encoders"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    banner = listing.stderr.partition("\n")[0]
    version = banner.removeprefix("ffmpeg version ").partition(" Copyright")[0]
    if VIDEO_ENCODER not in listing.stdout.split():
        remedy = "install an ffmpeg with libx264, or remove this one from the PATH to use that of imageio-ffmpeg"
        return Finding("ffmpeg", False, f"{program} ({version}) has no {VIDEO_ENCODER} encoder", remedy)
    return Finding("ffmpeg", True, f"{program} ({version}), encodes H.264 with {VIDEO_ENCODER}")


def _mediapipe_models() -> Finding:
    package = util.find_spec("mediapipe")
    if package is None or package.origin is None:
        return Finding("face models", False, "mediapipe is not installed", _reinstall("mediapipe"))
    modules = Path(package.origin).parent / "modules"
    missing = [model for model in MEDIAPIPE_MODELS if not (modules / model).is_file()]
    if missing:
        return Finding("face models", False, f"the mediapipe wheel lacks {', '.join(missing)}", _reinstall("mediapipe"))
    return Finding("face models", True, "face mesh, face finder and segmentation are in the mediapipe wheel")


def _reinstall(package: str) -> str:
    return f"pip install --force-reinstall --no-deps {package}=={PINNED_RELEASES[package]}"


def _speech_encoder() -> Finding:
    try:
        provenance = DEFAULT_BUNDLE.provenance()
    except (OSError, SafetensorError) as error:
        return Finding("speech encoder", False, f"{DEFAULT_BUNDLE.weights}: {error}", "install talkinghead again")
    size = DEFAULT_BUNDLE.weights.stat().st_size / 2**20
    origin = f"{len(provenance)} facts on its origin"
    return Finding("speech encoder", True, f"{DEFAULT_BUNDLE.name}, {size:.1f} MiB, {origin}")


def _speech_features() -> Iterator[Finding]:
    """The features that `--speech` offers for comparison."""
    for feature in ACOUSTIC_FEATURES.values():
        name, weights = f"speech {feature.name}", feature.weights
        if command := feature.install_command():
            yield Finding(name, False, f"{feature.source}: its package is not installed", command, optional=True)
        elif weights is not None and not weights.is_present:
            fetched = "" if weights.archived else "fetched when it is first used, with a connection; without one, "
            detail = f"{feature.source}: its weights ({weights.licence}) are not here"
            yield Finding(name, False, detail, fetched + weights.remedy, optional=True)
        else:
            place = "" if weights is None else f", {weights.path}"
            yield Finding(name, True, f"{feature.source}{place}", optional=True)


def _outside_reader() -> Finding:
    """The lip reader that `fit --reader auto-avsr` takes."""
    source = "lip reader of Ma et al. 2023, only for 'fit --experts reading --reader auto-avsr'"
    if AUTO_AVSR.is_present:
        return Finding("reader auto-avsr", True, f"{source}, {AUTO_AVSR.path}", optional=True)
    detail = f"{source}: its weights ({AUTO_AVSR.licence}) are not here"
    return Finding("reader auto-avsr", False, detail, AUTO_AVSR.remedy, optional=True)


def _signing() -> Finding:
    """The certificate that marks videos as made by AI; makes none."""
    name = "certificate"
    given = [variable for variable in (CERTIFICATE_VARIABLE, KEY_VARIABLE) if os.environ.get(variable)]
    try:
        if not given and not local_certificate_path().exists():
            return Finding(name, True, f"a test certificate is made when 'speak' is first used; {OWN_CERTIFICATE}")
        signer = credentials()
    except CertificateError as error:
        return Finding(name, False, str(error), f"set {CERTIFICATE_VARIABLE} and {KEY_VARIABLE} anew, or neither")
    return Finding(name, True, signer.subject if given else f"{signer.subject}; {OWN_CERTIFICATE}")


def _face_alignment_weights() -> Finding:
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    missing = [name for name in FACE_ALIGNMENT_WEIGHTS if not (cache / name).is_file()]
    name = "weights of face-alignment"
    if not missing:
        return Finding(name, True, f"in {cache}", optional=True)
    remedy = "only '--landmarks face-alignment' needs them: they are fetched when it is first used, with a connection"
    return Finding(name, False, f"{', '.join(missing)} not in {cache}", remedy, optional=True)
