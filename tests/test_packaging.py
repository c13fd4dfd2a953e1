"""The package that `pip install .` makes: declared, installed and documented requirements agree."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from conftest import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PACKAGES = ("talkinghead", "render", "encoders", "tools")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def packaged_files() -> set[str]:
    """Files of the checkout that an installation must hold, as POSIX paths."""
    kinds = [(package, "*.py") for package in PACKAGES] + [("talkinghead/assets", "*"), ("encoders/weights", "*")]
    found = (path for folder, pattern in kinds for path in (ROOT / folder).rglob(pattern) if path.is_file())
    return {path.relative_to(ROOT).as_posix() for path in found}


def test_environment_yml_agrees_with_pyproject() -> None:
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    by_pip = [entry.strip('"') for entry in re.findall(r"^ {6}- (.+)$", text, re.MULTILINE)]
    by_conda = re.findall(r"^ {2}- (.+)$", text, re.MULTILINE)
    project = PROJECT["project"]
    assert by_pip == project["dependencies"] + project["optional-dependencies"]["test"]
    assert f"python{project['requires-python']}" in by_conda


def test_readme_and_ci_run_the_same_test_command() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "pip install '.[test]' && pytest" in readme
    assert "pip install . && talkinghead demo" in readme
    assert re.search(r"pip install --quiet '\.\[test\]'", ci)
    assert re.search(r"^pytest\b.*\Z", ci.rstrip(), re.MULTILINE), "pytest must come last, its summary is the last line"


def test_readme_file_tree_is_the_one_there() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = readme.partition("## What is where")[2].partition("\n## ")[0]
    listed, package = set(), ""
    for line in tree.splitlines():
        package = line.split("/")[0].strip() if re.match(r" {4}\w+/", line) else package
        listed |= {(package, module) for module in re.findall(r"\w+\.py", line) if package in PACKAGES}
    paths = map(Path, packaged_files())
    there = {(path.parts[0], path.name) for path in paths if path.suffix == ".py" and path.name != "__init__.py"}
    assert sorted(there - listed) == [], "the README's tree lacks these"
    assert sorted(listed - there) == [], "the README's tree names these, and they do not exist"


def test_installation_is_this_checkout() -> None:
    try:
        distribution = metadata.distribution("talkinghead")
    except metadata.PackageNotFoundError:
        pytest.skip("talkinghead is not installed: pip install '.[test]'")
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        pytest.skip("installed in editable mode, so there is no copy to compare")
    installed = {file.as_posix(): Path(str(file.locate())) for file in distribution.files or ()}
    ours = {name: path for name, path in installed.items() if name.split("/")[0] in PACKAGES and path.suffix != ".pyc"}
    assert ours.keys() == packaged_files()

    def digest(path: Path) -> str:
        return hashlib.sha256(path.read_bytes()).hexdigest()

    changed = [name for name, path in ours.items() if digest(path) != digest(ROOT / name)]
    assert not changed, f"installed files differ from the checkout ({changed}): pip install '.[test]' again"
    assert "talkinghead.cli:main" in {entry.value for entry in distribution.entry_points}


def run_pytest(folder: Path, test: str, ci: bool) -> subprocess.CompletedProcess[str]:
    """pytest's run of one small test file under this suite's conftest.py."""
    shutil.copy(ROOT / "tests" / "conftest.py", folder)
    (folder / "test_case.py").write_text(f"import pytest\n{test}\n", encoding="utf-8")
    environment = {**os.environ, "CI": "true" if ci else ""}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), str(folder)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


UNEXPECTED = "def test_skips(): pytest.skip('no particular reason')"
AT_IMPORT = "pytest.skip('no particular reason', allow_module_level=True)"
EXPECTED = "def test_skips(): pytest.skip('needs a CUDA device')"
EXPECTED_FAILURE = "@pytest.mark.xfail\ndef test_fails(): assert False"


@pytest.mark.parametrize(
    ("test", "ci", "passes"),
    [
        (UNEXPECTED, True, False),
        (UNEXPECTED, False, True),
        (AT_IMPORT, True, False),
        (EXPECTED, True, True),
        (EXPECTED_FAILURE, True, True),
    ],
    ids=["unexpected-in-ci", "unexpected-elsewhere", "at-import-in-ci", "listed-in-ci", "xfail-in-ci"],
)
def test_a_skip_fails_in_ci_unless_listed(tmp_path: Path, test: str, ci: bool, passes: bool) -> None:
    run = run_pytest(tmp_path, test, ci)
    assert (run.returncode == 0) == passes, run.stdout
