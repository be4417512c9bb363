"""A small project: sales and prices of a shop, known some time after they happened."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from app.spec import (
    Aggregation,
    Cases,
    DatasetFunction,
    Entity,
    Expectation,
    FeatureService,
    FeatureView,
    Field,
    Label,
    OnDemandFeatureView,
    Project,
    SklearnModel,
    Source,
    Timeline,
)

BASE = datetime(2013, 1, 1, tzinfo=UTC)
DAYS = 12


def sales_frame(seed: int = 0, rows: int = 600) -> pd.DataFrame:
    """Sales at any moment of twelve days, known up to three hours later; two rows break an expectation."""
    random = np.random.default_rng(seed)
    sold = pd.to_datetime(np.sort(random.integers(0, DAYS * 86_400, rows)), unit="s", origin=BASE.replace(tzinfo=None))
    frame = pd.DataFrame(
        {
            "sale_id": np.arange(rows), "shop": random.choice(["a", "b", "a:b"], rows),
            "sku": random.integers(1, 5, rows), "amount": random.normal(10, 3, rows).round(2),
            "sold_at": sold, "known_at": sold + pd.to_timedelta(random.integers(0, 10_800, rows), unit="s"),
        }
    )
    frame.loc[::7, "amount"] = np.nan
    frame.loc[frame.index[[3, 50]], "amount"] = -1.0
    return frame


def prices_frame() -> pd.DataFrame:
    """A price of each article every day."""
    days = [(sku, day) for sku in range(1, 5) for day in range(DAYS)]
    return pd.DataFrame(
        {
            "sku": [s for s, _ in days], "price": [100 * s + d if (s + d) % 5 else None for s, d in days],
            "since": [BASE + timedelta(days=d) for _, d in days],
        }
    )


def cases_frame(rows: int = 120) -> pd.DataFrame:
    """Questions on whole and odd moments, with the answer known a day later."""
    random = np.random.default_rng(1)
    at = pd.to_datetime(random.integers(2 * 24, DAYS * 24, rows) * 3_600, unit="s", origin=BASE.replace(tzinfo=None))
    return pd.DataFrame(
        {
            "case_id": [f"c{i}" for i in range(rows)], "shop": random.choice(["a", "b", "a:b", "closed"], rows),
            "sku": random.integers(1, 6, rows), "quantity": random.integers(1, 4, rows), "asked_at": at,
            "bought": random.integers(0, 2, rows), "bought_known_at": at + pd.Timedelta(days=1),
        }
    )


def _dataset(frame: pd.DataFrame):
    import ray.data

    return ray.data.from_pandas(frame)


def read_sales():
    return _dataset(sales_frame())


def read_prices():
    return _dataset(prices_frame())


def read_cases():
    return _dataset(cases_frame())


def double(frame: pd.DataFrame) -> pd.DataFrame:
    """Adds a column and leaves out one article."""
    return frame[frame["sku"] != 4].assign(twice=frame["amount"] * 2)


def total(frame: pd.DataFrame) -> pd.DataFrame:
    """Price of the whole purchase."""
    return pd.DataFrame({"purchase": frame["quantity"] * frame["price"], "hour": frame["event_timestamp"].dt.hour})


SALES = Source(
    "sales", DatasetFunction(read_sales),
    (
        Field("sale_id", "int64"), Field("shop", "string"), Field("sku", "int64"), Field("amount", "float64"),
        Field("sold_at", "timestamp"), Field("known_at", "timestamp"),
    ),
    key=("sale_id",), event_timestamp="sold_at", available_timestamp="known_at",
    expectations=(Expectation("amount", minimum=0),),
)
PRICES = Source(
    "prices", DatasetFunction(read_prices),
    (Field("sku", "int64"), Field("price", "int64"), Field("since", "timestamp")),
    key=("sku", "since"), event_timestamp="since",
)
CASES = Source(
    "cases", DatasetFunction(read_cases),
    (
        Field("case_id", "string"), Field("shop", "string"), Field("sku", "int64"), Field("quantity", "int64"),
        Field("asked_at", "timestamp"), Field("bought", "int64"), Field("bought_known_at", "timestamp"),
    ),
    key=("case_id",), event_timestamp="asked_at", available_timestamp="bought_known_at",
)
SHOP, ARTICLE = Entity("shop", ("shop",)), Entity("article", ("sku",))
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
TURNOVER = FeatureView(
    "turnover", (SHOP, ARTICLE), SALES, (Field("amount", "float64"), Field("twice", "float64")),
    aggregations=(
        Aggregation("amount", "sum", DAY, HOUR), Aggregation("amount", "count", DAY, HOUR),
        Aggregation("amount", "mean", 7 * DAY, 6 * HOUR), Aggregation("amount", "std", 7 * DAY, 6 * HOUR),
        Aggregation("twice", "max", 7 * DAY, DAY), Aggregation("twice", "last", 7 * DAY, DAY),
        Aggregation("twice", "quantile", 7 * DAY, DAY, quantile=0.9),
        Aggregation("amount", "distinct_count", DAY, HOUR), Aggregation("amount", "quantile", DAY, HOUR, quantile=0.5),
    ),
    transform=double,
)
PRICE = FeatureView("price", (ARTICLE,), PRICES, (Field("price", "int64"),), ttl=timedelta(days=2))
LAST_SALE = FeatureView("last_sale", (SHOP,), SALES, (Field("sale_id", "int64"), Field("sold_at", "timestamp")))
PURCHASE = OnDemandFeatureView(
    "purchase", ("quantity", "price", "event_timestamp"), (Field("purchase", "int64"), Field("hour", "int64")), total
)
SERVICE = FeatureService("buying", ("turnover:*", "price:price", "last_sale:sale_id", "purchase:*"))
MODEL = SklearnModel("buying", SERVICE, "sklearn.linear_model:LogisticRegression", categorical=("sku",))
PROJECT = Project(
    name="shop", sources=(SALES, PRICES, CASES), views=(TURNOVER, PRICE, LAST_SALE), on_demand_views=(PURCHASE,),
    cases=Cases(CASES, "case_id", "asked_at", (Field("quantity", "int64"),)), label=Label(CASES, "bought"),
    model=MODEL, baseline=MODEL,
    timeline=Timeline(BASE, BASE + 5 * DAY, BASE + 8 * DAY, BASE + 12 * DAY),
)
