"""Ray for a job: the cluster it was submitted to, or a private one that ends with the process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray import serve

from app.serving.haproxy import serve_environment, stop_leftover, wait_until_gone
from app.settings import Settings

LOCAL_NUM_CPUS = 8  # logical: many small workers share few cores on a laptop
LOCAL_OBJECT_STORE_BYTES = 1_000_000_000


@contextmanager
def ray_runtime(settings: Settings) -> Iterator[bool]:
    """Connects to the surrounding cluster, or starts a private one and stops it at the end.

    Yields whether the cluster is private. A private one is taken down whole, also after an error or
    Ctrl-C: Serve first (else its proxy outlives Ray and keeps the port), then Ray.
    """
    # Tune would keep Ctrl-C for itself, also long after a sweep: the loop would not stop.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    if "RAY_ADDRESS" in os.environ:
        ray.init(address="auto", log_to_driver=False)
        yield False
        return
    wait_until_gone(settings)
    os.environ.update(serve_environment())
    os.environ.setdefault("RAY_TRAIN_ENABLE_STATE_TRACKING", "1")
    ray.init(
        num_cpus=LOCAL_NUM_CPUS,
        object_store_memory=LOCAL_OBJECT_STORE_BYTES,
        include_dashboard=True,
        dashboard_host="127.0.0.1",
        log_to_driver=False,
    )
    try:
        yield True
    finally:
        serve.shutdown()  # type: ignore[no-untyped-call]
        ray.shutdown()
        stop_leftover(settings)
