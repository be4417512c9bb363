"""What a later version of a row changes, for training and online alike."""

from __future__ import annotations

from datetime import timedelta

import pandas as pd
import polars as pl
import pytest

from app.features.store import FeatureStore
from app.features.training_set import cases_inside
from app.settings import Settings
from tests.unit.features import shop

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
