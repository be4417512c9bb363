"""A rollback is followed online and by training sets; open stores elsewhere stay where they are until told."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import pytest

from app.errors import FeatureStoreError
from app.features.store import FeatureStore
from app.settings import Settings
from app.spec import Expectation, Project
from tests.unit.features import shop

ASKED_AT = shop.BASE + timedelta(days=2, hours=12)
LAST_DAY = shop.BASE + timedelta(days=11, hours=12)  # the online store keeps few rows before the newest


def doubled(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(price=frame["price"] * 2)


def with_price(**changes: Any) -> Project:
    price = dataclasses.replace(shop.PRICE, **changes)
    return dataclasses.replace(shop.PROJECT, views=(shop.TURNOVER, price, shop.LAST_SALE))


def served(store: FeatureStore, at: datetime = ASKED_AT) -> Any:
    return store.get_online_features(["price:price"], [{"sku": 1}], at=at)[0]["price"]


def trained(store: FeatureStore, at: datetime = ASKED_AT) -> Any:
    spine = pd.DataFrame({"sku": [1], "event_timestamp": [at]})
    return store.get_historical_features(spine, ["price:price"]).table["price"][0].as_py()


@pytest.fixture
def both(settings: Settings) -> FeatureStore:
    """Version 1 holds prices, version 2 doubled ones; only version 2 was ever brought online."""
    first = FeatureStore(shop.PROJECT, settings)
    first.apply()
    first.push("price", shop.prices_frame(), to="offline")
    second = FeatureStore(with_price(transform=doubled), settings)
    second.apply()
    second.push("price", shop.prices_frame(), to="offline")
    second.load_online(ASKED_AT, ["price"])
    return second


def test_the_older_versions_values_are_served_and_trained_on(both: FeatureStore) -> None:
    assert (served(both), trained(both)) == (204, 204)
    done = both.rollback("price", 1)
    assert (served(both), trained(both)) == (102, 102)
    assert (done.from_version, done.version, done.until) == (2, 1, ASKED_AT)
    assert done.online_rows == 4, "one row for each article, as of the moment version 2 was loaded"


def test_rolling_back_and_forth_fills_only_what_is_missing(both: FeatureStore, settings: Settings) -> None:
    assert both.rollback("price", 1).online_rows == 4
    assert both.rollback("price", 2).online_rows == 0
    assert (served(both), trained(both)) == (204, 204)
    assert both.rollback("price", 1).online_rows == 0
    both.rollback("price", 2)
    FeatureStore(shop.PROJECT, settings).push("price@v1", shop.prices_frame().head(1), to="offline")
    assert both.rollback("price", 1).online_rows == 4, "the table of version 1 has changed since"


def test_an_open_store_keeps_its_version_until_it_is_told(both: FeatureStore, settings: Settings) -> None:
    serving = FeatureStore(with_price(transform=doubled), settings)
    assert served(serving) == 204
    both.rollback("price", 1)
    assert (served(serving), trained(serving)) == (204, 204)
    serving.push("price", [{"sku": 1, "price": 7, "since": ASKED_AT}], to="online")
    assert (served(serving), served(both)) == (14, 102), "its pushes go to its version"
    serving.refresh()
    assert (served(serving), trained(serving)) == (102, 102)
    assert served(FeatureStore(with_price(transform=doubled), settings)) == 102


def test_a_version_without_rows_is_not_rolled_back_to(settings: Settings) -> None:
    FeatureStore(shop.PROJECT, settings).apply()
    second = FeatureStore(with_price(ttl=None), settings)
    second.apply()
    second.push("price", shop.prices_frame())
    with pytest.raises(FeatureStoreError, match=r"version 1 of feature view 'price' has no rows, version 2 has"):
        second.rollback("price", 1)
    assert served(second, LAST_DAY) == 111


def test_a_version_whose_table_is_empty_is_not_rolled_back_to(settings: Settings) -> None:
    first = FeatureStore(shop.PROJECT, settings)
    first.apply()
    first.push("price", shop.prices_frame().assign(since=pd.NaT), to="offline")  # refused: the table has no row
    assert first.lake.exists("shop.fv_price_v1")
    second = FeatureStore(with_price(ttl=None), settings)
    second.apply()
    second.push("price", shop.prices_frame())
    with pytest.raises(FeatureStoreError, match=r"version 1 of feature view 'price' has no rows, version 2 has"):
        second.rollback("price", 1)


def test_an_older_version_with_other_expectations_takes_no_rows(both: FeatureStore, settings: Settings) -> None:
    stricter = FeatureStore(with_price(expectations=(Expectation("price", minimum=0),)), settings)
    stricter.apply()
    with pytest.raises(FeatureStoreError, match="its transform, source or expectations are not what"):
        stricter.push("price@v1", shop.prices_frame().head(1))


def test_no_rows_are_written_with_code_that_is_gone(both: FeatureStore) -> None:
    both.rollback("price", 1)
    before = both.lake.current_snapshot_id("shop.fv_price_v1")
    for write in (
        lambda: both.push("price", shop.prices_frame().head(1)),
        lambda: both.materialize(shop.BASE, ASKED_AT, ["price"]),
    ):
        with pytest.raises(FeatureStoreError, match="its transform, source or expectations are not what the project"):
            write()
    assert both.lake.current_snapshot_id("shop.fv_price_v1") == before


def test_where_only_the_ttl_differs_the_older_version_takes_rows(settings: Settings) -> None:
    first = FeatureStore(shop.PROJECT, settings)
    first.apply()
    first.push("price", shop.prices_frame())
    second = FeatureStore(with_price(ttl=timedelta(days=5)), settings)
    second.apply()
    second.push("price", shop.prices_frame())
    second.rollback("price", 1)
    second.push("price", [{"sku": 1, "price": 7, "since": LAST_DAY}])
    assert (served(second, LAST_DAY), trained(second, LAST_DAY)) == (7, 7)


def test_an_open_store_follows_rollbacks_and_leaves_newer_versions_to_newer_code(settings: Settings) -> None:
    first = FeatureStore(shop.PROJECT, settings)
    first.apply()
    first.push("price", shop.prices_frame())
    changed = dataclasses.replace(shop.PRICE, ttl=timedelta(days=3))
    project = dataclasses.replace(shop.PROJECT, views=(shop.TURNOVER, changed, shop.LAST_SALE))
    rows = [{"sku": 1}]
    at = LAST_DAY
    served = first.get_online_features(["price:price"], rows, at=at)
    second = FeatureStore(project, settings)
    second.apply()
    assert not first.follow_rollbacks()
    assert first.get_online_features(["price:price"], rows, at=at) == served
    assert second.get_online_features(["price:price"], rows, at=at) != served
    FeatureStore(project, settings).rollback("price", 1)
    assert second.follow_rollbacks()
    assert not second.follow_rollbacks()
    assert second.get_online_features(["price:price"], rows, at=at) == served
