"""What was served at a moment is what a training set gets for it: flights replayed through pushes and online reads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest

from app.features.backfill import BEGINNING
from app.features.store import FeatureStore
from app.pipeline.feed import HistoryFeed, Tick
from app.project import PROJECT
from app.settings import Settings

pytestmark = pytest.mark.usefixtures("ray_head")
SERVICE = PROJECT.service


def replayed(store: FeatureStore, tick: Tick) -> list[dict[str, Any]]:
    """Pushes what became known, then asks."""
    for source, rows in tick.pushes.items():
        assert store.push_source(source, rows).refused == ()
    return store.get_online_features(SERVICE, tick.cases, at=tick.at) if tick.cases else []


def differences(served: pd.DataFrame, trained: pd.DataFrame) -> dict[str, int]:
    """By feature, how many values differ in any bit; a null equals a null."""
    found = {}
    for name in trained.columns.drop("event_timestamp"):
        online, offline = served[name].astype(object), trained[name].astype(object)
        same = (online == offline).fillna(False) | (online.isna() & offline.isna())
        if not same.all():
            found[str(name)] = int((~same).sum())
    return found


@pytest.mark.parametrize(
    ("start", "end", "at_least"),
    [
        pytest.param(datetime(2013, 1, 8, 5, tzinfo=UTC), timedelta(days=3), 2_400, id="three days"),
        pytest.param(
            datetime(2013, 1, 1, 5, tzinfo=UTC), timedelta(days=31), 26_000, id="January", marks=pytest.mark.full
        ),
    ],
)
def test_every_served_value_equals_the_trained_one(
    settings: Settings, start: datetime, end: timedelta, at_least: int
) -> None:
    store = FeatureStore(PROJECT, settings)
    store.ingest()
    store.apply()
    store.materialize(BEGINNING, start + end)
    store.load_online(start)
    served, spine = [], []
    for tick in HistoryFeed(PROJECT, store.lake, start, start + end).ticks(start, start + end):
        served += replayed(store, tick)
        spine += [{**case, "event_timestamp": tick.at} for case in tick.cases]
    trained = store.get_historical_features(pd.DataFrame(spine), SERVICE).to_pandas()
    assert len(served) == len(trained) >= at_least
    assert differences(pd.DataFrame(served), trained) == {}
    names = [name for _, name in PROJECT.expand(SERVICE)]
    filled = trained[names].notna().mean()
    assert (filled > 0.2).all(), f"hardly ever filled, so hardly compared: {filled[filled <= 0.2].to_dict()}"
