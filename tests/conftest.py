"""What every test may use, and the rule that in CI a skip is a failure unless its reason is listed here."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from fitted_demo import FittedDemo

ROOT = Path(__file__).resolve().parent.parent

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in talkinghead/__init__.py, which some tests load after torch

ALLOWED_SKIPS = {
    "needs a CUDA device": "the CI machine has no GPU; the CPU back ends are tested against the same reference there",
    "needs downloaded weights": "optional networks are fetched on first use, and CI may be offline",
    "needs the shared folder": "real clips and recordings are too large for the repository",
    "needs Chromium": ".ci/run installs it where it may, as root with apt-get; elsewhere pages are not opened",
    "needs to mount a file system": "full and read-only disks are made for the test, which root alone may do",
    "needs flite": "only making the demo clip anew needs a speech synthesiser; the clip itself is in the repository",
}
"""Text that a skip's reason must contain -> why CI lets it pass."""


def skip_is_allowed(reason: str) -> bool:
    """Whether a skip with this reason may pass in CI."""
    return any(name in reason for name in ALLOWED_SKIPS)


def _fail_if_unexpected(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure when CI is set and the reason is not listed."""
    if os.environ.get("CI") != "true" or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not skip_is_allowed(reason):
        report.outcome = "failed"
        report.longrepr = f"{reason}\nIn CI a skip fails unless its reason contains one of {list(ALLOWED_SKIPS)}."


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    report = yield
    _fail_if_unexpected(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    report = yield
    _fail_if_unexpected(report)
    return report


@pytest.fixture(scope="session", autouse=True)
def no_downloads() -> Iterator[None]:
    """Tests behave as on a computer without a network: optional weights are not fetched."""
    urlopen = urllib.request.urlopen

    def opened(url: str, *args: Any, **options: Any) -> Any:
        if not url.startswith("file:"):
            raise urllib.error.URLError("tests fetch nothing")
        return urlopen(url, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("urllib.request.urlopen", opened)
        yield


@pytest.fixture(scope="session", autouse=True)
def signing_certificate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """PEM file with a certificate and its key, which signs what tests write: nothing is put into the user's cache."""
    from talkinghead.certificates import CERTIFICATE_VARIABLE, KEY_VARIABLE, make_test_certificate

    path = tmp_path_factory.mktemp("certificate") / "signer.pem"
    path.write_bytes(make_test_certificate())
    with pytest.MonkeyPatch.context() as patch:
        for variable in (CERTIFICATE_VARIABLE, KEY_VARIABLE):
            patch.setenv(variable, str(path))
        yield path


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with real clips and recordings, beside the repository: `clips/`, `audio/`."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs the shared folder (clips and recordings) beside the repository")
    return folder


@pytest.fixture(scope="session")
def fitted_demo(tmp_path_factory: pytest.TempPathFactory) -> FittedDemo:
    """An avatar of the demo clip, fitted for a moment only. No test may change it."""
    from fitted_demo import fit_demo_clip

    return fit_demo_clip(tmp_path_factory.mktemp("fitted demo"))
