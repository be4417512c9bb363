"""Training reads: pinned snapshots, views without entities, several keys at once, and input that is refused."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from app.errors import (
    FeatureStoreError,
    MillraceError,
    MissingColumnError,
    SchemaMismatchError,
    TimestampError,
    UnknownNameError,
)
from app.features.store import FeatureStore
from app.settings import Settings
from app.spec import FeatureView, Field
from tests.unit.features import shop

NEWEST_PRICE = FeatureView("newest_price", (), shop.PRICES, (Field("price", "int64"), Field("sku", "int64")))
PROJECT = dataclasses.replace(shop.PROJECT, views=(*shop.PROJECT.views, NEWEST_PRICE))


@pytest.fixture
def store(settings: Settings) -> FeatureStore:
    store = FeatureStore(PROJECT, settings)
    store.apply()
    store.push("last_sale", shop.sales_frame(), to="offline")
    store.push("turnover", shop.sales_frame(), to="offline")
    for view in ("price", "newest_price"):
        store.push(view, shop.prices_frame(), to="offline")
    return store


def asked() -> pd.DataFrame:
    cases = shop.cases_frame().rename(columns={"asked_at": "event_timestamp"})
    return cases[["case_id", "shop", "sku", "quantity", "event_timestamp"]]


def test_a_pinned_read_comes_out_the_same_whatever_is_written_or_registered_later(
    settings: Settings, store: FeatureStore
) -> None:
    first = store.get_historical_features(asked(), shop.SERVICE)
    pinned = json.loads(json.dumps(first.manifest))
    late = shop.prices_frame().assign(price=1)
    store.push("price", late, to="offline")
    store.push("turnover", shop.sales_frame(seed=5), to="offline")
    changed = dataclasses.replace(shop.PRICE, ttl=timedelta(days=1))
    views = tuple(changed if v.name == "price" else v for v in PROJECT.views)
    newer = FeatureStore(dataclasses.replace(PROJECT, views=views), settings)
    newer.apply()
    newer.push("price", late, to="offline")
    assert not newer.get_historical_features(asked(), shop.SERVICE).table.equals(first.table)
    again = newer.get_historical_features(asked(), shop.SERVICE, pinned=pinned)
    assert again.table.equals(first.table)
    assert again.manifest["row_hash"] == pinned["row_hash"]
    assert again.manifest["views"] == pinned["views"]


def test_what_is_pinned_must_have_been_read_and_be_there(store: FeatureStore) -> None:
    pinned = store.get_historical_features(asked(), ["price:price"]).manifest
    with pytest.raises(UnknownNameError, match="has not read 'last_sale'; it has read: price"):
        store.get_historical_features(asked(), ["last_sale:sale_id"], pinned=pinned)
    gone = {**pinned, "views": {"price": {**pinned["views"]["price"], "snapshot_id": 7}}}
    with pytest.raises(UnknownNameError, match="no snapshot 7"):
        store.get_historical_features(asked(), ["price:price"], pinned=gone)


def test_a_view_without_entities_gives_every_row_the_newest(store: FeatureStore) -> None:
    found = store.get_historical_features(asked(), ["newest_price:price"]).to_pandas()
    prices = shop.prices_frame().sort_values(["since", "sku"])
    for moment, value in zip(found["event_timestamp"], found["price"], strict=True):
        known = prices[prices["since"] <= moment.tz_localize("UTC")]
        newest = known[known["since"] == known["since"].max()]["price"]
        expected = newest.iloc[-1]  # of equals the greatest row key wins: the same every time
        assert (pd.isna(expected) and pd.isna(value)) or value == expected


def test_views_of_several_keys_come_together_as_they_come_alone(store: FeatureStore) -> None:
    features = ["turnover:amount_count_1d", "price:price", "last_sale:sale_id", "newest_price:sku"]
    together = store.get_historical_features(asked(), features, full_feature_names=True).table
    for feature in features:
        alone = store.get_historical_features(asked(), [feature], full_feature_names=True).table
        assert alone.column_names[-1] in together.column_names
        assert together[alone.column_names[-1]].equals(alone[alone.column_names[-1]])


def test_no_rows_and_no_views(store: FeatureStore) -> None:
    nothing = store.get_historical_features(asked().head(0), shop.SERVICE)
    assert nothing.table.num_rows == 0
    assert nothing.table.schema.field("price").type == pa.int64()
    assert store.get_historical_features(asked(), []).table.num_rows == 120


MOMENTS = [datetime(2013, 1, 5)] * 3


@pytest.mark.parametrize(
    ("change", "features", "error", "message"),
    [
        (lambda f: f, ["prize:price"], UnknownNameError, "no feature view 'prize'; it has: turnover"),
        (lambda f: f, ["price:prize"], UnknownNameError, "has no feature 'prize'; it has: price"),
        (lambda f: f, ["price@v9:price"], UnknownNameError, "has no version 9; it has: 1"),
        (lambda f: f, ["price[shop=x]:price"], UnknownNameError, "no join key 'shop'"),
        (lambda f: f.drop(columns="sku"), ["price:price"], MissingColumnError, "entity_df lacks column 'sku'"),
        (lambda f: f.drop(columns="event_timestamp"), ["price:price"], MissingColumnError, "'event_timestamp'"),
        (lambda f: f.assign(event_timestamp=["soon", "now", "2013-01-05"]), ["price:price"], TimestampError,
         r"entity_df \(3 rows\): 2 value\(s\) of column 'event_timestamp'.*'soon'"),
        (lambda f: f.assign(event_timestamp=[1, 2, 3]), ["price:price"], TimestampError, "'event_timestamp'"),
        (lambda f: f.assign(sku=["a", "b", "c"]), ["price:price"], SchemaMismatchError,
         r"entity_df \(3 rows\), join key of feature view 'price': column 'sku' is declared int64 but is"),
        (lambda f: f.assign(sku=[1.5, 2, 3]), ["price:price"], SchemaMismatchError, "column 'sku'.*1.5"),
        (lambda f: f.assign(sku=[True, False, True]), ["price:price"], SchemaMismatchError, "column 'sku' is bool"),
        (lambda f: f.assign(shop=[1, 2, 3]), ["last_sale:sale_id"], SchemaMismatchError, "column 'shop'"),
        (lambda f: f.assign(shop=[1, "a", 2.0]), ["last_sale:sale_id"], SchemaMismatchError, "3 rows.*shop"),
        (lambda f: f.assign(price=1), ["price:price"], FeatureStoreError, "second column 'price'"),
        (lambda f: f.to_dict(), ["price:price"], FeatureStoreError, "entity_df is dict"),
    ],
)
def test_one_error_names_what_is_wrong(
    store: FeatureStore, change: Any, features: list[str], error: type[MillraceError], message: str
) -> None:
    frame = pd.DataFrame({"sku": [1, 2, 3], "shop": ["a", "b", "c"], "event_timestamp": MOMENTS})
    before = {t: store.lake.current_snapshot_id(t) for t in store.lake.tables("shop")}
    with pytest.raises(error, match=message):
        store.get_historical_features(change(frame), features)
    assert {t: store.lake.current_snapshot_id(t) for t in store.lake.tables("shop")} == before


def test_a_view_never_materialised_says_so(settings: Settings) -> None:
    store = FeatureStore(PROJECT, settings)
    store.apply()
    with pytest.raises(UnknownNameError, match="Has it been ingested or materialised yet"):
        store.get_historical_features(asked(), ["price:price"])




def test_a_correction_counts_from_the_moment_it_was_available(store: FeatureStore) -> None:
    """Whoever else is asked in the same call: earlier moments have the value of then."""
    base = shop.BASE + timedelta(days=20)
    sale = {"sale_id": 9_000, "shop": "late", "sku": 1, "amount": 10.0, "sold_at": base, "known_at": base}
    store.push("turnover", pd.DataFrame([sale]), to="offline")
    store.push("turnover", pd.DataFrame([{**sale, "amount": 4.0, "known_at": base + timedelta(hours=5)}]), to="offline")
    hours = [0, 1, 4, 5, 6, 23]
    rows = pd.DataFrame(
        {"shop": "late", "sku": 1, "event_timestamp": [base + timedelta(hours=h) for h in hours]}
    )
    expected = [10.0, 10.0, 10.0, 4.0, 4.0, 4.0]
    asked_together = store.get_historical_features(rows, ["turnover:amount_sum_1d"]).table
    assert asked_together["amount_sum_1d"].to_pylist() == expected
    for i in range(len(hours)):
        alone = store.get_historical_features(rows.iloc[[i]], ["turnover:amount_sum_1d"]).table
        assert alone["amount_sum_1d"].to_pylist() == [expected[i]]
