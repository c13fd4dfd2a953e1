"""Knowing whether gsplat has compiled, and having it compile: with a stand-in, on a machine without a GPU."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from render import _rasterize_gsplat
from render.gsplat_kernels import are_compiled, compile_kernels
from render.rasterize import BackendUnavailableError

NVCC_COMPLAINS = """Error building extension 'gsplat_cuda': [1/17] nvcc -c Projection.cu
unsupported.h(143): warning: deprecated
host_config.h(159): error: -- unsupported GNU version! gcc versions later than 15 are not supported!
ninja: build stopped: subcommand failed."""


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception | None], list[int]]:
    """Puts a gsplat into place that compiles, or fails to; gives the heights of the images it was asked for."""

    def put(failure: Exception | None) -> list[int]:
        heights = []

        def rasterization(**scene: object) -> tuple[torch.Tensor, torch.Tensor, dict[str, object]]:
            print("gsplat: Setting up CUDA")
            heights.append(scene["height"])
            if failure is not None:
                raise failure
            size = (1, scene["height"], scene["width"])
            return torch.zeros(*size, 3), torch.zeros(*size, 1), {}

        monkeypatch.setattr("render.rasterize.why_gsplat_is_unusable", lambda: None)
        monkeypatch.setitem(sys.modules, "gsplat", SimpleNamespace(rasterization=rasterization))
        return heights

    return put


def test_compiled_kernels_are_found_where_torch_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gsplat")
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    assert not are_compiled()
    (tmp_path / "gsplat_cuda" / "lock").touch()  # left by a run that was stopped
    assert not are_compiled()
    (tmp_path / "gsplat_cuda" / "gsplat_cuda.so").touch()
    assert are_compiled()


def test_compiling_is_silent(stand_in, capsys: pytest.CaptureFixture[str]) -> None:
    heights = stand_in(None)
    compile_kernels("cpu")
    assert len(heights) == 1 and heights[0] < 100
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (RuntimeError(NVCC_COMPLAINS), r"\(host_config.h\(159\): error: -- unsupported GNU version!"),
        (RuntimeError("Ninja is required to load C++ extensions"), r"\(Ninja is required"),
        (OSError("libcudart.so.13: cannot open"), r"\(libcudart"),
    ],
)
def test_a_compiler_that_fails_is_told_in_one_line(stand_in, failure: Exception, reason: str) -> None:
    stand_in(failure)
    with pytest.raises(BackendUnavailableError, match=f"could not compile.*{reason}.*see that nvcc") as error:
        compile_kernels("cpu")
    assert "\n" not in str(error.value)


def test_a_gpu_whose_memory_is_full_is_not_the_compilers_fault(stand_in) -> None:
    stand_in(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(torch.OutOfMemoryError):
        compile_kernels("cpu")


def test_kernels_that_come_with_the_wheel_need_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_rasterize_gsplat, "find_spec", lambda name: object() if name == "gsplat.csrc" else None)
    monkeypatch.setattr(_rasterize_gsplat, "version", lambda name: "1.5.3+pt211cu128")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(_rasterize_gsplat.shutil, "which", lambda name: None)
    assert are_compiled()
    assert _rasterize_gsplat.why_gsplat_is_unusable.__wrapped__() is None


def test_a_gpu_that_is_missing_keeps_its_own_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("render.rasterize.why_gsplat_is_unusable", lambda: "nvcc is missing; install it")
    with pytest.raises(BackendUnavailableError, match=r"cannot run here: nvcc is missing; install it$"):
        compile_kernels("cpu")
