"""How the actor that collects a model's profiles is found, by those who feed it and those who read it."""

from __future__ import annotations

# Jobs have namespaces of their own: without a fixed one, replicas deployed by one job would not find the collector
# that another job started.
COLLECTOR_NAMESPACE = "millrace"


def collector_name(model: str) -> str:
    """Name of the model's actor within `COLLECTOR_NAMESPACE`."""
    return f"millrace-profiler-{model}"
