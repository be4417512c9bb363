"""Servers for the contracts of stores: one of each for all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract import postgres_server, redis_server


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a running server; skips where none is installed."""
    if not redis_server.installed():
        pytest.skip("redis-server is not installed: apt-get install redis-server")
    with redis_server.running_redis(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(scope="session")
def postgres() -> Iterator[postgres_server.PostgresServer]:
    """A running server; skips where none is installed."""
    if not postgres_server.installed():
        pytest.skip("PostgreSQL's initdb, pg_ctl and createdb are not on the PATH: apt-get install postgresql")
    with postgres_server.running_postgres() as server:
        yield server
