"""Servers for the contracts of stores: one of each for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract import object_store, postgres_server, redis_server


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


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object_store.ObjectStore]:
    """A running server with empty buckets, the keys to it in the environment; skips where none is installed."""
    if not object_store.installed():
        pytest.skip("moto's S3 server is not installed: make object-store")
    for name, value in object_store.KEYS.items():
        monkeypatch.setenv(name, value)
    with object_store.running_object_store(tmp_path) as server:
        yield server
