"""Long backfills: chunks of bounded size, each one commit, computed and written by Ray's workers."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pandas as pd
import pytest

from app.errors import FeatureStoreError
from app.features import backfill
from app.features.backfill import BEGINNING, Backfill
from app.features.store import FeatureStore
from app.settings import Settings, load_settings
from app.spec import Expectation
from tests.unit.features import shop
from tests.unit.features.raw_rows import put_raw

pytestmark = pytest.mark.usefixtures("ray_head")
END = shop.BASE + timedelta(days=30)
STRICT = dataclasses.replace(shop.LAST_SALE, expectations=(Expectation("sale_id", maximum=589),))
SALES_VIEWS = ["turnover", "last_sale"]


def store_of(settings: Settings, last_sale=STRICT) -> FeatureStore:
    store = FeatureStore(
        dataclasses.replace(shop.PROJECT, views=(shop.TURNOVER, shop.PRICE, last_sale)), settings
    )
    store.apply()
    put_raw(store.lake, shop.SALES, shop.sales_frame())
    return store


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfill, "CHUNK_ROWS", 150)
    monkeypatch.setattr(backfill, "INLINE_ROWS", 0)


def contents(store: FeatureStore, view: str) -> list[dict]:
    rows = store.lake.read(f"shop.fv_{view}_v1").drop_columns(["created_timestamp", "source_created_timestamp"])
    return rows.sort_by("row_key").to_pylist()


def test_chunks_in_workers_give_what_one_process_gives(
    settings: Settings, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = store_of(load_settings({"MILLRACE_HOME": str(tmp_path / "whole")}, in_job=False))
    whole.materialize(BEGINNING, END, SALES_VIEWS)
    monkeypatch.setattr(backfill, "CHUNK_ROWS", 150)
    monkeypatch.setattr(backfill, "INLINE_ROWS", 0)
    store, notes = store_of(settings), []
    results = store.materialize(BEGINNING, END, SALES_VIEWS, note=notes.append)
    assert len(notes) >= 4
    assert len(store.lake.commits("shop.fv_last_sale_v1")) == len(notes)
    assert [(r.rows, r.quarantined) for r in results] == [(len(contents(whole, "turnover")), 0), (588, 10)]
    for view in SALES_VIEWS:
        assert contents(store, view) == contents(whole, view)
    assert store.quarantine(view="last_sale").num_rows == 10


@pytest.mark.usefixtures("small_chunks")
def test_stopped_between_chunks_it_goes_on_behind_them(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_of(settings)
    stage = Backfill._stage
    stages = iter([True, True, False])

    def stage_twice(*arguments):
        if not next(stages):
            raise KeyboardInterrupt
        return stage(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Backfill, "_stage", stage_twice)
        store.materialize(BEGINNING, END, SALES_VIEWS)
    there = len(contents(store, "last_sale"))
    assert 0 < there < 588
    rest = {r.view: r.rows for r in store.materialize(BEGINNING, END, SALES_VIEWS)}
    assert there + rest["last_sale"] == 588 == len({r["row_key"] for r in contents(store, "last_sale")})
    assert store.quarantine(view="last_sale").num_rows == 10


def fails_late(frame: pd.DataFrame) -> pd.DataFrame:
    if (frame["sale_id"] > 580).any():
        raise ZeroDivisionError("on purpose")
    return frame


@pytest.mark.usefixtures("small_chunks")
def test_an_error_of_a_worker_arrives_as_raised_and_its_chunk_is_not_written(settings: Settings) -> None:
    store = store_of(settings, dataclasses.replace(shop.LAST_SALE, transform=fails_late))
    with pytest.raises(FeatureStoreError, match=r"'last_sale' raised ZeroDivisionError: on purpose"):
        store.materialize(BEGINNING, END, SALES_VIEWS)
    done = {view: len(store.lake.commits(f"shop.fv_{view}_v1")) for view in SALES_VIEWS}
    assert done["turnover"] == done["last_sale"] >= 3
    assert not any(r["sale_id"] > 580 for r in contents(store, "last_sale"))
