"""The report on this machine, and what it says of a machine that lacks something."""

from __future__ import annotations

import sys
from importlib import import_module, metadata
from pathlib import Path

import pytest
import torch
from conftest import ROOT

from encoders.acoustic.catalogue import ACOUSTIC_FEATURES
from talkinghead import doctor
from talkinghead.config import ACOUSTIC_SPEECH
from talkinghead.doctor import Finding, diagnose
from tools.errors import FfmpegMissingError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def found(name: str) -> Finding:
    """The finding of that name in a fresh report."""
    return next(finding for finding in diagnose() if finding.name == name)


def executable(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_this_machine_can_do_the_main_job(capfd: pytest.CaptureFixture[str]) -> None:
    findings = diagnose()
    assert not [finding for finding in findings if not finding.ok and not finding.optional]
    assert capfd.readouterr() == ("", ""), "the library is silent; the command prints"


def test_findings_are_unique_and_single_lines_with_a_remedy_exactly_when_something_is_wrong() -> None:
    findings = diagnose()
    assert len({finding.name for finding in findings}) == len(findings)
    for finding in findings:
        assert bool(finding.remedy) != finding.ok, finding
        assert finding.detail and "\n" not in finding.detail + finding.remedy, finding


def test_every_rasterizer_is_reported() -> None:
    names = {finding.name for finding in diagnose()}
    assert {f"rasterizer {name}" for name in ("torch", "numba", "gsplat")} <= names


def test_pins_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for package, release in doctor.PINNED_RELEASES.items():
        assert f"{package}=={release}" in project["dependencies"]
    oldest = ".".join(map(str, doctor.OLDEST_PYTHON))
    beyond = f"{doctor.NEWEST_PYTHON[0]}.{doctor.NEWEST_PYTHON[1] + 1}"
    assert project["requires-python"] == f">={oldest},<{beyond}"


def test_face_alignment_weights_are_those_the_library_fetches() -> None:
    landmarks = import_module("face_alignment.api").models_urls
    finder = import_module("face_alignment.detection.sfd.sfd_detector").models_urls
    fetched = {Path(url).name for url in (finder["s3fd"], landmarks["3DFAN-4"], landmarks["depth"])}
    assert fetched == set(doctor.FACE_ALIGNMENT_WEIGHTS)


def test_another_release_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "2.5.1+cpu" if name == "torchaudio" else installed(name))
    finding = found("torchaudio")
    assert not finding.ok and not finding.optional
    assert "2.5.1" in finding.detail and finding.remedy == "pip install torchaudio==2.11.0"
    assert found("torch").ok


def test_a_torch_without_cuda_is_told_from_a_machine_without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert "sees no device" in found("CUDA device").detail
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "no CUDA" in found("CUDA device").detail


def test_ffmpeg_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> str:
        raise FfmpegMissingError("no ffmpeg found")

    monkeypatch.setattr(doctor, "ffmpeg_executable", missing)
    finding = found("ffmpeg")
    assert not finding.ok and finding.remedy == "pip install imageio-ffmpeg"


def test_ffmpeg_without_h264(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = executable(tmp_path / "ffmpeg", "echo 'ffmpeg version 9.9 Copyright' >&2; echo ' V..... mpeg4 MPEG-4'")
    monkeypatch.setattr(doctor, "ffmpeg_executable", lambda: str(program))
    finding = found("ffmpeg")
    assert not finding.ok and "9.9" in finding.detail and "libx264" in finding.remedy


def test_missing_face_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "MEDIAPIPE_MODELS", ("face_landmark/none.tflite",))
    finding = found("face models")
    assert not finding.ok and "none.tflite" in finding.detail and "mediapipe==0.10.21" in finding.remedy


def test_opencv_without_its_system_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library(name: str) -> None:
        raise ImportError("libGL.so.1: cannot open shared object file")

    monkeypatch.setattr(doctor.importlib, "import_module", no_library)
    finding = found("OpenCV")
    assert not finding.ok and "libGL" in finding.detail and "libgl1" in finding.remedy


def test_optional_weights_are_found_in_torchs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    finding = found("weights of face-alignment")
    assert not finding.ok and finding.optional
    (tmp_path / "checkpoints").mkdir()
    for name in doctor.FACE_ALIGNMENT_WEIGHTS:
        (tmp_path / "checkpoints" / name).touch()
    assert found("weights of face-alignment").ok


def test_every_speech_feature_is_reported_with_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("encoders.acoustic.catalogue.util.find_spec", lambda package: None)
    findings = {name: found(f"speech {name}") for name in ACOUSTIC_SPEECH}
    assert all(finding.optional for finding in findings.values())
    assert [name for name, finding in findings.items() if finding.ok] == ["logmel", "mfcc"]
    for name in ("whisper", "deepspeech"):
        assert findings[name].remedy == f"pip install 'talkinghead[{name}]'"
    hubert = ACOUSTIC_FEATURES["hubert"].weights
    assert "fetched when it is first used" in findings["hubert"].remedy and hubert.url in findings["hubert"].remedy
    hubert.path.parent.mkdir(parents=True)
    hubert.path.touch()
    assert found("speech hubert").ok and str(hubert.path) in found("speech hubert").detail
