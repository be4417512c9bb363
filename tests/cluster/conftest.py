"""One real Ray head for all cluster tests, oversubscribed so that small workers fit on two cores."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import ray

from app.serving.haproxy import serve_environment


@pytest.fixture(scope="session")
def ray_head() -> Iterator[None]:
    """Ray with Serve's proxy settings in force, stopped at the end."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in serve_environment().items():
            patch.setenv(name, value)
        ray.init(
            address="local", num_cpus=8, include_dashboard=False, object_store_memory=300_000_000, log_to_driver=False
        )
        yield
        ray.shutdown()
