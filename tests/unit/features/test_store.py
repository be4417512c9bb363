"""The store on a small project: what is trained on equals what is served, versions, refusals."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from app.errors import (
    FeatureStoreError,
    MissingColumnError,
    SchemaMismatchError,
    StoreUnavailableError,
    UnknownNameError,
)
from app.features import historical, hot_keys, join_spine, online_load, storage_partitions
from app.features.feature_reads import PLANS_KEPT
from app.features.store import FeatureStore
from app.features.tasks import InlineTasks
from app.settings import Settings
from app.spec.features import DType, Entity, FeatureView, Field
from tests.contract.redis_server import free_port
from tests.unit.features import shop


@pytest.fixture
def store(settings: Settings) -> FeatureStore:
    """Applied, with all sales and prices in the views' tables."""
    store = FeatureStore(shop.PROJECT, settings)
    store.apply()
    for view in ("turnover", "last_sale"):
        store.push(view, shop.sales_frame(), to="offline")
    store.push("price", shop.prices_frame(), to="offline")
    return store


def spine() -> pd.DataFrame:
    cases = shop.cases_frame().rename(columns={"asked_at": "event_timestamp"})
    return cases[["case_id", "shop", "sku", "quantity", "event_timestamp"]].sort_values("event_timestamp")


def test_served_values_equal_trained_values(store: FeatureStore) -> None:
    """Bit for bit, while rows arrive between the questions, the last three of them late and twice."""
    asked = spine()
    expected = store.get_historical_features(asked, shop.SERVICE).table.to_pylist()
    questions = asked.drop(columns="event_timestamp").to_dict("records")
    before = expected[30]["event_timestamp"].replace(tzinfo=UTC)
    store.load_online(before)
    sales, prices = shop.sales_frame(), shop.prices_frame()
    num_compared = 0
    for question, answer in zip(questions[31:], expected[31:], strict=True):
        at = answer["event_timestamp"].replace(tzinfo=UTC)
        known = pd.to_datetime(sales["known_at"], utc=True)
        for source, news in (
            ("sales", sales[(known > before) & (known <= at)].sample(frac=1, random_state=0)),
            ("sales", sales[known <= at].tail(3)),
            ("prices", prices[(prices["since"] > before) & (prices["since"] <= at)]),
        ):
            store.push_source(source, news.to_dict("records"))
        before = at
        (served,) = store.get_online_features(shop.SERVICE, [question], at=at)
        assert {name: served[name] for name in served} == {name: answer[name] for name in served}
        num_compared += sum(value is not None for value in served.values())
    assert num_compared > 500


def test_one_batch_equals_single_questions(store: FeatureStore) -> None:
    until = shop.BASE + timedelta(days=8, minutes=7)
    store.load_online(until)
    rows = [{"shop": s, "sku": k, "quantity": 1} for s in ("a", "b", "a:b", "x", None) for k in (1, 2, 4, None)]
    together = store.get_online_features(shop.SERVICE, rows, at=until)
    assert together == [store.get_online_features(shop.SERVICE, [row], at=until)[0] for row in rows]
    historical = store.get_historical_features(
        pa.table(
            {
                "shop": [r["shop"] for r in rows], "sku": [r["sku"] for r in rows], "quantity": [1] * len(rows),
                "event_timestamp": pa.array([until] * len(rows), pa.timestamp("us", "UTC")),
            }
        ),
        shop.SERVICE,
    )
    assert together == historical.table.drop_columns(["event_timestamp"]).to_pylist()
    assert together[3]["amount_count_1d"] is None
    assert together[12]["amount_count_1d"] == 0


@pytest.mark.parametrize(("chunk_rows", "task_rows"), [(7, 20), (50, 150), (1000, 10), (30, 10_000)])
def test_partitions_chunks_and_parts_do_not_change_the_result(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, chunk_rows: int, task_rows: int
) -> None:
    asked = spine().sample(frac=1, random_state=chunk_rows)
    whole = store.get_historical_features(asked, shop.SERVICE)
    monkeypatch.setattr(historical, "RayTasks", InlineTasks)
    monkeypatch.setattr(join_spine, "ONE_TASK_ROWS", 0)
    monkeypatch.setattr(join_spine, "CHUNK_ROWS", chunk_rows)
    monkeypatch.setattr(storage_partitions, "TASK_ROWS", task_rows)
    monkeypatch.setattr(hot_keys, "SAMPLED_ROWS", 10)
    split = store.get_historical_features(asked, shop.SERVICE)
    assert split.table.equals(whole.table)
    assert split.manifest["row_hash"] == whole.manifest["row_hash"]


def test_the_spine_comes_back_as_it_was(store: FeatureStore) -> None:
    asked = pd.concat([spine(), spine().head(3)]).assign(note=[{"any": "thing"}] * 123)
    found = store.get_historical_features(asked, ["price:price"]).to_pandas()
    assert found["case_id"].to_list() == asked["case_id"].to_list()
    assert list(found.columns) == [*asked.columns, "price"]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_units_and_zones_of_the_spine(store: FeatureStore, unit: str, zone: str | None) -> None:
    moments = pd.Series([datetime(2013, 1, 5), datetime(2013, 1, 4, 23, 59, 59)]).dt.tz_localize("UTC")
    moments = moments.dt.tz_convert(zone) if zone else moments.dt.tz_localize(None)
    asked = pd.DataFrame({"sku": [1, 1], "event_timestamp": moments.astype(moments.dt.as_unit(unit).dtype)})
    assert store.get_historical_features(asked, ["price:price"]).table["price"].to_pylist() == [None, 103]


def test_as_of_reproduces_what_the_system_knew(store: FeatureStore) -> None:
    asked = spine()
    first = store.get_historical_features(asked, shop.SERVICE).table
    known = datetime.now(UTC)
    store.push("turnover", shop.sales_frame().assign(amount=1_000.0), to="offline")
    assert not store.get_historical_features(asked, shop.SERVICE).table.equals(first)
    assert store.get_historical_features(asked, shop.SERVICE, as_of=known).table.equals(first)


def test_versions_follow_meaning(settings: Settings, store: FeatureStore) -> None:
    described = dataclasses.replace(shop.PRICE, description="in cents", owner="sales team")
    project = dataclasses.replace(shop.PROJECT, views=(shop.TURNOVER, described, shop.LAST_SALE))
    assert [str(c) for c in FeatureStore(project, settings).plan()] == [
        "price: update, version 1 (owner, description changed)"
    ]
    changed = dataclasses.replace(shop.PRICE, ttl=timedelta(days=3))
    project = dataclasses.replace(shop.PROJECT, views=(shop.TURNOVER, changed, shop.LAST_SALE))
    newer = FeatureStore(project, settings)
    assert [str(c) for c in newer.plan()] == [
        "price: new version, version 2 (ttl_us changed); feeds purchase; read by buying"
    ]
    newer.apply()
    assert [(v["version"], v["active"]) for v in newer.versions("price")] == [(1, False), (2, True)]
    newer.push("price", shop.prices_frame().head(1), to="offline")
    asked = pd.DataFrame({"sku": [1], "event_timestamp": [shop.BASE + timedelta(days=2, hours=12)]})
    both = newer.get_historical_features(asked, ["price:price", "price@v1:price"], full_feature_names=True)
    assert both.table.select(["price__price", "price_v1__price"]).to_pylist() == [
        {"price__price": 100, "price_v1__price": 102}
    ]
    newer.rollback("price", 1)
    assert newer.get_historical_features(asked, ["price:price"]).table["price"].to_pylist() == [102]


@pytest.mark.parametrize(
    ("features", "error", "message"),
    [
        (["prize:price"], UnknownNameError, "has no feature view 'prize'; it has: turnover, price"),
        (["price:prize"], UnknownNameError, "has no feature 'prize'; it has: price"),
        (["price@v9:price"], UnknownNameError, "has no version 9; it has: 1"),
        (["price"], UnknownNameError, "no feature reference"),
        (["price:price", "price@v1:price"], FeatureStoreError, "second column 'price'"),
        (["purchase:purchase"], FeatureStoreError, "needs 'quantity'"),
    ],
)
def test_what_cannot_be_read(store: FeatureStore, features: list[str], error: type[Exception], message: str) -> None:
    asked = pd.DataFrame({"sku": [1], "event_timestamp": [shop.BASE]})
    for read in (
        lambda: store.get_historical_features(asked, features),
        lambda: store.get_online_features(features, [{"sku": 1}]),
    ):
        with pytest.raises(error, match=message):
            read()


@pytest.mark.parametrize(
    ("row", "error"),
    [({}, MissingColumnError), ({"sku": "one"}, SchemaMismatchError), ({"sku": 1.5}, SchemaMismatchError)],
)
def test_keys_that_cannot_be_looked_up(store: FeatureStore, row: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match="'sku'"):
        store.get_online_features(["price:price"], [row])
    asked = pd.DataFrame([{**row, "event_timestamp": shop.BASE}])
    with pytest.raises(error, match="'sku'"):
        store.get_historical_features(asked, ["price:price"])


@pytest.mark.parametrize(("after", "expected"), [(timedelta(0), 111), (timedelta(microseconds=1), None)])
def test_ttl_is_inclusive_in_training_and_in_serving(
    store: FeatureStore, after: timedelta, expected: int | None
) -> None:
    last = shop.BASE + timedelta(days=11)
    store.load_online(last)
    at = last + timedelta(days=2) + after
    (served,) = store.get_online_features(["price:price"], [{"sku": 1}], at=at)
    asked = pd.DataFrame({"sku": [1], "event_timestamp": [at]})
    trained = store.get_historical_features(asked, ["price:price"]).table["price"].to_pylist()
    assert [served["price"]] == trained == [expected]


def test_a_row_sent_twice_at_once_counts_once(store: FeatureStore) -> None:
    sale = shop.sales_frame().iloc[[300]].assign(sku=1, shop="new")
    at = sale["known_at"].iloc[0].to_pydatetime()
    store.push("turnover", pd.concat([sale.assign(amount=1.0), sale.assign(amount=2.0)]))
    features = ["turnover:amount_count_1d", "turnover:amount_sum_1d"]
    (served,) = store.get_online_features(features, [{"shop": "new", "sku": 1}], at=at)
    assert (served["amount_count_1d"], served["amount_sum_1d"]) == (1, 2.0)
    asked = pd.DataFrame({"shop": ["new"], "sku": [1], "event_timestamp": [at]})
    trained = store.get_historical_features(asked, features).table.select(list(served)).to_pylist()
    assert [served] == trained


def test_a_correction_that_names_another_entity_counts_alike_in_training_and_in_serving(store: FeatureStore) -> None:
    sale = shop.sales_frame().iloc[[300]].assign(sku=1, amount=2.0)
    at = sale["known_at"].iloc[0].to_pydatetime()
    for name in ("first", "second"):
        store.push("turnover", sale.assign(shop=name))
    features = ["turnover:amount_count_1d", "turnover:amount_sum_1d"]
    asked = [{"shop": "first", "sku": 1}, {"shop": "second", "sku": 1}]
    served = store.get_online_features(features, asked, at=at)
    spine = pd.DataFrame(asked).assign(event_timestamp=at)
    assert served == store.get_historical_features(spine, features).table.select(list(served[0])).to_pylist()
    assert served[1]["amount_sum_1d"] == 2.0


def test_rows_without_a_key_have_no_features(store: FeatureStore) -> None:
    store.load_online(shop.BASE + timedelta(days=3))
    asked = [{"sku": None, "shop": "a"}, {"sku": 1, "shop": None}, {"sku": 1, "shop": "a"}, {"sku": 1, "shop": "a"}]
    features = ["price:price", "turnover:amount_count_1d", "turnover:amount_sum_1d"]
    at = shop.BASE + timedelta(days=3)
    nobody, no_shop, one, same = store.get_online_features(features, asked, at=at)
    assert (nobody["price"], no_shop["price"]) == (None, one["price"]) and one["price"] is not None
    assert nobody["amount_count_1d"] is no_shop["amount_count_1d"] is None and one["amount_count_1d"] > 0
    assert same == one
    (alone,) = store.get_online_features(features, asked[:1], at=at)
    assert alone == nobody


def test_unregistered_views_say_what_to_do(settings: Settings) -> None:
    with pytest.raises(FeatureStoreError, match=r"Run store\.apply\(\)"):
        FeatureStore(shop.PROJECT, settings).get_online_features(["price:price"], [{"sku": 1}])


def test_refused_rows_are_reported_and_kept(store: FeatureStore) -> None:
    row = shop.sales_frame().head(1).assign(amount=-5.0)
    result = store.push("turnover", row)
    assert (result.accepted, result.refused) == (0, ("amount is below 0",))
    kept = store.lake.read("shop.quarantine").to_pylist()
    assert [r["reason"] for r in kept if '"amount": -5.0' in r["row"]] == ["amount is below 0"]


def test_a_push_that_fails_writes_nothing(store: FeatureStore, settings: Settings) -> None:
    def broken(frame: pd.DataFrame) -> pd.DataFrame:
        raise ValueError("broken")

    second = dataclasses.replace(shop.LAST_SALE, transform=broken)
    project = dataclasses.replace(shop.PROJECT, views=(shop.TURNOVER, shop.PRICE, second))
    rows_before = store.lake.read("shop.fv_turnover_v1").num_rows
    with pytest.raises(FeatureStoreError, match="Nothing was written"):
        failing = FeatureStore(project, settings)
        failing.apply()
        failing.push_source("sales", shop.sales_frame().head(1), to="online_and_offline")
    down = FeatureStore(shop.PROJECT, dataclasses.replace(settings, online_url=f"redis://127.0.0.1:{free_port()}/0"))
    with pytest.raises(StoreUnavailableError):
        down.push("turnover", shop.sales_frame().head(1))
    assert store.lake.read("shop.fv_turnover_v1").num_rows == rows_before


def test_a_load_keeps_what_was_pushed_unless_it_replaces(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online_load, "SLICE_KEYS", 2)
    at = shop.BASE + timedelta(days=30)
    store.push("price", [{"sku": 1, "price": 2, "since": at}], to="online")
    rows = [{"sku": sku} for sku in (1, 2, 3)]
    assert store.load_online(at) == store.load_online(at)
    assert [r["price"] for r in store.get_online_features(["price:price"], rows, at=at)] == [2, None, None]
    last = shop.BASE + timedelta(days=11)
    trained = [r["price"] for r in store.get_online_features(["price:price"], rows, at=last)]
    assert None not in trained
    store.load_online(at, replace=True)
    assert [r["price"] for r in store.get_online_features(["price:price"], rows, at=at)] == [None, None, None]
    assert [r["price"] for r in store.get_online_features(["price:price"], rows, at=last)] == trained


def test_windows_of_a_moment_long_ago_are_refused(store: FeatureStore) -> None:
    first = shop.BASE + timedelta(days=20)
    sale = {"shop": "new", "sku": 1, "amount": 1.0}
    hours = [first + timedelta(hours=n) for n in range(96)]
    store.push_source("sales", [{**sale, "sale_id": n, "sold_at": at, "known_at": at} for n, at in enumerate(hours)])
    features, rows = ["turnover:amount_count_1d"], [{"shop": "new", "sku": 1}]
    found = store.get_online_features(features, rows, at=first + timedelta(hours=71))
    assert found[0]["amount_count_1d"] == 24
    with pytest.raises(FeatureStoreError, match=r"'turnover' cannot tell its windows of 2013-01-21 20:00.* 1 of 1"):
        store.get_online_features(features, rows, at=first + timedelta(hours=20))
    ahead = datetime.now(UTC) + timedelta(days=2)
    store.push_source("sales", [{**sale, "sale_id": 96, "sold_at": ahead, "known_at": ahead}])
    assert store.get_online_features(features, rows)[0]["amount_count_1d"] is None


@pytest.mark.parametrize(
    ("dtype", "pushed", "asked"),
    [
        ("float64", 0.5, np.float32(0.5)), ("float64", 2.0, 2), ("float64", -0.0, 0.0),
        ("float64", 1e-7, np.float64(1e-7)), ("bool", True, np.bool_(True)),
        ("int64", 3, np.float32(3)), ("string", "a", np.str_("a")),
    ],
)
def test_keys_of_any_type_are_found(settings: Settings, dtype: DType, pushed: object, asked: object) -> None:
    source = dataclasses.replace(
        shop.PRICES, name="levels", key=("level",),
        fields=(Field("level", dtype), Field("price", "int64"), Field("since", "timestamp")),
    )
    view = FeatureView("level", (Entity("level", ("level",)),), source, (Field("price", "int64"),))
    project = dataclasses.replace(
        shop.PROJECT, views=(*shop.PROJECT.views, view), sources=(*shop.PROJECT.sources, source)
    )
    store = FeatureStore(project, settings)
    store.apply()
    store.push("level", [{"level": pushed, "price": 7, "since": shop.BASE}], to="online")
    found = store.get_online_features(["level:price"], [{"level": asked}, {"level": pd.NA}, {"level": None}])
    assert [row["price"] for row in found] == [7, None, None]


def test_ways_of_asking_are_kept_within_bounds(store: FeatureStore) -> None:
    for n in range(PLANS_KEPT + 10):
        store.get_online_features(["price:price"], [{"sku": 1, f"note {n}": 0}])
    assert store._reader_of.cache_info().currsize == store._plan_of.cache_info().currsize == PLANS_KEPT


def test_a_push_elsewhere_is_refused(store: FeatureStore) -> None:
    target: Any = "onlin"
    with pytest.raises(FeatureStoreError, match="'onlin'; expected one of online, offline, online_and_offline"):
        store.push("price", shop.prices_frame().head(1), to=target)
    with pytest.raises(UnknownNameError, match="'price@vabc' names no version"):
        store.push("price@vabc", shop.prices_frame().head(1))


GIFT = shop.PRICE.with_join_key_map({"sku": "gift"}).with_name("gift")


def test_a_view_joins_twice_under_two_keys_alike_in_training_and_serving(store: FeatureStore) -> None:
    until = shop.BASE + timedelta(days=6)
    asked = {"sku": [1, 2, None, 3], "gift": [2, 9, 1, None]}
    features = ["price:price", *GIFT["price",], "price[sku=gift]:price"]
    spine = pa.table({**asked, "event_timestamp": pa.array([until] * 4, pa.timestamp("us", "UTC"))})
    expected = {1: 106, 2: 206, 3: 306}
    with pytest.raises(FeatureStoreError, match=r"price\[sku=gift\]:price would be a second column 'price'"):
        store.get_historical_features(spine, features)
    found = store.get_historical_features(spine, features, full_feature_names=True).table
    own, given = [expected.get(k) for k in asked["sku"]], [expected.get(k) for k in asked["gift"]]
    assert found["price__price"].to_pylist() == own
    assert found["gift__price"].to_pylist() == found["price_gift__price"].to_pylist() == given
    assert store.get_historical_features(spine, ["price:price", *GIFT["price",]]).table.column_names == [
        *spine.column_names, "price", "gift__price",
    ]
    store.load_online(until)
    rows = [dict(zip(asked, pair, strict=True)) for pair in zip(*asked.values(), strict=True)]
    served = store.get_online_features(features, rows, at=until, full_feature_names=True)
    assert [r["gift__price"] for r in served] == given
    with pytest.raises(MissingColumnError, match="'gift'"):
        store.get_historical_features(spine.drop_columns("gift"), features, full_feature_names=True)


@pytest.mark.parametrize(
    ("features", "error", "message"),
    [
        (["price[shop=x]:price"], UnknownNameError, "'price' has no join key 'shop'; it has: sku"),
        (["a=price:price", "a=last_sale:sale_id"], FeatureStoreError, "'a' names two different joins"),
        (["purchase[sku=x]:purchase"], FeatureStoreError, "on-demand view"),
    ],
)
def test_aliases_that_mean_nothing(store: FeatureStore, features: list[str], error, message: str) -> None:
    with pytest.raises(error, match=message):
        store.get_online_features(features, [{"sku": 1, "shop": "a", "x": 1, "quantity": 1}])
