"""Tombstones for what corrections take away, against the rule: of a source's row the version written last counts."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from app.features.arrow_types import conform
from app.features.backfill import BEGINNING
from app.features.backfill_stage import by_version
from app.features.gone_rows import SOURCE_KEY, WITH, gone_rows
from app.features.point_in_time import DIED
from app.features.raw_tables import raw_rows
from app.features.replaced_rows import living_rows
from app.features.store import FeatureStore
from app.features.view_rows import view_rows
from app.settings import Settings
from app.spec import Entity
from tests.unit.features import shop
from tests.unit.features.raw_rows import put_raw

SECOND = timedelta(seconds=1)


def repeated(frame: pd.DataFrame) -> pd.DataFrame:
    """As many rows for a sale as its article says, at most two; the shop's name is made here, so no source has it."""
    times = frame["sku"].clip(upper=2)
    return frame.loc[frame.index.repeat(times)].assign(corner=lambda f: f["shop"] + "!")


CORNER = Entity("corner", ("corner",))
VIEW = dataclasses.replace(shop.LAST_SALE, name="corners", entities=(CORNER,), transform=repeated)


def at(tick: int) -> datetime:
    return shop.BASE + tick * SECOND


def versions(random: Random, number: int) -> list[dict[str, Any]]:
    """Versions of two sales, each written at another moment."""
    return [
        {
            "sale_id": random.randint(1, 2), "shop": random.choice("ab"), "sku": random.randint(0, 2), "amount": 1.0,
            "sold_at": at(random.randint(0, 6)), "known_at": at(random.randint(0, 9)), "written": n,
        }
        for n in range(number)
    ]


def counting(sales: list[dict[str, Any]], tick: int) -> list[tuple[str, str, datetime]]:
    """The rule: of the versions of each sale available by then the one written last, and what the view makes of it."""
    known = {s["sale_id"]: s for s in sorted(sales, key=lambda s: s["written"]) if s["known_at"] <= at(tick)}
    made = []
    for sale in known.values():
        for place in range(min(sale["sku"], 2)):
            key = f"1:{sale['sale_id']}" + (f"#{place}" if place else "")
            if sale["sold_at"] <= at(tick):
                made.append((f"{sale['shop']}!", key, sale["sold_at"]))
    return sorted(made)


@hypothesis_settings(max_examples=150)
@given(st.integers(0, 2**32), st.integers(1, 7))
def test_at_each_moment_exactly_what_the_version_written_last_makes_counts(seed: int, number: int) -> None:
    random = Random(seed)
    sales = versions(random, number)
    landed = random.sample(range(number), number)
    frame = pd.DataFrame(sales)
    parts = [
        raw_rows(
            conform(pl.DataFrame(frame[frame["written"] == n]).to_arrow(), shop.SALES.fields, "sales"), shop.SALES,
            at(100 + n),
        )
        for n in range(number)
    ]
    table: list[pl.DataFrame] = []
    for step in range(number):  # commits come in any order; each backfill sees those so far, and writes what is new
        there = [n for n in range(number) if landed[n] <= step]
        raw = by_version(pl.concat([pl.DataFrame(parts[n]) for n in there]).to_arrow().cast(parts[0].schema))
        gone = gone_rows(VIEW, raw, {at(100 + n): landed[n] for n in there})
        new = next(n for n in there if landed[n] == step)
        source_key = parts[new]["row_key"][0].as_py()
        gone = gone.filter((pl.col(SOURCE_KEY) == source_key) & (pl.col(WITH) == at(100 + new)))
        for rows in (pl.DataFrame(view_rows(VIEW, parts[new])), gone.drop(SOURCE_KEY, WITH)):
            table.append(rows.with_columns(pl.lit(at(200 + step)).alias("created_timestamp")))
    living = living_rows(pl.concat(table, how="diagonal"), ["corner"])
    for tick in range(10):
        now = living.filter(
            (pl.max_horizontal("event_timestamp", "available_timestamp") <= at(tick))
            & (pl.col(DIED).is_null() | (pl.col(DIED) > at(tick)))
        )
        assert sorted(now.select("corner", "row_key", "event_timestamp").rows()) == counting(sales, tick)


PROJECT = dataclasses.replace(shop.PROJECT, views=(*shop.PROJECT.views, VIEW))
SALE = {"sale_id": 1, "shop": "a", "sku": 2, "amount": 3.0, "sold_at": shop.BASE, "known_at": shop.BASE}
OTHER = {**SALE, "sale_id": 2, "sold_at": shop.BASE - shop.DAY, "known_at": shop.BASE - shop.DAY}
LATER = shop.BASE + 5 * shop.HOUR
CHANGES = {  # of sale 1, known five hours later; then the last sale of shops a and b, and how many in a day
    "moved to another entity": ({"shop": "b"}, [(2, 0), (1, 1)]),
    "taken away": ({"sku": 0}, [(2, 0), (None, 0)]),
}


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("pushed", [False, True], ids=["ingested", "pushed"])
def test_what_a_correction_takes_away_stops_counting_where_it_was(settings: Settings, what: str, pushed: bool) -> None:
    change, then_counts = CHANGES[what]
    project = dataclasses.replace(
        PROJECT, views=(
            dataclasses.replace(shop.LAST_SALE, transform=lambda f: f[f["sku"] > 0]),
            dataclasses.replace(shop.TURNOVER, entities=(shop.SHOP,), transform=lambda f: shop.double(f[f["sku"] > 0])),
            shop.PRICE,
        ),
    )
    store = FeatureStore(project, settings)
    store.apply()
    views, end = ["last_sale", "turnover"], LATER + shop.DAY
    put_raw(store.lake, shop.SALES, pd.DataFrame([OTHER, SALE]))
    store.materialize(BEGINNING, end, views)
    store.load_online(LATER - SECOND, views)
    asked = pd.DataFrame({"shop": ["a", "b"], "event_timestamp": [LATER] * 2})
    features = ["last_sale:sale_id", "turnover:amount_count_1d"]
    before = store.get_historical_features(asked, features)
    assert before.table.select(["sale_id", "amount_count_1d"]).to_pylist()[0] == {"sale_id": 1, "amount_count_1d": 1}
    correction = {**SALE, **change, "known_at": LATER}
    if pushed:
        store.push_source("sales", [correction], to="offline")
    else:
        put_raw(store.lake, shop.SALES, pd.DataFrame([correction]))
    assert all(result.rows for result in store.materialize(BEGINNING, end, views))
    assert not any(result.rows for result in store.materialize(BEGINNING, end, views))
    found = store.get_historical_features(asked, features).table.select(["sale_id", "amount_count_1d"]).to_pylist()
    expected = [dict(zip(["sale_id", "amount_count_1d"], values, strict=True)) for values in then_counts]
    assert found == expected
    store.load_online(LATER + shop.HOUR, views)
    served = store.get_online_features(features, [{"shop": "a"}, {"shop": "b"}], at=LATER)
    assert [{name: row[name] for name in found[0]} for row in served] == found
    assert store.get_historical_features(asked, features, pinned=before.manifest).table.equals(before.table)
    earlier = asked.assign(event_timestamp=LATER - SECOND)
    then = store.get_historical_features(earlier, features).table.select(["sale_id", "amount_count_1d"]).to_pylist()
    assert then[0] == {"sale_id": 1, "amount_count_1d": 1}
