"""Statistics say what the table holds, are kept by snapshot and show nothing personal."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from app.features import statistics
from app.features.statistics import ViewStatistics, field_statistics, view_statistics
from app.features.store import FeatureStore
from app.foundation.state import StateDatabase
from app.settings import Settings
from app.spec import Field
from tests.unit.features import shop

TABLE = "shop.fv_last_sale_v1"


@pytest.fixture
def store(settings: Settings) -> FeatureStore:
    store = FeatureStore(shop.PROJECT, settings)
    store.apply()
    return store


def read(store: FeatureStore, settings: Settings) -> ViewStatistics | None:
    return view_statistics(store.lake, StateDatabase.open(settings.state_url), shop.LAST_SALE, TABLE)


def test_what_was_never_written_has_no_statistics(store: FeatureStore, settings: Settings) -> None:
    assert read(store, settings) is None


def test_rows_entities_and_times(store: FeatureStore, settings: Settings) -> None:
    store.push("last_sale", shop.sales_frame(), to="offline")
    found = read(store, settings)
    assert found is not None
    frame = shop.sales_frame().query("amount >= 0 or amount != amount")
    assert (found.rows, found.entities) == (598, 3)
    newest = frame["known_at"].max().tz_localize("UTC")
    assert datetime.fromisoformat(found.newest_available or "") == newest
    assert found.lag(newest.to_pydatetime() + timedelta(hours=2)) == timedelta(hours=2)
    sale_id = found.fields[0]
    assert (sale_id.minimum, sale_id.maximum, sale_id.distinct, sale_id.null_share) == (0, 599, 598, 0)


def test_kept_until_the_table_changes(
    store: FeatureStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.push("last_sale", shop.sales_frame().head(10), to="offline")
    first = read(store, settings)
    with monkeypatch.context() as patch:
        patch.setattr(statistics, "compute_statistics", None)  # a call would fail
        assert read(store, settings) == first
    store.push("last_sale", shop.sales_frame().tail(10), to="offline")
    second = read(store, settings)
    assert first is not None and second is not None and second.rows > first.rows


def test_numbers_texts_and_missing_values() -> None:
    numbers = field_statistics(Field("x", "float64"), pl.Series([1.0, float("nan"), None, 3.0]))
    assert (numbers.null_share, numbers.mean, numbers.minimum, numbers.maximum) == (0.5, 2.0, 1.0, 3.0)
    texts = field_statistics(Field("x", "string"), pl.Series(["a", "b", "a", None]))
    assert (texts.top_values[0], texts.distinct, texts.null_share) == (("a", 2), 2, 0.25)
    assert field_statistics(Field("x", "int64"), pl.Series([None, None], dtype=pl.Int64)).mean is None
    moments = field_statistics(Field("x", "timestamp"), pl.Series([datetime.now(UTC)] * 2))
    assert moments.distinct == 1


def test_personal_values_are_not_shown() -> None:
    for dtype, values in (("string", ["me", None]), ("int64", [7, None])):
        found = field_statistics(Field("x", dtype, pii=True), pl.Series(values))  # type: ignore[arg-type]
        shown = {k: v for k, v in dataclasses.asdict(found).items() if v not in (None, ())}
        assert shown == {"name": "x", "dtype": dtype, "null_share": 0.5}


def test_kept_statistics_hide_what_was_declared_personal_since(store: FeatureStore, settings: Settings) -> None:
    store.push("last_sale", shop.sales_frame().head(10), to="offline")
    assert (read(store, settings) or pytest.fail()).fields[0].maximum is not None
    fields = tuple(dataclasses.replace(f, pii=f.name == "sale_id") for f in shop.LAST_SALE.fields)
    personal = dataclasses.replace(shop.LAST_SALE, fields=fields)
    found = view_statistics(store.lake, StateDatabase.open(settings.state_url), personal, TABLE)
    assert found is not None
    assert {k: v for k, v in dataclasses.asdict(found.fields[0]).items() if v not in (None, ())} == {
        "name": "sale_id", "dtype": "int64", "null_share": 0.0
    }
