"""What a later version of a row changes, for training and online alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import polars as pl
import pytest

from app.features.backfill import BEGINNING
from app.features.store import FeatureStore
from app.features.training_set import cases_inside
from app.settings import Settings
from tests.unit.features import shop
from tests.unit.features.raw_rows import put_raw

HOUR = timedelta(hours=1)
COUNT = "turnover:amount_count_1d"


@pytest.mark.parametrize("loaded", [False, True], ids=["pushed", "loaded"])
def test_a_correction_to_another_entity_adds_a_row_there_on_both_sides(settings: Settings, loaded: bool) -> None:
    """One rule that both sides can keep: a row's identity is within its entity."""
    store = FeatureStore(shop.PROJECT, settings)
    store.apply()
    sale = {"sale_id": 1, "shop": "a", "sku": 1, "amount": 10.0, "sold_at": shop.BASE, "known_at": shop.BASE}
    other = {"sale_id": 2, "shop": "a", "sku": 1, "amount": 1.0, "sold_at": shop.BASE, "known_at": shop.BASE}
    for row in (sale, other, {**sale, "shop": "b"}, {**sale, "shop": "b", "amount": 20.0}):
        store.push("turnover", [row], to="offline" if loaded else "online_and_offline")
    at = shop.BASE + HOUR
    if loaded:
        store.load_online(at, ["turnover"])
    entities = [{"shop": "a", "sku": 1}, {"shop": "b", "sku": 1}]
    asked = pd.DataFrame(entities).assign(event_timestamp=at)
    features = [COUNT, "turnover:amount_sum_1d"]
    trained = store.get_historical_features(asked, features).table.select(["amount_count_1d", "amount_sum_1d"])
    served = store.get_online_features(features, entities, at)
    assert trained.to_pylist() == [
        {"amount_count_1d": 2, "amount_sum_1d": 11.0}, {"amount_count_1d": 1, "amount_sum_1d": 20.0}
    ]
    assert [{name: row[name] for name in trained.column_names} for row in served] == trained.to_pylist()


def test_a_case_that_a_correction_moved_out_of_the_stretch_is_not_in_it() -> None:
    inside = pl.DataFrame({"row_key": ["a", "b", "b", "c"], "created_timestamp": [1, 1, 2, 5], "x": [1, 2, 3, 4]})
    outside = pl.DataFrame({"row_key": ["a", "c", "d"], "created_timestamp": [2, 1, 1]})
    assert cases_inside(inside, outside).rows() == [("b", 2, 3), ("c", 5, 4)]


@pytest.mark.parametrize("order", [("late", "early"), ("early", "late")], ids=["moved back", "moved on"])
def test_a_version_out_of_reach_replaces_what_it_corrects(settings: Settings, order: tuple[str, str]) -> None:
    """The version written last counts, also when it was available before everything a window can see."""
    store = FeatureStore(shop.PROJECT, settings)
    store.apply()
    at = shop.BASE + timedelta(days=40)
    known = {"late": at - HOUR, "early": shop.BASE}
    for name in order:
        row = {"sale_id": 1, "shop": "a", "sku": 1, "amount": 10.0, "sold_at": shop.BASE, "known_at": known[name]}
        store.push("turnover", [row], to="offline")
    asked = pd.DataFrame({"shop": ["a"], "sku": [1], "event_timestamp": [at]})
    found = store.get_historical_features(asked, [COUNT]).table["amount_count_1d"].to_pylist()
    assert found == [1 if order[-1] == "late" else 0]


SOLD = shop.BASE
BEFORE = {"sale_id": 1, "shop": "a", "sku": 1, "amount": 1.0, "sold_at": SOLD, "known_at": SOLD}
WRONG = {"sale_id": 2, "shop": "a", "sku": 1, "amount": 2.0, "sold_at": SOLD + HOUR, "known_at": SOLD + HOUR}
LATER = SOLD + 5 * HOUR  # when the corrections become available
CORRECTIONS = {  # what of the last sale and of the turnover holds from then on
    "dropped by the transform": ({**WRONG, "sku": 4, "known_at": LATER}, 1, (1, 1.0)),
    "moved behind the other": ({**WRONG, "sold_at": SOLD - HOUR, "known_at": LATER}, 1, (2, 3.0)),
    "moved beyond the question": ({**WRONG, "sold_at": SOLD + 900 * HOUR, "known_at": LATER}, 1, (2, 3.0)),
}
LAST, TURNOVER = "last_sale:sale_id", ["turnover:amount_count_1d", "turnover:amount_sum_1d"]
PROJECT = replace(
    shop.PROJECT,
    views=(
        replace(shop.LAST_SALE, transform=lambda frame: frame[frame["sku"] != 4]),
        replace(shop.TURNOVER, entities=(shop.SHOP,), transform=shop.double), shop.PRICE,
    ),
)


def corrected(settings: Settings, how: str, correction: dict[str, Any], between: Callable[[], None]) -> FeatureStore:
    """Both sales, then the correction, by the way of `how`."""
    store = FeatureStore(PROJECT, settings)
    store.apply()
    views = ["last_sale", "turnover"]
    for number, rows in enumerate([[BEFORE, WRONG], [correction]]):
        if number:
            between()
        if how == "pushed":
            for view in views:
                store.push(view, rows)
            continue
        put_raw(store.lake, shop.SALES, pd.DataFrame(rows))
        if how == "backfilled at once" and not number:
            continue
        if how == "backfilled, the latest first" and number:
            store.materialize(SOLD + 2 * HOUR, SOLD + 99 * HOUR, views)
        if how != "backfilled, the latest first" or number:
            store.materialize(BEGINNING, SOLD + 99 * HOUR, views)
    return store


def answers(store: FeatureStore, at: datetime, as_of: datetime | None = None) -> tuple[int | None, tuple[Any, ...]]:
    asked = pd.DataFrame({"shop": ["a"], "event_timestamp": [at]})
    found = store.get_historical_features(asked, [LAST, *TURNOVER], as_of=as_of).table.to_pylist()[0]
    return found["sale_id"], (found["amount_count_1d"], found["amount_sum_1d"])


WAYS = ["pushed", "backfilled", "backfilled at once", "backfilled, the latest first"]


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("what", CORRECTIONS)
def test_a_row_that_a_correction_takes_away_counts_until_it_is_known(settings: Settings, how: str, what: str) -> None:
    correction, sale, turnover = CORRECTIONS[what]
    moments: list[datetime] = []
    store = corrected(settings, how, correction, lambda: moments.append(datetime.now(UTC)))
    assert answers(store, LATER - HOUR) == (2, (2, 3.0))
    assert answers(store, LATER) == (sale, turnover)
    if how in ("pushed", "backfilled"):
        assert answers(store, LATER, as_of=moments[0]) == (2, (2, 3.0))


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("what", CORRECTIONS)
def test_a_row_that_was_taken_away_is_not_served(settings: Settings, how: str, what: str) -> None:
    correction, sale, turnover = CORRECTIONS[what]
    store = corrected(settings, how, correction, lambda: None)
    if how != "pushed":
        store.load_online(LATER + HOUR, ["last_sale", "turnover"])
    (served,) = store.get_online_features([LAST, *TURNOVER], [{"shop": "a"}], LATER + HOUR)
    assert (served["sale_id"], (served["amount_count_1d"], served["amount_sum_1d"])) == (sale, turnover)


def test_a_tombstone_is_no_row_of_the_view(settings: Settings) -> None:
    store = corrected(settings, "pushed", CORRECTIONS["dropped by the transform"][0], lambda: None)
    statistics = store.statistics("last_sale")
    assert statistics is not None
    assert statistics.rows == 2
