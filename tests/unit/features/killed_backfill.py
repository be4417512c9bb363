"""A backfill in a process of its own that kills itself at a chosen point: with SIGKILL, so nothing is cleaned up."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Callable
from datetime import datetime
from typing import Any

from pyiceberg.catalog.sql import SqlCatalog

from app.features.backfill import Backfill
from app.features.store import FeatureStore
from app.foundation.lake import Lake
from app.settings import load_settings
from app.spec import Expectation, Project
from tests.unit.features import shop

SALES_VIEWS = ("turnover", "last_sale")
STRICT = dataclasses.replace(shop.LAST_SALE, expectations=(Expectation("sale_id", maximum=589),))
PROJECT: Project = dataclasses.replace(shop.PROJECT, views=(shop.TURNOVER, shop.PRICE, STRICT))
Call = Callable[..., Any]


class Killer:
    """Counts the points before and after each effect of a backfill, and dies at number `at`."""

    def __init__(self, at: int) -> None:
        self._left = at

    def around(self, function: Call) -> Call:
        def watched(*args: Any, **kwargs: Any) -> Any:
            self._point()
            result = function(*args, **kwargs)
            self._point()
            return result

        return watched

    def _point(self) -> None:
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1


def run_killed(home: str, at: int, start: datetime, end: datetime) -> None:
    """Backfills the views of sales and dies at point `at`; beyond the last point it lives and exits with 0."""
    killer = Killer(at)
    store = FeatureStore(PROJECT, load_settings({"MILLRACE_HOME": home}, in_job=False))
    for owner, name in (
        (Lake, "stage"), (Lake, "commit_staged"), (SqlCatalog, "commit_table"), (Backfill, "_remember"),
    ):
        setattr(owner, name, killer.around(getattr(owner, name)))
    store.materialize(start, end, SALES_VIEWS)


def run_whole(home: str, start: datetime, end: datetime, barrier: Any) -> None:
    """Backfills the views of sales when every other process is ready to."""
    store = FeatureStore(PROJECT, load_settings({"MILLRACE_HOME": home}, in_job=False))
    barrier.wait()
    store.materialize(start, end, SALES_VIEWS)
