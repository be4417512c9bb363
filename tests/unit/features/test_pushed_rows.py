"""A pushed row is one of its source's rows: there once, and there for views that are declared later."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from app.features import ingest as module
from app.features.arrow_types import conform
from app.features.backfill import BEGINNING
from app.features.ingest import ingest, read_source
from app.features.store import FeatureStore
from app.settings import Settings
from app.spec import SqlQuery
from tests.unit.features import shop
from tests.unit.features.raw_rows import put_raw

END = shop.BASE + timedelta(days=30)
SALE: dict[str, Any] = {
    "sale_id": 9_000, "shop": "a", "sku": 1, "amount": 5.0, "sold_at": shop.BASE, "known_at": shop.BASE
}
RAW, VIEW = "shop.raw_sales", "shop.fv_last_sale_v"


@pytest.fixture
def store(settings: Settings) -> FeatureStore:
    store = FeatureStore(shop.PROJECT, settings)
    store.apply()
    return store


def ids(store: FeatureStore, table: str) -> list[int]:
    return sorted(store.lake.read(table, ["sale_id"])["sale_id"].to_pylist())


def test_a_pushed_row_is_in_a_later_version_of_its_view(store: FeatureStore, settings: Settings) -> None:
    put_raw(store.lake, shop.SALES, shop.sales_frame().head(20))
    store.materialize(BEGINNING, END, ["last_sale"])
    store.push("last_sale", [SALE])
    views = (replace(shop.LAST_SALE, ttl=timedelta(days=3)), shop.TURNOVER, shop.PRICE)
    later = FeatureStore(replace(shop.PROJECT, views=views), settings)
    later.apply()
    later.materialize(BEGINNING, END, ["last_sale"])
    assert ids(later, f"{VIEW}2") == ids(later, f"{VIEW}1") == ids(later, RAW)
    assert 9_000 in ids(later, RAW)
    asked = pd.DataFrame({"shop": ["a"], "event_timestamp": [shop.BASE]})
    assert later.get_historical_features(asked, ["last_sale@v2:sale_id"]).table["sale_id"].to_pylist() == [9_000]


def test_a_backfill_does_not_repeat_what_a_push_brought(store: FeatureStore) -> None:
    put_raw(store.lake, shop.SALES, shop.sales_frame().head(20))
    store.push("last_sale", [SALE])
    store.materialize(BEGINNING, END, ["last_sale", "turnover"])
    store.push("last_sale", [{**SALE, "sale_id": 9_001}])
    store.materialize(BEGINNING, END, ["last_sale", "turnover"])
    assert ids(store, f"{VIEW}1") == ids(store, RAW)
    keys = store.lake.read("shop.fv_turnover_v1", ["row_key"])["row_key"].to_pylist()
    assert sum(key in ("4:9000", "4:9001") for key in keys) == 2 and len(keys) == len(set(keys))


def test_a_push_to_the_online_store_alone_is_there_alone(store: FeatureStore) -> None:
    store.push("last_sale", [SALE], to="online")
    assert not store.lake.exists(RAW)


def test_a_pushed_row_that_a_cursor_brings_later_is_there_once(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "sales.db"
    query = SqlQuery(f"sqlite:///{path}", "SELECT * FROM sales", cursor="n")
    source = replace(shop.SALES, reader=query, fields=(*shop.SALES.fields, shop.Field("n", "int64")))
    project = replace(shop.PROJECT, views=(
        replace(shop.LAST_SALE, source=source), replace(shop.TURNOVER, source=source), shop.PRICE
    ), sources=(source, shop.PRICES, shop.CASES))
    store = FeatureStore(project, settings)
    store.apply()
    store.push("last_sale", [{**SALE, "n": 1}])
    with sqlite3.connect(path) as database:
        frame = pd.DataFrame([{**SALE, "n": 1}]).map(lambda v: v.isoformat() if isinstance(v, datetime) else v)
        frame.to_sql("sales", database, index=False)
    assert ingest(source, "shop", store.lake, "run").new_rows == 0
    assert ids(store, RAW) == [9_000]


def test_a_whole_read_does_not_take_back_a_pushed_correction(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ingested(*rows: dict[str, Any]) -> int:
        table = conform(pa.Table.from_pandas(pd.DataFrame(rows), preserve_index=False), shop.SALES.fields, "test")
        monkeypatch.setattr(module, "source_dataset", lambda *_: table)
        monkeypatch.setattr(module, "settle", lambda dataset, _: dataset)
        return ingest(shop.SALES, "shop", store.lake, "run").new_rows

    def amount() -> float:
        rows = read_source(store.lake, "shop", shop.SALES).filter(sale_id=9_000)
        return float(rows["amount"][0])

    other = {**SALE, "sale_id": 1}
    assert ingested(SALE) == 1
    store.push("last_sale", [{**SALE, "amount": 6.0}])
    assert ingested(SALE, other) == 1
    assert amount() == 6.0
    assert ingested({**SALE, "amount": 7.0}, other) == 1
    assert ingested(SALE, other) == 1
    assert amount() == 5.0
    assert len(store.lake.read(RAW)) == 5
