"""Embedded stores serve one host; several hosts are told what to set."""

from __future__ import annotations

import pytest

from app.assembly.hosts import refuse_embedded_stores
from app.errors import SettingsError
from app.settings import load_settings

SERVERS = {
    "MILLRACE_STATE_URL": "postgresql+psycopg2://db/state",
    "MILLRACE_CATALOG_URL": "postgresql+psycopg2://db/catalog",
    "MILLRACE_MLFLOW_URL": "http://mlflow:5000",
    "MILLRACE_ONLINE_URL": "redis://redis:6379/0",
    "MILLRACE_WAREHOUSE": "s3://lake/millrace",
}


def test_several_nodes_of_one_host_may_use_files() -> None:
    refuse_embedded_stores(load_settings({}, in_job=False), ["a", "a"])


def test_several_hosts_may_use_servers() -> None:
    refuse_embedded_stores(load_settings(SERVERS, in_job=False), ["a", "b"])


@pytest.mark.parametrize("left_out", SERVERS)
def test_several_hosts_with_one_file_among_the_stores_are_refused(left_out: str) -> None:
    settings = load_settings({k: v for k, v in SERVERS.items() if k != left_out}, in_job=False)
    with pytest.raises(SettingsError, match=left_out) as refused:
        refuse_embedded_stores(settings, ["a", "b", "b"])
    assert all(other not in refused.value.message for other in SERVERS if other != left_out)
