"""How many requests a replica takes: a token bucket for each token, and a bound on those in flight."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.errors import OverloadedError, RateLimitedError
from app.foundation.access import Grant

BURST_S = 2.0  # a bucket holds what two seconds bring
BUSY_RETRY_S = 1.0
MAX_BUCKETS = 10_000


class TokenBucket:
    """Fills by `rate_per_s` up to `capacity`; each request takes one. Starts full."""

    __slots__ = ("_at", "_level", "capacity", "rate_per_s")

    def __init__(self, rate_per_s: float, now_s: float) -> None:
        self.rate_per_s = rate_per_s
        self.capacity = max(1.0, rate_per_s * BURST_S)
        self._level = self.capacity
        self._at = now_s

    def take(self, now_s: float) -> float:
        """Takes one at `now_s`: 0 if there was one, else seconds until there is; then nothing is taken."""
        self._level = min(self.capacity, self._level + max(0.0, now_s - self._at) * self.rate_per_s)
        self._at = now_s
        if self._level >= 1.0:
            self._level -= 1.0
            return 0.0
        return (1.0 - self._level) / self.rate_per_s


class RateLimits:
    """The buckets of a replica, one for each token that has a rate."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._buckets: dict[str, TokenBucket] = {}

    def take(self, grant: Grant) -> None:
        """Raises: RateLimitedError: the token has used up what it may; says when to come back."""
        if grant.rate_per_s is None:
            return
        bucket = self._buckets.get(grant.token_id)
        if bucket is None or bucket.rate_per_s != grant.rate_per_s:
            if len(self._buckets) >= MAX_BUCKETS:
                self._buckets.clear()
            bucket = self._buckets[grant.token_id] = TokenBucket(grant.rate_per_s, self._now_s())
        wait_s = bucket.take(self._now_s())
        if wait_s:
            raise RateLimitedError(
                f"token {grant.token_id} may ask {grant.rate_per_s:g} times a second. Come back in {wait_s:.2f} s.",
                retry_after_s=wait_s, limit_per_s=grant.rate_per_s,
            )


class InFlight:
    """Requests being answered, at most `limit`. Belongs to one event loop."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.now = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Counts a request while it lasts.

        Raises:
            OverloadedError: the replica is busy with as many as it takes.
        """
        if self.now >= self.limit:
            raise OverloadedError(
                f"this replica is answering {self.now} requests, as many as it takes. Send it again in a moment.",
                retry_after_s=BUSY_RETRY_S, limit=self.limit,
            )
        self.now += 1
        try:
            yield
        finally:
            self.now -= 1
