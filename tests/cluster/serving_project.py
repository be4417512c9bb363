"""A shop that asks whether an item will sell: small enough to serve in a test."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from app.spec import (
    Analysis,
    AnalysisMetric,
    Cases,
    CsvFiles,
    Entity,
    FeatureService,
    FeatureView,
    Field,
    Label,
    Mirror,
    Pause,
    Project,
    RolloutPolicy,
    SetWeight,
    SklearnModel,
    Source,
    Timeline,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
WEEK = timedelta(days=7)

SHOP = Entity("shop", ("shop",))
STOCK = Source(
    "stock",
    CsvFiles("stock.csv"),
    (Field("shop", "string"), Field("stock", "float64"), Field("at", "timestamp")),
    key=("shop", "at"),
    event_timestamp="at",
)
ORDERS = Source(
    "orders",
    CsvFiles("orders.csv"),
    (
        Field("order_id", "string"), Field("shop", "string"), Field("price", "float64"),
        Field("sold", "int64"), Field("at", "timestamp"),
    ),
    key=("order_id",),
    event_timestamp="at",
)
STOCK_VIEW = FeatureView("stock_now", (SHOP,), STOCK, (Field("stock", "float64"),))
SERVICE = FeatureService("sale", ("stock_now:*",))
MODEL = SklearnModel("sale", SERVICE, "sklearn.linear_model:LogisticRegression")

PROJECT = Project(
    name="shop",
    sources=(STOCK, ORDERS),
    views=(STOCK_VIEW,),
    cases=Cases(ORDERS, key="order_id", prediction_timestamp="at", request_fields=(Field("price", "float64"),)),
    label=Label(ORDERS, "sold"),
    model=MODEL,
    baseline=MODEL,
    timeline=Timeline(START, START + WEEK, START + 2 * WEEK, START + 4 * WEEK),
    rollout=RolloutPolicy(
        steps=(SetWeight(50), Analysis()),
        metrics=(
            AnalysisMetric("errors", "error_rate", "result <= 0.02", "result > 0.1", min_rows=10, inconclusive_limit=2),
        ),
    ),
)

# The same shop judged by the wall clock, each second, as a platform does.
LIVE = replace(
    PROJECT,
    rollout=replace(
        PROJECT.rollout,
        metrics=(replace(PROJECT.rollout.metrics[0], interval_s=1.0, inconclusive_limit=50),),
    ),
)

# As LIVE, with a tenth of the traffic first.
LIVE_CANARY = replace(LIVE, rollout=replace(LIVE.rollout, steps=(SetWeight(10), Analysis())))
# Stays at half of the traffic until a person acts.
HELD = RolloutPolicy(steps=(SetWeight(50), Pause(timedelta(days=1))))

# Half of the traffic to a candidate that must be sound in every way, judged each second.
WARY = replace(
    PROJECT,
    rollout=RolloutPolicy(
        steps=(SetWeight(50), Analysis()),
        metrics=tuple(
            AnalysisMetric(name, measure, good, bad, min_rows=10, interval_s=1.0, count=30, inconclusive_limit=50)
            for name, measure, good, bad in (
                ("errors", "error_rate", "result <= 0.05", "result > 0.05"),
                ("missing", "missing_share", "result <= 0.05", "result > 0.05"),
                ("time", "latency_p95_ms", "result <= 300", "result > 300"),
            )
        ),
    ),
)

# In two steps, and patient with a candidate that is killed now and then but not with one that never answers.
CHAOS = replace(
    PROJECT,
    rollout=RolloutPolicy(
        steps=(SetWeight(10), Analysis(), SetWeight(50), Analysis()),
        metrics=(
            AnalysisMetric(
                "errors", "error_rate", "result <= 0.5", "result > 0.5", min_rows=50, interval_s=1.0, count=2,
                failure_limit=1, inconclusive_limit=50,
            ),
        ),
        progress_deadline=timedelta(seconds=60),
    ),
)

# The same shop with a model that takes nulls, so that whatever is asked has an answer.
ROBUST = replace(PROJECT, model=replace(MODEL, factory="sklearn.ensemble:HistGradientBoostingClassifier"))
# Shown to a candidate first, then promoted.
SHADOW = replace(
    PROJECT,
    rollout=RolloutPolicy(
        strategy="shadow",
        steps=(Mirror(100), Analysis()),
        metrics=(
            AnalysisMetric(
                "errors", "mirror_error_rate", "result <= 0.02", "result > 0.1", min_rows=10, interval_s=1.0,
                inconclusive_limit=50,
            ),
        ),
    ),
)
