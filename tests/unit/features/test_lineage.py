"""Lineage by column from source to prediction and back, and who a change affects."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import pytest

from app.errors import UnknownNameError
from app.features.column_lineage import Origin, origins
from app.features.store import FeatureStore
from app.features.uses import record_model_use
from app.foundation.state import StateDatabase
from app.project import PROJECT as FLIGHTS
from app.settings import Settings
from tests.unit.features import shop

MANIFEST: dict[str, Any] = {
    "views": {"turnover": {"version": 1}, "price": {"version": 1}, "last_sale": {"version": 1}},
    "features": ["turnover:amount_sum_1d", "price:price", "last_sale:sale_id", "purchase:purchase"],
    "row_hash": "5d0c",
}


@pytest.fixture
def store(settings: Settings) -> FeatureStore:
    """The shop, registered, with version 3 of its model."""
    store = FeatureStore(shop.PROJECT, settings)
    store.apply()
    record_model_use(StateDatabase.open(settings.state_url), shop.PROJECT, "shop", "3", MANIFEST, "run-7")
    return store


def ids(nodes: Any) -> set[str]:
    return {node.id for node in nodes}


def test_a_source_column_is_followed_to_the_prediction_log(store: FeatureStore) -> None:
    graph = store.lineage("source/prices.price")
    start = ["source/prices.price"]
    assert ids(graph.downstream(start)) == {
        "view/price@v1:price", "on_demand_view/purchase@v1:purchase", "service/buying@v1", "training_set/5d0c",
        "model/shop@3", "predictions/shop@3",
    }
    assert graph.upstream(start) == []


def test_a_prediction_is_followed_back_to_source_columns(store: FeatureStore) -> None:
    graph = store.lineage("predictions/shop@3")
    back = ids(graph.upstream(["predictions/shop@3"]))
    assert {"source/sales.amount", "source/prices.price", "source/cases.bought", "request/quantity"} <= back
    assert "source/cases.asked_at" not in back


def test_edges_say_how(store: FeatureStore) -> None:
    edges = {(e.source, e.target): e.role for e in store.lineage("turnover:amount_sum_1d").edges}
    feature = "view/turnover@v1:amount_sum_1d"
    assert edges[("source/sales.amount", feature)] == "value"
    assert edges[("source/sales.known_at", feature)] == "time"
    assert edges[("source/sales.shop", feature)] == "key"
    assert edges[(feature, "service/buying@v1")] == "part"
    whole = {(e.source, e.target, e.role) for e in store.lineage("turnover").edges}
    assert ("source/sales.sku", feature, "rows") in whole, "the transform filters by it"


@pytest.mark.parametrize(
    ("reference", "users"),
    [
        ("source/sales.amount", ["feature view turnover", "feature service buying", "model shop@3"]),
        ("price", ["on-demand view purchase", "feature service buying", "model shop@3"]),
        ("price:price", ["on-demand view purchase", "feature service buying", "model shop@3"]),
        ("last_sale:sold_at", []),
        ("entity/shop", ["feature view last_sale", "feature view turnover", "feature service buying", "model shop@3"]),
        ("service/buying", ["model shop@3"]),
        ("request/quantity", ["on-demand view purchase", "feature service buying", "model shop@3"]),
    ],
)
def test_impact_names_views_services_and_models(store: FeatureStore, reference: str, users: list[str]) -> None:
    assert store.impact(reference).users == users


def test_a_plan_names_services_and_models_affected(store: FeatureStore, settings: Settings) -> None:
    price = dataclasses.replace(shop.PRICE, ttl=timedelta(days=9))
    project = dataclasses.replace(shop.PROJECT, views=(shop.TURNOVER, price, shop.LAST_SALE))
    (change,) = FeatureStore(project, settings).plan()
    assert str(change).endswith("; feeds purchase; read by buying; learned by shop@3")


def test_a_model_that_learned_from_an_earlier_version_stays_traced(store: FeatureStore, settings: Settings) -> None:
    price = dataclasses.replace(shop.PRICE, ttl=timedelta(days=9))
    newer = FeatureStore(
        dataclasses.replace(shop.PROJECT, views=(shop.TURNOVER, price, shop.LAST_SALE)), settings
    )
    newer.apply()
    back = ids(newer.lineage("model/shop@3").upstream(["model/shop@3"]))
    assert "view/price@v1:price" in back
    assert newer.impact("price").models == ("shop@3",)


def test_recording_a_use_again_says_the_same_once(store: FeatureStore, settings: Settings) -> None:
    stretches = {"stretches": [MANIFEST, {**MANIFEST, "features": ["price:price"]}], "row_hash": "77"}
    database = StateDatabase.open(settings.state_url)
    for _ in range(2):
        record_model_use(database, shop.PROJECT, "shop", "4", stretches, "run-8")
    assert store.impact("price").models == ("shop@3", "shop@4")


@pytest.mark.parametrize(
    ("reference", "message"),
    [("prize", "nothing in the lineage is called 'prize'"), ("view/sales", "nothing in the lineage"),
     ("price@v9:price", "nothing in the lineage")],
)
def test_what_is_not_there_is_named(store: FeatureStore, reference: str, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        store.lineage(reference)


def test_a_name_of_several_things_asks_which(store: FeatureStore) -> None:
    with pytest.raises(UnknownNameError, match="'shop' means several things; say which: training_set/shop, model/shop"):
        store.lineage("shop")


def test_every_feature_of_the_flights_is_traced_exactly(settings: Settings) -> None:
    graph = FeatureStore(FLIGHTS, settings).lineage("service/arrival_features")
    values = [e for e in graph.edges if e.role == "value"]
    assert len({e.target for e in values}) == len(FLIGHTS.expand(FLIGHTS.service))
    assert all(e.exact for e in values)
    assert ("source/planes.built_year", "view/plane@v1:plane_age") in {(e.source, e.target) for e in values}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('return rows.assign(y=rows["a"] + rows.b)', Origin(("a", "b"))),
        ('rows["y"] = rows["a"]\n    rows["y2"] = rows["y"]\n    return rows', Origin(("a",))),
        ('return pd.DataFrame({"y": rows["a"].fillna(0)})', Origin(("a",))),
        ('part = rows["b"] * 2\n    return rows.assign(y=part.clip(0))', Origin(("b",))),
        ('return rows[rows["c"] > 0].assign(y=rows["a"])', Origin(("a",), ("c",))),
        ('return rows.assign(y=lambda r: r["a"] - r["b"])', Origin(("a", "b"))),
        ("return rows.assign(y=rows.sum(axis=1))", Origin(("a", "b", "c"), exact=False)),
        ('return rows.eval("y = a * b")', Origin(("a", "b", "c"), exact=False)),
        ('return rows.query("c > 0").assign(y=rows["a"])', Origin(("a", "b", "c"), exact=False)),
        ('rows["y"] = rows["a"]\n    rows["y"] *= rows["b"]\n    return rows', Origin(("a", "b", "c"), exact=False)),
        ('rows.loc[rows["c"] > 0, "y"] = rows["a"]\n    return rows', Origin(("a", "b", "c"), exact=False)),
        ('rows[NAME] = rows["a"]\n    return rows', Origin(("a", "b", "c"), exact=False)),
        ("return elsewhere(rows)", Origin(("a", "b", "c"), exact=False)),
        ('return rows.assign(**{f"{n}": rows[n] for n in NAMES})', Origin(("a", "b", "c"), exact=False)),
    ],
)
def test_the_columns_behind_an_output_are_read_off_its_code(body: str, expected: Origin) -> None:
    assert origins(f"def transform(rows):\n    {body}\n", ["y"], ["a", "b", "c"])["y"] == expected


@pytest.mark.parametrize("code", ["lambda rows: rows", "64007c00 ('x',)", "functools.partial(f) (1,)"])
def test_code_that_cannot_be_read_counts_every_column(code: str) -> None:
    assert origins(code, ["y"], ["a", "b"])["y"] == Origin(("a", "b"), exact=False)
