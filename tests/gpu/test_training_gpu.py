"""Training on a GPU, where there is one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from app.settings import Settings
from app.training.train import train
from tests.cluster.training_rows import NETWORK, answers, project, rows, training_ray

ROOT = Path(__file__).resolve().parents[2]
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA GPU on this machine")


@pytest.fixture(scope="module")
def ray_with_dashboard() -> Iterator[None]:
    with training_ray():
        yield


@needs_gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_gpu_learns_in_every_precision(
    ray_with_dashboard: None, settings: Settings, precision: Any, stage: Any
) -> None:
    model = replace(NETWORK, num_workers=1, precision=precision, zero_stage=stage)
    trained = train(project(), model, rows(), settings, f"gpu-{precision}-{stage}")
    assert ((answers(trained) > 0.5) == rows().frame["label"]).mean() > 0.8


def test_the_benchmark_runs_with_a_tiny_model_on_cpus() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.bench_gpu_transformer", "--tiny", "--quick"], cwd=ROOT, check=True,
        capture_output=True, text=True,
    )
    assert "gpu_transformer ratio=" in done.stdout.splitlines()[-1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_the_benchmark_says_so() -> None:
    command = [sys.executable, "-m", "benchmarks.bench_gpu_transformer"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "needs a CUDA GPU" in done.stderr
