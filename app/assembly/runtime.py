"""Ray for a job: the cluster it was submitted to, or a private one that ends with the process."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import ray
import ray.data
from ray import serve
from ray._private import ray_logging

from app.assembly.hosts import live_hosts, refuse_embedded_stores
from app.assembly.ray_environment import ray_environment
from app.serving.leftover import stop_leftover, wait_until_gone
from app.settings import Settings

LOCAL_NUM_CPUS = 8  # logical: many small workers share few cores on a laptop
LOCAL_OBJECT_STORE_BYTES = 1_000_000_000
# What Ray prints on a healthy run: many small workers are meant, and a Serve that was asked to stop is gone.
EXPECTED_MESSAGES = re.compile(
    "PYTHON worker processes have been started on node|Task ServeController.graceful_shutdown failed"
)


@contextmanager
def ray_runtime(settings: Settings) -> Iterator[bool]:
    """Connects to the surrounding cluster, or starts a private one and stops it at the end.

    Yields whether the cluster is private. A private one is taken down whole, also after an error or
    Ctrl-C: Serve first (else its proxy outlives Ray and keeps the port), then Ray.

    Raises:
        SettingsError: the surrounding cluster has several hosts and a store is a file of one.
    """
    # Tune would keep Ctrl-C for itself, also long after a sweep: the loop would not stop.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # Tune's newer output prints tables even when it is told to be silent
    ray_logging.stdout_deduplicator.skip_re = EXPECTED_MESSAGES  # read from the environment when ray is imported only
    if "RAY_ADDRESS" in os.environ:
        ray.init(address="auto", log_to_driver=False)
        refuse_embedded_stores(settings, live_hosts())
        _keep_operator_names()
        yield False
        return
    wait_until_gone(settings)
    os.environ.update(ray_environment(settings))
    ray.init(
        address="local",  # never another Ray that happens to run on this machine
        num_cpus=LOCAL_NUM_CPUS,
        object_store_memory=LOCAL_OBJECT_STORE_BYTES,
        include_dashboard=True,
        dashboard_host="127.0.0.1",
        log_to_driver=False,
    )
    _keep_operator_names()
    try:
        yield True
    finally:
        serve.shutdown()  # type: ignore[no-untyped-call]
        ray.shutdown()
        stop_leftover(settings)


def _keep_operator_names() -> None:
    """Ray Data warns of each operator's name that it shortens for its progress bars."""
    ray.data.DataContext.get_current().enable_progress_bar_name_truncation = False
