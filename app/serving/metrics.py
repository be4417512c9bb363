"""What a replica counts: rows by version and side, latencies. Gathered in memory, exported a few times each second.

A call of Ray's metrics costs some 10 µs; on a request of a few hundred that would be felt.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

import pyarrow as pa
from ray.util import metrics as ray_metrics

from app.serving.answer import Prediction

LATENCY_BUCKETS_MS = [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 1_000.0, 5_000.0]
MAX_LATENCIES = 100  # kept between two exports; beyond, the histogram sees a part and its count is no count
SIDES = ("version", "assigned", "answered_by")


class Metrics(Protocol):
    """Where a service counts."""

    def answered(self, latency_s: float, predictions: Sequence[Prediction]) -> None: ...

    def answered_table(self, latency_s: float, rows: pa.Table) -> None: ...

    def refused(self, status: int, code: str) -> None: ...

    def flush(self) -> None: ...

    def mean_latency_ms(self) -> float: ...


class RayMetrics:
    """Exported by Ray to Prometheus. For several threads."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._rows = ray_metrics.Counter("millrace_predictions", "Rows answered.", tag_keys=("model", *SIDES))
        self._refused = ray_metrics.Counter(
            "millrace_refused_requests", "Requests answered by an error.", tag_keys=("model", "status", "code")
        )
        self._latency = ray_metrics.Histogram(
            "millrace_predict_latency_ms", "Time of a request in the replica, of some.", LATENCY_BUCKETS_MS,
            tag_keys=("model",),
        )
        self._lock = threading.Lock()
        self._sides: Counter[tuple[str, str, str]] = Counter()
        self._errors: Counter[tuple[int, str]] = Counter()
        self._latencies: list[float] = []
        self._total_s, self._times = 0.0, 0
        self._mean_ms = 0.0

    def answered(self, latency_s: float, predictions: Sequence[Prediction]) -> None:
        """Counts one request."""
        with self._lock:
            for p in predictions:
                self._sides[(p.version, p.variant, p.answered_by)] += 1
            self._note(latency_s)

    def answered_table(self, latency_s: float, rows: pa.Table) -> None:
        """Counts one request whose answer is a table."""
        names = ["version", "variant", "answered_by"]
        counted = rows.group_by(names).aggregate([([], "count_all")]).to_pylist()
        with self._lock:
            for side in counted:
                self._sides[tuple(side[n] for n in names)] += side["count_all"]
            self._note(latency_s)

    def refused(self, status: int, code: str) -> None:
        """Counts a request that was answered by an error."""
        with self._lock:
            self._errors[(status, code)] += 1

    def mean_latency_ms(self) -> float:
        """Of the requests between the last two exports."""
        return self._mean_ms

    def flush(self) -> None:
        """Exports what was gathered."""
        with self._lock:
            sides, self._sides = self._sides, Counter()
            errors, self._errors = self._errors, Counter()
            latencies, self._latencies = self._latencies, []
            total_s, times = self._total_s, self._times
            self._total_s, self._times = 0.0, 0
        self._mean_ms = total_s / times * 1_000 if times else 0.0
        for side, num_rows in sides.items():
            self._rows.inc(num_rows, tags={"model": self._model, **dict(zip(SIDES, side, strict=True))})
        for (status, code), times in errors.items():
            self._refused.inc(times, tags={"model": self._model, "status": str(status), "code": code})
        for latency_s in latencies:
            self._latency.observe(latency_s * 1_000, tags={"model": self._model})

    def _note(self, latency_s: float) -> None:
        self._total_s += latency_s
        self._times += 1
        if len(self._latencies) < MAX_LATENCIES:
            self._latencies.append(latency_s)
