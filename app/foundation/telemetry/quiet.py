"""Libraries that talk more than a user wants to read."""

from __future__ import annotations

import logging


def quiet_libraries() -> None:
    """Keeps chatty libraries below warnings, so that progress stays readable."""
    ray_parts = ("ray", "ray._private", "ray.serve", "ray.data", "ray.dashboard")
    for name in (*ray_parts, "mlflow", "alembic", "pyiceberg", "httpx", "DeepSpeed"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Ray warns that it guards a cluster with a token and leaves .git and .venv out of a job: both are meant.
    for name in ("ray._private.authentication", "ray._private.runtime_env.working_dir"):
        logging.getLogger(name).setLevel(logging.ERROR)
