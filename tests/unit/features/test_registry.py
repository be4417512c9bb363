"""The registry: what is a new version, what only an update; rollbacks hold; deleting what is used is refused."""

from __future__ import annotations

import dataclasses
import threading
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from multiprocessing import get_context
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa

from app.errors import FeatureStoreError, ProjectError, StateConflictError, UnknownNameError
from app.features.store import FeatureStore
from app.features.uses import record_model_use
from app.foundation.state import StateDatabase
from app.foundation.state import models as m
from app.settings import Settings
from app.spec import Aggregation, Entity, FeatureService, FeatureView, Field, Project
from tests.unit.features import shop

DAY = timedelta(days=1)


def with_price(**changes: Any) -> Project:
    """The shop with another meaning of its view `price`."""
    return dataclasses.replace(
        shop.PROJECT, views=(shop.TURNOVER, dataclasses.replace(shop.PRICE, **changes), shop.LAST_SALE)
    )


def half(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(price=frame["price"] // 2)


def third(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(price=frame["price"] // 3)


def applied(project: Project, settings: Settings, principal: str | None = None) -> FeatureStore:
    store = FeatureStore(project, settings, principal)
    store.apply()
    return store


def test_everything_declared_is_registered_once(settings: Settings) -> None:
    store = FeatureStore(shop.PROJECT, settings, "ann")
    assert [(c.kind, c.name, c.action, c.version) for c in store.apply()] == [
        ("entity", "shop", "new", 1), ("entity", "article", "new", 1),
        ("view", "turnover", "new", 1), ("view", "price", "new", 1), ("view", "last_sale", "new", 1),
        ("on_demand_view", "purchase", "new", 1), ("service", "buying", "new", 1),
    ]
    assert store.plan() == [] and store.apply() == []
    (version,) = store.versions("buying")
    assert (version["created_by"], version["active"]) == ("ann", True)
    assert version["definition"]["features"][-1] == "purchase:hour"


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"fields": (Field("price", "float64"),)}, "fields"),
        ({"transform": half}, "transform"),
        ({"ttl": None}, "ttl_us"),
        ({"aggregations": (Aggregation("price", "max", DAY),)}, "aggregations"),
        ({"source": dataclasses.replace(shop.PRICES, available_timestamp="since")}, "source"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_each_change_of_meaning_is_a_new_version(settings: Settings, change: dict[str, Any], part: str) -> None:
    applied(shop.PROJECT, settings)
    changed = dataclasses.replace(shop.PRICE, **change)
    sources = (shop.SALES, changed.source, shop.CASES)
    service = FeatureService("buying", ("turnover:*", "last_sale:sale_id"))
    model = dataclasses.replace(shop.MODEL, service=service)
    project = dataclasses.replace(
        shop.PROJECT, views=(shop.TURNOVER, changed, shop.LAST_SALE), sources=sources, model=model, baseline=model,
        on_demand_views=(),
    )
    views = [c for c in FeatureStore(project, settings).plan() if c.kind == "view"]
    assert [(c.name, c.action, c.version, c.parts) for c in views] == [("price", "new version", 2, (part,))]


def test_a_transform_with_other_constants_is_another_meaning(settings: Settings) -> None:
    def scaled(by: int):
        def scale(frame: pd.DataFrame) -> pd.DataFrame:
            return frame.assign(price=frame["price"] * by)

        return scale

    applied(with_price(transform=scaled(2)), settings)
    assert FeatureStore(with_price(transform=scaled(2)), settings).plan() == []
    assert [c.parts for c in FeatureStore(with_price(transform=scaled(3)), settings).plan()] == [("transform",)]


def test_owner_description_tags_and_field_meanings_update_without_a_version(settings: Settings) -> None:
    applied(shop.PROJECT, settings)
    told = {"owner": "sales", "description": "in cents", "tags": {"tier": "1"},
            "fields": (Field("price", "int64", "What one costs.", pii=True),)}
    store = FeatureStore(with_price(**told), settings)
    (change,) = store.plan()
    assert (change.action, change.version, change.parts) == ("update", 1, ("owner", "description", "tags", "fields"))
    store.apply()
    assert [v["version"] for v in store.versions("price")] == [1]
    described = FeatureStore(shop.PROJECT, settings).describe("price")
    assert described["owner"] == "", "a store shows what its own project declares"
    described = FeatureStore(with_price(**told), settings).describe("price")
    assert (described["owner"], described["tags"]) == ("sales", {"tier": "1"})
    assert described["fields"]["price"] == {"description": "What one costs.", "pii": True}


def test_services_follow_their_features_and_entities_their_join_keys(settings: Settings) -> None:
    applied(shop.PROJECT, settings)
    service = FeatureService("buying", ("turnover:*", "price:price"))
    model = dataclasses.replace(shop.MODEL, service=service)
    article = Entity("article", ("sku", "shop"))
    prices = dataclasses.replace(shop.PRICE, entities=(article,))
    turnover = dataclasses.replace(shop.TURNOVER, entities=(shop.SHOP, article))
    project = dataclasses.replace(
        shop.PROJECT, model=model, baseline=model, views=(turnover, prices, shop.LAST_SALE)
    )
    changes = {(c.kind, c.name): c for c in FeatureStore(project, settings).plan()}
    assert set(changes) == {("entity", "article"), ("view", "price"), ("service", "buying")}
    assert changes[("entity", "article")].parts == ("join_keys",)
    assert changes[("service", "buying")].version == 2


def test_a_diff_names_what_differs(settings: Settings) -> None:
    applied(with_price(transform=half), settings)
    store = applied(with_price(transform=third, ttl=timedelta(hours=36)), settings)
    differences = {d.part: d for d in store.diff("price", 1, 2)}
    assert set(differences) == {"ttl", "transform"}
    assert str(differences["ttl"]) == "ttl: 2 days → 36 hours"
    assert "-    return frame.assign(price=frame[\"price\"] // 2)" in differences["transform"].unified()
    assert store.diff("price", 2, 2) == []
    with pytest.raises(UnknownNameError, match="has no version 9; it has: 1, 2"):
        store.diff("price", 1, 9)


def test_a_rollback_holds_until_the_declaration_changes_again(settings: Settings) -> None:
    applied(shop.PROJECT, settings)
    second = applied(with_price(ttl=DAY), settings)
    second.rollback("price", 1)
    plan = FeatureStore(with_price(ttl=DAY), settings).plan()
    assert plan == [] and plan.held == {"price": 1}
    applied(with_price(ttl=DAY), settings)
    assert [v["active"] for v in second.versions("price")] == [True, False]
    assert second.describe("price")["held_back"]
    third_store = applied(with_price(ttl=3 * DAY), settings)
    assert [(v["version"], v["active"]) for v in third_store.versions("price")] == [(1, False), (2, False), (3, True)]
    back = applied(with_price(ttl=DAY), settings)
    assert [v["active"] for v in back.versions("price")] == [False, True, False]


def test_two_rollbacks_in_a_row_hold_back_both(settings: Settings) -> None:
    for days in (2, 3, 4):
        store = applied(with_price(ttl=days * DAY), settings)
    store.rollback("price", 2)
    FeatureStore(shop.PROJECT, settings).rollback("price", 1)
    for days in (3, 4):
        assert FeatureStore(with_price(ttl=days * DAY), settings).plan().held == {"price": 1}


def test_rolling_forward_ends_the_hold(settings: Settings) -> None:
    applied(shop.PROJECT, settings)
    store = applied(with_price(ttl=DAY), settings)
    store.rollback("price", 1)
    store.rollback("price", 2)
    assert not store.describe("price")["held_back"]
    assert [v["active"] for v in store.versions("price")] == [False, True]


def test_deleting_what_is_used_is_refused_with_the_users(settings: Settings) -> None:
    store = applied(shop.PROJECT, settings)
    database = StateDatabase.open(settings.state_url)
    manifest = {"views": {"price": {"version": 1}}, "features": ["price:price"], "row_hash": "5d0c"}
    record_model_use(database, shop.PROJECT, "shop", "1", manifest, "run-1")
    with pytest.raises(FeatureStoreError) as caught:
        store.delete("price")
    for user in ("on-demand view purchase", "feature service buying", "model shop@1"):
        assert user in str(caught.value)
    assert store.versions("price")[0]["active"]
    with pytest.raises(FeatureStoreError, match="entity 'article' is in use by feature view turnover"):
        store.delete("article")
    with pytest.raises(FeatureStoreError, match="feature service 'buying' is in use by model shop@1"):
        store.delete("buying")


def test_models_that_no_longer_answer_hold_nothing_back(settings: Settings) -> None:
    without = FeatureService("buying", ("turnover:*", "last_sale:sale_id"))
    model = dataclasses.replace(shop.MODEL, service=without)
    project = dataclasses.replace(shop.PROJECT, model=model, baseline=model, on_demand_views=())
    applied(shop.PROJECT, settings)
    store = applied(project, settings)
    store.delete("purchase")
    database = StateDatabase.open(settings.state_url)
    with_it = {"views": {"price": {"version": 1}}, "features": ["price:price"], "row_hash": "a"}
    record_model_use(database, shop.PROJECT, "shop", "1", with_it, "run-1")
    without_it = {"views": {"turnover": {"version": 1}}, "features": ["turnover:amount_sum_1d"], "row_hash": "b"}
    record_model_use(database, project, "shop", "2", without_it, "run-2")
    route = {"candidate": None, "weight_percent": 0.0, "prepare": None, "rollout_id": None, "reason": ""}
    for epoch, champion in ((1, "1"), (2, "2")):
        with database.session() as session:
            session.add(
                m.RoutingState(model="shop", epoch=epoch, champion=champion, written_at=shop.BASE, **route)
            )
        if champion == "1":
            with pytest.raises(FeatureStoreError, match=r"in use by model shop@1 \(champion\)"):
                store.delete("price")
    store.delete("price")
    with pytest.raises(FeatureStoreError, match="not registered"):
        store.get_online_features(["price:price"], [{"sku": 1}])
    assert [(v["version"], v["active"]) for v in store.versions("price")] == [(1, False)]
    assert [(c.name, c.action, c.version) for c in store.apply()] == [("price", "back to an earlier version", 1)]


def test_deleting_what_is_not_there_says_so(settings: Settings) -> None:
    store = FeatureStore(shop.PROJECT, settings)
    with pytest.raises(UnknownNameError, match="no registered feature view 'price' to delete"):
        store.delete("price")
    with pytest.raises(UnknownNameError, match="has no feature view, service or entity 'prize'; it has: article, buy"):
        store.delete("prize")


@pytest.mark.parametrize("call", ["versions", "describe", "rollback", "diff"])
def test_unknown_names_are_named(settings: Settings, call: str) -> None:
    arguments = {"rollback": (1,), "diff": (1, 2)}.get(call, ())
    with pytest.raises(UnknownNameError, match=r"'prize'; it has: .*price"):
        getattr(applied(shop.PROJECT, settings), call)("prize", *arguments)


def test_only_stored_views_are_rolled_back(settings: Settings) -> None:
    store = applied(shop.PROJECT, settings)
    with pytest.raises(UnknownNameError, match="has no version 7; it has: 1"):
        store.rollback("price", 7)
    with pytest.raises(UnknownNameError, match="has no feature view 'buying'"):
        store.rollback("buying", 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"views": (shop.PRICE, shop.PRICE)}, "feature view 'price' is declared twice"),
        ({"services": (FeatureService("buying", ("price:price",)),)}, "feature service 'buying' is declared twice"),
        ({"services": (FeatureService("other", ("price:prize",)),)}, "has no feature 'prize'"),
        (
            {"views": (shop.TURNOVER, shop.LAST_SALE,
                       dataclasses.replace(shop.PRICE, entities=(Entity("article", ("sku", "shop")),)))},
            "entity 'article' is declared twice and differently",
        ),
    ],
)
def test_names_declared_twice_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ProjectError, match=message):
        dataclasses.replace(shop.PROJECT, **change)


@pytest.mark.parametrize(
    ("reference", "message"),
    [("tests.unit.features.shop", "not an import path"), ("tests.unit.features.shop:SHOP", "is a Entity; expected"),
     ("tests.unit.features.shop:NOTHING", "has no 'NOTHING'"), ("no.such.module:PROJECT", "no module 'no.such")],
)
def test_a_project_that_does_not_load_is_explained(settings: Settings, reference: str, message: str) -> None:
    with pytest.raises(ProjectError, match=message):
        FeatureStore.open(reference, settings)


def test_a_plan_that_was_overtaken_is_refused(settings: Settings) -> None:
    applied(shop.PROJECT, settings)
    mine, theirs = (FeatureStore(with_price(ttl=d * DAY), settings, who) for d, who in ((3, "ann"), (4, "bob")))
    plan = mine.plan()
    theirs.apply()
    with pytest.raises(StateConflictError, match=r"changed meanwhile by bob \(price: new version, version 2"):
        mine.apply(plan)
    assert [v["created_by"] for v in mine.versions("price")][1:] == ["bob"]


def _apply_view(arguments: tuple[str, int]) -> str:
    """In a process of its own: adds a view of its own number to the shop and applies."""
    home, number = arguments
    from app.settings import load_settings

    view = FeatureView(f"extra_{number}", (shop.ARTICLE,), shop.PRICES, (Field("price", "int64"),))
    project = dataclasses.replace(shop.PROJECT, views=(*shop.PROJECT.views, view))
    store = FeatureStore(project, load_settings({"MILLRACE_HOME": home}, in_job=False), f"worker-{number}")
    while True:
        try:
            store.apply()
            return view.name
        except StateConflictError:
            continue


def test_processes_that_apply_at_once_lose_nothing(settings: Settings) -> None:
    applied(shop.PROJECT, settings)
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        names = set(pool.map(_apply_view, [(str(settings.home), n) for n in range(6)]))
    kept = FeatureStore(shop.PROJECT, settings)
    assert all(kept.versions(name)[0]["active"] for name in names) and len(names) == 6
    history = kept.history()
    assert [h["revision"] for h in history] == list(range(1, 8))
    assert {h["principal"] for h in history[1:]} == {f"worker-{n}" for n in range(6)}


def test_of_threads_that_apply_the_same_plan_one_wins_and_the_others_are_told(settings: Settings) -> None:
    applied(shop.PROJECT, settings)
    stores = [FeatureStore(with_price(ttl=n * DAY), settings, f"t{n}") for n in range(3, 7)]
    plans = [store.plan() for store in stores]
    start = threading.Barrier(len(stores))
    outcomes: dict[int, str] = {}

    def apply(number: int) -> None:
        start.wait()
        try:
            stores[number].apply(plans[number])
            outcomes[number] = "won"
        except StateConflictError as error:
            outcomes[number] = error.message

    threads = [threading.Thread(target=apply, args=(n,)) for n in range(len(stores))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [n for n, outcome in outcomes.items() if outcome == "won"]
    told = [outcome for outcome in outcomes.values() if outcome != "won"]
    assert len(told) == 3 and all(f"changed meanwhile by t{winner + 3}" in message for message in told)
    assert [v["created_by"] for v in stores[0].versions("price")][1:] == [f"t{winner + 3}"]


def test_versions_of_an_older_schema_are_kept(settings: Settings) -> None:
    """What release 0.1 registered is found again after the migration."""
    from alembic import command
    from alembic.config import Config

    settings.home.mkdir(parents=True)
    engine = sa.create_engine(settings.state_url)
    config = Config()
    config.set_main_option("script_location", "app/foundation/state/migrations")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(
            sa.text(
                "INSERT INTO feature_view_versions VALUES ('shop', 'price', 1, 'abc', '{\"ttl_us\": 1}', "
                "'2026-01-02 03:04:05', 1)"
            )
        )
    store = FeatureStore(shop.PROJECT, settings)
    (version,) = store.versions("price")
    assert (version["definition"], version["active"], version["created_by"]) == ({"ttl_us": 1}, True, "unknown")
    assert version["created_at"].isoformat() == "2026-01-02T03:04:05+00:00"
