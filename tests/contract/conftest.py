"""A Redis server for the contract of online stores."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.redis_server import installed, running_redis


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a running server; skips where none is installed."""
    if not installed():
        pytest.skip("redis-server is not installed: apt-get install redis-server")
    with running_redis(tmp_path_factory.mktemp("redis")) as url:
        yield url
