"""A private Ray for benchmarks of serving, with the proxy's settings in force."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import ray

from app.assembly.ray_environment import ray_environment
from app.serving.leftover import stop_leftover
from app.settings import load_settings


@contextmanager
def serving_ray(home: Path, variables: Mapping[str, str | None] | None = None) -> Iterator[None]:
    """Eight processors whatever the machine has; nothing is left running.

    Args:
        variables: beside or instead of ours; `None`: not set at all.
    """
    os.environ["MILLRACE_HOME"] = str(home)
    settings = load_settings(in_job=False)
    for name, value in {**ray_environment(settings), **(variables or {})}.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    ray.init(
        address="local", num_cpus=8, include_dashboard=False, object_store_memory=300_000_000, log_to_driver=False
    )
    try:
        yield
    finally:
        ray.shutdown()
        stop_leftover(settings)
