"""Embedded stores are files of one host: a cluster of several needs servers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import ray

from app.errors import SettingsError
from app.settings import Settings


def embedded_stores(settings: Settings) -> dict[str, str]:
    """Variables whose store is a file of this host, with what to set instead."""
    servers = {
        "MILLRACE_STATE_URL": (settings.state_url, "postgresql+psycopg2://…"),
        "MILLRACE_CATALOG_URL": (settings.catalog_url, "postgresql+psycopg2://…"),
        "MILLRACE_MLFLOW_URL": (settings.mlflow_url, "the URL of an MLflow server"),
        "MILLRACE_ONLINE_URL": (settings.online_url, "redis://…"),
    }
    found = {name: instead for name, (url, instead) in servers.items() if url.startswith("sqlite")}
    if "://" not in settings.warehouse:
        found["MILLRACE_WAREHOUSE"] = "an object store such as s3://…"
    return found


def refuse_embedded_stores(settings: Settings, hosts: Iterable[str]) -> None:
    """Lets one host pass with any stores and several with servers only.

    Raises:
        SettingsError: several hosts would each write files of their own, or share files that lock on one host only.
    """
    names = sorted(set(hosts))
    embedded = embedded_stores(settings)
    if len(names) < 2 or not embedded:
        return
    advice = "; ".join(f"{variable} to {instead}" for variable, instead in embedded.items())
    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    raise SettingsError(
        f"this cluster has {len(names)} hosts ({shown}), but some stores are files of one host. Set {advice}.",
        hosts=len(names),
        variables=sorted(embedded),
    )


def live_hosts() -> list[str]:
    """Host names of the live nodes; several nodes may share one host."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node["NodeManagerHostname"] for node in nodes if node["Alive"]]
