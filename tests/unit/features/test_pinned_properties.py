"""Training sets that were made before stay what they were, whatever arrives later."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from app.features.backfill import BEGINNING
from app.features.store import FeatureStore
from app.foundation.lake import CompactionPolicy
from app.settings import Settings
from app.spec import Aggregation, FeatureView, Field
from tests.unit.features import shop
from tests.unit.features.raw_rows import put_raw

ALL_SALES = FeatureView(
    "all_sales", (), shop.SALES, (Field("amount", "float64"),),
    aggregations=(
        Aggregation("amount", "sum", shop.DAY, shop.HOUR), Aggregation("amount", "count", shop.DAY, shop.HOUR),
    ),
)
PROJECT = dataclasses.replace(shop.PROJECT, views=(*shop.PROJECT.views, ALL_SALES))
UNTIL = shop.BASE + timedelta(days=40)
FEATURES = [
    "turnover:*", "last_sale:*", "price:price", "gift=price[sku=gift]:price", "all_sales:*",
]


def late_sales(random: np.random.Generator, round_number: int) -> pd.DataFrame:
    """New sales, and corrections of old ones: of amount, time, shop and article (which may drop them)."""
    old = shop.sales_frame().iloc[random.choice(600, 40, replace=False)]
    new = shop.sales_frame(seed=round_number + 1, rows=60)
    new["sale_id"] += 10_000 * (round_number + 1)
    late = pd.concat([old, new], ignore_index=True)
    late["shop"] = random.choice(["a", "b", "a:b"], len(late))
    late["sku"] = random.integers(1, 5, len(late))
    late["amount"] = random.normal(10, 3, len(late)).round(2).clip(0)
    late["known_at"] += pd.to_timedelta(random.integers(0, 50, len(late)), unit="h")
    return late


def spine(random: np.random.Generator) -> pd.DataFrame:
    rows = 60
    return pd.DataFrame(
        {
            "shop": random.choice(["a", "b", "a:b", "closed", None], rows), "sku": random.integers(1, 6, rows),
            "gift": random.integers(1, 6, rows),
            "event_timestamp": shop.BASE + pd.to_timedelta(random.integers(0, 14 * 24, rows), unit="h"),
        }
    )


def compacted(store: FeatureStore) -> int:
    """Puts all small files together, of raw tables too; gives how many there were."""
    policy = CompactionPolicy(at_least=2)
    return sum(store.lake.compact(table, policy).rewritten for table in store.lake.tables(PROJECT.name))


@pytest.mark.parametrize("seed", [0, 1])
def test_what_was_pinned_or_is_asked_as_of_then_never_changes(settings: Settings, seed: int) -> None:
    random = np.random.default_rng(seed)
    store = FeatureStore(PROJECT, settings)
    store.apply()
    put_raw(store.lake, shop.SALES, shop.sales_frame())
    put_raw(store.lake, shop.PRICES, shop.prices_frame())
    store.materialize(BEGINNING, UNTIL)
    asked = spine(random)
    made: list[tuple[datetime, Any]] = []
    for round_number in range(3):
        made.append((datetime.now(UTC), store.get_historical_features(asked, FEATURES, full_feature_names=True)))
        put_raw(store.lake, shop.SALES, late_sales(random, round_number))
        put_raw(store.lake, shop.PRICES, shop.prices_frame().assign(price=round_number))
        if round_number == 1:
            store.push_source("sales", late_sales(random, 7), to="offline")
        store.materialize(BEGINNING, UNTIL)
        before = store.get_historical_features(asked, FEATURES, full_feature_names=True).table
        assert compacted(store) > 0
        newest = store.get_historical_features(asked, FEATURES, full_feature_names=True).table
        for then, first in made:
            pinned = store.get_historical_features(asked, FEATURES, full_feature_names=True, pinned=first.manifest)
            assert pinned.table.equals(first.table)
            as_of = store.get_historical_features(asked, FEATURES, full_feature_names=True, as_of=then).table
            assert as_of.equals(first.table)
            assert not newest.equals(first.table)
        assert newest.equals(before), "a compaction changes no value"
        assert not any(r.rows or r.quarantined for r in store.materialize(BEGINNING, UNTIL)), "nor what is missing"
