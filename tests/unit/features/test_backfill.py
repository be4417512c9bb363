"""A backfill writes each row once: repeated, overlapping, late, or refused."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from app.errors import FeatureStoreError, MillraceError, MissingColumnError, SchemaMismatchError, UnknownNameError
from app.features.backfill import BEGINNING
from app.features.store import FeatureStore
from app.settings import Settings, load_settings
from app.spec import Expectation, FeatureView
from tests.unit.features import shop
from tests.unit.features.raw_rows import put_raw

END = shop.BASE + timedelta(days=30)
TABLES = {"turnover": "shop.fv_turnover_v1", "last_sale": "shop.fv_last_sale_v1"}


@pytest.fixture
def store(settings: Settings) -> FeatureStore:
    return with_views(settings)


def with_views(settings: Settings, *changed: FeatureView) -> FeatureStore:
    views = tuple({v.name: v for v in (*shop.PROJECT.views, *changed)}.values())
    store = FeatureStore(dataclasses.replace(shop.PROJECT, views=views), settings)
    store.apply()
    put_raw(store.lake, shop.SALES, shop.sales_frame())
    put_raw(store.lake, shop.PRICES, shop.prices_frame())
    return store


def keys(store: FeatureStore, view: str = "last_sale") -> list[str]:
    return sorted(store.lake.read(f"shop.fv_{view}_v1")["row_key"].to_pylist())


def known(until: datetime, after: datetime = BEGINNING) -> pd.DataFrame:
    frame = shop.sales_frame().query("amount >= 0 or amount != amount")
    at = frame["known_at"].dt.tz_localize("UTC")
    return frame[(at > pd.Timestamp(after)) & (at <= pd.Timestamp(until))]


def test_a_range_is_written_once_however_it_is_asked_for(store: FeatureStore) -> None:
    four, six, nine = (shop.BASE + timedelta(days=d) for d in (4, 6, 9))
    (first,) = store.materialize(four, six, ["last_sale"])
    assert (first.rows, first.already_there) == (len(known(six, four)), False)
    (again,) = store.materialize(four, six, ["last_sale"])
    assert (again.rows, again.already_there) == (0, True)
    (around,) = store.materialize(BEGINNING, nine, ["last_sale"])
    assert around.rows == len(known(nine)) - first.rows
    (rest,) = store.materialize_incremental(END, ["last_sale"])
    assert rest.rows == len(known(END, nine))
    assert keys(store) == sorted(f"{len(str(i))}:{i}" for i in known(END)["sale_id"])


def test_bounds_are_exclusive_and_inclusive(store: FeatureStore) -> None:
    moments = sorted(known(END)["known_at"].dt.tz_localize("UTC"))
    start, end = moments[10].to_pydatetime(), moments[20].to_pydatetime()
    (result,) = store.materialize(start, end, ["last_sale"])
    assert result.rows == sum(start < m <= end for m in moments)


def test_a_range_without_rows_is_remembered_too(store: FeatureStore) -> None:
    later = END + timedelta(days=30)
    (first,) = store.materialize(END, later, ["last_sale"])
    assert (first.rows, first.already_there) == (0, False)
    assert store.materialize(END, later, ["last_sale"])[0].already_there


def test_late_rows_are_appended_and_nothing_else_is_written(store: FeatureStore) -> None:
    store.materialize(BEGINNING, END)
    before = store.lake.read(TABLES["last_sale"])
    late = shop.sales_frame().iloc[[5, 300]].assign(sale_id=[9_005, 9_300])
    put_raw(store.lake, shop.SALES, late)
    (result, untouched) = store.materialize(BEGINNING, END, ["last_sale", "price"])
    assert (result.rows, untouched.rows, untouched.already_there) == (2, 0, True)
    after = store.lake.read(TABLES["last_sale"])
    newest = max(before["created_timestamp"].to_pylist())
    old = [r for r in after.to_pylist() if r["created_timestamp"] <= newest]
    assert sorted(map(str, old)) == sorted(map(str, before.to_pylist()))
    assert {r["sale_id"] for r in after.to_pylist()} - {r["sale_id"] for r in old} == {9_005, 9_300}
    assert store.materialize(BEGINNING, END, ["last_sale"])[0].already_there


def test_a_late_row_of_a_stretch_not_yet_covered_waits_for_it(store: FeatureStore) -> None:
    six = shop.BASE + timedelta(days=6)
    store.materialize(BEGINNING, six, ["last_sale"])
    put_raw(store.lake, shop.SALES, shop.sales_frame().iloc[[5, 599]].assign(sale_id=[9_005, 9_599]))
    assert store.materialize(BEGINNING, six, ["last_sale"])[0].rows == 1
    assert store.materialize_incremental(END, ["last_sale"])[0].rows == len(known(END, six)) + 1


def test_a_corrected_row_replaces_what_it_corrects(store: FeatureStore) -> None:
    """Also when both versions are computed by the first backfill."""
    corrected = shop.sales_frame().iloc[[0, 1]].assign(amount=[123.0, 456.0])
    put_raw(store.lake, shop.SALES, corrected)
    store.materialize(BEGINNING, END, ["turnover"])
    rows = sorted(store.lake.read(TABLES["turnover"]).to_pylist(), key=lambda r: r["source_created_timestamp"])
    chosen = {r["row_key"]: r["amount"] for r in rows}
    ids = [i for i in (0, 1) if shop.sales_frame()["sku"][i] != 4]
    assert [chosen[f"1:{i}"] for i in ids] == [(123.0, 456.0)[i] for i in ids]
    assert len(rows) == len(chosen) + len(ids)


def test_both_versions_are_there_whether_one_call_computes_them_or_two(tmp_path: Path) -> None:
    """The corrected one counts until the other was available, so where a chunk or block ends makes no difference."""
    frame = shop.sales_frame().iloc[[0]].assign(sku=1, amount=10.0)
    known_at = frame["known_at"].iloc[0].to_pydatetime().replace(tzinfo=UTC)
    later = frame.assign(amount=4.0, known_at=frame["known_at"] + timedelta(days=2))
    written = []
    for name, stretches in {"one": [(BEGINNING, END)], "two": [(BEGINNING, known_at), (known_at, END)]}.items():
        store = FeatureStore(shop.PROJECT, load_settings({"MILLRACE_HOME": str(tmp_path / name)}, in_job=False))
        store.apply()
        put_raw(store.lake, shop.SALES, frame)
        put_raw(store.lake, shop.SALES, later)
        for start, end in stretches:
            store.materialize(start, end, ["turnover"])
        rows = store.lake.read(TABLES["turnover"], ["row_key", "amount", "available_timestamp"])
        written.append(sorted(rows.to_pylist(), key=lambda r: r["amount"]))
    assert written[0] == written[1]
    assert [r["amount"] for r in written[0]] == [4.0, 10.0]


def test_of_equal_identities_written_at_once_the_last_counts(store: FeatureStore) -> None:
    put_raw(store.lake, shop.SALES, shop.sales_frame().iloc[[0, 0]].assign(sale_id=9_000, amount=[1.0, 2.0], sku=1))
    store.materialize(BEGINNING, END, ["turnover"])
    rows = store.lake.read(TABLES["turnover"]).to_pylist()
    assert [r["amount"] for r in rows if r["row_key"] == "4:9000"] == [2.0]


def test_commits_say_where_they_came_from(store: FeatureStore) -> None:
    store.materialize(BEGINNING, END, ["price"], run_id="r1")
    properties = store.lake.commits("shop.fv_price_v1")[-1].properties
    assert properties["run_id"] == "r1"
    assert len(properties["definition_hash"]) == 64
    assert int(properties["raw_snapshot_id"]) == store.lake.current_snapshot_id("shop.raw_prices")
    assert properties["code_commit"]


def test_progress_is_told_with_rows_and_range(store: FeatureStore) -> None:
    notes: list[str] = []
    store.materialize(BEGINNING, END, ["price"], note=notes.append)
    assert notes == [f"prices → price: 48 rows, to {END:%Y-%m-%d %H:%M}, {notes[0].rsplit(', ', 1)[1]}"]


def _raising(frame: pd.DataFrame) -> pd.DataFrame:
    raise ZeroDivisionError("on purpose")


@pytest.mark.parametrize(
    ("transform", "error", "message"),
    [
        (_raising, FeatureStoreError, r"'last_sale' raised ZeroDivisionError.*on purpose.*598 rows.*sale_id"),
        (lambda f: None, FeatureStoreError, r"'last_sale' returned NoneType"),
        (lambda f: f.drop(columns="sale_id"), MissingColumnError, r"'last_sale' lacks column 'sale_id'"),
        (lambda f: f.assign(sale_id=1.5), SchemaMismatchError, r"'last_sale': column 'sale_id'.*int64"),
        (lambda f: f.assign(sale_id="x"), SchemaMismatchError, r"'last_sale': column 'sale_id'.*int64"),
        (lambda f: f[["shop", "sold_at"]].assign(sale_id=-1).tail(2).set_index([["x"] * 2]),
         FeatureStoreError, r"'last_sale' returned 2 rows for 598, of which 2 cannot be traced.*'x'"),
    ],
    ids=["raises", "nothing", "missing", "fraction", "text", "untraceable"],
)
def test_a_transform_that_fails_is_named_and_nothing_is_written(
    settings: Settings, transform, error: type[MillraceError], message: str
) -> None:
    bad = dataclasses.replace(shop.LAST_SALE, transform=transform)
    store = with_views(settings, bad)
    with pytest.raises(error, match=message):
        store.materialize(BEGINNING, END)
    assert store.lake.commits("shop.fv_last_sale_v1") == []
    assert store.lake.commits("shop.fv_turnover_v1") == []
    with pytest.raises(error, match=message.split("598")[0].removesuffix(".*")):
        store.push("last_sale", shop.sales_frame().head(3))
    assert store.lake.commits("shop.fv_last_sale_v1") == []


def test_a_push_to_several_views_writes_to_none_when_one_fails(settings: Settings) -> None:
    store = with_views(settings, dataclasses.replace(shop.LAST_SALE, transform=_raising))
    with pytest.raises(FeatureStoreError, match="'last_sale' raised ZeroDivisionError"):
        store.push_source("sales", shop.sales_frame().head(3), to="online_and_offline")
    assert store.lake.commits("shop.fv_turnover_v1") == []


def test_rows_that_break_a_views_expectation_are_quarantined(settings: Settings) -> None:
    strict = dataclasses.replace(shop.LAST_SALE, expectations=(Expectation("sale_id", maximum=589),))
    store = with_views(settings, strict)
    result = {r.view: r for r in store.materialize(BEGINNING, END)}
    assert (result["last_sale"].rows, result["last_sale"].quarantined) == (588, 10)
    assert result["turnover"].quarantined == 0
    kept = store.quarantine(view="last_sale").to_pylist()
    assert len(kept) == 10
    assert {r["reason"] for r in kept} == {"sale_id is above 589"}
    assert all(r["source"] == "sales" and '"sale_id": 59' in r["row"] for r in kept)
    store.materialize(BEGINNING, END)
    assert store.quarantine("sales").num_rows == 10
    pushed = store.push("last_sale", shop.sales_frame().tail(2))
    assert (pushed.accepted, pushed.refused) == (2, ("sale_id is above 589",) * 2)
    assert store.quarantine(view="last_sale").num_rows == 12


def test_a_source_that_was_not_ingested_is_named(settings: Settings) -> None:
    store = FeatureStore(shop.PROJECT, settings)
    store.apply()
    with pytest.raises(UnknownNameError, match=r"shop\.raw_sales"):
        store.materialize(BEGINNING, END)
