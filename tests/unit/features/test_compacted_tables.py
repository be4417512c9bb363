"""A compaction brings no rows: what is new, covered and corrected is the same before and after it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from app.features.backfill import BEGINNING
from app.features.raw_snapshot import raw_snapshot
from app.features.store import FeatureStore
from app.foundation.lake import CompactionPolicy, Retention
from app.settings import Settings
from tests.unit.features import shop
from tests.unit.features.raw_rows import put_raw

END = shop.BASE + timedelta(days=30)
RAW = "shop.raw_sales"


@pytest.fixture
def store(settings: Settings) -> FeatureStore:
    store = FeatureStore(shop.PROJECT, settings)
    store.apply()
    for part in range(4):
        put_raw(store.lake, shop.SALES, shop.sales_frame().iloc[part::4])
    store.materialize(BEGINNING, END, ["last_sale"])
    return store


def compact(store: FeatureStore) -> None:
    assert store.lake.compact(RAW).files_after == 1


def test_nothing_is_missing_after_it(store: FeatureStore) -> None:
    compact(store)
    assert store.materialize(BEGINNING, END, ["last_sale"])[0].already_there


def test_rows_that_come_after_it_are_all_that_is_written(store: FeatureStore) -> None:
    compact(store)
    put_raw(store.lake, shop.SALES, shop.sales_frame().iloc[[5, 300]].assign(sale_id=[9_005, 9_300]))
    assert store.materialize(BEGINNING, END, ["last_sale"])[0].rows == 2
    compact_again = store.lake.compact(RAW, CompactionPolicy(at_least=2))
    assert (compact_again.files_before, compact_again.files_after) == (2, 1)
    assert store.materialize(BEGINNING, END, ["last_sale"])[0].already_there


def test_rows_of_before_it_that_were_not_computed_yet_are(store: FeatureStore) -> None:
    put_raw(store.lake, shop.SALES, shop.sales_frame().iloc[[5]].assign(sale_id=9_005))
    compact(store)
    put_raw(store.lake, shop.SALES, shop.sales_frame().iloc[[6]].assign(sale_id=9_006))
    assert store.materialize(BEGINNING, END, ["last_sale"])[0].rows == 2


def test_corrections_among_rows_that_lie_in_one_file_now_are_found(store: FeatureStore) -> None:
    put_raw(store.lake, shop.SALES, shop.sales_frame().iloc[[5, 6]].assign(amount=3.0))
    compact(store)
    raw = raw_snapshot(store.lake, "shop", shop.SALES)
    assert raw is not None
    assert raw.corrected(store.lake)["key"].n_unique() == 2


def test_what_is_new_is_still_known_when_the_commits_before_it_are_forgotten(store: FeatureStore) -> None:
    compact(store)
    forgotten = store.lake.expire_snapshots(RAW, Retention(num_newest=1, younger_than=timedelta(0), at_least=1))
    assert forgotten == 4
    assert store.materialize(BEGINNING, END, ["last_sale"])[0].already_there
    put_raw(store.lake, shop.SALES, shop.sales_frame().iloc[[5]].assign(sale_id=9_005))
    assert store.materialize(BEGINNING, END, ["last_sale"])[0].rows == 1


def test_the_store_says_what_it_put_together(store: FeatureStore) -> None:
    found = {r.table: r for r in store.compact()}
    assert (found[RAW].files_before, found[RAW].files_after, found[RAW].rows) == (4, 1, 598)
    assert all(r.files_after <= r.files_before for r in found.values())
