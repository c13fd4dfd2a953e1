"""The benchmark measures what it says; how fast that is, no test asks."""

from __future__ import annotations

import pytest
import torch

from render.benchmark import BenchmarkConfig, head_like_scene, run_benchmark
from render.rasterize import rasterize


def test_the_scene_is_like_a_head_at_any_size() -> None:
    for size in (64, 256):
        gaussians, camera = head_like_scene(20_000, size)
        with torch.no_grad():
            covered = rasterize(gaussians, camera).alpha > 0.1
        assert 0.5 < covered.float().mean() < 0.7


def test_one_row_per_combination_and_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    config = BenchmarkConfig(gaussians=(50, 80), sizes=(32,), threads=(1, 2), repeats=3)
    rows = list(run_benchmark(config))
    combinations = [(row.gaussians, row.size, row.threads) for row in rows]
    assert combinations == [(50, 32, 1), (50, 32, 2), (80, 32, 1), (80, 32, 2)]
    assert torch.get_num_threads() == before
    assert all(row.forward_ms > 0 and row.forward_backward_ms > 0 for row in rows)


def test_speedups_are_ratios_of_times_in_the_same_run(monkeypatch: pytest.MonkeyPatch) -> None:
    import render.benchmark as module

    clock = iter(range(1000))
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(clock) ** 2 / 1000)
    (row,) = run_benchmark(BenchmarkConfig(gaussians=(20,), sizes=(16,), threads=(1,), repeats=1, reference_repeats=1))
    # Between calls 2k and 2k + 1 the clock moves by 4k + 1 ms; each measurement warms up once, the reference does not.
    assert row.forward_ms == pytest.approx(5)
    assert row.forward_backward_ms == pytest.approx(13)
    assert row.forward_speedup == pytest.approx(17 / 5)
    assert row.forward_backward_speedup == pytest.approx(21 / 13)
