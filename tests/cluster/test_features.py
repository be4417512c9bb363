"""Ingest, backfill and join through Ray, with the errors a user meets."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
import ray
import ray.data

from app.errors import MissingColumnError, SchemaMismatchError, TimestampError
from app.features import join_spine, spine, storage_partitions
from app.features.backfill import BEGINNING
from app.features.ingest import ingest, read_source
from app.features.store import FeatureStore
from app.features.training_set import training_set
from app.foundation.lake import Lake
from app.settings import Settings
from app.spec import CsvFiles, DatasetFunction, Field, ParquetFiles, Source
from tests.unit.features import shop

pytestmark = pytest.mark.usefixtures("ray_head")
END = shop.BASE + timedelta(days=30)


def test_raw_rows_to_training_set(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FeatureStore(shop.PROJECT, settings)
    first = {r.source: r for r in store.ingest()}
    assert (first["sales"].rows, first["sales"].quarantined) == (598, 2)
    again = {r.source: r for r in store.ingest()}
    assert all(r.already_there and r.snapshot_id == first[name].snapshot_id for name, r in again.items())
    assert read_source(store.lake, "shop", shop.SALES).height == 598

    store.apply()
    middle = shop.BASE + timedelta(days=6)
    written = store.materialize(BEGINNING, middle)
    assert [r.rows for r in store.materialize(BEGINNING, middle)] == [0, 0, 0]
    later = store.materialize_incremental(END)
    total = {a.view: a.rows + b.rows for a, b in zip(written, later, strict=True)}
    assert total == {"turnover": (shop.sales_frame()["sku"] != 4).sum() - _refused_and_not_4(), "price": 48,
                     "last_sale": 598}
    assert [r.rows for r in store.materialize_incremental(END)] == [0, 0, 0]

    found = training_set(shop.PROJECT, store, store.lake, shop.BASE, END)
    assert len(found.frame) == 120
    assert list(found.frame.columns) == [
        "case_id", "asked_at", *found.feature_names, "label", "label_available_timestamp",
    ]
    assert found.feature_names[0] == "quantity"
    assert found.categorical == ()
    cut = training_set(shop.PROJECT, store, store.lake, shop.BASE, END, available_by=shop.BASE + timedelta(days=7))
    assert 0 < len(cut.frame) < 120
    assert cut.frame["label_available_timestamp"].max() <= pd.Timestamp(shop.BASE + timedelta(days=7))
    monkeypatch.setattr(join_spine, "ONE_TASK_ROWS", 0)
    monkeypatch.setattr(join_spine, "CHUNK_ROWS", 50)
    in_tasks = training_set(shop.PROJECT, store, store.lake, shop.BASE, END)
    assert in_tasks.manifest["row_hash"] == found.manifest["row_hash"]


def _refused_and_not_4() -> int:
    refused = shop.sales_frame().iloc[[3, 50]]
    return int((refused["sku"] != 4).sum())


def test_rows_ingested_late_are_backfilled(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "sales.parquet"
    sales = dataclasses.replace(shop.SALES, reader=ParquetFiles(str(path)))
    views = tuple(
        dataclasses.replace(v, source=sales) if v.source.name == "sales" else v for v in shop.PROJECT.views
    )
    project = dataclasses.replace(shop.PROJECT, sources=(sales, shop.PRICES, shop.CASES), views=views)
    store = FeatureStore(project, settings)
    store.apply()
    shop.sales_frame().drop(index=range(100, 120)).to_parquet(path)
    ingest(sales, "shop", store.lake, "one")
    store.materialize_incremental(END, ["last_sale"])
    shop.sales_frame().to_parquet(path)
    ingest(sales, "shop", store.lake, "two")
    store.materialize_incremental(END, ["last_sale"])
    rows = store.lake.read("shop.fv_last_sale_v1").to_pandas()
    assert rows["sale_id"].nunique() == 598
    assert read_source(store.lake, "shop", sales).height == 598


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda f: f.drop(columns="sku"), MissingColumnError, "source 'sales' lacks column 'sku'"),
        (lambda f: f.assign(sold_at="soon"), TimestampError, r"600 value\(s\) of column 'sold_at'.*soon"),
        (lambda f: f.assign(sku="x"), SchemaMismatchError, "column 'sku' is declared int64"),
    ],
)
def test_wrong_data_is_named_and_nothing_is_written(settings: Settings, tmp_path: Path, change, error, message) -> None:
    path = tmp_path / "sales.parquet"
    change(shop.sales_frame()).to_parquet(path)
    lake = Lake.open(settings)
    with pytest.raises(error, match=message):
        ingest(dataclasses.replace(shop.SALES, reader=ParquetFiles(str(path))), "shop", lake, "run")
    assert not lake.exists("shop.raw_sales")
    assert not lake.exists("shop.quarantine")


def test_csv_files_are_read_as_declared(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("code,at,x\n007,2013-01-01T05:00:00,1\n")
    (tmp_path / "b.csv").write_text("code,at,x\n,2013-01-01T00:00:00-05:00,\n")
    source = Source(
        "codes", CsvFiles(str(tmp_path / "*.csv")),
        (Field("code", "string"), Field("at", "timestamp"), Field("x", "float64")), ("code",), "at",
    )
    lake = Lake.open(settings)
    ingest(source, "shop", lake, "run")
    rows = read_source(lake, "shop", source).sort("code").to_dicts()
    assert [(r["code"], r["x"]) for r in rows] == [(None, None), ("007", 1.0)]
    assert rows[0]["at"] == rows[1]["at"]


def broken_reader():
    import ray.data

    def fail(row):
        raise ZeroDivisionError("on purpose")

    return ray.data.from_items([{"a": 1}]).map(fail)


def test_a_failing_reader_is_not_swallowed(settings: Settings) -> None:
    source = dataclasses.replace(shop.SALES, reader=DatasetFunction(broken_reader))
    with pytest.raises(ZeroDivisionError, match="on purpose"):
        ingest(source, "shop", Lake.open(settings), "run")
    assert not Lake.open(settings).exists("shop.raw_sales")


@pytest.mark.parametrize("num_blocks", [1, 7])
def test_a_dataset_is_joined_where_it_is(settings: Settings, monkeypatch: pytest.MonkeyPatch, num_blocks: int) -> None:
    store = FeatureStore(shop.PROJECT, settings)
    store.apply()
    for view in ("turnover", "last_sale"):
        store.push(view, shop.sales_frame(), to="offline")
    store.push("price", shop.prices_frame(), to="offline")
    asked = shop.cases_frame().rename(columns={"asked_at": "event_timestamp"})
    expected = store.get_historical_features(asked, shop.SERVICE)
    monkeypatch.setattr(spine, "GATHERED_ROWS", 0)
    monkeypatch.setattr(join_spine, "CHUNK_ROWS", 40)
    monkeypatch.setattr(storage_partitions, "TASK_ROWS", 150)
    blocks = ray.data.from_pandas(asked).repartition(num_blocks)
    found = store.get_historical_features(blocks, shop.SERVICE)
    assert all(isinstance(block, ray.ObjectRef) for block in found.blocks)
    assert found.to_pandas().equals(expected.to_pandas())
    assert found.to_dataset().count() == len(asked)
    assert found.manifest["rows"] == len(asked)
    with pytest.raises(SchemaMismatchError, match="column 'sku'"):
        store.get_historical_features(ray.data.from_pandas(asked.assign(sku="one")), shop.SERVICE)
