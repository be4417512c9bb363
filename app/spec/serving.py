"""What a user declares about answering requests."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from app.errors import ProjectError


@dataclass(frozen=True)
class Autoscaling:
    """How many replicas there are.

    As many as keep `target_ongoing_requests` in each. With `max_latency_ms`, one more also while the slowest replica's
    mean latency over the last seconds is above it. `min_replicas` 0 lets an idle deployment end.
    """

    min_replicas: int = 1
    max_replicas: int = 4
    target_ongoing_requests: float = 8.0
    max_latency_ms: float | None = None
    upscale_delay_s: float = 10.0
    downscale_delay_s: float = 120.0

    def __post_init__(self) -> None:
        if not 0 <= self.min_replicas <= self.max_replicas or self.max_replicas < 1:
            raise ProjectError(
                f"autoscaling from {self.min_replicas} to {self.max_replicas} replicas makes no sense; expected "
                "0 <= min_replicas <= max_replicas and at least 1 at most."
            )


@dataclass(frozen=True)
class Batching:
    """Requests that wait for a busy model are scored together.

    Worth it for models of a millisecond or more; a network of 0.1 ms gains nothing. At most `max_rows` rows at once;
    a request waits at most `max_wait_s` for company, and only while requests come so fast that company is likely.
    """

    max_rows: int = 256
    max_wait_s: float = 0.0


@dataclass(frozen=True)
class ServingPolicy:
    """How the project's model is served.

    `num_replicas`: without `autoscaling`. `route_prefix`: where the application is mounted, so that several models
    share a port. `request_timeout_s`: then 504. `max_in_flight`: requests a replica answers at once; beyond, 429.
    `cache_entries`: scores kept in each replica, by version and features; 0 keeps none. `log_features_share`: share of
    requests whose features are written to the prediction log; what was answered is always written. `log_kept`: how
    long predictions, labels and mirrored answers are kept after they were logged, `None` for good; `millrace
    predictions maintain` deletes what is older. `candidate_idle_s`: a candidate that nobody asks for so long gives its
    replica back.
    """

    num_replicas: int = 2
    autoscaling: Autoscaling | None = None
    route_prefix: str = "/"
    request_timeout_s: float = 10.0
    max_in_flight: int = 256
    cache_entries: int = 0
    batching: Batching | None = None
    log_features_share: float = 1.0
    log_kept: timedelta | None = None
    candidate_idle_s: float | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.log_features_share <= 1.0:
            raise ProjectError(f"log_features_share is {self.log_features_share}; expected a share from 0 to 1.")
        if self.log_kept is not None and self.log_kept <= timedelta(0):
            raise ProjectError(f"log_kept is {self.log_kept}; expected a time above 0, or None for good.")
        if not self.route_prefix.startswith("/"):
            raise ProjectError(f"route_prefix is {self.route_prefix!r}; expected a path such as '/' or '/prices'.")
        if self.request_timeout_s <= 0 or self.max_in_flight < 1 or self.num_replicas < 1 or self.cache_entries < 0:
            raise ProjectError(
                "request_timeout_s must be above 0, max_in_flight and num_replicas at least 1, cache_entries from 0 on."
            )

    @property
    def least_replicas(self) -> int:
        """Champion replicas there are at all times."""
        return self.num_replicas if self.autoscaling is None else max(1, self.autoscaling.min_replicas)
