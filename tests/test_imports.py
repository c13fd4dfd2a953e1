"""Who may import whom: talkinghead -> tools, encoders, render; siblings never each other."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

ALLOWED = {
    "talkinghead": {"talkinghead", "tools", "encoders", "render"},
    "tools": {"tools"},
    "encoders": {"encoders"},
    "render": {"render"},
}
DYNAMIC_IMPORTS = {"__import__", "import_module"}


def imported_packages(source: str, module_path: Path) -> Iterator[tuple[int, str]]:
    """(line, top-level package) of every import statement and dynamic import, wherever in the file it stands.

    `module_path` is relative to the repository's root; relative imports are resolved against it.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom):
            depth = len(module_path.parent.parts)
            if node.level > depth:
                yield node.lineno, "(outside the package)"
            elif node.level:
                yield node.lineno, module_path.parts[0]
            else:
                yield node.lineno, (node.module or "").split(".")[0]
        elif isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            target = node.args[0] if name in DYNAMIC_IMPORTS and node.args else None
            if isinstance(target, ast.Constant) and isinstance(target.value, str):
                yield node.lineno, target.value.split(".")[0]


def violations(source: str, module_path: Path) -> list[str]:
    """Imports of `module_path` that its package may not make, one line each."""
    package = module_path.parts[0]
    ours = {*ALLOWED, "tests", "(outside the package)"}
    return [
        f"{module_path}:{line}: {package} must not import {target}"
        for line, target in imported_packages(source, module_path)
        if target in ours - ALLOWED[package]
    ]


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_layering(package: str) -> None:
    modules = sorted((ROOT / package).rglob("*.py"))
    assert modules, f"{package} holds no module"
    found = [line for path in modules for line in violations(path.read_text(encoding="utf-8"), path.relative_to(ROOT))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "import tools.video",
        "from tools import video",
        "def lazy():\n    from talkinghead.cli import main",
        "from .. import tools",
        "import importlib\nimportlib.import_module('encoders.bundle')",
    ],
)
def test_a_forbidden_import_is_found(source: str) -> None:
    assert violations(source, Path("render/module.py"))


def test_allowed_imports_pass() -> None:
    source = "import torch\nfrom . import cameras\nfrom render.gaussians import Gaussians"
    assert not violations(source, Path("render/module.py"))


def test_importing_the_application_is_light() -> None:
    heavy = {"torch", "mediapipe", "cv2", "numba", "scipy", "matplotlib"}
    command = "import sys, talkinghead; print(' '.join(sys.modules))"
    run = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not heavy & set(run.stdout.split())
